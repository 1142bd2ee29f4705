//! Source: what memini reads in the end. One of the three sources, and the levels that the situation adds to it.

use std::os::fd::BorrowedFd;

use super::host::Host;
use super::reading::Reading;
use super::source::{Depth, ReadError, Source};
use crate::process::tree::Tree;

/// A source with the process tree and the machine as further levels.
pub struct Combined {
    base: Box<dyn Source>,
    /// The tree, where a soft limit is meant for it and the group holds foreign processes as well.
    tree: Option<Tree>,
    /// The machine, where nobody gave a soft limit: it counts while no level has a limit.
    host: Option<Host>,
    description: String,
}

impl Combined {
    /// Puts them together.
    pub fn new(base: Box<dyn Source>, tree: Option<Tree>, host: Option<Host>) -> Self {
        let mut description = base.describe().to_owned();
        if tree.is_some() {
            description.push_str(" and process tree");
        }
        Self { base, tree, host, description }
    }
}

impl Source for Combined {
    fn read(&mut self, depth: Depth, reading: &mut Reading) -> Result<(), ReadError> {
        let mut next = Reading::new();
        self.base.read(depth, &mut next)?;
        if let Some(tree) = &mut self.tree {
            let _ = next.push(tree.level(depth)?);
        }
        if let Some(host) = &mut self.host
            && next.levels().iter().all(|level| level.limit.is_none())
        {
            let _ = next.push(host.level()?);
        }
        *reading = next;
        Ok(())
    }

    fn events(&self) -> Option<BorrowedFd<'_>> {
        self.base.events()
    }

    fn describe(&self) -> &str {
        &self.description
    }
}
