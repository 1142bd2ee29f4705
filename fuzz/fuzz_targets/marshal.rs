//! What a helper in a Python process sends of tracemalloc's traces: the process may send anything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memini_fuzz::capture::python::marshal::{First, Lines};

fuzz_target!(|data: &[u8]| {
    for first in [First::Domain, First::Blocks] {
        let mut lines = Lines::default();
        let once = lines.add(data, first);
        let (sites, bytes, blocks) = lines.largest(10);
        assert!(sites.len() <= 10 && sites.is_sorted_by(|one, other| one.bytes >= other.bytes), "{sites:?}");
        assert!(sites.iter().map(|site| site.bytes).fold(0, u64::saturating_add) <= bytes);
        // All of it again is as much again, and as well understood.
        assert_eq!(lines.add(data, first), once);
        let (again, twice, more) = lines.largest(10);
        assert_eq!((twice, more), (bytes.saturating_mul(2), blocks.saturating_mul(2)));
        assert_eq!(again.len(), sites.len());
        if once.is_ok() {
            assert!(lines.add(&[data, &[0]].concat(), first).is_err(), "what follows the end was overlooked");
        }
    }
});
