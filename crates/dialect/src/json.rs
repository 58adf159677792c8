//! JSON that keeps its bytes, and objects read member by member.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;

use crate::{canonical::Extra, error::BadRequest};

/// A JSON value as its author wrote it: spelling of numbers, order, duplicates and white space included.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawJson(Box<RawValue>);

impl RawJson {
    /// `None` when the text is no JSON value.
    pub fn new(text: impl Into<String>) -> Option<RawJson> {
        RawValue::from_string(text.into()).ok().map(RawJson)
    }

    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    pub fn is_object(&self) -> bool {
        self.as_str().starts_with('{')
    }
}

impl From<&RawValue> for RawJson {
    fn from(raw: &RawValue) -> RawJson {
        RawJson(raw.to_owned())
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &RawJson) -> bool {
        self.as_str() == other.as_str()
    }
}

/// An object's members in order. Of duplicates the last one counts, as in every provider's parser.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

/// Text that is only looked at: not copied, unless it has escapes.
#[derive(Deserialize, PartialEq, Eq, Hash)]
pub(crate) struct Word<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Object<'a>, D::Error> {
        struct Members;
        impl<'de> de::Visitor<'de> for Members {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some((Word(key), value)) = map.next_entry::<Word<'de>, &'de RawValue>()? {
                    members.push((key, value));
                }
                Ok(Object { members })
            }
        }
        from.deserialize_map(Members)
    }
}

/// A wire type that is read from an object alone. What serde derives reads an array too, its items as the members in
/// their order: an end of an answer could be read where none stands.
pub(crate) struct Strict<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Strict<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Strict<T>, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Members<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map))
            }
        }
        from.deserialize_map(Members(PhantomData)).map(Strict)
    }
}

/// A member that is an object, or `null`.
pub(crate) fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Strict<T>>::deserialize(from)?.map(|Strict(members)| members))
}

/// A member that is a list of objects, or `null`.
pub(crate) fn objects<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<T>>, D::Error> {
    let list = Option::<Vec<Strict<T>>>::deserialize(from)?;
    Ok(list.map(|list| list.into_iter().map(|Strict(members)| members).collect()))
}

/// Where in the caller's body we are: `messages[3].content[0]`.
#[derive(Clone, Copy)]
pub(crate) enum Path<'a> {
    Root,
    Member(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl Path<'_> {
    pub(crate) fn member<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path::Member(self, name)
    }

    pub(crate) fn item(&self, index: usize) -> Path<'_> {
        Path::Item(self, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Member(Path::Root, name) => f.write_str(name),
            Path::Member(parent, name) => write!(f, "{parent}.{name}"),
            Path::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Reads one value; the error names the field and what was expected there.
pub(crate) fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue, at: Path<'_>, expected: &str) -> Result<T, BadRequest> {
    serde_json::from_str(raw.get()).map_err(|_| BadRequest::field(at, format!("must be {expected}")))
}

pub(crate) fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

impl<'a> Object<'a> {
    /// All names, doubled ones as often as they stand there.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(key, _)| key.as_ref())
    }

    pub(crate) fn read(raw: &'a RawValue, at: Path<'_>) -> Result<Object<'a>, BadRequest> {
        read(raw, at, "an object")
    }

    /// Takes a member out; `null` counts as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let mut found = None;
        self.members.retain(|(key, value)| {
            let hit = key == name;
            if hit {
                found = Some(*value);
            }
            !hit
        });
        found.filter(|raw| !is_null(raw))
    }

    pub(crate) fn optional<T: Deserialize<'a>>(
        &mut self,
        name: &str,
        at: Path<'_>,
        expected: &str,
    ) -> Result<Option<T>, BadRequest> {
        self.take(name).map(|raw| read(raw, at.member(name), expected)).transpose()
    }

    pub(crate) fn required<T: Deserialize<'a>>(
        &mut self,
        name: &str,
        at: Path<'_>,
        expected: &str,
    ) -> Result<T, BadRequest> {
        let raw = self
            .take(name)
            .ok_or_else(|| BadRequest::field(at.member(name), format!("is missing: it must be {expected}")))?;
        read(raw, at.member(name), expected)
    }

    /// What nobody took.
    pub(crate) fn into_extra(self) -> Extra {
        self.members.into_iter().map(|(key, value)| (key.into_owned(), RawJson::from(value))).collect()
    }
}
