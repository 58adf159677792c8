//! Who is calling: the NATS accounts, keys and credentials of farebox, and the role `identity`, which turns a key into
//! an account at connect time.
//!
//! Guarantees:
//! - one account per project; what a caller may publish and see is decided by its account and permissions, so a caller
//!   cannot name another project, and cannot forge the facts that others of its project see;
//! - a role has its own user with the permissions that it needs: only the guard can write the ledger;
//! - a caller without a key becomes project `default`, from the machine's own loopback only, and only if allowed;
//! - all keys come from one root secret in a file that nobody else can read: a second process with the same file makes
//!   the same accounts, and a new project needs no restart;
//! - a key opens from the moment at which it was made: who is quicker than the news of it waits a little;
//! - what was let in is ended when what let it in does not hold any more: a revoked key is out within a second.
//!
//! Not here: what a key may ask for (that is `intake`), and where keys are kept (`directory`).
//!
//! Subjects: answers `$SYS.REQ.USER.AUTH`; asks `$SYS.REQ.CLAIMS.UPDATE`, `$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP`,
//! `$SYS.REQ.SERVER.PING.CONNZ`, `$SYS.REQ.SERVER.*.CONNZ` and `$SYS.REQ.SERVER.*.KICK`.

mod accounts;
mod arrivals;
mod callout;
mod conf;
mod connections;
mod error;
mod evict;
mod jwt;
mod keyring;
mod options;
mod permissions;
mod registrar;
mod service;

pub use accounts::Accounts;
pub use conf::{Durability, ServerConf};
pub use error::IdentityError;
pub use keyring::{Keyring, pepper_of};
pub use options::Options;
pub use permissions::Role;
pub use service::{Deps, Identity};
