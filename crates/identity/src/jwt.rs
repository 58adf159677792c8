//! The tokens of NATS: JWT signed with ed25519 by an nkey.

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use nkeys::KeyPair;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::IdentityError;

/// Longest token that is read.
const TOKEN_MAX: usize = 64 * 1024;

/// Signs claims. `claims` holds at least `sub`; issuer, time and id are added here.
pub(crate) fn sign(key: &KeyPair, now_secs: i64, mut claims: Value) -> Result<String, IdentityError> {
    if let Some(map) = claims.as_object_mut() {
        map.insert("iat".to_owned(), json!(now_secs));
        map.insert("iss".to_owned(), json!(key.public_key()));
        // The id is the digest of the claims with an empty id.
        map.insert("jti".to_owned(), json!(""));
    }
    let id = BASE32_NOPAD.encode(&Sha256::digest(claims.to_string().as_bytes()));
    if let Some(map) = claims.as_object_mut() {
        map.insert("jti".to_owned(), json!(id));
    }
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let text = format!("{}.{}", part(&header), part(&claims));
    let signature = key.sign(text.as_bytes()).map_err(|e| IdentityError::Sign { reason: e.to_string() })?;
    Ok(format!("{text}.{}", BASE64URL_NOPAD.encode(&signature)))
}

/// Reads the claims of a token whose signature is that of the issuer it names.
pub(crate) fn read(token: &str) -> Result<Value, IdentityError> {
    let bad = |reason: &str| IdentityError::BadQuestion { reason: reason.to_owned() };
    if token.len() > TOKEN_MAX {
        return Err(bad("the token is too long"));
    }
    let (text, signature) = token.rsplit_once('.').ok_or_else(|| bad("it is no token"))?;
    let (header, claims) = text.split_once('.').ok_or_else(|| bad("it is no token"))?;
    let decode = |part: &str| -> Result<Value, IdentityError> {
        let bytes = BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| bad("a part is not base64"))?;
        serde_json::from_slice(&bytes).map_err(|_| bad("a part is not JSON"))
    };
    if decode(header)?["alg"] != "ed25519-nkey" {
        return Err(bad("it is signed with another algorithm"));
    }
    let claims = decode(claims)?;
    let issuer = claims["iss"].as_str().ok_or_else(|| bad("it names no issuer"))?;
    let key = KeyPair::from_public_key(issuer).map_err(|_| bad("its issuer is no key"))?;
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).map_err(|_| bad("its signature is not base64"))?;
    key.verify(text.as_bytes(), &signature).map_err(|_| bad("its signature is wrong"))?;
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_read_and_what_is_changed_is_not() {
        let key = KeyPair::new_account();
        let token = sign(&key, 1_700_000_000, json!({ "sub": "x", "nats": { "type": "user" } })).unwrap();
        let claims = read(&token).unwrap();
        assert_eq!((claims["sub"].as_str(), claims["iss"].as_str()), (Some("x"), Some(key.public_key().as_str())));
        let other = sign(&KeyPair::new_account(), 1_700_000_000, json!({ "sub": "x" })).unwrap();
        let (text, _) = token.rsplit_once('.').unwrap();
        let (_, signature) = other.rsplit_once('.').unwrap();
        assert!(read(&format!("{text}.{signature}")).is_err());
        for broken in ["", "a.b", "a.b.c", "....", &token[1..]] {
            assert!(read(broken).is_err(), "{broken}");
        }
    }
}
