//! The accounts and users of farebox on a server in operator mode: pure functions of the keyring and the time.

use std::{io, path::Path};

use farebox_types::{Project, Timestamp};
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::{
    callout::Admitted,
    error::IdentityError,
    jwt,
    keyring::{Keyring, write_private},
    permissions::{Role, caller_permissions},
};

/// What callers may ask: subject behind `llm.<project>.`, and whether a wildcard ends it.
const SERVICES: [(&str, bool); 5] =
    [("request", false), ("job", false), ("usage", false), ("result", true), ("cancel", true)];
/// What callers may see.
const STREAMS: [&str; 4] = ["call", "event", "response", "alert"];
/// How long the server keeps the way back to a caller open: longer than any answer takes.
const ANSWER_THRESHOLD_NANOS: u64 = 3_600_000_000_000;

const CALLOUT_USER: &str = "callout";
const SYSTEM_USER: &str = "system";
const SENTINEL_USER: &str = "sentinel";

/// Makes the tokens of accounts and users.
#[derive(Clone, Debug)]
pub struct Accounts {
    keyring: Keyring,
    /// When the tokens are made.
    now: Timestamp,
}

impl Accounts {
    pub fn new(keyring: Keyring, now: Timestamp) -> Accounts {
        Accounts { keyring, now }
    }

    fn sign(&self, key: &KeyPair, claims: Value) -> Result<String, IdentityError> {
        jwt::sign(key, self.now.millis() / 1000, claims)
    }

    pub(crate) fn operator(&self) -> Result<String, IdentityError> {
        let key = self.keyring.operator();
        let claims = json!({
            "sub": key.public_key(),
            "name": "farebox",
            "nats": { "type": "operator", "version": 2, "system_account": self.keyring.system().public_key() },
        });
        self.sign(&key, claims)
    }

    fn account(&self, key: &KeyPair, name: &str, jetstream: bool, extra: Value) -> Result<String, IdentityError> {
        // The server refuses to start when the system or the callout account may use JetStream; a project must not
        // put a stream on its own `llm.request` either.
        let stored = if jetstream { -1 } else { 0 };
        let mut nats = json!({
            "type": "account",
            "version": 2,
            "limits": {
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
                "conn": -1, "leaf": 0,
                "mem_storage": stored, "disk_storage": stored, "streams": stored, "consumer": stored,
            },
            "default_permissions": { "pub": {}, "sub": {} },
        });
        if let (Some(map), Value::Object(extra)) = (nats.as_object_mut(), extra) {
            map.extend(extra);
        }
        self.sign(&self.keyring.operator(), json!({ "sub": key.public_key(), "name": name, "nats": nats }))
    }

    /// The accounts that the server needs at its start: public key and token of each.
    pub(crate) fn base(&self) -> Result<Vec<(String, String)>, IdentityError> {
        let ring = &self.keyring;
        let callout = json!({
            "authorization": { "auth_users": [ring.user(CALLOUT_USER).public_key()], "allowed_accounts": ["*"] },
        });
        let default = Project::default_project();
        Ok(vec![
            (self.system_key(), self.account(&ring.system(), "SYS", false, json!({}))?),
            (ring.callout().public_key(), self.account(&ring.callout(), "AUTH", false, callout)?),
            (ring.farebox().public_key(), self.account(&ring.farebox(), "FAREBOX", true, exports())?),
            (ring.project(&default).public_key(), self.project(&default)?),
        ])
    }

    pub(crate) fn system_key(&self) -> String {
        self.keyring.system().public_key()
    }

    /// The token of a project's account, to be pushed to the server.
    pub fn project(&self, project: &Project) -> Result<String, IdentityError> {
        let imports = imports(project, &self.keyring.farebox().public_key());
        self.account(&self.keyring.project(project), &format!("project {project}"), false, imports)
    }

    /// The user that stands for whoever brings no credentials: it may do nothing, the callout decides.
    pub(crate) fn sentinel(&self) -> Result<String, IdentityError> {
        let nothing = json!({ "deny": [">"] });
        let extra = json!({ "bearer_token": true });
        let user = self.keyring.user(SENTINEL_USER).public_key();
        self.user(&self.keyring.callout(), &user, SENTINEL_USER, (nothing.clone(), nothing), extra)
    }

    fn user(
        &self,
        account: &KeyPair,
        user: &str,
        name: &str,
        (publish, subscribe): (Value, Value),
        extra: Value,
    ) -> Result<String, IdentityError> {
        let mut nats = json!({
            "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": publish, "sub": subscribe,
        });
        let mut claims = json!({ "sub": user, "name": name });
        if let (Some(nats), Some(claims), Value::Object(mut extra)) =
            (nats.as_object_mut(), claims.as_object_mut(), extra)
        {
            if let Some(end) = extra.remove("exp") {
                claims.insert("exp".to_owned(), end);
            }
            nats.extend(extra);
        }
        claims["nats"] = nats;
        self.sign(account, claims)
    }

    /// A user of a project, as the callout hands it out.
    pub(crate) fn caller(&self, user: &str, admitted: &Admitted) -> Result<String, IdentityError> {
        let extra = admitted.until.map_or(json!({}), |until| json!({ "exp": until.millis() / 1000 }));
        let permissions = caller_permissions(&admitted.subjects);
        self.user(&self.keyring.project(&admitted.project), user, &admitted.name, permissions, extra)
    }

    /// What the callout answers to the server: the user's token, or why there is none.
    pub(crate) fn verdict(
        &self,
        user: &str,
        server: &str,
        verdict: Result<String, String>,
    ) -> Result<String, IdentityError> {
        let mut nats = json!({ "type": "authorization_response", "version": 2 });
        match verdict {
            Ok(token) => nats["jwt"] = json!(token),
            Err(reason) => nats["error"] = json!(reason),
        }
        self.sign(&self.keyring.callout(), json!({ "sub": user, "aud": server, "nats": nats }))
    }

    fn credentials(&self, account: &KeyPair, name: &str, may: (Value, Value)) -> Result<String, IdentityError> {
        let user = self.keyring.user(name);
        let token = self.user(account, &user.public_key(), name, may, json!({}))?;
        let seed = user.seed().map_err(|e| IdentityError::Sign { reason: e.to_string() })?;
        Ok(format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        ))
    }

    /// The text of a role's `.creds` file.
    pub fn role_credentials(&self, role: Role) -> Result<String, IdentityError> {
        self.credentials(&self.keyring.farebox(), role.name(), role.permissions())
    }

    pub(crate) fn callout_credentials(&self) -> Result<String, IdentityError> {
        self.credentials(&self.keyring.callout(), CALLOUT_USER, (json!({}), json!({})))
    }

    pub(crate) fn system_credentials(&self) -> Result<String, IdentityError> {
        self.credentials(&self.keyring.system(), SYSTEM_USER, (json!({}), json!({})))
    }

    /// Writes `<role>.creds` of every role into `dir`, for their owner only.
    pub fn write_role_credentials(&self, dir: &Path) -> Result<(), IdentityError> {
        for role in Role::ALL {
            let path = dir.join(format!("{}.creds", role.name()));
            let written = write_private(&path, &self.role_credentials(role)?);
            written.map_err(|e: io::Error| IdentityError::Keys { path, reason: e.to_string() })?;
        }
        Ok(())
    }
}

/// What the account of farebox offers to the projects.
fn exports() -> Value {
    let services = SERVICES.iter().map(|(name, wild)| {
        json!({
            "name": name,
            "subject": if *wild { format!("llm.*.{name}.*") } else { format!("llm.*.{name}") },
            "type": "service",
            // An answer may be many messages.
            "response_type": "Stream",
            "response_threshold": ANSWER_THRESHOLD_NANOS,
        })
    });
    let streams =
        STREAMS.iter().map(|name| json!({ "name": name, "subject": format!("llm.*.{name}.*"), "type": "stream" }));
    json!({ "exports": services.chain(streams).collect::<Vec<_>>() })
}

/// What a project takes: `llm.x` there is `llm.<project>.x` here.
fn imports(project: &Project, farebox: &str) -> Value {
    let services = SERVICES.iter().map(|(name, wild)| {
        let (rest, local) = if *wild { (".*", ".$1") } else { ("", "") };
        json!({
            "name": name,
            "subject": format!("llm.{project}.{name}{rest}"),
            "local_subject": format!("llm.{name}{local}"),
            "account": farebox,
            "type": "service",
            // The server then says in a header which user is asking.
            "share": true,
        })
    });
    let streams = STREAMS.iter().map(|name| {
        json!({
            "name": name,
            "subject": format!("llm.{project}.{name}.*"),
            "local_subject": format!("llm.{name}.$1"),
            "account": farebox,
            "type": "stream",
        })
    });
    json!({ "imports": services.chain(streams).collect::<Vec<_>>() })
}
