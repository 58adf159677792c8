//! Identifiers. Names that become NATS subject tokens are limited to characters that are one token.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// A name that cannot be used, and what a usable one looks like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{given}` is not valid: use 1 to {max} letters, digits, `-` or `_`{reserved}")]
pub struct InvalidName {
    what: &'static str,
    given: String,
    max: usize,
    reserved: &'static str,
}

fn check(what: &'static str, given: &str, max: usize) -> Result<(), InvalidName> {
    let valid = !given.is_empty()
        && given.len() <= max
        && given.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if valid {
        return Ok(());
    }
    let shown = given.chars().take(40).collect();
    Err(InvalidName { what, given: shown, max, reserved: "" })
}

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

string_id! {
    /// A tenant. It comes from the authenticated connection or key, never from a field of a message.
    Project
}

/// First words of the subjects that farebox itself uses: no project may be called so.
const RESERVED_PROJECTS: [&str; 9] =
    ["request", "job", "response", "result", "call", "event", "cancel", "alert", "usage"];

impl Project {
    pub const MAX_LEN: usize = 64;

    pub fn parse(given: &str) -> Result<Project, InvalidName> {
        check("project", given, Self::MAX_LEN)?;
        if RESERVED_PROJECTS.contains(&given) {
            return Err(InvalidName {
                what: "project",
                given: given.to_owned(),
                max: Self::MAX_LEN,
                reserved: ", and none of farebox's own subject words (request, job, response, …)",
            });
        }
        Ok(Project(given.to_owned()))
    }

    /// The project of callers without credentials on a laptop, and of a server without accounts.
    pub fn default_project() -> Project {
        Project("default".to_owned())
    }
}

impl<'de> serde::Deserialize<'de> for Project {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Project, D::Error> {
        let given = String::deserialize(from)?;
        Project::parse(&given).map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Project {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Project".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" })
    }
}

string_id! {
    /// One request of a caller, unique within its project. The caller may choose it.
    RequestId
}

impl RequestId {
    pub const MAX_LEN: usize = 128;

    pub fn parse(given: &str) -> Result<RequestId, InvalidName> {
        check("request id", given, Self::MAX_LEN)?;
        Ok(RequestId(given.to_owned()))
    }

    /// A new id for a caller that chose none.
    pub fn generate() -> RequestId {
        RequestId(Uuid::now_v7().simple().to_string())
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new, time-ordered id (UUID version 7).
            pub fn generate() -> $name {
                $name(Uuid::now_v7())
            }

            pub fn from_uuid(id: Uuid) -> $name {
                $name(id)
            }

            pub fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(given: &str) -> Result<$name, uuid::Error> {
                Uuid::parse_str(given).map($name)
            }
        }
    };
}

uuid_id! {
    /// One attempt at a provider: the unit of billing. One call id, one ledger row.
    CallId
}

uuid_id! {
    /// One admitted request's hold on its budgets. It covers all attempts of that request.
    ReservationId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_single_subject_tokens() {
        for bad in ["", "a.b", "a b", "*", ">", "é", "a\n"] {
            assert!(RequestId::parse(bad).is_err(), "{bad:?} must be refused");
            assert!(Project::parse(bad).is_err(), "{bad:?} must be refused");
        }
        assert!(RequestId::parse(&"x".repeat(129)).is_err());
        assert_eq!(RequestId::parse("order-42_a").unwrap().as_str(), "order-42_a");
    }

    #[test]
    fn a_project_cannot_take_a_word_of_the_bus() {
        let error = Project::parse("request").unwrap_err().to_string();
        assert!(error.contains("farebox's own subject words"), "{error}");
        assert!(Project::parse("requests").is_ok());
    }
}
