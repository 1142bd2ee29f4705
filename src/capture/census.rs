//! What a recipe finds in a process: who holds how much.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Objects of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The type's name as its language writes it: `java.lang.String`, `byte[]`, `__main__.Session`, `dict`.
    pub name: String,
    /// How many objects there are.
    pub instances: u64,
    /// What they take themselves, without what they refer to; bytes.
    pub bytes: u64,
}

/// One container that holds many items, by the name that somebody who reads the code would look for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// `app.cache`, `app.Registry.instances`, `handlers of app.Server`; empty where no name was found.
    pub name: String,
    /// The container's type: `list`, `dict`, `set`, `deque`.
    pub kind: String,
    /// How many items it holds.
    pub items: u64,
    /// What the container takes itself, and its items as far as they were looked at; bytes.
    pub bytes: u64,
    /// Where it is, in hexadecimal, in a runtime that does not move its objects: it has this for as long as it is there, and a
    /// name only as it happens to be reached. Empty elsewhere.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
}

/// A line of the program, and what it has allocated that is still in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// `/app/views.py:41`
    pub line: String,
    /// From where that was called, the nearest first, as far as that was recorded.
    pub callers: Vec<String>,
    /// What it holds; bytes.
    pub bytes: u64,
    /// In so many blocks.
    pub blocks: u64,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Census {
    /// The runtime and its version: `CPython 3.11.2`, `OpenJDK 17.0.15`.
    pub runtime: String,
    /// What the runtime's own heap takes, if it tells; bytes. The rest of the process is outside it.
    pub heap: Option<u64>,
    /// By type, the most bytes first.
    pub groups: Vec<Group>,
    /// What is outside the heap, by kind, as far as the runtime or its mappings tell: `metaspace`, `thread stacks`. All of
    /// it, or nothing.
    #[serde(default)]
    pub outside: Vec<Group>,
    /// Classes whose instances were looked into, the most bytes first: here bytes are what they take with what belongs to them
    /// alone. Empty where the runtime does not tell so much.
    #[serde(default)]
    pub classes: Vec<Group>,
    /// The largest containers, the most items first.
    pub holders: Vec<Holder>,
    /// The lines whose allocations are still in use, the most bytes first. Only what was allocated while they were recorded.
    #[serde(default)]
    pub sites: Vec<Site>,
    /// For how long they were; `None`: they were not.
    #[serde(default)]
    pub recorded: Option<Duration>,
    /// What recording takes in the process, or has taken at the most; bytes.
    #[serde(default)]
    pub recording: u64,
    /// Which share of the objects was looked at: 1 is all of them. Counts and bytes are extrapolated.
    pub share: f64,
    /// For how long the process stood still.
    pub pause: Duration,
    /// What a reader must know about these numbers, a sentence each.
    pub remarks: Vec<String>,
}

/// Why there is no census: one line, with cause and consequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not a process of this runtime. No news for anybody.
    NotMine,
    /// It is one, but it cannot be looked at here or now.
    Cannot(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMine => out.write_str("a process of another kind"),
            Self::Cannot(why) => out.write_str(why),
        }
    }
}
