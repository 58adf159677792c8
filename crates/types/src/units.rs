//! Spans of time and sizes as people write them in a config.

use std::{fmt, str::FromStr, time::Duration};

/// A text that is no span or size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("`{0}` is not a span of time: write a number and a unit, like 250ms, 20s, 10m, 24h or 1h30m")]
    Span(String),
    #[error("`{0}` is not a size: write bytes as a number, or with a unit, like 8MB or 1GiB")]
    ByteSize(String),
}

/// A span of time: `250ms`, `20s`, `10m`, `24h`, `1h30m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

/// Longest first, and `ms` before `m`: the parser takes the first that fits.
const SPANS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("ms", 1), ("m", 60_000), ("s", 1_000)];

impl Span {
    pub const ZERO: Span = Span(Duration::ZERO);

    pub const fn from_millis(millis: u64) -> Span {
        Span(Duration::from_millis(millis))
    }

    pub const fn from_secs(secs: u64) -> Span {
        Span(Duration::from_secs(secs))
    }

    pub const fn get(self) -> Duration {
        self.0
    }

    pub fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Duration> for Span {
    fn from(given: Duration) -> Span {
        Span(given)
    }
}

impl From<Span> for Duration {
    fn from(given: Span) -> Duration {
        given.0
    }
}

/// In the largest unit up to an hour that gives a whole number.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            0 => f.write_str("0s"),
            _ if millis.is_multiple_of(3_600_000) => write!(f, "{}h", millis / 3_600_000),
            _ if millis.is_multiple_of(60_000) => write!(f, "{}m", millis / 60_000),
            _ if millis.is_multiple_of(1_000) => write!(f, "{}s", millis / 1_000),
            _ => write!(f, "{millis}ms"),
        }
    }
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(given: &str) -> Result<Span, UnitError> {
        let bad = || UnitError::Span(given.chars().take(40).collect());
        let mut rest = given.trim();
        let mut total: u64 = 0;
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let (number, tail) = digits(rest);
            let number: u64 = number.parse().map_err(|_| bad())?;
            let (unit, millis) = SPANS.into_iter().find(|(unit, _)| tail.starts_with(unit)).ok_or_else(bad)?;
            total = number.checked_mul(millis).and_then(|part| total.checked_add(part)).ok_or_else(bad)?;
            rest = &tail[unit.len()..];
        }
        Ok(Span::from_millis(total))
    }
}

/// A number of bytes: `8MB`, `1GiB` or plain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

const SIZES: [(&str, u64); 6] =
    [("GiB", 1 << 30), ("GB", 1_000_000_000), ("MiB", 1 << 20), ("MB", 1_000_000), ("KiB", 1 << 10), ("kB", 1_000)];

impl ByteSize {
    pub const fn mb(megabytes: u64) -> ByteSize {
        ByteSize(megabytes * 1_000_000)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// As a length in memory.
    pub fn len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// In the largest unit that gives a whole number.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZES.into_iter().find(|(_, size)| self.0 != 0 && self.0.is_multiple_of(*size));
        match unit {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(given: &str) -> Result<ByteSize, UnitError> {
        let bad = || UnitError::ByteSize(given.chars().take(40).collect());
        let (number, unit) = digits(given.trim());
        let number: u64 = number.parse().map_err(|_| bad())?;
        let unit = unit.trim();
        let size = match unit {
            "" | "B" => 1,
            _ => SIZES.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(bad)?.1,
        };
        number.checked_mul(size).map(ByteSize).ok_or_else(bad)
    }
}

macro_rules! written_as_text {
    ($name:ident, $types:tt, $description:literal, $expecting:literal $(, $number:ident)?) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<$name, D::Error> {
                struct Reader;
                impl serde::de::Visitor<'_> for Reader {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                    $(fn visit_u64<E: serde::de::Error>(self, given: u64) -> Result<$name, E> {
                        Ok($number(given))
                    })?
                }
                from.deserialize_any(Reader)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": $types, "description": $description })
            }
        }
    };
}

written_as_text!(
    Span,
    "string",
    "A span of time: `250ms`, `20s`, `10m`, `24h`, `1h30m`.",
    "a span of time such as 20s or 10m"
);
written_as_text!(
    ByteSize,
    ["string", "integer"],
    "A number of bytes: `8MB`, `1GiB` or plain.",
    "a size such as 8MB or 1GiB",
    ByteSize
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_and_print() {
        for (given, shown) in [
            ("250ms", "250ms"),
            ("20s", "20s"),
            ("10m", "10m"),
            ("24h", "24h"),
            ("2d", "48h"),
            ("1h30m", "90m"),
            ("90s", "90s"),
            ("1m500ms", "60500ms"),
            ("0s", "0s"),
        ] {
            let span: Span = given.parse().unwrap();
            assert_eq!(span.to_string(), shown, "{given}");
            assert_eq!(shown.parse::<Span>().unwrap(), span, "{given}");
        }
        for bad in ["", "20", "s", "1.5s", "20 s", "5 minutes", "-1s", "99999999999999999999s", "20000000000000000d"] {
            assert_eq!(bad.parse::<Span>(), Err(UnitError::Span(bad.into())), "{bad}");
        }
    }

    #[test]
    fn sizes_read_and_print() {
        for (given, bytes, shown) in [
            ("8MB", 8_000_000, "8MB"),
            ("1GiB", 1 << 30, "1GiB"),
            ("1024", 1024, "1KiB"),
            ("512 kb", 512_000, "500KiB"),
            ("7", 7, "7"),
            ("0", 0, "0"),
        ] {
            let size: ByteSize = given.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, shown), "{given}");
            assert_eq!(shown.parse::<ByteSize>().unwrap(), size);
        }
        for bad in ["", "MB", "8XB", "1.5GB", "99999999999GB"] {
            assert_eq!(bad.parse::<ByteSize>(), Err(UnitError::ByteSize(bad.into())), "{bad}");
        }
    }
}
