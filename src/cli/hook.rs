//! `STAGE=COMMAND`, and the tokens in its words.
//!
//! A token is `{word}`. `${word}` is left alone, since it is a shell's, and so are braces around anything that is not
//! one word (`{}`, `{print $1}`, JSON). `{{word}}` stands for `{word}` itself.

use crate::config::Hook;
use crate::engine::settings::Stage;

/// The tokens that a hook's words may hold, without braces.
pub const TOKENS: [&str; 6] = ["pid", "dir", "stage", "usage", "limit", "reason"];

/// Reads `capture=kill -USR2 {pid}`.
pub fn parse(text: &str) -> Result<Hook, String> {
    let (stage, command) = text.split_once('=').ok_or("not STAGE=COMMAND; use capture='kill -USR2 {pid}'")?;
    let stage = Stage::LADDER
        .into_iter()
        .find(|known| known.name() == stage.trim())
        .ok_or_else(|| format!("unknown stage '{}'; use trace, capture, stop or kill", stage.trim()))?;
    let words = shlex::split(command).ok_or("an unclosed quote, or a backslash at the end")?;
    if words.first().is_none_or(String::is_empty) {
        return Err("an empty command; use capture='kill -USR2 {pid}'".to_owned());
    }
    for word in &words {
        check_tokens(word)?;
    }
    Ok(Hook { stage, words, text: command.trim().to_owned() })
}

fn check_tokens(word: &str) -> Result<(), String> {
    for piece in Pieces(word) {
        if let Piece::Token(name) = piece
            && !TOKENS.contains(&name)
        {
            let known: Vec<String> = TOKENS.iter().map(|token| format!("{{{token}}}")).collect();
            return Err(format!(
                "unknown token {{{name}}}; use {}, or {{{{{name}}}}} for these letters themselves",
                known.join(" ")
            ));
        }
    }
    Ok(())
}

/// Puts the values of tokens (names without braces) into a word. A token without a value stays as it is; values are
/// not looked at again.
pub fn expand(word: &str, tokens: &[(&str, &str)]) -> String {
    let mut expanded = String::with_capacity(word.len());
    for piece in Pieces(word) {
        match piece {
            Piece::Text(text) => expanded.push_str(text),
            Piece::Token(name) => match tokens.iter().find(|(known, _)| *known == name) {
                Some((_, value)) => expanded.push_str(value),
                None => expanded.extend(["{", name, "}"]),
            },
        }
    }
    expanded
}

#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Token(&'a str),
}

/// A word, cut where tokens begin and end.
struct Pieces<'a>(&'a str);

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let (piece, rest) = first_piece(self.0)?;
        self.0 = rest;
        Some(piece)
    }
}

fn first_piece(text: &str) -> Option<(Piece<'_>, &str)> {
    if text.is_empty() {
        return None;
    }
    if let Some(after) = text.strip_prefix("${") {
        // The brace is passed over together with its dollar.
        let end = text.len() - after.len() + plain_length(after);
        return text.split_at_checked(end).map(|(plain, rest)| (Piece::Text(plain), rest));
    }
    if let Some((name, rest)) = text.strip_prefix("{{").and_then(braced).filter(|(_, rest)| rest.starts_with('}')) {
        // Of `{{name}}` the outer braces are dropped.
        let inner = text.get(1..name.len() + 3)?;
        return Some((Piece::Text(inner), rest.get(1..)?));
    }
    if let Some((name, rest)) = text.strip_prefix('{').and_then(braced) {
        return Some((Piece::Token(name), rest));
    }
    let first = text.chars().next().map_or(0, char::len_utf8);
    let end = first + text.get(first..).map_or(0, plain_length);
    text.split_at_checked(end).map(|(plain, rest)| (Piece::Text(plain), rest))
}

/// How far there is nothing of interest.
fn plain_length(text: &str) -> usize {
    let brace = text.find('{').unwrap_or(text.len());
    match text.get(..brace) {
        Some(before) if before.ends_with('$') && brace < text.len() => brace - 1,
        _ => brace,
    }
}

/// `name` and the rest of `name}rest`, if name is a word.
fn braced(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once('}')?;
    let word = !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    word.then_some((name, rest))
}
