//! PID 1's side of the flight recorder: has a worker find or make the file, maps it, and writes.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::workers::{Role, Workers};
use crate::cgroup::reading::Events;
use crate::config::Config;
use crate::engine::event::{Glimpse, Note};
use crate::engine::time::Moment;
use crate::recorder::format::Layout;
use crate::recorder::told::{Event, Kind};
use crate::recorder::writer::Writer;
use crate::sys::map::SharedWords;
use crate::sys::mask::Arrival;
use crate::sys::socket;

/// The app's start comes first, and what is over within this time is not recorded.
const HEAD_START: Duration = Duration::from_millis(100);

/// How often the time of day is written down.
const TIME_AGAIN: Duration = Duration::from_secs(10);

/// A difference of the time of day that is written down at once.
const LEAP: Duration = Duration::from_secs(1);

/// How many events are kept that happen before the file is there: an app that fills memory at once climbs the whole ladder.
const EARLY: usize = 8;

#[derive(Debug)]
enum State {
    /// Nothing is recorded.
    Off,
    /// A worker is to be started then.
    Due(Moment),
    /// It makes the file, and will send it by this.
    Asked(UnixStream),
    /// The file is there.
    On(Box<Writer<SharedWords>>),
}

/// The flight recorder of this run.
#[derive(Debug)]
pub struct Recorder {
    state: State,
    layout: Layout,
    told_time: Option<(Moment, Duration)>,
    /// Which of those it is that record in this folder; 0: nobody knows.
    place: u8,
    /// What has happened before the file was there, in order.
    early: [Option<(Moment, Event)>; EARLY],
}

impl Recorder {
    /// To be made soon, if it is wanted.
    pub fn new(config: &Config, watches: bool) -> Self {
        let bytes = config.recorder.filter(|_| watches);
        let state = bytes.map_or(State::Off, |_| State::Due(Moment::default().after(HEAD_START)));
        Self { state, layout: Layout::of(bytes.unwrap_or(0)), told_time: None, place: 0, early: [None; EARLY] }
    }

    /// When its worker is to be started.
    pub const fn due(&self) -> Option<Moment> {
        match self.state {
            State::Due(due) => Some(due),
            _ => None,
        }
    }

    /// Starts it. `run` says what the run is.
    pub fn start(&mut self, now: Moment, run: &str, config: &Config, workers: &mut Workers) {
        let started = UnixStream::pair().and_then(|(ours, theirs)| {
            let words: Vec<OsString> = vec![
                "recorder".into(),
                config.dir.clone().into(),
                self.layout.bytes.to_string().into(),
                theirs.as_raw_fd().to_string().into(),
                now.since(Moment::default()).as_millis().to_string().into(),
                run.into(),
                serde_json::to_string(&config.keeping).unwrap_or_default().into(),
            ];
            workers.start(Role::Recorder, words, &[theirs.as_fd()])?;
            Ok(ours)
        });
        self.state = match started {
            Ok(ours) => State::Asked(ours),
            Err(error) => {
                log::warn!("cannot start a worker: {error}; the run is not recorded");
                State::Off
            }
        };
    }

    /// The worker has ended: what it has made is there, or never will be. What it could not do, it has said.
    pub fn made(&mut self) {
        let State::Asked(ours) = std::mem::replace(&mut self.state, State::Off) else { return };
        match self.open(&ours) {
            Ok((writer, place)) => {
                self.place = place;
                self.state = State::On(Box::new(writer));
                // The stage that has begun meanwhile would never be told otherwise.
                for (then, event) in std::mem::take(&mut self.early).into_iter().flatten() {
                    self.event(then, event);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => log::warn!("cannot map the recorder: {error}; the run is not recorded"),
        }
    }

    fn open(&self, ours: &UnixStream) -> io::Result<(Writer<SharedWords>, u8)> {
        let (descriptor, place) = socket::receive_descriptor(ours)?;
        let bytes = usize::try_from(self.layout.bytes).map_err(io::Error::other)?;
        let mut map = SharedWords::map(descriptor, bytes)?;
        map.watch_over()?;
        Ok((Writer::new(map, &self.layout), place))
    }

    fn writer(&mut self) -> Option<&mut Writer<SharedWords>> {
        match &mut self.state {
            State::On(writer) => Some(writer),
            _ => None,
        }
    }

    /// Which of those this one is that record in its folder at the same time, from 1 on; 0 as long as there is no file.
    pub const fn place(&self) -> u8 {
        self.place
    }

    /// The file, for who wants to read it; `None` if nothing is recorded.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::On(writer) => Some(writer.map().as_fd()),
            _ => None,
        }
    }

    /// Memory was looked at.
    pub fn look(&mut self, now: Moment, look: &Glimpse, events: Option<Events>) {
        if let Some(writer) = self.writer() {
            writer.look(now.since(Moment::default()), look, events);
        }
    }

    fn event(&mut self, now: Moment, event: Event) {
        match &mut self.state {
            State::On(writer) => writer.event(now.since(Moment::default()), event),
            State::Due(_) | State::Asked(_) => {
                // Of too many the oldest goes: the last one says how it stands.
                if self.early.iter().all(Option::is_some) {
                    self.early.rotate_left(1);
                    self.early.iter_mut().rev().take(1).for_each(|place| *place = None);
                }
                if let Some(place) = self.early.iter_mut().find(|place| place.is_none()) {
                    *place = Some((now, event));
                }
            }
            State::Off => {}
        }
    }

    /// The engine has something to tell.
    pub fn note(&mut self, now: Moment, note: &Note) {
        if let Some(event) = Event::of(note) {
            self.event(now, event);
        }
    }

    /// A signal has come from outside.
    pub fn signal(&mut self, now: Moment, arrival: &Arrival) {
        let number = u64::from(arrival.signal.number().unsigned_abs());
        self.event(now, Event::new(Kind::Signal, [number, u64::from(arrival.sender), 1, 0]));
    }

    /// An incident was opened.
    pub fn incident_began(&mut self, now: Moment, name: &str) {
        self.event(now, Event::new(Kind::IncidentBegan, [0; 4]));
        if let Some(writer) = self.writer() {
            writer.incident(name);
        }
    }

    /// It is over.
    pub fn recovered(&mut self, now: Moment) {
        self.event(now, Event::new(Kind::Recovered, [0; 4]));
        if let Some(writer) = self.writer() {
            writer.incident("");
        }
    }

    /// An error of memini's own: it goes on as a plain init.
    pub fn broken(&mut self, now: Moment) {
        self.event(now, Event::new(Kind::Broken, [0; 4]));
    }

    /// memini ends.
    pub fn exit(&mut self, now: Moment, code: u8) {
        if let Some(writer) = self.writer() {
            writer.exit(now.since(Moment::default()), code);
        }
    }

    /// What is to be done between two looks.
    pub fn keep_up(&mut self, now: Moment) {
        let State::On(writer) = &mut self.state else { return };
        if writer.map().is_lost() {
            log::warn!(
                "the recorder's file has gone (the disk fails, or somebody has cut it short); the rest of the run is not recorded"
            );
            self.state = State::Off;
            return;
        }
        writer.keep_up();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let is_time = self.told_time.is_none_or(|(then, told)| {
            let passed = now.since(then);
            // The clock was set, or the machine was suspended, which memini's own clock does not count.
            passed >= TIME_AGAIN || unix.abs_diff(told.saturating_add(passed)) > LEAP
        });
        if is_time {
            writer.tell_time(now.since(Moment::default()), u64::try_from(unix.as_millis()).unwrap_or(0));
            self.told_time = Some((now, unix));
        }
    }
}
