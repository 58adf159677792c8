//! The callout's decision: a question of the server in, a verdict out. No I/O.

use std::net::IpAddr;

use farebox_bus::ANONYMOUS;
use farebox_types::{Project, Timestamp};
use serde_json::Value;

use crate::{
    accounts::Accounts,
    directory::{KeyDirectory, KeyIdentity},
    error::IdentityError,
    jwt,
    keyring::Keyring,
    options::Options,
};

const AUDIENCE: &str = "nats-authorization-request";
const UNKNOWN_KEY: &str = "unknown key";
const NO_KEY: &str = "no key given";

/// Whom the server asks about.
struct Question {
    user: String,
    server: String,
    /// Where the client connects from.
    host: Option<IpAddr>,
    key: Option<String>,
}

fn read_question(token: &str) -> Result<Question, IdentityError> {
    let bad = |reason: &str| IdentityError::BadQuestion { reason: reason.to_owned() };
    let claims = jwt::read(token)?;
    if claims["aud"] != AUDIENCE {
        return Err(bad("it is for somebody else"));
    }
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let nats = &claims["nats"];
    let server = text(&nats["server_id"]["id"]).ok_or_else(|| bad("it names no server"))?;
    if claims["iss"].as_str() != Some(server.as_str()) {
        return Err(bad("it is not signed by the server that it names"));
    }
    let connect = &nats["connect_opts"];
    Ok(Question {
        user: text(&nats["user_nkey"]).ok_or_else(|| bad("it names no user"))?,
        server,
        host: nats["client_info"]["host"].as_str().and_then(|host| host.parse().ok()),
        // A key comes as a token, or as a password for clients that have no tokens.
        key: text(&connect["auth_token"]).or_else(|| text(&connect["pass"])),
    })
}

fn decide(question: &Question, directory: &dyn KeyDirectory, options: &Options) -> Result<KeyIdentity, &'static str> {
    match &question.key {
        Some(key) => directory.find(key).ok_or(UNKNOWN_KEY),
        None if options.anonymous && question.host.is_some_and(|host| host.to_canonical().is_loopback()) => {
            Ok(KeyIdentity { project: Project::default_project(), key_id: ANONYMOUS.to_owned() })
        }
        None => Err(NO_KEY),
    }
}

/// Answers one question.
pub(crate) fn answer(
    question: &str,
    keyring: &Keyring,
    directory: &dyn KeyDirectory,
    options: &Options,
    now: Timestamp,
) -> Result<String, IdentityError> {
    let question = read_question(question)?;
    let accounts = Accounts::new(keyring.clone(), now);
    let token = match decide(&question, directory, options) {
        Ok(found) => {
            tracing::debug!(project = %found.project, key_id = found.key_id, "let in");
            // Who has no key has nothing that could be revoked.
            let until = question.key.is_some().then(|| now.after(options.session_max.get()));
            Ok(accounts.caller(&found.project, &question.user, &found.key_id, until)?)
        }
        Err(reason) => {
            tracing::info!(host = ?question.host, reason, "a client was not let in");
            Err(reason)
        }
    };
    accounts.verdict(&question.user, &question.server, token)
}

#[cfg(test)]
mod tests {
    use nkeys::KeyPair;
    use serde_json::json;

    use super::*;
    use crate::directory::StaticKeys;

    fn ask(connect: Value, host: &str, options: &Options) -> Value {
        let server = KeyPair::new_server();
        let claims = json!({
            "sub": "x",
            "aud": AUDIENCE,
            "nats": {
                "server_id": { "id": server.public_key() },
                "user_nkey": "UX",
                "client_info": { "host": host },
                "connect_opts": connect,
            },
        });
        let acme = Project::parse("acme").unwrap();
        let directory = StaticKeys::default().with("right", &acme, "key-1");
        let question = jwt::sign(&server, 1, claims).unwrap();
        let ring = Keyring::from_root([1; 32]);
        let token = answer(&question, &ring, &directory, options, Timestamp(1_000_000)).unwrap();
        let verdict = jwt::read(&token).unwrap();
        assert_eq!(verdict["aud"], server.public_key());
        assert_eq!(verdict["sub"], "UX");
        verdict["nats"].clone()
    }

    #[test]
    fn a_key_leads_to_its_project_for_a_limited_time() {
        let options = Options::default();
        for connect in [json!({ "auth_token": "right" }), json!({ "user": "any", "pass": "right" })] {
            let user = jwt::read(ask(connect, "10.0.0.1", &options)["jwt"].as_str().unwrap()).unwrap();
            let acme = Keyring::from_root([1; 32]).project(&Project::parse("acme").unwrap());
            assert_eq!(user["iss"], acme.public_key());
            assert_eq!((user["name"].as_str(), user["exp"].as_i64()), (Some("key-1"), Some(1_000 + 12 * 3600)));
        }
    }

    #[test]
    fn a_wrong_key_is_refused_even_where_none_is_needed() {
        let verdict = ask(json!({ "auth_token": "wrong" }), "127.0.0.1", &Options::default());
        assert_eq!((verdict["error"].as_str(), verdict.get("jwt")), (Some(UNKNOWN_KEY), None));
    }

    #[test]
    fn without_a_key_only_this_machine_is_let_in_and_only_if_allowed() {
        let open = Options::default();
        for host in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(ask(json!({}), host, &open)["jwt"].is_string(), "{host}");
        }
        for host in ["10.0.0.1", "", "localhost", "::ffff:10.0.0.1"] {
            assert_eq!(ask(json!({}), host, &open)["error"], NO_KEY, "{host}");
        }
        let closed = Options { anonymous: false, ..Options::default() };
        assert_eq!(ask(json!({}), "127.0.0.1", &closed)["error"], NO_KEY);
    }

    #[test]
    fn a_question_that_no_server_signed_is_refused() {
        let server = KeyPair::new_server();
        let claims = json!({
            "aud": AUDIENCE,
            "nats": { "server_id": { "id": KeyPair::new_server().public_key() }, "user_nkey": "UX" },
        });
        let question = jwt::sign(&server, 1, claims).unwrap();
        let ring = Keyring::from_root([1; 32]);
        let refused = answer(&question, &ring, &StaticKeys::default(), &Options::default(), Timestamp(0));
        assert!(matches!(refused, Err(IdentityError::BadQuestion { .. })));
    }
}
