//! The callout's decision: a question of the server in, a verdict out. No I/O, no waiting.

use std::net::IpAddr;

use farebox_bus::ANONYMOUS;
use farebox_directory::{Directory, Stale};
use farebox_policy::{KeyFault, KeyText, NoKey, Pepper};
use farebox_types::{Project, Timestamp};
use serde_json::Value;

use crate::{accounts::Accounts, error::IdentityError, jwt, options::Options};

const AUDIENCE: &str = "nats-authorization-request";

/// What a key is looked up in.
pub(crate) struct Keys<'a> {
    pub(crate) directory: &'a Directory,
    pub(crate) pepper: &'a Pepper,
}

/// Who is let in, and as what.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) project: Project,
    /// Of the user: the id of the key.
    pub(crate) name: String,
    /// Subjects that it may use; empty: all that any caller may.
    pub(crate) subjects: Vec<String>,
    /// When the server ends the connection.
    pub(crate) until: Option<Timestamp>,
}

/// Why somebody is not let in. The server tells its log, and the client no more than that it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no key was given: connect with one as token or password")]
    NoKey,
    #[error(transparent)]
    NotAKey(#[from] NoKey),
    #[error(transparent)]
    Fault(#[from] KeyFault),
    #[error("this key is an administrator's: it opens the admin API, not the bus")]
    Admin,
    #[error("unavailable: {0}")]
    Stale(#[from] Stale),
    #[error("unavailable: the NATS server does not have the account of this project yet: try again")]
    NoAccount,
}

/// Whom the server asks about.
pub(crate) struct Question {
    user: String,
    /// The id of the server that asks.
    pub(crate) server: String,
    /// Where the client connects from.
    host: Option<IpAddr>,
    key: Option<String>,
}

pub(crate) fn read_question(token: &str) -> Result<Question, IdentityError> {
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

pub(crate) fn decide(
    question: &Question,
    keys: &Keys<'_>,
    options: &Options,
    now: Timestamp,
) -> Result<Admitted, Refusal> {
    let Some(text) = &question.key else {
        if !options.anonymous || !question.host.is_some_and(|host| host.to_canonical().is_loopback()) {
            return Err(Refusal::NoKey);
        }
        let project = Project::default_project();
        if keys.directory.newest().is_disabled(&project) {
            return Err(KeyFault::Disabled.into());
        }
        // Who has no key has nothing that could expire.
        return Ok(Admitted { project, name: ANONYMOUS.to_owned(), subjects: Vec::new(), until: None });
    };
    let text: KeyText = text.parse()?;
    let policies = keys.directory.read()?;
    let key = policies.open(&text, keys.pepper, now)?;
    if !key.comes_from(question.host) {
        return Err(KeyFault::Address.into());
    }
    let project = key.project.clone().ok_or(Refusal::Admin)?;
    let hash = text.hash(keys.pepper);
    let replaced = key.previous.filter(|(previous, _)| *previous == hash && key.hash != hash).map(|(_, until)| until);
    let ends = [Some(now.after(options.session_max.get())), key.expires, replaced];
    Ok(Admitted {
        project,
        name: key.id.to_string(),
        subjects: key.subjects.clone(),
        until: ends.into_iter().flatten().min(),
    })
}

/// What the server is answered.
pub(crate) fn answer(
    question: &Question,
    decided: Result<Admitted, Refusal>,
    accounts: &Accounts,
) -> Result<String, IdentityError> {
    let token = match decided {
        Ok(admitted) => {
            tracing::debug!(project = %admitted.project, key_id = admitted.name, "let in");
            Ok(accounts.caller(&question.user, &admitted)?)
        }
        Err(reason) => {
            tracing::info!(host = ?question.host, %reason, "a client was not let in");
            Err(reason.to_string())
        }
    };
    accounts.verdict(&question.user, &question.server, token)
}

#[cfg(test)]
mod tests {
    use farebox_policy::{Key, Policies};
    use nkeys::KeyPair;
    use serde_json::json;

    use super::*;
    use crate::keyring::Keyring;

    const NOW: Timestamp = Timestamp(1_000_000);
    const SECRET: &str = "0123456789abcdef0123";

    fn pepper() -> Pepper {
        Pepper::new([9; 32])
    }

    fn key(id: &str) -> Key {
        let text: KeyText = format!("fb-{id}-{SECRET}").parse().unwrap();
        Key {
            id: text.id.clone(),
            project: Some(Project::parse("acme").unwrap()),
            name: String::new(),
            hash: text.hash(&pepper()),
            previous: None,
            groups: Vec::new(),
            expires: None,
            revoked: None,
            models: Vec::new(),
            subjects: Vec::new(),
            addresses: Vec::new(),
            pins: Default::default(),
            metadata: Default::default(),
            created: Timestamp(0),
            role: None,
        }
    }

    fn ask_of(directory: &Directory, connect: Value, host: &str, options: &Options) -> Value {
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
        let question = jwt::sign(&server, 1, claims).unwrap();
        let keys = Keys { directory, pepper: &pepper() };
        let question = read_question(&question).unwrap();
        let accounts = Accounts::new(Keyring::from_root([1; 32]), NOW);
        let token = answer(&question, decide(&question, &keys, options, NOW), &accounts).unwrap();
        let verdict = jwt::read(&token).unwrap();
        assert_eq!(verdict["aud"], server.public_key());
        assert_eq!(verdict["sub"], "UX");
        verdict["nats"].clone()
    }

    fn directory(keys: impl IntoIterator<Item = Key>) -> Directory {
        let keys = keys.into_iter().map(|key| (key.id.clone(), key)).collect();
        Directory::fixed(Policies { keys, ..Policies::default() })
    }

    fn ask(connect: Value, host: &str, options: &Options) -> Value {
        ask_of(&directory([key("k1")]), connect, host, options)
    }

    fn token(id: &str) -> Value {
        json!({ "auth_token": format!("fb-{id}-{SECRET}") })
    }

    /// The user that a verdict lets in.
    fn user(verdict: &Value) -> Value {
        jwt::read(verdict["jwt"].as_str().unwrap_or_else(|| panic!("{verdict}"))).unwrap()
    }

    #[test]
    fn a_key_leads_to_its_project_for_a_limited_time() {
        let options = Options::default();
        for connect in [token("k1"), json!({ "user": "any", "pass": format!("fb-k1-{SECRET}") })] {
            let user = user(&ask(connect, "10.0.0.1", &options));
            let acme = Keyring::from_root([1; 32]).project(&Project::parse("acme").unwrap());
            assert_eq!(user["iss"], acme.public_key());
            assert_eq!((user["name"].as_str(), user["exp"].as_i64()), (Some("k1"), Some(1_000 + 12 * 3600)));
        }
    }

    #[test]
    fn a_connection_ends_with_its_key() {
        let options = Options::default();
        let short = Key { expires: Some(Timestamp(1_060_000)), ..key("k1") };
        let user_of = |key: Key| user(&ask_of(&directory([key]), token("k1"), "10.0.0.1", &options));
        assert_eq!(user_of(short)["exp"], 1_060);
        let new: KeyText = format!("fb-k1-{}", "z".repeat(20)).parse().unwrap();
        let rotated =
            Key { hash: new.hash(&pepper()), previous: Some((key("k1").hash, Timestamp(1_030_000))), ..key("k1") };
        assert_eq!(user_of(rotated.clone())["exp"], 1_030);
        let with_new = json!({ "auth_token": new.reveal() });
        let user = user(&ask_of(&directory([rotated]), with_new, "10.0.0.1", &options));
        assert_eq!(user["exp"], 1_000 + 12 * 3600);
    }

    #[test]
    fn the_subjects_of_a_key_narrow_what_its_user_may() {
        let narrow = Key { subjects: vec!["llm.request".to_owned(), "agents.>".to_owned()], ..key("k1") };
        let user = user(&ask_of(&directory([narrow]), token("k1"), "10.0.0.1", &Options::default()));
        for side in ["pub", "sub"] {
            let may = &user["nats"][side];
            assert_eq!(may["allow"], json!(["llm.request", "agents.>", "_INBOX.>"]), "{side}");
            assert!(may["deny"].as_array().unwrap().contains(&json!("$SYS.>")), "{side}");
        }
    }

    #[test]
    fn each_refusal_says_what_is_wrong() {
        let options = Options::default();
        let local = |key: Key| Key { addresses: vec!["10.1.0.0/16".parse().unwrap()], ..key };
        let cases = [
            (Key { revoked: Some(NOW), ..key("k1") }, "revoked"),
            (Key { expires: Some(NOW), ..key("k1") }, "expired"),
            (Key { project: None, ..key("k1") }, "administrator"),
            (local(key("k1")), "address"),
            (Key { hash: key("k2").hash, ..key("k1") }, "not known"),
            (key("other"), "not known"),
        ];
        for (key, said) in cases {
            let verdict = ask_of(&directory([key]), token("k1"), "10.0.0.1", &options);
            assert!(verdict["error"].as_str().unwrap().contains(said), "{said}: {verdict}");
            assert_eq!(verdict.get("jwt"), None);
        }
        for host in ["10.1.2.3", "::ffff:10.1.2.3"] {
            assert!(ask_of(&directory([local(key("k1"))]), token("k1"), host, &options)["jwt"].is_string(), "{host}");
        }
    }

    #[test]
    fn who_cannot_know_does_not_say_that_a_key_is_wrong() {
        let (_feed, stale) = Directory::fed(Policies::default());
        let verdict = ask_of(&stale, token("k1"), "10.0.0.1", &Options::default());
        let said = verdict["error"].as_str().unwrap();
        assert!(said.contains("unavailable") && said.contains("try again"), "{said}");
    }

    #[test]
    fn a_wrong_key_is_refused_even_where_none_is_needed() {
        for wrong in ["wrong", "fb-k1-", "fb-k1-ffffffffffffffffffff"] {
            let verdict = ask(json!({ "auth_token": wrong }), "127.0.0.1", &Options::default());
            assert!(verdict["error"].is_string() && verdict.get("jwt").is_none(), "{wrong}: {verdict}");
            assert!(!verdict.to_string().contains("ffff"), "{verdict}");
        }
    }

    #[test]
    fn without_a_key_only_this_machine_is_let_in_and_only_if_allowed() {
        let open = Options::default();
        for host in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(ask(json!({}), host, &open)["jwt"].is_string(), "{host}");
        }
        let refused = |verdict: Value| verdict["error"].as_str().is_some_and(|said| said.contains("no key"));
        for host in ["10.0.0.1", "", "localhost", "::ffff:10.0.0.1"] {
            assert!(refused(ask(json!({}), host, &open)), "{host}");
        }
        let closed = Options { anonymous: false, ..Options::default() };
        assert!(refused(ask(json!({}), "127.0.0.1", &closed)));
    }

    #[test]
    fn a_question_that_no_server_signed_is_refused() {
        let server = KeyPair::new_server();
        let claims = json!({
            "aud": AUDIENCE,
            "nats": { "server_id": { "id": KeyPair::new_server().public_key() }, "user_nkey": "UX" },
        });
        let question = jwt::sign(&server, 1, claims).unwrap();
        assert!(matches!(read_question(&question), Err(IdentityError::BadQuestion { .. })));
    }
}
