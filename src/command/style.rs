//! How a screen is drawn: how wide, in which characters, with or without colours; and lines that know their width.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::fd::AsFd;

use crate::sys::terminal;

/// The columns of a screen, whatever the terminal has.
const NARROWEST: usize = 40;
const WIDEST: usize = 200;
/// Where nothing tells.
const USUAL: usize = 80;

/// What may be written to where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Columns.
    pub width: usize,
    /// Rows of the terminal, where all of it is to be seen at once.
    pub height: Option<usize>,
    /// Whether block characters can be shown.
    pub unicode: bool,
    /// Whether a part of it may be coloured.
    pub colours: bool,
}

/// What is known of the place that is written to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// Columns and rows; `None`: it is no terminal, or does not tell.
    pub size: Option<(u16, u16)>,
    /// Whether it is a terminal.
    pub is_terminal: bool,
}

impl Style {
    /// What fits this place, and what the environment says (NO_COLOR, TERM, COLUMNS, LC_ALL, LC_CTYPE, LANG).
    pub fn of(place: Place, environment: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let text = |name: &str| {
            let value = environment(name).filter(|value| !value.is_empty())?;
            Some(value.to_string_lossy().into_owned())
        };
        let columns = text("COLUMNS").and_then(|columns| columns.trim().parse().ok()).filter(|columns| *columns > 0);
        let size = place.size.filter(|(columns, _)| *columns > 0);
        let width = size.map(|(columns, _)| usize::from(columns)).or(columns).unwrap_or(USUAL);
        Self {
            width: width.clamp(NARROWEST, WIDEST),
            height: size.map(|(_, rows)| usize::from(rows)).filter(|rows| *rows > 0),
            unicode: is_unicode(["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(text).as_deref()),
            colours: obeys(place, environment) && text("NO_COLOR").is_none(),
        }
    }

    /// One character or another.
    pub const fn pick<T: Copy>(&self, unicode: T, ascii: T) -> T {
        if self.unicode { unicode } else { ascii }
    }
}

impl Place {
    /// Standard output.
    pub fn of_output() -> Self {
        let output = std::io::stdout();
        let is_terminal = output.is_terminal();
        Self { size: terminal::size(output.as_fd()).filter(|_| is_terminal), is_terminal }
    }
}

/// What fits standard output.
pub fn of_output() -> Style {
    Style::of(Place::of_output(), &variable)
}

/// A variable of the environment.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Whether the place is a terminal that obeys escape sequences.
pub fn obeys(place: Place, environment: &dyn Fn(&str) -> Option<OsString>) -> bool {
    place.is_terminal && environment("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Whether this locale is one of UTF-8. Where none is set, as in most containers, the terminal is somebody's outside, and those
/// have been UTF-8 for long.
fn is_unicode(locale: Option<&str>) -> bool {
    let Some(locale) = locale else { return true };
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// What a part of a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Text.
    #[default]
    Plain,
    /// What is looked at first.
    Strong,
    /// What is beside the point.
    Faint,
    /// All is well.
    Good,
    /// Watch this.
    Warning,
    /// It is close.
    Danger,
    /// The level itself.
    Level,
}

impl Tone {
    /// As ECMA-48 has it; the terminal's own sixteen colours, which its owner has chosen.
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "1",
            Self::Faint => "2",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Danger => "31",
            Self::Level => "36",
        }
    }
}

/// A line of parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    parts: Vec<(Tone, String)>,
}

impl Line {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self { parts: Vec::new() }
    }

    /// Adds a part.
    pub fn add(&mut self, tone: Tone, text: &str) {
        match self.parts.last_mut().filter(|(last, _)| *last == tone) {
            Some((_, last)) => last.push_str(text),
            None if text.is_empty() => {}
            None => self.parts.push((tone, text.to_owned())),
        }
    }

    /// The same, as it is built.
    pub fn with(mut self, tone: Tone, text: &str) -> Self {
        self.add(tone, text);
        self
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.parts.iter().map(|(_, text)| width(text)).sum()
    }

    /// Fills up with spaces.
    pub fn pad_to(&mut self, columns: usize) {
        let missing = columns.saturating_sub(self.width());
        self.add(Tone::Plain, &" ".repeat(missing));
    }

    /// As it is written, without a line break: at most so wide, and without spaces at its end.
    pub fn render(&self, style: &Style) -> String {
        let mut left = style.width;
        let mut kept: Vec<(Tone, String)> = Vec::new();
        for (tone, text) in &self.parts {
            let whole = width(text);
            kept.push((*tone, cut(text, left, "")));
            let Some(rest) = left.checked_sub(whole) else { break };
            left = rest;
        }
        while let Some((_, text)) = kept.last_mut() {
            text.truncate(text.trim_end().len());
            if !text.is_empty() {
                break;
            }
            kept.pop();
        }
        let mut line = String::new();
        for (tone, text) in kept {
            match tone.code() {
                code if style.colours && !code.is_empty() => line.extend(["\u{1b}[", code, "m", &text, "\u{1b}[0m"]),
                _ => line.push_str(&text),
            }
        }
        line
    }
}

/// Columns that a text takes, on the safe side: what is shown wide in East Asia counts twice, and nothing counts as none.
pub fn width(text: &str) -> usize {
    text.chars().map(|letter| if is_wide(letter) { 2 } else { 1 }).sum()
}

/// Unicode's East Asian Width W and F (UAX #11), in coarse blocks, with the pictures beyond.
const fn is_wide(letter: char) -> bool {
    matches!(letter,
        '\u{1100}'..='\u{115f}' | '\u{231a}'..='\u{231b}' | '\u{23e9}'..='\u{23ec}' | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}' | '\u{a960}'..='\u{a97f}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}'
        | '\u{fe10}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}' | '\u{16fe0}'..='\u{18cff}'
        | '\u{1b000}'..='\u{1b2ff}' | '\u{1f000}'..='\u{1faff}' | '\u{20000}'..='\u{3fffd}')
}

/// As much of a text as fits, with a sign where something is left out.
pub fn cut(text: &str, columns: usize, sign: &str) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(width(sign));
    let mut taken = 0;
    let fits = |letter: &char| {
        taken += if is_wide(*letter) { 2 } else { 1 };
        taken <= room
    };
    let mut kept: String = text.chars().take_while(fits).collect();
    if width(sign) <= columns {
        kept.push_str(sign);
    }
    kept
}

/// Words in lines of at most so many columns; a word that is longer is cut.
pub fn wrap(text: &str, columns: usize, sign: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match lines.last_mut().filter(|line| width(line) + 1 + width(word) <= columns) {
            Some(line) => line.extend([" ", word]),
            None => lines.push(cut(word, columns, sign)),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style_of(place: Place, variables: &[(&str, &str)]) -> Style {
        let find =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        Style::of(place, &find)
    }

    #[test]
    fn the_place_and_the_environment_decide() {
        let terminal = |columns, rows| Place { size: Some((columns, rows)), is_terminal: true };
        let pipe = Place::default();
        for (place, variables, width, unicode, colours) in [
            (terminal(120, 40), &[("TERM", "xterm"), ("LANG", "de_DE.UTF-8")][..], 120, true, true),
            (terminal(120, 40), &[("TERM", "xterm"), ("NO_COLOR", "1")], 120, true, false),
            (terminal(120, 40), &[("TERM", "xterm"), ("NO_COLOR", "")], 120, true, true),
            (terminal(120, 40), &[("TERM", "dumb")], 120, true, false),
            (terminal(120, 40), &[], 120, true, false),
            (terminal(20, 10), &[("TERM", "vt100"), ("LANG", "C")], 40, false, true),
            (terminal(500, 10), &[("TERM", "xterm"), ("LC_ALL", "C"), ("LANG", "C.UTF-8")], 200, false, true),
            (terminal(0, 0), &[("TERM", "xterm"), ("COLUMNS", "100")], 100, true, true),
            (pipe, &[("TERM", "xterm"), ("LC_CTYPE", "en_US.utf8"), ("LANG", "C")], 80, true, false),
            (pipe, &[("COLUMNS", "60"), ("LANG", "POSIX")], 60, false, false),
            (pipe, &[("COLUMNS", "lots")], 80, true, false),
        ] {
            let style = style_of(place, variables);
            assert_eq!((style.width, style.unicode, style.colours), (width, unicode, colours), "{variables:?}");
        }
    }

    #[test]
    fn a_line_is_never_wider_than_the_screen_and_ends_its_colours() {
        let line = Line::new().with(Tone::Strong, "ab").with(Tone::Plain, "名名").with(Tone::Danger, "cd   ");
        assert_eq!(line.width(), 11);
        let style = |width, colours| Style { width, height: None, unicode: true, colours };
        for (width, colours, text) in [
            (40, true, "\u{1b}[1mab\u{1b}[0m名名\u{1b}[31mcd\u{1b}[0m"),
            (40, false, "ab名名cd"),
            (7, false, "ab名名c"),
            (5, false, "ab名"),
            (3, true, "\u{1b}[1mab\u{1b}[0m"),
        ] {
            assert_eq!(line.render(&style(width, colours)), text);
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_and_says_so() {
        for (text, columns, expected) in
            [("abcdef", 6, "abcdef"), ("abcdef", 5, "abcd…"), ("名前", 3, "名…"), ("abc", 1, "…"), ("abc", 0, "")]
        {
            assert_eq!(cut(text, columns, "…"), expected);
        }
        assert_eq!(wrap("one two  three a-long-word", 7, "…"), ["one two", "three", "a-long…"]);
    }
}
