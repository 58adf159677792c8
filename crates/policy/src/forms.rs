//! How single values of rules are written in the config.

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use farebox_types::{Money, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};

use crate::{
    budget::Permille,
    period::{Period, Zone},
    scope::{Dimension, Pick, Scope},
};

/// An amount of money, in US dollars or a currency that the config has a rate for: `20`, `0.50 USD`, `100 EUR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amount {
    /// In the currency.
    number: Money,
    /// None: US dollars.
    currency: Option<String>,
}

impl Amount {
    /// In US dollars, at the rates (US dollars for one unit) of the config.
    pub fn usd(&self, rates: &BTreeMap<String, Money>) -> Result<Money, String> {
        let Some(currency) = &self.currency else { return Ok(self.number) };
        let rate = rates.get(currency).ok_or_else(|| {
            format!("`{self}`: no rate is known for {currency}: add it under `currencies:`, in US dollars for one {currency}")
        })?;
        let picos = self.number.picos().checked_mul(rate.picos()).map(|picos| picos / Money::PICOS_PER_USD);
        picos.map(Money::from_picos).ok_or_else(|| format!("`{self}` is too much"))
    }
}

impl From<Money> for Amount {
    fn from(number: Money) -> Amount {
        Amount { number, currency: None }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.currency.as_deref().unwrap_or("USD"))
    }
}

impl FromStr for Amount {
    type Err = String;

    fn from_str(given: &str) -> Result<Amount, String> {
        let text = given.trim();
        let (number, currency) = match text.split_once(char::is_whitespace) {
            Some((number, currency)) => (number, Some(currency.trim().to_uppercase())),
            None => (text, None),
        };
        let currency = currency.filter(|currency| currency != "USD");
        if currency.as_ref().is_some_and(|code| code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_uppercase()))
        {
            return Err(format!("`{given}` is no amount: write a number and a currency, like 0.50 USD or 100 EUR"));
        }
        Ok(Amount { number: number.parse().map_err(|error: farebox_types::MoneyError| error.to_string())?, currency })
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Amount, D::Error> {
        struct Reader;
        impl de::Visitor<'_> for Reader {
            type Value = Amount;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount such as `0.50 USD` or `100 EUR`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Amount, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, whole: u64) -> Result<Amount, E> {
                self.visit_str(&whole.to_string())
            }
            fn visit_i64<E: de::Error>(self, whole: i64) -> Result<Amount, E> {
                self.visit_str(&whole.to_string())
            }
            fn visit_f64<E: de::Error>(self, given: f64) -> Result<Amount, E> {
                // The shortest decimal that reads back as this float is the number that was written.
                self.visit_str(&given.to_string())
            }
        }
        from.deserialize_any(Reader)
    }
}

impl schemars::JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "number"],
            "description": "An amount of money: `0.50 USD`, 20, or `100 EUR` where `currencies` has a rate."
        })
    }
}

macro_rules! written_as_text {
    ($name:ident, $description:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<$name, D::Error> {
                String::deserialize(from)?.parse().map_err(de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $description })
            }
        }
    };
}

written_as_text!(Period, "lifetime, total, minute, hour, day, week, month, or a span such as `rolling 24h`.");
written_as_text!(Zone, "An IANA time zone such as `Europe/Berlin`; empty: UTC.");
written_as_text!(Unreached, "closed, open, or `grace` with an amount: `grace 5 USD`.");
written_as_text!(Moment, "A moment, as in `2026-12-31T23:59:59Z`.");

/// What happens to calls of a budget when no guard can be reached, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreached {
    Closed,
    Open,
    Grace(Amount),
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreached::Closed => f.write_str("closed"),
            Unreached::Open => f.write_str("open"),
            Unreached::Grace(amount) => write!(f, "grace {amount}"),
        }
    }
}

impl FromStr for Unreached {
    type Err = String;

    fn from_str(given: &str) -> Result<Unreached, String> {
        match given.trim() {
            "closed" => Ok(Unreached::Closed),
            "open" => Ok(Unreached::Open),
            text => match text.strip_prefix("grace").map(str::trim) {
                Some("") => Err("`grace` needs an amount that may be spent in all: `grace 5 USD`".to_owned()),
                Some(amount) => amount.parse().map(Unreached::Grace),
                None => Err(format!("`{given}` is not known: write closed, open, or `grace 5 USD`")),
            },
        }
    }
}

/// A moment, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub Timestamp);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        jiff::Timestamp::from_millisecond(self.0.millis()).unwrap_or_default().fmt(f)
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(given: &str) -> Result<Moment, String> {
        let moment: Result<jiff::Timestamp, _> = given.parse();
        let moment = moment.map_err(|_| format!("`{given}` is no moment: write it like 2026-12-31T23:59:59Z"))?;
        Ok(Moment(Timestamp(moment.as_millisecond())))
    }
}

/// A share as a decimal: 0.8.
impl Serialize for Permille {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.as_money().serialize(to)
    }
}

impl<'de> Deserialize<'de> for Permille {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Permille, D::Error> {
        let wrong = || de::Error::custom("a share is a decimal number such as 0.8, with three decimals at most");
        // Decimals are read exactly as money is.
        let share = Money::deserialize(from).map_err(|_| wrong())?;
        let permille = Permille(u32::try_from(share.picos() / Permille::PICOS).map_err(|_| wrong())?);
        if permille.as_money() == share { Ok(permille) } else { Err(wrong()) }
    }
}

impl Permille {
    const PICOS: i128 = Money::PICOS_PER_USD / 1000;

    fn as_money(self) -> Money {
        Money::from_picos(i128::from(self.0) * Self::PICOS)
    }
}

impl schemars::JsonSchema for Permille {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["number", "string"], "description": "A share of a limit, such as 0.8." })
    }
}

const EVERYTHING: &str = "everything";
const EACH: &str = "*";

fn dimension<E: de::Error>(name: &str) -> Result<Dimension, E> {
    let known = Dimension::ALL.into_iter().find(|known| known.as_str() == name);
    known.ok_or_else(|| {
        let all: Vec<&str> = Dimension::ALL.into_iter().map(Dimension::as_str).collect();
        E::custom(format_args!("nothing is counted by `{name}`: write one of {}", all.join(", ")))
    })
}

/// As short as it can be.
impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let each: Option<Vec<&str>> =
            self.0.iter().map(|(d, pick)| (*pick == Pick::Each).then(|| d.as_str())).collect();
        match each.as_deref() {
            Some([]) => to.serialize_str(EVERYTHING),
            Some([one]) => to.serialize_str(one),
            Some(several) => several.serialize(to),
            None => {
                let mut map = to.serialize_map(Some(self.0.len()))?;
                for (dimension, pick) in &self.0 {
                    map.serialize_entry(dimension.as_str(), &Picked(pick.clone()))?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Scope, D::Error> {
        struct Reader;
        impl<'de> de::Visitor<'de> for Reader {
            type Value = Scope;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("what is counted by: `task`, `[project, model]` or `{ project: acme, actor: \"*\" }`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Scope, E> {
                if text == EVERYTHING {
                    Ok(Scope::default())
                } else {
                    Ok(Scope::new(vec![(dimension(text)?, Pick::Each)]))
                }
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut all: A) -> Result<Scope, A::Error> {
                let mut terms = Vec::new();
                while let Some(name) = all.next_element::<String>()? {
                    terms.push((dimension(&name)?, Pick::Each));
                }
                Ok(Scope::new(terms))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut all: A) -> Result<Scope, A::Error> {
                let mut terms = Vec::new();
                while let Some((name, picked)) = all.next_entry::<String, Picked>()? {
                    terms.push((dimension(&name)?, picked.0));
                }
                Ok(Scope::new(terms))
            }
        }
        from.deserialize_any(Reader)
    }
}

/// `"*"`, one value or a list of them.
struct Picked(Pick);

impl Serialize for Picked {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Pick::Each => to.serialize_str(EACH),
            Pick::Any(values) => match values.as_slice() {
                [one] => to.serialize_str(one),
                several => several.serialize(to),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Picked {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Picked, D::Error> {
        struct Reader;
        impl<'de> de::Visitor<'de> for Reader {
            type Value = Picked;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a list of texts, or \"*\" for each by itself")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Picked, E> {
                Ok(Picked(if text == EACH { Pick::Each } else { Pick::Any(vec![text.to_owned()]) }))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut all: A) -> Result<Picked, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = all.next_element::<String>()? {
                    values.push(value);
                }
                Ok(Picked(Pick::Any(values)))
            }
        }
        from.deserialize_any(Reader)
    }
}

impl schemars::JsonSchema for Scope {
    fn schema_name() -> Cow<'static, str> {
        "Scope".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<&str> = Dimension::ALL.into_iter().map(Dimension::as_str).collect();
        let single = [&[EVERYTHING], names.as_slice()].concat();
        let texts = schemars::json_schema!({ "type": "array", "items": { "type": "string" } });
        schemars::json_schema!({
            "description": "What is counted by: `everything`, `task` (each by itself), `[project, model]` (each pair), or \
                            `{ project: acme, actor: \"*\" }`.",
            "anyOf": [
                { "enum": single },
                { "type": "array", "items": { "enum": names } },
                {
                    "type": "object",
                    "propertyNames": { "enum": names },
                    "additionalProperties": { "anyOf": [{ "type": "string" }, texts] },
                },
            ],
        })
    }
}
