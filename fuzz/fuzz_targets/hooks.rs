//! Hooks: `STAGE=COMMAND`, split as a shell would, and the tokens in its words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memini_fuzz::engine::settings::Stage;
use memini_fuzz::hook::{self, TOKENS};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Values are not looked at again, and what has no token in it stays as it is.
    let values = TOKENS.map(|token| (token, "{pid}"));
    let expanded = hook::expand(text, &values);
    if !text.contains('{') {
        assert_eq!(expanded, text);
    }
    assert!(expanded.len() <= text.len().saturating_mul(2));

    let Ok(hook) = hook::parse(text) else { return };
    assert!(Stage::LADDER.contains(&hook.stage));
    assert!(!hook.words[0].is_empty());
    if let Ok(joined) = shlex::try_join(hook.words.iter().map(String::as_str)) {
        let again = hook::parse(&format!("{}={joined}", hook.stage)).unwrap();
        assert_eq!((again.stage, again.words), (hook.stage, hook.words));
    }
});
