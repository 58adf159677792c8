//! From the tree to the caller's type, finding every fault on the way.
//!
//! Serde stops at the first error. Here the node that an error is about is left out and the rest is tried again, until
//! nothing is wrong any more: so one run finds all of them, and each is known by its path.

use std::{fmt, vec};

use serde::{
    Deserializer,
    de::{
        self, DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
        VariantAccess, Visitor,
    },
    forward_to_deserialize_any,
};

use crate::{
    path::{Path, Step},
    suggest::suggestion,
    tree::{Entry, Node, Scalar, Value},
};

/// More than anyone wants to read at once.
const MAX_FAULTS: usize = 200;

/// A fault, and the path of the node that is wrong.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: Path,
    pub(crate) message: String,
    /// It is about the key, not about what stands behind it.
    pub(crate) is_key: bool,
}

/// The value, unless the root itself is wrong, and all faults. With faults, the value lacks what is faulty.
pub(crate) fn read<T: DeserializeOwned>(root: &mut Node) -> (Option<T>, Vec<Found>) {
    let mut faults: Vec<Found> = Vec::new();
    loop {
        let error = match T::deserialize(At::root(root)) {
            Ok(value) => return (Some(value), faults),
            Err(error) => error,
        };
        let mut path = error.path.unwrap_or_default();
        if let Kind::UnknownField(field) = &error.kind {
            // Below a tagged enum serde buffers, and the path ends at the enum.
            let step = Step::Key(field.clone());
            if path.0.last() != Some(&step) && root.at_mut(&path).is_some_and(|node| node.child(&step).is_some()) {
                path = path.key(field.clone());
            }
        }
        let follows = match (&error.kind, root.at_mut(&path)) {
            (Kind::Missing(field), Some(node)) => {
                let step = Step::Key(field.clone());
                node.child(&step).is_some_and(|child| child.removed)
            }
            (Kind::Length, Some(Node { value: Value::Seq(items), .. })) => items.iter().any(|item| item.removed),
            _ => false,
        };
        if !follows {
            faults.push(Found {
                is_key: matches!(error.kind, Kind::UnknownField(_)),
                path: path.clone(),
                message: error.message,
            });
        }
        let is_root = path == Path::default();
        match root.at_mut(&path) {
            Some(node) if !is_root && !node.removed && faults.len() < MAX_FAULTS => node.removed = true,
            _ => return (None, faults),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Error {
    kind: Kind,
    message: String,
    path: Option<Path>,
}

#[derive(Debug)]
enum Kind {
    UnknownField(String),
    Missing(String),
    Length,
    Other,
}

impl Error {
    fn new(kind: Kind, message: String) -> Error {
        Error { kind, message, path: None }
    }

    /// The innermost place wins.
    fn at(mut self, path: &Path) -> Error {
        self.path.get_or_insert_with(|| path.clone());
        self
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

fn expected(expected: &dyn de::Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "a string" => "a text".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list".into(),
        "u8" | "u16" | "u32" | "u64" | "usize" | "a nonzero u32" => format!("a whole number ({text})"),
        "i8" | "i16" | "i32" | "i64" => format!("a whole number ({text})"),
        "f32" | "f64" => "a number".into(),
        _ if text.starts_with("struct ") => "a map".into(),
        _ => text,
    }
}

fn found(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(given) => format!("`{given}`"),
        Unexpected::Unsigned(given) => format!("the number {given}"),
        Unexpected::Signed(given) => format!("the number {given}"),
        Unexpected::Float(given) => format!("the number {given}"),
        // A long one may be a key in the wrong place.
        Unexpected::Str(given) if given.len() > 20 => "a text".into(),
        Unexpected::Str(given) => format!("the text `{given}`"),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a map".into(),
        other => other.to_string(),
    }
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Error {
        Error::new(Kind::Other, message.to_string())
    }

    fn invalid_type(given: Unexpected<'_>, wanted: &dyn de::Expected) -> Error {
        Error::custom(format_args!("expected {}, found {}", expected(wanted), found(given)))
    }

    fn invalid_value(given: Unexpected<'_>, wanted: &dyn de::Expected) -> Error {
        Error::invalid_type(given, wanted)
    }

    fn invalid_length(length: usize, wanted: &dyn de::Expected) -> Error {
        Error::new(Kind::Length, format!("expected {}, found {length} values", expected(wanted)))
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Error {
        let hint = suggestion(variant, known);
        Error::custom(format_args!("`{variant}` is not known here{hint}"))
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Error {
        let hint = suggestion(field, known);
        Error::new(Kind::UnknownField(field.to_owned()), format!("unknown field{hint}"))
    }

    fn missing_field(field: &'static str) -> Error {
        Error::new(Kind::Missing(field.to_owned()), format!("`{field}` is missing"))
    }
}

/// A node and its path.
struct At<'a> {
    node: &'a Node,
    path: Path,
}

impl<'a> At<'a> {
    fn root(node: &'a Node) -> At<'a> {
        At { node, path: Path::default() }
    }

    fn scalar<'de, V: Visitor<'de>>(text: &str, kind: Scalar, visitor: V) -> Result<V::Value, Error> {
        match kind {
            Scalar::Null => visitor.visit_unit(),
            Scalar::Bool(given) => visitor.visit_bool(given),
            Scalar::Unsigned(given) => visitor.visit_u64(given),
            Scalar::Signed(given) => visitor.visit_i64(given),
            Scalar::Float(given) => visitor.visit_f64(given),
            Scalar::Text => visitor.visit_str(text),
        }
    }

    fn any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let path = self.path;
        let result = match &self.node.value {
            Value::Scalar { text, kind } => At::scalar(text, *kind, visitor),
            Value::Seq(items) => visitor.visit_seq(Items { items, next: 0, path: &path }),
            Value::Map(entries) => visitor.visit_map(Entries::new(entries, &path)),
        };
        result.map_err(|error| error.at(&path))
    }

    /// A text is taken as it was written: `1.10` stays `1.10`.
    fn text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Scalar { text, kind } if *kind != Scalar::Null => {
                visitor.visit_str(text).map_err(|error: Error| error.at(&self.path))
            }
            _ => self.any(visitor),
        }
    }

    /// A key with nothing behind it is an empty section.
    fn section<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() {
            let empty = visitor.visit_map(Entries::new(&[], &self.path));
            return empty.map_err(|error| error.at(&self.path));
        }
        self.any(visitor)
    }
}

impl<'de> Deserializer<'de> for At<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.any(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.text(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.text(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        let path = self.path.clone();
        visitor.visit_newtype_struct(self).map_err(|error| error.at(&path))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.section(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if matches!(self.node.value, Value::Seq(_)) {
            // Serde would take it for the fields in their order.
            let error: Error = de::Error::invalid_type(Unexpected::Seq, &visitor);
            return Err(error.at(&self.path));
        }
        self.section(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() {
            return visitor.visit_seq(Items { items: &[], next: 0, path: &self.path });
        }
        self.any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let path = self.path;
        let result = match &self.node.value {
            Value::Scalar { text, kind } if *kind != Scalar::Null => {
                visitor.visit_enum(text.as_str().into_deserializer())
            }
            Value::Map(entries) if entries.len() == 1 && !entries[0].node.removed => {
                visitor.visit_enum(Variant { entry: &entries[0], path: &path })
            }
            _ => Err(de::Error::custom("expected one word, or a map with one key")),
        };
        result.map_err(|error: Error| error.at(&path))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        ignored_any
    }
}

struct Items<'a> {
    items: &'a [Node],
    next: usize,
    path: &'a Path,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        while let Some(node) = self.items.get(self.next) {
            let path = self.path.clone().index(self.next);
            self.next += 1;
            if !node.removed {
                let at = At { node, path: path.clone() };
                return seed.deserialize(at).map(Some).map_err(|error| error.at(&path));
            }
        }
        Ok(None)
    }
}

struct Entries<'a> {
    entries: vec::IntoIter<&'a Entry>,
    value: Option<&'a Entry>,
    path: &'a Path,
}

impl<'a> Entries<'a> {
    fn new(entries: &'a [Entry], path: &'a Path) -> Entries<'a> {
        let kept: Vec<&Entry> = entries.iter().filter(|entry| !entry.node.removed).collect();
        Entries { entries: kept.into_iter(), value: None, path }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(entry) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some(entry);
        let key = entry.key.as_str().into_deserializer();
        let result: Result<S::Value, Error> = seed.deserialize(key);
        result.map(Some).map_err(|error| error.at(&self.path.clone().key(entry.key.clone())))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let entry = self.value.take().ok_or_else(|| de::Error::custom("a value was asked for before its key"))?;
        let path = self.path.clone().key(entry.key.clone());
        let at = At { node: &entry.node, path: path.clone() };
        // A type may find the fault only after it has read the value, as `try_from` does.
        seed.deserialize(at).map_err(|error| error.at(&path))
    }
}

struct Variant<'a> {
    entry: &'a Entry,
    path: &'a Path,
}

impl<'a, 'de> EnumAccess<'de> for Variant<'a> {
    type Error = Error;
    type Variant = At<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, At<'a>), Error> {
        let path = self.path.clone().key(self.entry.key.clone());
        let key = self.entry.key.as_str().into_deserializer();
        let name: Result<S::Value, Error> = seed.deserialize(key);
        let name = name.map_err(|error| error.at(&path))?;
        let node = &self.entry.node;
        Ok((name, At { node, path }))
    }
}

impl<'de> VariantAccess<'de> for At<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        de::Deserialize::deserialize(self)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.section(visitor)
    }
}
