//! Who is calling: the NATS accounts, keys and credentials of farebox, and the role `identity`, which turns a key into
//! an account at connect time.
//!
//! Guarantees:
//! - one account per project; what a caller may publish and see is decided by its account and permissions, so a caller
//!   cannot name another project, and cannot forge the facts that others of its project see;
//! - a role has its own user with the permissions that it needs: only the guard can write the ledger;
//! - a caller without a key becomes project `default`, from the machine's own loopback only, and only if allowed;
//! - all keys come from one root secret in a file that nobody else can read: a second process with the same file makes
//!   the same accounts, and a new project needs no restart.
//!
//! Not here: what a key may do (that is `intake`), and where keys are kept ([`KeyDirectory`] is the seam).
//!
//! Subjects: answers `$SYS.REQ.USER.AUTH`, asks `$SYS.REQ.CLAIMS.UPDATE`.

mod accounts;
mod callout;
mod conf;
mod directory;
mod error;
mod jwt;
mod keyring;
mod options;
mod permissions;
mod push;
mod service;

pub use accounts::Accounts;
pub use conf::{Durability, ServerConf};
pub use directory::{KeyDirectory, KeyIdentity, NoKeys, StaticKeys};
pub use error::IdentityError;
pub use keyring::Keyring;
pub use options::Options;
pub use permissions::Role;
pub use push::push_account;
pub use service::{Deps, Identity, Registrar};
