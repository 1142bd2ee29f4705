//! What /proc tells of a process that is looked at: its mappings, its mounts, its sockets, its status. Paths and names in it are
//! the app's own choice.
#![no_main]

use std::io::BufReader;

use libfuzzer_sys::fuzz_target;
use memini_fuzz::Drops;
use memini_fuzz::capture::jvm::outside::Resident;
use memini_fuzz::capture::jvm::target::Status;
use memini_fuzz::capture::proc::descriptors::unix_sockets;
use memini_fuzz::capture::proc::memory::{Memory, each};
use memini_fuzz::capture::proc::systemv::Segments;
use memini_fuzz::capture::proc::tmpfs::Info;
use memini_fuzz::capture::python::locate::images_in;
use memini_fuzz::text::plain;

fuzz_target!(|data: &[u8]| {
    let memory = Memory::parse(data).unwrap();
    let mut count = 0u64;
    let mut held = 0u64;
    each(data, |mapping| {
        count += 1;
        held = held.saturating_add(mapping.held());
    })
    .unwrap();
    let kinds = memory.kinds.values().copied().fold(0, u64::saturating_add);
    assert_eq!((memory.mappings, kinds), (count, held));
    assert!(memory.largest.len() <= 12 && memory.names.len() <= 64);
    assert!(memory.largest.is_sorted_by(|one, other| one.held >= other.held));
    for length in [1, 7] {
        assert_eq!(Memory::parse(BufReader::new(Drops(data, length))).unwrap(), memory, "in pieces of {length}");
    }

    let heap = [0x1000..u64::MAX / 2];
    let resident = Resident::read(data, &heap).unwrap();
    assert!(resident.outside() <= held || held == u64::MAX);

    let images = images_in(data, "/usr/bin/python3").unwrap();
    assert!(images.len() <= 16 && images.iter().all(|image| image.data.len() <= 16));

    let _ = Segments::parse(data).unwrap();
    for line in data.split(|byte| *byte == b'\n') {
        let _ = Info::parse(line);
    }
    assert!(unix_sockets(data).count() <= data.len());
    let status = Status::parse(data);
    assert!(status.user() != 0 || data.windows(4).any(|word| word == b"Uid:"), "nobody was taken for root");

    let shown = plain(&String::from_utf8_lossy(data));
    assert!(!shown.chars().any(char::is_control));
    assert_eq!(plain(&shown), shown);
});
