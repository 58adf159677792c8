//! Loads a config of any type, explains it, and finds everything that is wrong with it.
//!
//! **Does.** [`load`] lays defaults < file (YAML) < environment (`FAREBOX_LISTEN__HTTP=…`) < flags over each other.
//! [`Loaded::show`] prints the effective config with the origin of every value, [`schema`] describes the type as JSON
//! schema, [`resolve`] fetches a secret from where its reference points. Sections of another document can stand in for
//! those of the file ([`Replacement`]), and two configs are compared ([`differences`]).
//!
//! **Guarantees.** Unknown fields are faults. All faults come at once, each with file, line and column, or with the name
//! of the variable or flag. The environment is a value given by the caller ([`Env`]). A secret is never printed: the
//! config holds references only, and a plain one is refused without being repeated.
//!
//! **Does not.** It knows no section of farebox's config: each crate owns its `Options`, the binary puts them together.
//! A type with two forms (a short text, a long map) implements `Deserialize` with a visitor of its own: below serde's
//! `untagged` and `flatten` the places of faults are lost, and with `flatten` unknown fields are not seen.

mod compare;
mod de;
mod fault;
mod layers;
mod load;
mod path;
mod secret;
mod show;
mod suggest;
mod tree;

pub use compare::differences;
pub use farebox_types::{ByteSize, Secret, Span};
pub use fault::{ConfigError, ConfigFault, Origin, PlacedFault};
pub use load::{Env, FileSource, Loaded, Replacement, Sources, load, sections};
pub use path::{Path, Step};
pub use secret::{SecretFault, in_file, resolve};

/// The JSON schema of a config type, for editors and for the documentation.
pub fn schema<T: schemars::JsonSchema>() -> serde_json::Value {
    schemars::schema_for!(T).to_value()
}
