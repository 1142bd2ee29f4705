//! Signals by name and number, real-time ones included.

use std::fmt;

/// The highest signal number of Linux on every architecture that memini knows (signal(7)).
pub const LAST: i32 = 64;

/// The number that users call `SIGRTMIN`: what glibc, Docker and systemd print for it. (The kernel's own is 32; the C
/// libraries keep the first ones for themselves.)
pub const RTMIN: i32 = 34;

/// A signal number between 1 and 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

/// Names without `SIG`, in the order of x86-64 and arm64 (signal(7)): index 0 is signal 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// Other names in use for the same numbers.
const ALIASES: [(&str, u8); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

impl Signal {
    /// Hangup.
    pub const HUP: Self = Self(1);
    /// Interrupt (Ctrl-C).
    pub const INT: Self = Self(2);
    /// Quit.
    pub const QUIT: Self = Self(3);
    /// Kill, cannot be caught.
    pub const KILL: Self = Self(9);
    /// A write to a pipe that nobody reads.
    #[cfg(test)]
    pub const PIPE: Self = Self(13);
    /// Ask to terminate.
    pub const TERM: Self = Self(15);
    /// A child changed its state.
    pub const CHLD: Self = Self(17);
    /// Continue after a stop.
    pub const CONT: Self = Self(18);
    /// Stop, cannot be caught.
    pub const STOP: Self = Self(19);
    /// Stop typed at the terminal.
    pub const TSTP: Self = Self(20);
    /// Background read from the terminal.
    pub const TTIN: Self = Self(21);
    /// Background write to the terminal.
    pub const TTOU: Self = Self(22);
    /// The terminal's window has another size.
    pub const WINCH: Self = Self(28);

    /// The signal with this number, if there is one.
    pub const fn from_number(number: i32) -> Option<Self> {
        if number >= 1 && number <= LAST { Some(Self(number as u8)) } else { None }
    }

    /// The number, as in `kill -N`.
    pub const fn number(self) -> i32 {
        self.0 as i32
    }

    /// Reads `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+3`, `RTMAX-1`.
    pub fn parse(text: &str) -> Option<Self> {
        let upper = text.to_ascii_uppercase();
        if let Ok(number) = upper.parse::<i32>() {
            return Self::from_number(number);
        }
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(index) = NAMES.iter().position(|known| *known == name) {
            return Self::from_number(i32::try_from(index).ok()?.checked_add(1)?);
        }
        if let Some((_, number)) = ALIASES.iter().find(|(known, _)| *known == name) {
            return Some(Self(*number));
        }
        let (base, offset) = if let Some(rest) = name.strip_prefix("RTMIN") {
            (RTMIN, rest)
        } else {
            (LAST, name.strip_prefix("RTMAX")?)
        };
        let offset = match offset.strip_prefix('+') {
            _ if offset.is_empty() => 0,
            Some(digits) if !digits.starts_with(['+', '-']) => digits.parse::<i32>().ok()?,
            None if offset.starts_with('-') => offset.parse::<i32>().ok()?,
            _ => return None,
        };
        let number = base.checked_add(offset)?;
        if (RTMIN..=LAST).contains(&number) { Self::from_number(number) } else { None }
    }
}

impl fmt::Display for Signal {
    /// `SIGTERM`, `SIGRTMIN+3`; the two numbers below RTMIN that have no name are shown as such.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.number();
        match NAMES.get(usize::from(self.0).wrapping_sub(1)) {
            Some(name) => write!(out, "SIG{name}"),
            None if number < RTMIN => write!(out, "signal {number}"),
            None if number == RTMIN => write!(out, "SIGRTMIN"),
            None if number == LAST => write!(out, "SIGRTMAX"),
            None => write!(out, "SIGRTMIN+{}", number.wrapping_sub(RTMIN)),
        }
    }
}

impl serde::Serialize for Signal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_is_read_back_from_its_name_and_number() {
        for number in 1..=LAST {
            let signal = Signal::from_number(number).unwrap();
            assert_eq!(Signal::parse(&number.to_string()), Some(signal));
            if number <= 31 || number >= RTMIN {
                assert_eq!(Signal::parse(&signal.to_string()), Some(signal), "{signal}");
            }
        }
    }

    #[test]
    fn names_are_read_as_users_write_them() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigusr1", 10),
            ("IOT", 6),
            ("POLL", 29),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX", 64),
            ("rtmax-2", 62),
        ] {
            assert_eq!(Signal::parse(text).map(Signal::number), Some(number), "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_signal() {
        for text in [
            "",
            "0",
            "65",
            "-1",
            "TERMINATE",
            "SIG",
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN+31",
            "RTMIN++1",
            "RTMIN+-1",
            "RTMIN3",
            "１５",
        ] {
            assert_eq!(Signal::parse(text), None, "{text:?}");
        }
    }
}
