//! Text in a fixed buffer: what PID 1 writes must not allocate.

use std::fmt;
use std::io;

/// A line of at most `N` bytes. What does not fit is cut, at a character's boundary.
pub struct Line<const N: usize> {
    bytes: [u8; N],
    length: usize,
    cut: bool,
}

impl<const N: usize> Line<N> {
    /// An empty line.
    pub const fn new() -> Self {
        Self { bytes: [0; N], length: 0, cut: false }
    }

    /// What was written so far.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// The same as text.
    pub fn as_str(&self) -> &str {
        match std::str::from_utf8(self.as_bytes()) {
            Ok(text) => text,
            // Bytes that were written as such, and are no text: only what comes before them is shown.
            Err(error) => self
                .bytes
                .get(..error.valid_up_to())
                .and_then(|valid| std::str::from_utf8(valid).ok())
                .unwrap_or_default(),
        }
    }

    /// Whether something did not fit.
    #[cfg(test)]
    pub const fn is_cut(&self) -> bool {
        self.cut
    }

    /// Ends the line with these bytes, over what stands there if it is full.
    pub fn end_with(&mut self, end: &[u8]) {
        self.length = self.length.min(N.saturating_sub(end.len()));
        if let Some(place) = self.bytes.get_mut(self.length..self.length.saturating_add(end.len())) {
            place.copy_from_slice(end);
            self.length = self.length.saturating_add(end.len());
        }
    }

    /// Adds text in which there may be anything, so that it can neither forge lines nor act on who reads them. A tab, as in
    /// every stack trace of a JVM, becomes a space, and else each letter that [`acts`] a question mark.
    pub fn add_plain(&mut self, text: &str) {
        for letter in text.chars() {
            let shown = match letter {
                '\t' => ' ',
                letter if acts(letter) => '?',
                letter => letter,
            };
            // Writing to a line cannot fail: what does not fit is cut.
            let _ = fmt::Write::write_char(self, shown);
        }
    }
}

impl<const N: usize> fmt::Write for Line<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.cut {
            return Ok(());
        }
        let room = N.saturating_sub(self.length);
        let mut count = text.len().min(room);
        while !text.is_char_boundary(count) {
            count = count.saturating_sub(1);
        }
        self.cut = count < text.len();
        let end = self.length.saturating_add(count);
        if let (Some(place), Some(source)) = (self.bytes.get_mut(self.length..end), text.as_bytes().get(..count)) {
            place.copy_from_slice(source);
            self.length = end;
        }
        Ok(())
    }
}

impl<const N: usize> io::Write for Line<N> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = self.length.saturating_add(bytes.len());
        let Some(place) = self.bytes.get_mut(self.length..end) else {
            self.cut = true;
            return Err(io::ErrorKind::WriteZero.into());
        };
        place.copy_from_slice(bytes);
        self.length = end;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a terminal, or a reader of lines, would act on this letter instead of showing it: control characters, breaks of lines
/// that are none, what changes the direction, and what is not seen at all.
pub fn acts(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A name of the app's own choice, so that it neither forges a line nor acts on a terminal, nor turns round what is read.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        if acts(letter) {
            plain.extend(letter.escape_default());
        } else {
            plain.push(letter);
        }
    }
    plain
}

/// JSON as it is written, so that it does not act on a terminal either: what `serde_json` leaves as it is in its strings stands
/// as `\u009b`, which means the same. Lines stay lines.
pub fn plain_json(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for letter in json.chars() {
        // A control character within a string is escaped already.
        if acts(letter) && letter != '\n' {
            let _ = fmt::Write::write_fmt(&mut plain, format_args!("\\u{:04x}", u32::from(letter)));
        } else {
            plain.push(letter);
        }
    }
    plain
}

/// The same, for [`serde_json::Serializer`] where nothing may be allocated.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainJson;

impl serde_json::ser::Formatter for PlainJson {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for letter in fragment.chars() {
            if acts(letter) {
                write!(writer, "\\u{:04x}", u32::from(letter))?;
            } else {
                writer.write_all(letter.encode_utf8(&mut [0; 4]).as_bytes())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use serde::Serialize;

    use super::*;

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let mut line = Line::<5>::new();
        write!(line, "abcdé").unwrap();
        assert_eq!(line.as_str(), "abcd");
        assert!(line.is_cut());
        line.end_with(b"\n");
        assert_eq!(line.as_bytes(), b"abcd\n");
        line.end_with(b"!!");
        assert_eq!(line.as_bytes(), b"abc!!");
    }

    #[test]
    fn text_of_the_apps_cannot_forge_a_line_nor_act_on_who_reads_it() {
        for (text, shown) in [
            ("name\nmemini: forged\u{1b}[2J", "name?memini: forged?[2J"),
            ("\u{9b}2J\u{7f} txt.\u{202e}exe\u{2028}\u{200b}é", "?2J? txt.?exe??é"),
            ("\tat Main.main", " at Main.main"),
        ] {
            let mut line = Line::<64>::new();
            line.add_plain(text);
            assert_eq!(line.as_str(), shown);
        }
        let mut line = Line::<4>::new();
        line.add_plain("abc\u{202e}\u{202e}");
        assert_eq!((line.as_str(), line.is_cut()), ("abc?", true));
    }

    #[test]
    fn json_does_not_act_on_a_terminal_and_means_the_same() {
        let value = serde_json::json!({"a\u{202e}": ["\u{9b}2J\n\u{1b}\u{7f}é\u{feff}\u{1f600}\\u009b"]});
        let mut line = Line::<256>::new();
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut line, PlainJson)).unwrap();
        for text in [plain_json(&format!("{value:#}")), line.as_str().to_owned()] {
            assert!(!text.contains(|letter| acts(letter) && letter != '\n'), "{text:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        }
    }

    #[test]
    fn a_name_neither_forges_a_line_nor_acts_on_a_terminal() {
        for (name, shown) in [
            ("é 名 [a]'\"\\", "é 名 [a]'\"\\"),
            ("a\nmemini: forged\r", "a\\nmemini: forged\\r"),
            ("\u{1b}[2J\u{9b}2J\u{7f}\0", "\\u{1b}[2J\\u{9b}2J\\u{7f}\\u{0}"),
            ("txt.\u{202e}exe\u{2028}\u{200b}\u{feff}", "txt.\\u{202e}exe\\u{2028}\\u{200b}\\u{feff}"),
        ] {
            assert_eq!(plain(name), shown);
        }
    }
}
