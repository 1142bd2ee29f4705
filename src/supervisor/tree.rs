//! Signals for the whole tree: to stop it, to kill it, or to end what outlived the app.

use super::newborn::{self, Newborn};
use crate::engine::time::Moment;
use crate::process::facts::Facts;
use crate::process::list::{List, Process};
use crate::sys::process::{self, ProcessId};
use crate::sys::signal::Signal;

/// How often the tree is looked at again for processes that were born meanwhile. A stopped or killed process forks no
/// more, so that each round only finds the children of those that it has not reached yet.
const ROUNDS: u32 = 32;

/// How many processes are looked at before the brake is put on: each costs some ten microseconds, in which memory grows.
const LOOKED_AT: usize = 32;

/// The app's tree.
#[derive(Debug)]
pub struct Tree {
    /// The app, and its process group, while it lives.
    app: Option<ProcessId>,
    is_init: bool,
    /// `None` where /proc cannot be read.
    list: Option<List>,
    /// Set while the tree may be stopped, so that nothing is ever left so.
    frozen: bool,
    /// Who was stopped before the brake was put on, by somebody else: they stay so.
    stopped_before: Vec<ProcessId>,
    /// Whether there were so few processes then that all were looked at.
    is_small: bool,
    /// Whether all that were looked at, workers and what they run left out, were in the app's process group.
    is_one_group: bool,
    /// Who may have been born stopped.
    newborn: Option<Newborn>,
}

impl Tree {
    /// The tree of this app.
    pub fn new(app: ProcessId) -> Self {
        let list = match List::open("/".as_ref()) {
            Ok(list) => Some(list),
            Err(error) => {
                log::warn!("{error}; only the app's own process group can be stopped as a whole");
                None
            }
        };
        Self {
            app: Some(app),
            is_init: process::own_id().get() == 1,
            list,
            frozen: false,
            stopped_before: Vec::with_capacity(LOOKED_AT),
            is_small: false,
            is_one_group: true,
            newborn: None,
        }
    }

    /// Whether memini is PID 1 of its namespace.
    pub const fn is_init(&self) -> bool {
        self.is_init
    }

    /// Whether the tree is stopped. Who looks then for those that somebody else has stopped finds all.
    pub const fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Stops every process of the tree, but none of memini's workers and what they run (`spared`: their process
    /// groups).
    pub fn freeze(&mut self, spared: &[ProcessId]) {
        (self.frozen, self.newborn) = (true, None);
        if self.is_init && process::kill_everybody(Signal::STOP).is_ok() {
            // One system call for all, so that nobody can fork meanwhile; the workers and what they run go on.
            self.let_go(spared);
            return;
        }
        self.reach_all(Signal::STOP, spared);
    }

    /// Notes who is stopped already, before the brake is put on, but for those that `are_held` by memini's own workers: these go
    /// on in a moment, and must not be taken for somebody else's. As PID 1 alone: elsewhere only the app's own group is braked.
    pub fn look_who_is_stopped(&mut self, spared: &[ProcessId], are_held: impl Fn(ProcessId) -> bool) {
        self.stopped_before.clear();
        if let Some(list) = self.list.as_mut().filter(|_| self.is_init) {
            let (stopped, app) = (&mut self.stopped_before, self.app);
            let mut is_one_group = true;
            // What cannot be read is continued in the end, as if it had never been stopped.
            self.is_small = !look_at_first(list, |process| {
                let id = ProcessId::new(process.pid).filter(|_| process.state == b'T');
                stopped.extend(id.filter(|id| !are_held(*id)));
                let group = ProcessId::new(process.group);
                is_one_group &= app == group || group.is_some_and(|group| spared.contains(&group));
            });
            self.is_one_group = is_one_group;
        }
    }

    /// Whether the brake reaches everybody through the app's process group.
    pub const fn is_one_group(&self) -> bool {
        self.is_one_group
    }

    /// Whether few processes were there when the brake was put on.
    pub const fn is_small(&self) -> bool {
        self.is_small
    }

    /// Whether there are more processes than can be looked at in a moment. As PID 1 alone: elsewhere that takes as long as to
    /// look at all of them.
    pub fn is_large(&mut self) -> bool {
        self.list.as_mut().filter(|_| self.is_init).is_some_and(|list| look_at_first(list, |_| ()))
    }

    /// Stops the tree for a moment, workers and what they run left out: as PID 1 everybody in one system call, elsewhere
    /// the app's process group.
    pub fn brake(&mut self, spared: &[ProcessId]) {
        (self.frozen, self.newborn) = (true, None);
        if self.is_init && process::kill_everybody(Signal::STOP).is_ok() {
            if !spared.is_empty() {
                self.let_go(spared);
            }
        } else if let Some(app) = self.app {
            let _ = process::kill_group(app, Signal::STOP);
        }
    }

    /// Continues what the brake has stopped.
    pub fn release(&mut self, now: Moment) {
        self.goes_on(now);
        if !self.is_init {
            match self.app {
                Some(app) => {
                    let _ = process::kill_group(app, Signal::CONT);
                }
                // The app has ended, and its group's number may be somebody else's by now.
                None => self.reach_all(Signal::CONT, &[]),
            }
            return;
        }
        let stay = std::mem::take(&mut self.stopped_before);
        if stay.is_empty() || !self.continue_others(&stay) {
            let _ = process::kill_everybody(Signal::CONT);
        }
        self.stopped_before = stay;
    }

    fn goes_on(&mut self, now: Moment) {
        self.frozen = false;
        self.newborn = Some(Newborn::after_release(now));
    }

    /// When it is to be looked for children that were born stopped.
    pub fn newborn_due(&self) -> Option<Moment> {
        self.newborn.as_ref().map(Newborn::due)
    }

    /// Continues those that were born stopped, as the brake had stopped their parents in the middle of it. Workers' children
    /// are no exception.
    pub fn continue_newborn(&mut self, now: Moment) {
        let processes = self.list.as_mut().and_then(|list| list.descendants().ok()).unwrap_or_default();
        for process in processes.iter().filter(|process| newborn::is_born_stopped(process)) {
            if let Some(id) = ProcessId::new(process.pid) {
                let _ = process::kill(id, Signal::CONT);
            }
        }
        if !self.newborn.as_mut().is_some_and(|newborn| newborn.looked(now)) {
            self.newborn = None;
        }
    }

    /// False where it is not known who else there is.
    fn continue_others(&mut self, stay: &[ProcessId]) -> bool {
        self.each(&[], |id, _| {
            if !stay.contains(&id) {
                let _ = process::kill(id, Signal::CONT);
            }
        })
    }

    fn let_go(&mut self, spared: &[ProcessId]) {
        let Some(Ok(parted)) = self.list.as_mut().map(|list| list.parted(spared)) else {
            for group in spared {
                let _ = process::kill_group(*group, Signal::CONT);
            }
            return;
        };
        let ids = parted.inside.iter().filter_map(|process| ProcessId::new(process.pid));
        for id in ids.filter(|id| !self.stopped_before.contains(id)) {
            let _ = process::kill(id, Signal::CONT);
        }
    }

    /// The app has ended: its process group may be somebody else's by now.
    pub fn app_ended(&mut self) {
        self.app = None;
    }

    /// Kills every process of the tree.
    pub fn kill(&mut self, spared: &[ProcessId]) {
        if self.is_init && spared.is_empty() && process::kill_everybody(Signal::KILL).is_ok() {
            return;
        }
        self.reach_all(Signal::KILL, spared);
    }

    /// Kills whoever is left when memini ends, be it what a hook has put into a session of its own. Of PID 1's the kernel
    /// does it.
    pub fn end_all(&mut self) {
        if !self.is_init && process::has_children() {
            self.reach_all(Signal::KILL, &[]);
        }
    }

    /// Continues what was stopped, by memini or by the kernel on its behalf: after an error of memini's own.
    pub fn thaw(&mut self, now: Moment, may_have_stopped: bool) {
        if !self.frozen && !may_have_stopped {
            return;
        }
        self.goes_on(now);
        if self.is_init && process::kill_everybody(Signal::CONT).is_ok() {
            return;
        }
        self.reach_all(Signal::CONT, &[]);
    }

    /// One signal to each process that outlived the app. Who is stopped is continued by SIGTERM, or would not hear it.
    pub fn signal_leftovers(&mut self, signal: Signal, spared: &[ProcessId]) {
        if signal == Signal::KILL {
            self.kill(spared);
            return;
        }
        self.send_leftovers(signal, spared);
        if signal == Signal::TERM {
            self.send_leftovers(Signal::CONT, spared);
        }
    }

    fn send_leftovers(&mut self, signal: Signal, spared: &[ProcessId]) {
        if self.is_init && spared.is_empty() {
            let _ = process::kill_everybody(signal);
        } else {
            self.each(spared, |id, _| {
                let _ = process::kill(id, signal);
            });
        }
    }

    /// Whether no process is left but memini and its workers.
    pub fn is_gone(&mut self, spared: &[ProcessId]) -> bool {
        if !process::has_children() {
            return true;
        }
        if spared.is_empty() {
            return false;
        }
        let mut left = 0u32;
        let known = self.each(spared, |_, _| left = left.saturating_add(1));
        known && left == 0
    }

    /// Who holds how much; memini's own workers left out.
    pub fn facts(&mut self, spared: &[ProcessId]) -> Option<Facts> {
        Facts::gather(self.list.as_mut()?, spared).map_err(|error| log::warn!("{error}; no facts about processes")).ok()
    }

    /// The app's group first, in one call, then everybody, until a round finds nobody new.
    fn reach_all(&mut self, signal: Signal, spared: &[ProcessId]) {
        if let Some(app) = self.app {
            let _ = process::kill_group(app, signal);
        }
        let mut reached = 0;
        for _ in 0..ROUNDS {
            let mut found = 0u32;
            let mut waiting = 0u32;
            let known = self.each(spared, |id, state| {
                found = found.saturating_add(1);
                if signal != Signal::STOP || state != b'T' {
                    waiting = waiting.saturating_add(1);
                    let _ = process::kill(id, signal);
                }
            });
            // Nobody is left to be told, or the same ones are still on their way.
            if !known || waiting == 0 || found == reached {
                return;
            }
            reached = found;
        }
    }

    /// Calls `visit` with each process and its state, workers and what they run left out. False where /proc cannot be
    /// read.
    fn each(&mut self, spared: &[ProcessId], mut visit: impl FnMut(ProcessId, u8)) -> bool {
        let Some(Ok(parted)) = self.list.as_mut().map(|list| list.parted(spared)) else { return false };
        for process in parted.others {
            if let Some(id) = ProcessId::new(process.pid) {
                visit(id, process.state);
            }
        }
        true
    }
}

/// Whether there are more processes than can be looked at in a moment; `visit` gets those that can.
fn look_at_first(list: &mut List, mut visit: impl FnMut(Process)) -> bool {
    let mut count = 0usize;
    let _ = list.first(LOOKED_AT, |process| {
        count = count.saturating_add(1);
        visit(process);
    });
    count >= LOOKED_AT
}
