//! Chooses the source: the cgroup where it has a limit or is ours alone, else the process tree.

use std::path::{Path, PathBuf};

use super::combined::Combined;
use super::discovery::{self, Discovery};
use super::host::Host;
use super::reading::{Reading, Scope};
use super::source::{Cause, Depth, ReadError, Source};
use super::v1::V1;
use super::v2::V2;
use crate::process::tree::Tree;

/// What was chosen and what there is to know about it.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Where the cgroups are.
    pub discovery: Discovery,
    /// As the source describes itself; empty if there is none.
    pub description: String,
    /// The files that are read.
    pub files: Vec<PathBuf>,
    /// The lowest limit that the kernel enforces, in bytes, as first read.
    pub limit: Option<u64>,
    /// The file that holds it.
    pub limit_file: Option<PathBuf>,
    /// `memory.oom.group` of the own group: whether the OOM killer takes memini along. `None` where there is no such
    /// file (v1, Linux before 4.19).
    pub oom_group: Option<bool>,
    /// tmpfs and shared memory that the group (or tree) holds at the start, in bytes: it survives a restart of the
    /// container, so that it may be the reason why the next run has no room.
    pub shmem: Option<u64>,
    /// Whether the own group holds processes other than memini.
    pub shared: bool,
    /// Whether the process tree is a level of its own.
    pub tree: bool,
    /// Why there is no source, or no better one.
    pub why_not: Option<String>,
    /// Whether anything can be read.
    pub readable: bool,
    /// The first reading, in full.
    pub first: Reading,
}

/// Opens the source that fits here. `root` is `/` unless in a test; `soft_limit` says whether the user gave one.
///
/// Always gives a source; where nothing can be read it is one that only fails, and [`Choice::readable`] is false.
pub fn open(root: &Path, soft_limit: bool) -> (Box<dyn Source>, Choice) {
    let mut choice = Choice { discovery: discovery::discover(root), ..Choice::default() };
    choice.why_not = choice.discovery.why_not.clone();
    choice.shared = choice.discovery.own.as_deref().is_none_or(is_shared);
    let mut source = choose(root, soft_limit, &mut choice);
    if let Some(own) = &choice.discovery.own {
        choice.oom_group = std::fs::read(own.join("memory.oom.group")).ok().map(|text| text.trim_ascii() == b"1");
    }
    source.describe().clone_into(&mut choice.description);
    match source.read(Depth::Full, &mut choice.first) {
        Ok(()) => choice.readable = true,
        Err(error) => choice.why_not = Some(choice.why_not.unwrap_or_else(|| error.to_string())),
    }
    choice.shmem = choice.first.levels().first().and_then(|level| level.stat).map(|stat| stat.shmem);
    (source, choice)
}

fn choose(root: &Path, soft_limit: bool, choice: &mut Choice) -> Box<dyn Source> {
    let cgroup = match open_cgroup(root, &choice.discovery) {
        Some(Ok(cgroup)) => Some(cgroup),
        Some(Err(error)) => {
            choice.why_not = Some(error.to_string());
            None
        }
        None => None,
    };
    let host = if soft_limit { None } else { Host::open(root).ok() };
    let Some(cgroup) = cgroup else { return tree_alone(root, host, choice) };
    let limited = cgroup.limit.is_some();
    // Without a limit of the kernel's, a group that others live in says nothing about the app; with one it does, but a
    // soft limit is meant for the app.
    let wants_tree = choice.shared && (soft_limit || !limited);
    let tree = if wants_tree { open_tree(root, choice) } else { None };
    match tree {
        Some(tree) if !limited => tree_as_base(tree, host, choice),
        tree => {
            choice.tree = tree.is_some();
            choice.files = cgroup.files;
            (choice.limit, choice.limit_file) = cgroup.limit.unzip();
            Box::new(Combined::new(cgroup.source, tree, host))
        }
    }
}

fn open_tree(root: &Path, choice: &mut Choice) -> Option<Tree> {
    Tree::open(root).map_err(|error| choice.why_not = Some(error.to_string())).ok()
}

fn tree_alone(root: &Path, host: Option<Host>, choice: &mut Choice) -> Box<dyn Source> {
    let why_not = choice.why_not.take();
    match Tree::open(root) {
        Ok(tree) => {
            choice.why_not = why_not;
            tree_as_base(tree, host, choice)
        }
        Err(error) => {
            choice.why_not = Some(why_not.map_or_else(|| error.to_string(), |why| format!("{why}; {error}")));
            Box::new(Nothing(root.join("proc")))
        }
    }
}

fn tree_as_base(tree: Tree, host: Option<Host>, choice: &mut Choice) -> Box<dyn Source> {
    choice.tree = true;
    choice.files = tree.files();
    Box::new(Combined::new(Box::new(tree), None, host))
}

/// Whether others than this process are in the group. If that cannot be seen they may be.
fn is_shared(own: &Path) -> bool {
    let me = i32::try_from(std::process::id()).ok();
    discovery::members(own).is_none_or(|members| members.into_iter().any(|member| Some(member) != me))
}

/// A cgroup source with what only its own type tells.
struct Cgroup {
    source: Box<dyn Source>,
    limit: Option<(u64, PathBuf)>,
    files: Vec<PathBuf>,
}

fn open_cgroup(root: &Path, discovery: &Discovery) -> Option<Result<Cgroup, ReadError>> {
    let own = discovery.own.as_deref()?;
    Some(if discovery.hierarchy.is_v1() { open_v1(root, own, discovery) } else { open_v2(root, own, discovery) })
}

fn open_v1(root: &Path, own: &Path, discovery: &Discovery) -> Result<Cgroup, ReadError> {
    let mut source = V1::open(root, own, discovery)?;
    source.read(Depth::Full, &mut Reading::new())?;
    let limit = source.limit().map(|(limit, file)| (limit, file.to_path_buf()));
    Ok(Cgroup { limit, files: source.files(), source: Box::new(source) })
}

fn open_v2(root: &Path, own: &Path, discovery: &Discovery) -> Result<Cgroup, ReadError> {
    let mut source = V2::open(root, own, discovery)?;
    source.read(Depth::Full, &mut Reading::new())?;
    let limit = source.limit().map(|(limit, file)| (limit, file.to_path_buf()));
    Ok(Cgroup { limit, files: source.files(), source: Box::new(source) })
}

/// The source where there is none.
struct Nothing(PathBuf);

impl Source for Nothing {
    fn read(&mut self, _depth: Depth, _reading: &mut Reading) -> Result<(), ReadError> {
        let cause = Cause::Io(std::io::Error::from(std::io::ErrorKind::NotFound));
        Err(ReadError { path: self.0.clone(), cause })
    }

    fn describe(&self) -> &str {
        "none"
    }
}

impl Choice {
    /// Whether memory is watched by cgroup (and not by the process tree alone).
    pub fn by_cgroup(&self) -> bool {
        self.first.levels().first().is_some_and(|level| level.scope == Scope::Own)
    }
}
