//! All keys of the NATS accounts, derived from one root secret.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use data_encoding::BASE32_NOPAD;
use farebox_policy::Pepper;
use farebox_types::Project;
use nkeys::{KeyPair, KeyPairType};
use sha2::{Digest, Sha256};

use crate::error::IdentityError;

const ROOT_FILE: &str = "root.key";
const ROOT_LEN: usize = 32;
const BLOCK_LEN: usize = 64;

/// The root of all keys. `Debug` shows nothing.
#[derive(Clone)]
pub struct Keyring {
    root: [u8; ROOT_LEN],
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyring(…)")
    }
}

impl Keyring {
    /// A keyring from a root secret.
    pub fn from_root(root: [u8; 32]) -> Keyring {
        Keyring { root }
    }

    /// A keyring from the text of its file.
    pub fn from_text(text: &str) -> Result<Keyring, IdentityError> {
        let bytes = BASE32_NOPAD.decode(text.trim().as_bytes()).map_err(|_| IdentityError::BadRoot)?;
        Ok(Keyring { root: bytes.try_into().map_err(|_| IdentityError::BadRoot)? })
    }

    /// Loads the root secret from `dir`, or makes a new one there. The directory and file are for their owner only.
    pub fn load_or_create(dir: &Path) -> Result<Keyring, IdentityError> {
        let path = dir.join(ROOT_FILE);
        let failed = |reason: String| IdentityError::Keys { path: path.clone(), reason };
        let make = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        make.map_err(|e| failed(e.to_string()))?;
        match fs::OpenOptions::new().read(true).open(&path) {
            Ok(file) => return read_root(&path, file),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error.to_string())),
        }
        let root: [u8; ROOT_LEN] = rand::random();
        // Written whole under another name first: a crash leaves no half of a key, and the first process wins.
        let draft = dir.join(format!("{ROOT_FILE}.{}", BASE32_NOPAD.encode(&rand::random::<[u8; 5]>())));
        write_private(&draft, &format!("{}\n", BASE32_NOPAD.encode(&root))).map_err(|e| failed(e.to_string()))?;
        let linked = fs::hard_link(&draft, &path);
        fs::remove_file(&draft).map_err(|e| failed(e.to_string()))?;
        match linked {
            Ok(()) => Ok(Keyring { root }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Keyring::load_or_create(dir),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    pub(crate) fn operator(&self) -> KeyPair {
        self.derive(KeyPairType::Operator, "operator", "")
    }

    /// The account of the server itself.
    pub(crate) fn system(&self) -> KeyPair {
        self.derive(KeyPairType::Account, "account", "system")
    }

    /// The account in which the callout runs.
    pub(crate) fn callout(&self) -> KeyPair {
        self.derive(KeyPairType::Account, "account", "callout")
    }

    /// The account in which the roles run.
    pub(crate) fn farebox(&self) -> KeyPair {
        self.derive(KeyPairType::Account, "account", "farebox")
    }

    pub(crate) fn project(&self, project: &Project) -> KeyPair {
        self.derive(KeyPairType::Account, "project", project.as_str())
    }

    pub(crate) fn user(&self, name: &str) -> KeyPair {
        self.derive(KeyPairType::User, "user", name)
    }

    /// What hashes of callers' keys are keyed with.
    pub fn pepper(&self) -> Pepper {
        Pepper::new(self.secret("farebox pepper 1"))
    }

    fn derive(&self, kind: KeyPairType, what: &str, name: &str) -> KeyPair {
        let seed = self.secret(&format!("farebox nats key 1\0{what}\0{name}"));
        KeyPair::new_from_raw(kind, seed).expect("any 32 bytes are a seed")
    }

    /// HMAC-SHA-256 of a label under the root.
    fn secret(&self, label: &str) -> [u8; 32] {
        let pad = |with: u8| {
            let mut block = [with; BLOCK_LEN];
            for (byte, root) in block.iter_mut().zip(self.root) {
                *byte ^= root;
            }
            block
        };
        let inner = Sha256::new().chain_update(pad(0x36)).chain_update(label).finalize();
        Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
    }
}

/// A pepper from a secret of one's own.
pub fn pepper_of(secret: &str) -> Pepper {
    Pepper::new(Sha256::new().chain_update("farebox pepper 1\0").chain_update(secret).finalize().into())
}

pub(crate) fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn read_root(path: &Path, mut file: fs::File) -> Result<Keyring, IdentityError> {
    let failed = |reason: String| IdentityError::Keys { path: path.to_owned(), reason };
    let mode = file.metadata().map_err(|e| failed(e.to_string()))?.mode();
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.to_owned() });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|e| failed(e.to_string()))?;
    Keyring::from_text(&text).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("nats/keys");
        let first = Keyring::load_or_create(&keys).unwrap();
        let again = Keyring::load_or_create(&keys).unwrap();
        assert_eq!(first.operator().public_key(), again.operator().public_key());
        let mode = fs::metadata(keys.join(ROOT_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&keys).unwrap().count(), 1);
    }

    #[test]
    fn every_key_is_another_one() {
        let ring = Keyring::from_root([7; 32]);
        let project = |name: &str| ring.project(&Project::parse(name).unwrap()).public_key();
        let keys = [
            ring.operator().public_key(),
            ring.system().public_key(),
            ring.callout().public_key(),
            ring.farebox().public_key(),
            project("farebox"),
            project("system"),
            ring.user("system").public_key(),
            Keyring::from_root([8; 32]).operator().public_key(),
        ];
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn keys_that_others_can_read_or_that_are_broken_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        Keyring::load_or_create(dir.path()).unwrap();
        let path = dir.path().join(ROOT_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Keyring::load_or_create(dir.path()), Err(IdentityError::Exposed { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "SHORT").unwrap();
        assert!(matches!(Keyring::load_or_create(dir.path()), Err(IdentityError::Keys { .. })));
    }
}
