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

    /// Replaces what a terminal or a log reader would act on, so that text of the app's cannot forge lines. A tab, as in
    /// every stack trace of a JVM, becomes a space.
    pub fn replace_controls(&mut self) {
        if let Some(written) = self.bytes.get_mut(..self.length) {
            for byte in written.iter_mut().filter(|byte| byte.is_ascii_control()) {
                *byte = if *byte == b'\t' { b' ' } else { b'?' };
            }
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

/// A name of the app's own choice, so that it neither forges a line nor acts on a terminal, nor turns round what is read.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        // Breaks of lines that are no control characters, what changes the direction, and what is not seen at all.
        let is_format = matches!(letter, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if letter.is_control() || is_format {
            plain.extend(letter.escape_default());
        } else {
            plain.push(letter);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

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
    fn control_characters_cannot_forge_a_line() {
        let mut line = Line::<64>::new();
        write!(line, "name\nmemini: forged\u{1b}[2J").unwrap();
        line.replace_controls();
        assert_eq!(line.as_str(), "name?memini: forged?[2J");
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

    #[test]
    fn a_tab_of_a_stack_trace_stays_white_space() {
        let mut line = Line::<64>::new();
        write!(line, "\tat Main.main").unwrap();
        line.replace_controls();
        assert_eq!(line.as_str(), " at Main.main");
    }
}
