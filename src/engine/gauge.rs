//! The gauge: what thresholds are compared with. DESIGN, "The gauge", has the reasons for the formulas.

use super::settings::GaugeKind;
use crate::cgroup::reading::{Level, Scope, Stat};

/// One level of a reading, gauged. Bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauged {
    /// Whose memory.
    pub scope: Scope,
    /// All that is charged, swap included where some can be used.
    pub usage: u64,
    /// What thresholds are compared with. Where `exact` is false: what it can be at most.
    pub gauged: u64,
    /// Where the kernel would have to kill, memory and usable swap together, or the user's limit below it. `None`: nowhere.
    pub limit: Option<u64>,
    /// The kernel's part of it: where it would kill.
    pub enforced: Option<u64>,
    /// The lower of the kernel's limit and the user's, without swap: what a person would call the limit.
    pub nominal: Option<u64>,
    /// Charged memory alone, without swap: what reclaim sees against `nominal`.
    pub memory: u64,
    /// Whether `gauged` was measured, not only bounded.
    pub exact: bool,
    /// Where the bytes are, if it was read.
    pub stat: Option<Stat>,
}

impl Gauged {
    /// Gauges one level. `soft` is the user's limit, if it applies to this level. `full` tells whether swap was read.
    pub fn new(level: &Level, kind: GaugeKind, soft: Option<u64>, full: bool) -> Self {
        let swappable = level.swap_capacity > 0;
        let swap = if swappable { level.swap_usage } else { 0 };
        let measured = measure(level, kind);
        let enforced = level.limit.map(|limit| limit.saturating_add(level.swap_capacity));
        Self {
            scope: level.scope,
            usage: level.usage.saturating_add(swap),
            gauged: measured.unwrap_or(level.usage).saturating_add(swap),
            limit: lower(enforced, soft),
            enforced,
            nominal: lower(level.limit, soft),
            memory: level.usage,
            exact: measured.is_some() && (full || !swappable),
            stat: level.stat,
        }
    }

    /// What is left below the limit; `None` without a limit.
    pub fn room(&self) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_sub(self.gauged))
    }
}

/// The lower of two limits of which each may be missing.
fn lower(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The bytes that count, without swap; `None` if that takes details which were not read.
pub fn measure(level: &Level, kind: GaugeKind) -> Option<u64> {
    // A sum of RSS holds no page cache to subtract, and MemAvailable has it subtracted already.
    if matches!(level.scope, Scope::Tree | Scope::Host) || kind == GaugeKind::Usage {
        return Some(level.usage);
    }
    let stat = level.stat.as_ref()?;
    Some(match kind {
        GaugeKind::Unreclaimable => unreclaimable(level.usage, stat, level.swap_capacity > 0),
        GaugeKind::WorkingSet | GaugeKind::Usage => level.usage.saturating_sub(stat.inactive_file),
    })
}

/// What reclaim could not free: all but file pages and half of the slab that calls itself reclaimable. (`file` alone is never
/// subtracted: it holds tmpfs, which sits on the anonymous lists and is freed by nobody.)
///
/// File pages that are being freed or have just been read are on no list for a moment, but still are files: up to 13 MiB of
/// them at once (Linux 7.2, with its multi-generational lists and its large folios). Where there is swap, `file` also counts
/// what is on its way there, which is not to be told from them.
///
/// Dirty file pages do not count, although they must be written first: reclaim has them written, and waits. An app whose heap
/// grew while 40 to 110 MiB of a limit of 170 MiB were dirty met the OOM killer only when its heap alone was at 166 MiB.
fn unreclaimable(usage: u64, stat: &Stat, swaps: bool) -> u64 {
    let listed = stat.inactive_file.saturating_add(stat.active_file);
    let counted = if swaps { 0 } else { stat.file.saturating_sub(stat.shmem).saturating_sub(stat.unevictable) };
    let files = listed.max(counted);
    usage.saturating_sub(files).saturating_sub(stat.slab_reclaimable >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(usage: u64, stat: Stat) -> Level {
        Level { usage, limit: Some(1000), stat: Some(stat), ..Level::default() }
    }

    fn gauged(level: &Level, kind: GaugeKind) -> u64 {
        Gauged::new(level, kind, None, true).gauged
    }

    #[test]
    fn file_pages_and_half_the_reclaimable_slab_do_not_count() {
        let stat = Stat { inactive_file: 300, active_file: 200, slab_reclaimable: 50, ..Stat::default() };
        assert_eq!(gauged(&level(900, stat), GaugeKind::Unreclaimable), 900 - 500 - 25);
    }

    #[test]
    fn tmpfs_counts_and_pages_that_must_be_written_first_do_not() {
        // PostgreSQL was stopped for 17 MiB of written pages that the disk had not taken yet.
        let stat = Stat {
            inactive_file: 300,
            file_dirty: 100,
            file_writeback: 50,
            file: 700,
            shmem: 400,
            anon: 100,
            ..Stat::default()
        };
        assert_eq!(gauged(&level(900, stat), GaugeKind::Unreclaimable), 900 - 300);
    }

    #[test]
    fn file_pages_that_are_on_no_list_for_a_moment_do_not_count_and_locked_ones_do() {
        // An app was killed for 13 MiB of its page cache that reclaim had just taken from the lists.
        let stat = Stat { file: 300, shmem: 50, inactive_file: 20, ..Stat::default() };
        assert_eq!(gauged(&level(900, stat), GaugeKind::Unreclaimable), 900 - 250);
        let swapping = Level { swap_capacity: 1, ..level(900, stat) };
        assert_eq!(measure(&swapping, GaugeKind::Unreclaimable), Some(900 - 20));
        let locked = Stat { unevictable: 100, ..stat };
        assert_eq!(gauged(&level(900, locked), GaugeKind::Unreclaimable), 900 - 150);
    }

    #[test]
    fn numbers_that_were_not_read_in_the_same_instant_never_wrap_around() {
        let more_clean_than_used = Stat { inactive_file: 5000, slab_reclaimable: 900, ..Stat::default() };
        for kind in [GaugeKind::Unreclaimable, GaugeKind::WorkingSet] {
            assert_eq!(gauged(&level(900, more_clean_than_used), kind), 0, "{kind:?}");
        }
    }

    #[test]
    fn the_other_gauges_are_the_kubelets_and_the_raw_one() {
        let stat = Stat { inactive_file: 300, active_file: 200, ..Stat::default() };
        assert_eq!(gauged(&level(900, stat), GaugeKind::WorkingSet), 600);
        assert_eq!(gauged(&level(900, stat), GaugeKind::Usage), 900);
    }

    #[test]
    fn process_trees_and_hosts_are_gauged_as_they_are() {
        let stat = Stat { inactive_file: 300, ..Stat::default() };
        for scope in [Scope::Tree, Scope::Host] {
            for stat in [Some(stat), None] {
                let seen = Gauged::new(
                    &Level { scope, stat, ..level(900, Stat::default()) },
                    GaugeKind::default(),
                    None,
                    false,
                );
                assert_eq!((seen.gauged, seen.exact), (900, true), "{scope:?}");
            }
        }
    }

    #[test]
    fn without_details_usage_is_an_upper_bound() {
        let fast = Level { stat: None, ..level(900, Stat::default()) };
        for (kind, exact) in
            [(GaugeKind::Unreclaimable, false), (GaugeKind::WorkingSet, false), (GaugeKind::Usage, true)]
        {
            let seen = Gauged::new(&fast, kind, None, false);
            assert_eq!((seen.gauged, seen.exact), (900, exact), "{kind:?}");
        }
    }

    #[test]
    fn usable_swap_counts_on_both_sides_and_unusable_swap_on_none() {
        let usable = Level { swap_usage: 100, swap_capacity: 500, ..level(900, Stat::default()) };
        let seen = Gauged::new(&usable, GaugeKind::default(), None, true);
        assert_eq!((seen.usage, seen.gauged, seen.limit, seen.nominal), (1000, 1000, Some(1500), Some(1000)));
        assert_eq!((seen.memory, seen.room()), (900, Some(500)));
        let unusable = Level { swap_capacity: 0, ..usable };
        let seen = Gauged::new(&unusable, GaugeKind::default(), None, true);
        assert_eq!((seen.usage, seen.gauged, seen.limit), (900, 900, Some(1000)));
    }

    #[test]
    fn swap_that_was_not_read_makes_a_level_inexact() {
        let usable = Level { swap_capacity: 500, ..level(900, Stat::default()) };
        assert!(Gauged::new(&usable, GaugeKind::default(), None, true).exact);
        assert!(!Gauged::new(&usable, GaugeKind::default(), None, false).exact);
    }

    #[test]
    fn the_lower_limit_counts() {
        for (kernel, soft, counts) in [
            (Some(1000), None, Some(1000)),
            (Some(1000), Some(600), Some(600)),
            (Some(1000), Some(1600), Some(1000)),
            (None, Some(600), Some(600)),
            (None, None, None),
        ] {
            let seen =
                Gauged::new(&Level { limit: kernel, ..level(700, Stat::default()) }, GaugeKind::default(), soft, true);
            assert_eq!(seen.limit, counts, "{kernel:?} {soft:?}");
            assert_eq!(seen.room(), counts.map(|limit: u64| limit.saturating_sub(700)));
        }
    }
}
