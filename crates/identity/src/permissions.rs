//! What each role, and each caller, may publish and subscribe to.

use serde_json::{Value, json};

/// Who connects in the account of farebox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Intake,
    Guard,
    Worker,
    Accounting,
    Edge,
    Admin,
    /// All roles in one process.
    Up,
}

/// What every role needs: its own inboxes, answers to others (`_R_` is where answers to other accounts go), and
/// JetStream.
const PUBLISH: [&str; 7] = ["_INBOX.>", "_R_.>", "farebox.v1.>", "$JS.API.>", "$JS.ACK.>", "$JS.FC.>", "$O.>"];
const SUBSCRIBE: [&str; 3] = ["_INBOX.>", "farebox.v1.>", "$JS.EVENT.>"];
/// What no role but the guard may do: write or trim the ledger.
const LEDGER: [&str; 3] =
    ["farebox.v1.ledger.>", "$JS.API.STREAM.PURGE.FAREBOX_LEDGER", "$JS.API.STREAM.MSG.DELETE.FAREBOX_LEDGER"];
/// What only intake writes: reservations without a guard.
const GRACE: &str = "farebox.v1.grace.>";
/// What only the guard does with them: remove what it has taken over.
const GRACE_REMOVAL: [&str; 2] = ["$JS.API.STREAM.PURGE.FAREBOX_GRACE", "$JS.API.STREAM.MSG.DELETE.FAREBOX_GRACE"];
/// What no role may do: remove a stream.
const DESTROY: &str = "$JS.API.STREAM.DELETE.>";

impl Role {
    pub const ALL: [Role; 7] =
        [Role::Intake, Role::Guard, Role::Worker, Role::Accounting, Role::Edge, Role::Admin, Role::Up];

    pub fn name(self) -> &'static str {
        match self {
            Role::Intake => "intake",
            Role::Guard => "guard",
            Role::Worker => "worker",
            Role::Accounting => "accounting",
            Role::Edge => "edge",
            Role::Admin => "admin",
            Role::Up => "up",
        }
    }

    fn publishes(self) -> &'static [&'static str] {
        match self {
            Role::Intake | Role::Worker => &["llm.*.response.*"],
            // Of the buckets, only who administers farebox writes into the others.
            Role::Guard => {
                &["$KV.farebox-leases.>", "llm.*.call.*", "llm.*.event.*", "llm.*.alert.*", "llm.*.response.*"]
            }
            Role::Accounting => &["$KV.farebox-leases.>", "llm.*.alert.*"],
            // It speaks for its callers to intake alone, on a subject of farebox's own.
            Role::Edge => &[],
            Role::Admin => &["$KV.>"],
            Role::Up => &["$KV.>", "llm.>"],
        }
    }

    fn subscribes(self) -> &'static [&'static str] {
        match self {
            Role::Intake => &["llm.*.request", "llm.*.job", "llm.*.result.*", "llm.*.cancel.*", "llm.*.response.*"],
            Role::Guard | Role::Edge => &[],
            Role::Worker => &["llm.*.cancel.*"],
            Role::Accounting => &["llm.*.usage"],
            Role::Admin => &["llm.*.call.*"],
            Role::Up => &["llm.>"],
        }
    }

    /// The `pub` and `sub` members of the role's user claims.
    pub(crate) fn permissions(self) -> (Value, Value) {
        let publish: Vec<&str> = PUBLISH.iter().chain(self.publishes()).copied().collect();
        let subscribe: Vec<&str> = SUBSCRIBE.iter().chain(self.subscribes()).copied().collect();
        let mut deny = vec![DESTROY];
        if !matches!(self, Role::Guard | Role::Up) {
            deny.extend(LEDGER);
            deny.extend(GRACE_REMOVAL);
        }
        if !matches!(self, Role::Intake | Role::Up) {
            deny.push(GRACE);
        }
        (json!({ "allow": publish, "deny": deny }), json!({ "allow": subscribe }))
    }
}

/// What no caller may say, as only farebox says it, or is none of its business.
const NOT_SAID: [&str; 6] = ["$SYS.>", "$JS.>", "llm.call.>", "llm.event.>", "llm.response.>", "llm.alert.>"];
/// Where no caller may listen: it would answer in farebox's place.
const NOT_HEARD: [&str; 6] = ["$SYS.>", "llm.request", "llm.job", "llm.usage", "llm.cancel.>", "llm.result.>"];
const INBOXES: &str = "_INBOX.>";

/// A caller may use its account as it likes, or only the subjects that its key names, and its inboxes.
pub(crate) fn caller_permissions(subjects: &[String]) -> (Value, Value) {
    let narrowed = |denied: &[&str]| {
        if subjects.is_empty() {
            return json!({ "deny": denied });
        }
        let allowed: Vec<&str> = subjects.iter().map(String::as_str).chain([INBOXES]).collect();
        json!({ "allow": allowed, "deny": denied })
    };
    (narrowed(&NOT_SAID), narrowed(&NOT_HEARD))
}
