//! The same for machines: docs/status.md says what each field is.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::picture::{Picture, State};
use crate::recorder::ending::Ending;
use crate::recorder::reader::Slot;
use crate::recorder::sentence::Sentence;
use crate::recorder::told::{Course, Event};
use crate::text::plain;
use crate::units::clock;

/// The kind and version of the object.
pub const SCHEMA: &str = "memini.status/1";

/// One object, in one line, with a newline at its end.
pub fn json(picture: &Picture<'_>) -> String {
    let pulse = &picture.history.pulse;
    let moment = |since_start: u64| picture.unix(since_start).and_then(clock);
    let at_verdict = picture.seconds_to_limit(pulse.trending.rate);
    let processes = picture.processes.as_ref().map(|processes| {
        json!({
            "since": processes.since.as_ref().map(|(name, _)| name),
            "since_at": processes.since.as_ref().and_then(|(_, taken)| clock(*taken)),
            "count": processes.count,
            "list": processes.list,
        })
    });
    let (pid, ending) = match &picture.state {
        State::Running(pid) => (*pid, None),
        State::Ended(ending, sentence) => (None, Some(told_ending(*ending, sentence))),
    };
    let object = json!({
        "schema": SCHEMA,
        "state": if picture.is_running() { "running" } else { "ended" },
        "ending": ending,
        "pid": pid,
        "memini": picture.told("memini"),
        "hostname": picture.told("hostname"),
        "app": {"command": picture.command(), "pid": picture.app_pid()},
        "source": picture.told("source"),
        "recorder": Some(&picture.recorder).filter(|path| !path.is_empty()),
        "remarks": picture.remarks,
        "started": moment(0),
        "seen": moment(pulse.since_start).filter(|_| picture.has_looked()),
        "up_seconds": seconds(picture.up_for()),
        "stage": pulse.stage,
        "stage_since": picture.stage_since().and_then(moment),
        "limit": pulse.limit,
        "usage": pulse.usage,
        "gauge": picture.gauge(),
        "gauged": pulse.gauged,
        "room": picture.room(),
        "rate": pulse.rate,
        "seconds_to_limit": picture.seconds_to_limit(pulse.rate),
        "verdict": {
            "verdict": pulse.trending.verdict,
            "rate": pulse.trending.rate,
            "horizon_seconds": pulse.trending.horizon.as_secs(),
            "seconds_to_limit": at_verdict,
        },
        "thresholds": thresholds(picture),
        "composition": composition(picture),
        "counters": {
            "max": pulse.max,
            "oom": pulse.oom,
            "oom_kill": pulse.oom_kill,
            "brakes": pulse.brakes,
            "late_wakes": pulse.late,
        },
        "incident": picture.history.incident,
        "processes": processes,
        "events": picture.history.events.iter().map(|event| told_event(event, picture)).collect::<Vec<_>>(),
    });
    let mut text = object.to_string();
    // The last field is put in by hand.
    text.pop();
    let _ = writeln!(text, ",\"history\":{}}}", history(picture));
    text
}

fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

fn told_ending(ending: Ending, sentence: &str) -> Value {
    let (how, code, certain) = match ending {
        Ending::Exited(code) => ("exited", Some(code), true),
        Ending::OomKilled { certain } => ("oom-killed", None, certain),
        Ending::Machine => ("machine-restarted", None, false),
        Ending::Killed => ("killed", None, true),
    };
    json!({"how": how, "exit_code": code, "certain": certain, "text": plain(sentence)})
}

fn thresholds(picture: &Picture<'_>) -> Value {
    let limit = picture.history.pulse.limit;
    let told = picture.thresholds().map(|(stage, threshold)| {
        let bytes = limit.and_then(|limit| threshold.bytes(limit));
        (stage.name().to_owned(), json!({"at": threshold.to_string(), "bytes": bytes}))
    });
    Value::Object(told.into_iter().collect())
}

fn composition(picture: &Picture<'_>) -> Value {
    let Some(sample) = picture.last() else { return Value::Null };
    let stat = &sample.stat;
    json!({
        "anon": stat.anon,
        "file": stat.file,
        "shmem": stat.shmem,
        "slab_unreclaimable": stat.slab_unreclaimable,
        "slab_reclaimable": stat.slab_reclaimable,
        "kernel_stack": stat.kernel_stack,
        "pagetables": stat.pagetables,
        "sock": stat.sock,
        "swap": sample.swap,
    })
}

fn told_event(event: &Event, picture: &Picture<'_>) -> Value {
    let unix = picture.unix(event.since_start);
    let mut told = Map::new();
    told.insert("at".into(), unix.and_then(clock).into());
    told.insert("text".into(), Sentence(event).to_string().into());
    if let Value::Object(rest) = event.json(unix.unwrap_or(0)) {
        told.extend(rest);
    }
    Value::Object(told)
}

/// Lists of numbers: a list of objects would be several times as long. As text: values of two days would take 8 MiB of the
/// container's memory, where there may be hardly any left.
fn history(picture: &Picture<'_>) -> String {
    let length = picture.length();
    let end = picture.end();
    let is_in = |slot: &&Slot| end.saturating_sub(slot.end) < length && slot.start <= end;
    let list = |text: &mut String, name: &str, number: &dyn Fn(&Slot) -> Option<String>| {
        let _ = write!(text, ",\"{name}\":[");
        for (index, slot) in picture.slots.iter().filter(is_in).enumerate() {
            text.push_str(if index > 0 { "," } else { "" });
            text.push_str(number(slot).as_deref().unwrap_or("null"));
        }
        text.push(']');
    };
    let course = |course: Course| format!("[{},{},{}]", course.least, course.most, course.last);
    let mut text = format!("{{\"span_seconds\":{}", length / 1000);
    list(&mut text, "from", &|slot| Some((slot.start / 1000).to_string()));
    list(&mut text, "to", &|slot| Some((slot.end / 1000).to_string()));
    list(&mut text, "usage", &|slot| Some(course(slot.sample.usage)));
    list(&mut text, "gauged", &|slot| slot.sample.gauged.map(course));
    list(&mut text, "limit", &|slot| slot.sample.limit.map(|limit| limit.last.to_string()));
    list(&mut text, "anon", &|slot| Some(slot.sample.stat.anon.to_string()));
    text.push('}');
    text
}
