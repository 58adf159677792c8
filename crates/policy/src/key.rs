//! Keys `fb-<id>-<secret>`: shown once, kept as a keyed hash.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use data_encoding::HEXLOWER;
use farebox_types::{ErrorKind, Project, Timestamp};
use hmac::{Hmac, Mac};
use ipnet::IpNet;
use sha2::Sha256;

/// What makes hashes of keys useless to whoever has only them. `Debug` shows nothing.
#[derive(Clone)]
pub struct Pepper([u8; 32]);

impl Pepper {
    pub fn new(secret: [u8; 32]) -> Pepper {
        Pepper(secret)
    }

    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        for part in parts {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

/// The keyed hash of a key's secret.
#[derive(Clone, Copy)]
pub struct KeyHash(pub [u8; 32]);

/// In constant time.
impl PartialEq for KeyHash {
    fn eq(&self, other: &KeyHash) -> bool {
        self.0.iter().zip(other.0).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

impl Eq for KeyHash {}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

/// Names a key without revealing it: lower-case letters and digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    pub const MAX_LEN: usize = 32;

    pub fn parse(given: &str) -> Option<KeyId> {
        let valid = (1..=Self::MAX_LEN).contains(&given.len())
            && given.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        valid.then(|| KeyId(given.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A whole key as its holder has it. `Debug` shows the id only; [`KeyText::reveal`] is for showing it once.
#[derive(Clone)]
pub struct KeyText {
    pub id: KeyId,
    secret: String,
}

impl KeyText {
    /// Made from random bytes; or, where a caller may repeat its request, from [`KeyText::derive`].
    pub fn new(id: KeyId, secret: [u8; 32]) -> KeyText {
        KeyText { id, secret: HEXLOWER.encode(&secret) }
    }

    /// The key of a request to make one: the same request has the same key, and nobody without the pepper can tell it.
    pub fn derive(pepper: &Pepper, id: KeyId, request: &[u8]) -> KeyText {
        let secret = pepper.mac(&[b"derive", id.as_str().as_bytes(), request]);
        KeyText::new(id, secret)
    }

    pub fn hash(&self, pepper: &Pepper) -> KeyHash {
        KeyHash(pepper.mac(&[b"key", self.id.as_str().as_bytes(), self.secret.as_bytes()]))
    }

    pub fn reveal(&self) -> String {
        format!("fb-{}-{}", self.id, self.secret)
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fb-{}-…", self.id)
    }
}

/// A text that is no key of farebox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no farebox key: one looks like fb-<id>-<secret>")]
pub struct NoKey;

impl FromStr for KeyText {
    type Err = NoKey;

    fn from_str(given: &str) -> Result<KeyText, NoKey> {
        const SECRET_MAX: usize = 128;
        let (id, secret) = given.strip_prefix("fb-").and_then(|rest| rest.split_once('-')).ok_or(NoKey)?;
        let valid =
            (16..=SECRET_MAX).contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let id = KeyId::parse(id).filter(|_| valid).ok_or(NoKey)?;
        Ok(KeyText { id, secret: secret.to_owned() })
    }
}

/// What a key may do in the admin API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdminRole {
    Viewer,
    Operator,
    Owner,
}

/// Labels that calls with a key have, whatever their caller says; empty: the caller's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    pub actor: String,
    pub task_id: String,
    pub session_id: String,
    pub end_user: String,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    pub id: KeyId,
    /// None: an admin's.
    pub project: Option<Project>,
    /// For people.
    pub name: String,
    pub hash: KeyHash,
    /// Of a rotated key: the hash before, and until when it still opens.
    pub previous: Option<(KeyHash, Timestamp)>,
    pub groups: Vec<String>,
    pub expires: Option<Timestamp>,
    pub revoked: Option<Timestamp>,
    /// Model aliases; empty: those of the project.
    pub models: Vec<String>,
    /// Subjects of its account that it may use on the bus; empty: all that any caller may.
    pub subjects: Vec<String>,
    /// Where it may come from; empty: anywhere.
    pub addresses: Vec<IpNet>,
    pub pins: Pins,
    pub metadata: BTreeMap<String, String>,
    pub created: Timestamp,
    pub role: Option<AdminRole>,
}

impl Key {
    /// Whether it may be used from there; unknown where: only if it may be used anywhere.
    pub fn comes_from(&self, host: Option<IpAddr>) -> bool {
        let within = |host: IpAddr| self.addresses.iter().any(|allowed| allowed.contains(&host.to_canonical()));
        self.addresses.is_empty() || host.is_some_and(within)
    }
}

/// Why a key does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("this key is not known: check it, or ask for a new one")]
    Unknown,
    #[error("this key was revoked: ask for a new one")]
    Revoked,
    #[error("this key has expired: ask for a new one")]
    Expired,
    #[error("the project of this key is disabled")]
    Disabled,
    #[error("this key may not be used from this address")]
    Address,
}

impl KeyFault {
    pub fn kind(self) -> ErrorKind {
        match self {
            KeyFault::Unknown | KeyFault::Revoked | KeyFault::Expired => ErrorKind::Unauthenticated,
            KeyFault::Disabled | KeyFault::Address => ErrorKind::Forbidden,
        }
    }
}
