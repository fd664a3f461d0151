//! Permission bits, as people write them: `"0644"`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The nine permission bits of a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(u16);

impl Mode {
    /// Everybody reads, the owner writes.
    pub const FILE: Self = Self(0o644);
    /// Everybody looks in, the owner changes.
    pub const DIRECTORY: Self = Self(0o755);

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// What is left of `all` when these bits are taken away, as a umask does.
    #[must_use]
    pub const fn taken_from(self, all: u16) -> Self {
        Self(all & !self.0)
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        match u16::from_str_radix(digits, 8) {
            // `from_str_radix` takes a sign, which no mode has.
            Ok(bits) if bits <= 0o777 && !digits.starts_with('+') => Ok(Self(bits)),
            _ => Err(format!(
                "`{text}` is no mode; write permission bits in octal, like \"0644\" or \"0755\""
            )),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_with_or_without_zeros() {
        let table = [
            ("0644", 0o644),
            ("644", 0o644),
            ("0o755", 0o755),
            ("000", 0),
            ("0777", 0o777),
        ];
        for (text, bits) in table {
            assert_eq!(text.parse::<Mode>().unwrap().bits(), bits, "{text}");
        }
        for wrong in ["", "0888", "1777", "rw-r--r--", "-1", "+644", "0x1ff"] {
            let advice = wrong.parse::<Mode>().unwrap_err();
            assert!(advice.contains("octal"), "{advice}");
        }
    }

    #[test]
    fn a_umask_takes_bits_away() {
        let umask: Mode = "027".parse().unwrap();
        assert_eq!(umask.taken_from(0o666).to_string(), "0640");
        assert_eq!(umask.taken_from(0o777).to_string(), "0750");
    }
}
