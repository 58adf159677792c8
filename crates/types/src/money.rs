//! Exact money.

use std::{fmt, iter::Sum, ops, str::FromStr};

/// US dollars as a whole number of pico-dollars (10⁻¹² $). Exact: no float ever touches it.
///
/// In ClickHouse it is `Decimal(38, 12)`, in JSON and config a decimal string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i128);

/// A text that is no amount of money.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    #[error("`{0}` is not an amount: write a decimal number of US dollars, like 0.50 or `0.50 USD`")]
    NotANumber(String),
    #[error("`{0}` has more than 12 decimals, the smallest unit is 0.000000000001 USD")]
    TooFine(String),
    #[error("`{0}` is not in USD, the only currency known here")]
    Currency(String),
}

impl Money {
    pub const ZERO: Money = Money(0);
    /// Pico-dollars in one dollar.
    pub const PICOS_PER_USD: i128 = 1_000_000_000_000;

    pub const fn from_picos(picos: i128) -> Money {
        Money(picos)
    }

    pub const fn picos(self) -> i128 {
        self.0
    }

    pub const fn usd(dollars: i64) -> Money {
        Money(dollars as i128 * Self::PICOS_PER_USD)
    }

    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub fn saturating_add(self, other: Money) -> Money {
        Money(self.0.saturating_add(other.0))
    }
}

impl ops::Add for Money {
    type Output = Money;
    fn add(self, other: Money) -> Money {
        Money(self.0 + other.0)
    }
}

impl ops::Sub for Money {
    type Output = Money;
    fn sub(self, other: Money) -> Money {
        Money(self.0 - other.0)
    }
}

impl ops::AddAssign for Money {
    fn add_assign(&mut self, other: Money) {
        self.0 += other.0;
    }
}

impl ops::SubAssign for Money {
    fn sub_assign(&mut self, other: Money) {
        self.0 -= other.0;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Money>>(amounts: I) -> Money {
        amounts.fold(Money::ZERO, ops::Add::add)
    }
}

/// A plain decimal without trailing zeros: `0.0105`, `20`, `0`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let whole = self.0.unsigned_abs() / Self::PICOS_PER_USD.unsigned_abs();
        let part = self.0.unsigned_abs() % Self::PICOS_PER_USD.unsigned_abs();
        if part == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{part:012}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    /// Reads `0.5`, `0.50 USD`, `$0.50` and `20`.
    fn from_str(given: &str) -> Result<Money, MoneyError> {
        let bad = || MoneyError::NotANumber(given.to_owned());
        let text = given.trim();
        let text = match text.split_once(char::is_whitespace) {
            Some((number, unit)) if unit.trim().eq_ignore_ascii_case("usd") => number,
            Some(_) => return Err(MoneyError::Currency(given.to_owned())),
            None => text.strip_prefix('$').unwrap_or(text),
        };
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if (whole.is_empty() && part.is_empty()) || !all_digits(whole) || !all_digits(part) {
            return Err(bad());
        }
        let part = part.trim_end_matches('0');
        if part.len() > 12 {
            return Err(MoneyError::TooFine(given.to_owned()));
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
        let part: i128 = if part.is_empty() { 0 } else { format!("{part:0<12}").parse().map_err(|_| bad())? };
        let picos = whole.checked_mul(Self::PICOS_PER_USD).and_then(|w| w.checked_add(part)).ok_or_else(bad)?;
        Ok(Money(if negative { -picos } else { picos }))
    }
}

impl serde::Serialize for Money {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// From a string. A whole number is welcome too, a float is not: it may not be what was written.
impl<'de> serde::Deserialize<'de> for Money {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Money, D::Error> {
        struct Reader;
        impl serde::de::Visitor<'_> for Reader {
            type Value = Money;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount such as `0.50 USD`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Money, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, whole: u64) -> Result<Money, E> {
                Ok(Money(i128::from(whole) * Money::PICOS_PER_USD))
            }
            fn visit_i64<E: serde::de::Error>(self, whole: i64) -> Result<Money, E> {
                Ok(Money(i128::from(whole) * Money::PICOS_PER_USD))
            }
            fn visit_f64<E: serde::de::Error>(self, given: f64) -> Result<Money, E> {
                // The shortest decimal that reads back as this float is the number that was written.
                given.to_string().parse().map_err(E::custom)
            }
        }
        from.deserialize_any(Reader)
    }
}

impl schemars::JsonSchema for Money {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Money".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "number"],
            "description": "An amount of US dollars: `0.50 USD`, `0.50` or 20."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_exactly() {
        for (given, shown) in [
            ("0.50 USD", "0.5"),
            ("$20", "20"),
            ("100 usd", "100"),
            ("0.000000000001", "0.000000000001"),
            ("-1.25", "-1.25"),
            (".5", "0.5"),
            ("1.5000000000000000", "1.5"),
        ] {
            assert_eq!(given.parse::<Money>().unwrap().to_string(), shown, "{given}");
        }
    }

    #[test]
    fn refuses_what_is_no_amount() {
        assert_eq!("1e3".parse::<Money>(), Err(MoneyError::NotANumber("1e3".into())));
        assert_eq!("".parse::<Money>(), Err(MoneyError::NotANumber("".into())));
        assert_eq!("5 EUR".parse::<Money>(), Err(MoneyError::Currency("5 EUR".into())));
        assert!(matches!("0.0000000000001".parse::<Money>(), Err(MoneyError::TooFine(_))));
    }
}
