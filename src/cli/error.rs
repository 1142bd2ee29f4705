//! Why there will be no run: one line for the user.

use std::fmt;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::text::plain;

/// The exit code of memini's own failures (as `docker run`, `env` and `timeout` have it).
pub const OWN_FAILURE: u8 = 125;

/// Where the user finds more.
const HINT: &str = "try 'memini --help'";

/// A command line or environment that memini cannot run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One line, without `memini: ` before it.
    pub message: String,
    /// The exit code, always 125.
    pub code: u8,
}

impl Failure {
    /// A failure with this message. What would break the line, or play with the terminal, is escaped.
    pub fn new(message: impl AsRef<str>) -> Self {
        Self { message: plain(message.as_ref()), code: OWN_FAILURE }
    }

    /// A failure that more than the message can be read about.
    pub fn with_hint(message: impl fmt::Display) -> Self {
        Self::new(format!("{message}; {HINT}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "memini: {}", self.message)
    }
}

impl std::error::Error for Failure {}

impl From<clap::Error> for Failure {
    /// clap explains itself in paragraphs; a log has lines.
    fn from(error: clap::Error) -> Self {
        let given = context(&error, ContextKind::InvalidArg).unwrap_or_default();
        let option = option_name(given);
        let value = context(&error, ContextKind::InvalidValue).unwrap_or_default();
        match error.kind() {
            ErrorKind::UnknownArgument if !option.is_empty() => {
                match context(&error, ContextKind::SuggestedArg).map(option_name) {
                    Some(known) => Self::new(format!("unknown option '{given}'; did you mean '{known}'?")),
                    None => Self::with_hint(format!("unknown option '{given}'")),
                }
            }
            ErrorKind::InvalidValue
            | ErrorKind::NoEquals
            | ErrorKind::TooFewValues
            | ErrorKind::WrongNumberOfValues
                if !option.is_empty() && value.is_empty() =>
            {
                Self::with_hint(format!("'{option}' needs a value"))
            }
            ErrorKind::TooManyValues if !option.is_empty() => {
                Self::with_hint(format!("'{option}' takes no value, but was given '{value}'"))
            }
            _ => Self::with_hint(first_line(&error.to_string())),
        }
    }
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        ContextValue::Strings(texts) => texts.first().map(String::as_str),
        _ => None,
    }
}

/// `--dir` of clap's `--dir <dir>`, `--verbose` of its `--verbose...`.
fn option_name(shown: &str) -> &str {
    shown.split([' ', '=', '[']).next().unwrap_or(shown).trim_end_matches('.')
}

fn first_line(text: &str) -> &str {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("cannot read the command line");
    line.strip_prefix("error: ").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// clap's kinds are open-ended; these are all that it has today.
    const KINDS: [ErrorKind; 17] = [
        ErrorKind::InvalidValue,
        ErrorKind::UnknownArgument,
        ErrorKind::InvalidSubcommand,
        ErrorKind::NoEquals,
        ErrorKind::ValueValidation,
        ErrorKind::TooManyValues,
        ErrorKind::TooFewValues,
        ErrorKind::WrongNumberOfValues,
        ErrorKind::ArgumentConflict,
        ErrorKind::MissingRequiredArgument,
        ErrorKind::MissingSubcommand,
        ErrorKind::InvalidUtf8,
        ErrorKind::DisplayHelp,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
        ErrorKind::DisplayVersion,
        ErrorKind::Io,
        ErrorKind::Format,
    ];

    #[test]
    fn every_kind_of_clap_becomes_one_line_that_says_more_than_nothing() {
        for kind in KINDS {
            for error in [clap::Error::new(kind), clap::Error::raw(kind, "one\ntwo\n\nthree")] {
                let failure = Failure::from(error);
                assert_eq!(failure.code, 125, "{kind:?}");
                assert!(!failure.message.contains('\n'), "{kind:?}: {failure}");
                assert!(failure.message.ends_with(HINT), "{kind:?}: {failure}");
                assert!(failure.message.len() > HINT.len() + 4, "{kind:?}: {failure}");
                assert!(!failure.message.starts_with("error"), "{kind:?}: {failure}");
            }
        }
    }

    #[test]
    fn control_characters_of_a_value_do_not_reach_the_terminal() {
        assert_eq!(Failure::new("a\nb\u{1b}[31mc\u{9b}é").message, "a\\nb\\u{1b}[31mc\\u{9b}é");
    }
}
