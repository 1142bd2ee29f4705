//! Who says what: the command line before the environment before the default.

use std::ffi::{OsStr, OsString};

use clap::ArgMatches;

use super::error::Failure;
use super::flags::{Flag, Takes};
use super::units;

/// The values of all options.
pub struct Values<'a> {
    /// `None` if the command line has no options.
    pub options: Option<&'a ArgMatches>,
    /// The environment.
    pub environment: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Values<'_> {
    /// The value of an option that has a default.
    pub fn one<T>(&self, flag: &Flag, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Failure> {
        self.text(flag).unwrap_or_else(|| Text::default_of(flag)).parse(parse)
    }

    /// The value of an option that has none.
    pub fn optional<T>(
        &self,
        flag: &Flag,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        self.text(flag).map(|text| text.parse(parse)).transpose()
    }

    /// The value of an option that may be any bytes.
    pub fn raw<T>(&self, flag: &Flag, parse: impl FnOnce(&OsStr) -> Result<T, String>) -> Result<T, Failure> {
        let text = self.text(flag).unwrap_or_else(|| Text::default_of(flag));
        parse(&text.value).map_err(|why| text.failure(&why))
    }

    /// The path of an option that has no default.
    pub fn path(&self, flag: &Flag) -> Option<std::path::PathBuf> {
        self.text(flag).map(|text| text.value.into())
    }

    /// Whether it stands on the command line.
    pub fn is_given(&self, flag: &Flag) -> bool {
        let source = self.options.and_then(|options| options.value_source(flag.long));
        source == Some(clap::parser::ValueSource::CommandLine)
    }

    /// Whether a switch is on.
    pub fn switch(&self, flag: &Flag) -> Result<bool, Failure> {
        Ok(self.optional(flag, units::switch)?.unwrap_or(false))
    }

    /// The values of a repeatable option, in their order. Those of the command line replace those of the environment.
    pub fn list<T>(&self, flag: &Flag, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Failure> {
        let given: Vec<&OsString> =
            self.options.and_then(|options| options.get_many(flag.long)).into_iter().flatten().collect();
        if !given.is_empty() {
            return given.into_iter().map(|value| Text::option(flag, value).parse(&parse)).collect();
        }
        let Some(text) = self.variable(flag) else { return Ok(Vec::new()) };
        let separators = if let Takes::List(_, separators) = flag.takes { separators } else { &[] };
        text.utf8()?
            .split(separators)
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| parse(item).map_err(|why| text.failure(&why)))
            .collect()
    }

    /// How often a counted option is on the command line.
    pub fn times_given(&self, flag: &Flag) -> u8 {
        self.options.map_or(0, |options| options.get_count(flag.long))
    }

    /// How often the environment says that a counted option was given.
    pub fn times_in_environment(&self, flag: &Flag) -> Result<u8, Failure> {
        self.variable(flag).map_or(Ok(0), |text| text.parse(units::repetitions))
    }

    fn text<'a>(&self, flag: &'a Flag) -> Option<Text<'a>> {
        match self.options.and_then(|options| options.get_one::<OsString>(flag.long)) {
            Some(value) => Some(Text::option(flag, value)),
            None => self.variable(flag),
        }
    }

    /// An empty variable is as good as none: that is how a Compose file or a chart leaves it out.
    fn variable<'a>(&self, flag: &'a Flag) -> Option<Text<'a>> {
        let value = (self.environment)(&flag.variable()).filter(|value| !value.is_empty())?;
        Some(Text { flag, source: Source::Variable, value })
    }
}

#[derive(Clone, Copy)]
enum Source {
    Option,
    Variable,
    Default,
}

/// A value as it was written, and by whom.
struct Text<'a> {
    flag: &'a Flag,
    source: Source,
    value: OsString,
}

impl<'a> Text<'a> {
    fn option(flag: &'a Flag, value: &OsStr) -> Self {
        Self { flag, source: Source::Option, value: value.to_owned() }
    }

    fn default_of(flag: &'a Flag) -> Self {
        Self { flag, source: Source::Default, value: flag.default.into() }
    }

    fn utf8(&self) -> Result<&str, Failure> {
        self.value.to_str().ok_or_else(|| self.failure("not UTF-8"))
    }

    fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Failure> {
        parse(self.utf8()?).map_err(|why| self.failure(&why))
    }

    fn failure(&self, why: &str) -> Failure {
        let value = self.value.to_string_lossy();
        let value = if value.is_empty() { "''" } else { &*value };
        Failure::new(match self.source {
            Source::Option => format!("--{} {value}: {why}", self.flag.long),
            Source::Variable => format!("{}={value}: {why}", self.flag.variable()),
            Source::Default => format!("the default {value} of --{}: {why}", self.flag.long),
        })
    }
}
