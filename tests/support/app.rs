//! Apps to be run by memini: Python that sees every signal, and small shell scripts.

/// What every Python app begins with.
const PRELUDE: &str = include_str!("app.py");

/// A Python app, without anything of the machine's own configuration.
pub fn python(script: &str) -> Vec<String> {
    ["python3", "-S", "-I", "-c", &format!("{PRELUDE}\n{script}")].map(str::to_owned).to_vec()
}

/// A shell script and its arguments.
pub fn shell(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).to_vec()
}

/// Words as they are.
pub fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
