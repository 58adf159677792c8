//! A change that somebody asked for: by whom, why, under which id.

use farebox_policy::KeyId;
use farebox_proto::v1 as wire;
use farebox_types::{RequestId, Timestamp};
use prost::Message;
use sha2::{Digest, Sha256};
use tonic::Request;

use crate::{gate::Admin, refusal::Refusal, v1::Write};

/// The longest reason that is kept, in bytes.
const REASON_MAX: usize = 1000;
/// Hexadecimal digits of a key id that farebox makes.
const KEY_ID_DIGITS: usize = 16;

#[derive(Clone, Debug)]
pub(crate) struct Deed {
    pub(crate) admin: Admin,
    pub(crate) reason: String,
    /// What the entity must still have; 0: whatever it has.
    pub(crate) revision: u64,
    /// As the client chose it; empty: it chose none.
    request_id: String,
    digest: [u8; 32],
    /// Of this request alone: what is derived from it is the same when the request comes again.
    seed: [u8; 32],
    at: Timestamp,
}

impl Deed {
    /// Reads what a request says about itself.
    pub(crate) fn of<T: Message>(request: &Request<T>, write: &Option<Write>, at: Timestamp) -> Result<Deed, Refusal> {
        let admin = Admin::of(request)?;
        let Write { request_id, revision, reason } = write.clone().unwrap_or_default();
        if reason.len() > REASON_MAX {
            return Err(Refusal::field(
                "write.reason",
                format!("longer than {REASON_MAX} bytes: say it in fewer words"),
            ));
        }
        if !request_id.is_empty() && RequestId::parse(&request_id).is_err() {
            return Err(Refusal::field("write.request_id", "use 1 to 128 of A-Z, a-z, 0-9, `_` and `-`"));
        }
        let named = if request_id.is_empty() { RequestId::generate().to_string() } else { request_id.clone() };
        let digest = Sha256::new_with_prefix(std::any::type_name::<T>())
            .chain_update([0])
            .chain_update(request.get_ref().encode_to_vec())
            .finalize();
        let seed = Sha256::new_with_prefix(&admin.id)
            .chain_update([0])
            .chain_update(named)
            .chain_update([0])
            .chain_update(digest)
            .finalize();
        Ok(Deed { admin, reason, revision, request_id, digest: digest.into(), seed: seed.into(), at })
    }

    /// What the entity says about who changed it last.
    pub(crate) fn change(&self) -> wire::Change {
        wire::Change {
            by: self.admin.id.clone(),
            reason: self.reason.clone(),
            at_unix_ms: self.at.millis(),
            request_id: self.request_id.clone(),
            request_digest: self.digest.to_vec().into(),
        }
    }

    pub(crate) fn at(&self) -> Timestamp {
        self.at
    }

    pub(crate) fn seed(&self) -> &[u8] {
        &self.seed
    }

    /// Whether it may have been done before.
    pub(crate) fn can_repeat(&self) -> bool {
        !self.request_id.is_empty()
    }

    /// Whether this change is the one that is asked for again.
    pub(crate) fn is(&self, change: &wire::Change) -> Result<bool, Refusal> {
        if !self.can_repeat() || change.request_id != self.request_id || change.by != self.admin.id {
            return Ok(false);
        }
        if change.request_digest == self.digest.as_slice() {
            return Ok(true);
        }
        Err(Refusal::other_request(&self.request_id))
    }

    /// The id of a key that this makes. It depends on the request id, not on the rest of the request, so that another
    /// request under the same id is found out.
    pub(crate) fn key_id(&self) -> KeyId {
        let from: Vec<u8> = match self.can_repeat() {
            true => format!("{}\0{}", self.admin.id, self.request_id).into_bytes(),
            false => self.seed.to_vec(),
        };
        let digits = data_encoding::HEXLOWER.encode(&Sha256::digest(from));
        KeyId::parse(&digits[..KEY_ID_DIGITS]).expect("hexadecimal digits are a key id")
    }
}

#[cfg(test)]
mod tests {
    use farebox_policy::AdminRole;

    use super::*;
    use crate::v1::RevokeKeyRequest;

    fn deed(by: &str, id: &str, request_id: &str) -> Result<Deed, Refusal> {
        let write = Some(Write { request_id: request_id.to_owned(), ..Write::default() });
        let mut request = Request::new(RevokeKeyRequest { id: id.to_owned(), write: write.clone() });
        request.extensions_mut().insert(Admin { id: by.to_owned(), role: AdminRole::Owner });
        Deed::of(&request, &write, Timestamp(1))
    }

    #[test]
    fn the_same_request_is_known_again() {
        let first = deed("ann", "k1", "r1").unwrap();
        let again = deed("ann", "k1", "r1").unwrap();
        assert!(again.is(&first.change()).unwrap());
        assert_eq!((again.seed(), again.key_id()), (first.seed(), first.key_id()));
        assert!(deed("ann", "k2", "r1").unwrap().is(&first.change()).is_err(), "another request under its id");
        assert!(!deed("bob", "k1", "r1").unwrap().is(&first.change()).unwrap(), "somebody else's id");
    }

    #[test]
    fn without_an_id_every_request_is_one_of_its_own() {
        let (one, other) = (deed("ann", "k1", "").unwrap(), deed("ann", "k1", "").unwrap());
        assert!(!other.is(&one.change()).unwrap());
        assert_ne!(one.seed(), other.seed());
        assert_ne!(one.key_id(), other.key_id());
    }

    #[test]
    fn an_id_has_a_form() {
        assert!(deed("ann", "k1", "no spaces").is_err());
        assert!(deed("ann", "k1", &"x".repeat(129)).is_err());
    }
}
