//! A recorder's file, which somebody may have put there: as it comes, and as one whose checksums are all right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memini_fuzz::incident::history;
use memini_fuzz::is_one_line;
use memini_fuzz::recorder::ending::{Now, Obituary};
use memini_fuzz::recorder::format::{
    EVENT_WORDS, HEADER, Layout, NAME, NAME_WORDS, PULSE, PULSE_WORDS, SAMPLE_WORDS, SMALLEST, checksum, halves,
};
use memini_fuzz::recorder::reader::{self, History};

const TEXT: &str = r#"{"hostname":"web","boot_id":"b","started_ms":1,"app":{"command":["/bin/app"]}}"#;

fuzz_target!(|data: &[u8]| {
    if let Ok(history) = reader::parse(data, |_, _| {}) {
        look_at(&history);
    }
    let layout = Layout::of(SMALLEST);
    let mut file = layout.header(TEXT).unwrap();
    file.resize(layout.bytes as usize, 0);
    let mut words: Vec<u32> = file.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
    // Pieces of the data, laid over the file: two bytes say where, one how long it is.
    let mut rest = data;
    while let [low, high, length, more @ ..] = rest {
        let place = usize::from(u16::from_le_bytes([*low, *high])) % words.len();
        let (piece, after) = more.split_at((usize::from(*length % 32) * 4).min(more.len()));
        for (word, bytes) in words[place..].iter_mut().zip(piece.chunks_exact(4)) {
            *word = u32::from_le_bytes(bytes.try_into().unwrap());
        }
        rest = after;
    }
    let sum = halves(checksum(words[..HEADER - 2].iter().copied()));
    words[HEADER - 2..HEADER].copy_from_slice(&sum);
    seal(&mut words, PULSE, 1, PULSE_WORDS);
    seal(&mut words, NAME, 1, NAME_WORDS);
    seal(&mut words, layout.first_event, layout.events, EVENT_WORDS);
    for ring in layout.rings {
        seal(&mut words, ring.start, ring.slots, SAMPLE_WORDS);
    }
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    match reader::parse(&bytes, |_, _| {}) {
        Ok(history) => look_at(&history),
        Err(why) => assert!(is_one_line(&why.to_string())),
    }
});

/// Puts the right checksum on each cell that something was laid over.
fn seal(words: &mut [u32], start: usize, slots: usize, length: usize) {
    for cell in words[start..start + slots * length].chunks_exact_mut(length) {
        if cell.iter().any(|word| *word != 0) {
            cell[0] = (cell[0] & !1).max(2);
            let sum = halves(checksum(std::iter::once(cell[0]).chain(cell[3..].iter().copied())));
            cell[1..3].copy_from_slice(&sum);
        }
    }
}

/// Where nothing was recorded, no history is written.
fn without_null(mut incident: serde_json::Value) -> serde_json::Value {
    let fields = incident.as_object_mut().unwrap();
    fields.retain(|_, value| !value.is_null());
    incident
}

fn look_at(recorded: &History) {
    let samples = recorded.samples();
    assert!(samples.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{samples:?}");
    let told = serde_json::json!({"history": history::of(recorded), "id": 1});
    assert_eq!(serde_json::from_str::<serde_json::Value>(&history::print(told.clone())).ok(), Some(without_null(told)));
    assert!(recorded.incident.as_ref().is_none_or(|name| !name.contains(['/', '.']) && !name.is_empty()));
    for (boot_id, oom_kills) in [("b", Some(1)), ("other", None)] {
        let obituary = Obituary::new(recorded, &Now { boot_id: boot_id.into(), oom_kills });
        assert!(is_one_line(&obituary.sentence()));
        for line in obituary.journal("name").lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok_and(|line| line.is_object()), "{line}");
        }
    }
}
