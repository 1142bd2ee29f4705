//! The processes, with what they held at each look.

use std::collections::{HashMap, HashSet};

use super::story::{Held, Look, Story, Text, clock_of, stage_name};

/// A moment at which processes were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    pub stage: String,
    pub clock: String,
}

/// A process and its place below others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub depth: usize,
    pub pid: i64,
    pub name: Text,
    /// Bytes; `None` where it was not there, or not looked at.
    pub sizes: Vec<Option<u64>>,
}

impl Row {
    /// From the first moment to the last; one that came later has grown from nothing.
    pub fn growth(&self) -> Option<i64> {
        let (first, others) = self.sizes.split_first()?;
        let last = others.last().copied().flatten()?;
        let difference = i128::from(last).saturating_sub(i128::from(first.unwrap_or(0)));
        i64::try_from(difference).ok()
    }
}

/// All of them, parents before their children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    pub moments: Vec<Moment>,
    pub rows: Vec<Row>,
    /// How many more there were.
    pub others: u64,
}

struct Node {
    pid: i64,
    parent: i64,
    name: Text,
    sizes: Vec<Option<u64>>,
}

impl Tree {
    /// From what the looks have seen; without any, from what memini has noted itself.
    pub fn of(story: &Story) -> Self {
        let looks = story.evidence.as_ref().map(|evidence| (&evidence.looks, &evidence.processes));
        match looks.filter(|(_, processes)| !processes.is_empty()) {
            Some((looks, processes)) => Self::of_looks(looks, processes, story),
            None => Self::of_notes(story),
        }
    }

    fn of_looks(looks: &[Look], processes: &[Held], story: &Story) -> Self {
        let moment = |look: &Look| Moment { stage: stage_name(&look.stage).to_owned(), clock: clock_of(&look.at) };
        let nodes = processes.iter().map(|process| Node {
            pid: process.pid,
            parent: process.parent,
            name: process.comm.clone(),
            sizes: process.sizes.clone(),
        });
        let count = story.processes.iter().map(|seen| seen.count).max().unwrap_or(0);
        Self::new(looks.iter().map(moment).collect(), nodes.collect(), count)
    }

    fn of_notes(story: &Story) -> Self {
        let moments = story
            .processes
            .iter()
            .map(|seen| Moment { stage: stage_name(&seen.stage).to_owned(), clock: clock_of(&seen.at) })
            .collect();
        // What each of them held then.
        let mut then: Vec<HashMap<i64, u64>> = Vec::with_capacity(story.processes.len());
        for seen in &story.processes {
            // The first of a number counts.
            then.push(seen.list.iter().rev().map(|process| (process.pid, process.held())).collect());
        }
        let mut nodes: Vec<Node> = Vec::new();
        let mut known: HashSet<i64> = HashSet::new();
        for process in story.processes.iter().rev().flat_map(|seen| &seen.list) {
            if known.insert(process.pid) {
                nodes.push(Node {
                    pid: process.pid,
                    parent: process.parent,
                    name: process.comm.clone(),
                    sizes: then.iter().map(|held| held.get(&process.pid).copied()).collect(),
                });
            }
        }
        let count = story.processes.iter().map(|seen| seen.count).max().unwrap_or(0);
        Self::new(moments, nodes, count)
    }

    /// `nodes` are in the order in which those of one parent are shown.
    fn new(moments: Vec<Moment>, nodes: Vec<Node>, count: u64) -> Self {
        let known: HashSet<i64> = nodes.iter().map(|node| node.pid).collect();
        let is_root = |node: &&Node| !known.contains(&node.parent) || node.parent == node.pid;
        // The next one is at the end.
        let mut waiting: Vec<(usize, &Node)> = nodes.iter().filter(is_root).rev().map(|node| (0, node)).collect();
        let mut children: HashMap<i64, Vec<&Node>> = HashMap::new();
        for node in nodes.iter().filter(|node| node.pid != node.parent).rev() {
            children.entry(node.parent).or_default().push(node);
        }
        let mut rows: Vec<Row> = Vec::with_capacity(nodes.len());
        let mut shown: HashSet<i64> = HashSet::new();
        while let Some((depth, node)) = waiting.pop() {
            // A record that is no tree must not be walked for ever.
            if !shown.insert(node.pid) {
                continue;
            }
            rows.push(Row { depth, pid: node.pid, name: node.name.clone(), sizes: node.sizes.clone() });
            // Those that were shown have no more.
            let children = children.remove(&node.pid).unwrap_or_default();
            waiting.extend(children.into_iter().map(|child| (depth.saturating_add(1), child)));
        }
        let others = count.saturating_sub(rows.len() as u64);
        Self { moments, rows, others }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tree(incident: serde_json::Value) -> Tree {
        let mut incident = incident;
        incident["schema"] = "memini.incident/1".into();
        Tree::of(&Story::of(&incident.to_string()).unwrap())
    }

    #[test]
    fn children_stand_below_their_parents_with_what_they_have_grown_by() {
        let looks = json!([{"stage": "normal", "at": "2026-11-22T05:45:01.000Z"}, {"stage": "trace", "at": null}]);
        let processes = json!([
            {"pid": 9, "parent": 7, "comm": "worker", "sizes": [10, 50]},
            {"pid": 7, "parent": 1, "comm": "app", "sizes": [30, 20]},
            {"pid": 8, "parent": 7, "comm": "new", "sizes": [null, 5]},
            {"pid": 10, "parent": 9, "comm": "gone", "sizes": [4, null]},
        ]);
        let tree = tree(json!({"evidence": {"looks": looks, "processes": processes}, "processes": [{"count": 6}]}));
        let shown: Vec<_> = tree.rows.iter().map(|row| (row.depth, row.pid, row.growth())).collect();
        assert_eq!(shown, [(0, 7, Some(-10)), (1, 9, Some(40)), (2, 10, None), (1, 8, Some(5))]);
        assert_eq!((tree.others, &tree.moments[0].stage[..], &tree.moments[0].clock[..]), (2, "baseline", "05:45:01"));
    }

    #[test]
    fn without_a_look_there_is_what_memini_has_noted() {
        let process =
            |pid: i64, bytes: u64| json!({"pid": pid, "parent": 1, "comm": "app", "rss_anon": bytes, "rss_file": 9});
        let tree = tree(json!({"processes": [
            {"stage": "capture", "count": 1, "list": [process(7, 5)]},
            {"stage": "stop", "count": 2, "list": [process(7, 8), process(8, 2)]},
        ]}));
        let shown: Vec<_> = tree.rows.iter().map(|row| (row.pid, row.sizes.clone())).collect();
        assert_eq!(shown, [(7, vec![Some(5), Some(8)]), (8, vec![None, Some(2)])]);
    }

    #[test]
    fn a_record_that_is_far_too_long_is_a_table_that_can_be_read() {
        // Each is the parent of the next.
        let processes: Vec<_> =
            (0..1500).map(|pid| json!({"pid": pid + 1, "parent": pid, "sizes": vec![1; 250]})).collect();
        let looks = vec![json!({"stage": "trace"}); 250];
        let seen = |pid: i64| json!({"count": 5000, "list": vec![json!({"pid": pid, "rss_anon": 5}); 1100]});
        let noted: Vec<_> = (0..250).map(seen).collect();
        let looked = tree(json!({"evidence": {"looks": looks, "processes": processes}}));
        assert_eq!((looked.moments.len(), looked.rows.len(), looked.rows[999].depth), (200, 1000, 999));
        assert!(looked.rows.iter().all(|row| row.sizes.len() == 200));
        let noted = tree(json!({"processes": noted}));
        assert_eq!((noted.moments.len(), noted.rows.len(), noted.others), (200, 200, 4800));
        assert!(noted.rows.iter().all(|row| row.sizes.iter().flatten().count() == 1));
    }

    #[test]
    fn processes_that_are_their_own_ancestors_end_somewhere() {
        let processes = json!([{"pid": 1, "parent": 2}, {"pid": 2, "parent": 1}, {"pid": 3, "parent": 3}]);
        let tree = tree(json!({"evidence": {"processes": processes}}));
        assert_eq!(tree.rows.iter().map(|row| row.pid).collect::<Vec<_>>(), [3]);
    }
}
