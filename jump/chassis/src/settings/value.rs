//! Values that people write with a unit: a time span as `"10s"`, a size as `"1GiB"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time as settings spell it: `"10s"`, `"240h"`, `"1h 30m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl Period {
    /// A period of whole seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The span itself.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        period.0
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Self).map_err(|error| {
            format!(
                "`{text}` is not a time span ({error}); write it like \"10s\", \"5m\" or \"240h\""
            )
        })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// An amount of bytes as settings spell it: `"1GiB"`, `"500MB"`, `"4096"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// So many times 2^20 bytes.
    #[must_use]
    pub const fn mebibytes(count: u64) -> Self {
        Self(count << 20)
    }

    /// So many times 2^30 bytes.
    #[must_use]
    pub const fn gibibytes(count: u64) -> Self {
        Self(count << 30)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        bytesize::ByteSize::from_str(text)
            .map(|size| Self(size.as_u64()))
            .map_err(|error| {
                format!("`{text}` is not a size ({error}); write it like \"500MB\" or \"1GiB\"")
            })
    }
}

/// Exact: the largest binary unit that divides the amount, so that nothing is rounded away.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let unit = UNITS
            .iter()
            .find(|(bits, _)| self.0 != 0 && self.0.is_multiple_of(1 << bits));
        match unit {
            Some((bits, name)) => write!(f, "{}{name}", self.0 >> bits),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// Reads a string through `FromStr`; a bare number lacks its unit and is refused with that advice.
struct Spelled<T>(std::marker::PhantomData<T>, &'static str);

impl<T: FromStr<Err = String>> Visitor<'_> for Spelled<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! as_string {
    ($type:ty, $expected:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Spelled(std::marker::PhantomData, $expected))
            }
        }
    };
}
as_string!(Period, "a time span in quotes, like \"10s\" or \"240h\"");
as_string!(Size, "a size in quotes, like \"500MB\" or \"1GiB\"");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_reads_what_it_prints() {
        for text in ["10s", "240h", "1h 30m", "250ms"] {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
        }
        assert_eq!("240h".parse::<Period>().unwrap(), Period::seconds(864_000));
    }

    #[test]
    fn a_size_prints_exactly() {
        assert_eq!("1GiB".parse::<Size>().unwrap(), Size::gibibytes(1));
        assert_eq!("500MB".parse::<Size>().unwrap().bytes(), 500_000_000);
        assert_eq!(Size(1_500_000).to_string(), "1500000B");
        assert_eq!(Size::mebibytes(1536).to_string(), "1536MiB");
        assert_eq!(Size(0).to_string(), "0B");
    }

    #[test]
    fn advice_comes_with_a_value_that_cannot_be_read() {
        let error = "tomorrow".parse::<Period>().unwrap_err();
        assert!(error.contains("write it like \"10s\""), "{error}");
        assert!("many".parse::<Size>().unwrap_err().contains("1GiB"));
    }
}
