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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALUES: [(&str, &str); 6] = [
        ("pid", "7"),
        ("dir", "/i/{pid}"),
        ("stage", "stop"),
        ("usage", "10"),
        ("limit", "20"),
        ("reason", "urgent: 1 s"),
    ];

    #[test]
    fn tokens_are_replaced_and_other_braces_left_alone() {
        for (word, expanded) in [
            ("{pid}", "7"),
            ("-p{pid},{pid}", "-p7,7"),
            ("a{dir}é", "a/i/{pid}é"),
            ("{stage}{usage}{limit}", "stop1020"),
            ("{reason}", "urgent: 1 s"),
            ("${pid}", "${pid}"),
            ("$${pid}", "$${pid}"),
            ("$ {pid}", "$ 7"),
            ("é${HOME}{pid}", "é${HOME}7"),
            ("{{pid}}", "{pid}"),
            ("{{{pid}}}", "{{pid}}"),
            ("{{other}}", "{other}"),
            ("{{pid}", "{7"),
            ("{pid}}", "7}"),
            ("{{ pid }}", "{{ pid }}"),
            ("{}", "{}"),
            ("{ }", "{ }"),
            ("{1}", "{1}"),
            ("{a,b}", "{a,b}"),
            ("{print $1}", "{print $1}"),
            (r#"{"a":{"pid":{pid}}}"#, r#"{"a":{"pid":7}}"#),
            ("{", "{"),
            ("$", "$"),
            ("${", "${"),
            ("{pid", "{pid"),
            ("", ""),
        ] {
            assert_eq!(expand(word, &VALUES), expanded, "{word}");
        }
    }

    #[test]
    fn only_words_in_single_braces_must_be_known() {
        for (word, known) in [
            ("{pid}", true),
            ("{PID}", false),
            ("{pdi}", false),
            ("a{x_1}", false),
            ("{print}", false),
            ("{{print}}", true),
            ("${HOME}", true),
            ("{print $1}", true),
            ("{}", true),
        ] {
            let hook = parse(&format!("stop=run '{word}'"));
            assert_eq!(hook.is_ok(), known, "{word}: {hook:?}");
        }
    }

    #[test]
    fn words_are_split_as_a_shell_would() {
        let hook = parse(r#"capture= sh -c 'echo "$X" {pid}' a\ b "" "#).unwrap();
        assert_eq!(hook.words, ["sh", "-c", r#"echo "$X" {pid}"#, "a b", ""]);
        assert_eq!((hook.stage, hook.text.as_str()), (Stage::Capture, r#"sh -c 'echo "$X" {pid}' a\ b """#));
    }

    proptest! {
        #[test]
        fn a_word_without_tokens_stays_as_it_is(word in "[a-z{}$ é]{0,12}") {
            // Escapes lose their outer braces, and nothing else is changed.
            prop_assert_eq!(expand(&word, &[]).replace(['{', '}'], ""), word.replace(['{', '}'], ""));
            if !word.contains("{{") {
                prop_assert_eq!(expand(&word, &[]), word);
            }
        }
    }
}
