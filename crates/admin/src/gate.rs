//! Who may do what: every request passes here before any service sees it.
//!
//! Health and reflection are open: they say nothing that is not in the source. Everything else needs credentials and the
//! role that the method's name asks for; a method that nobody thought of needs an owner.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use farebox_directory::Directory;
use farebox_policy::{AdminRole, KeyFault, KeyHash, KeyText, Pepper};
use farebox_runtime::listener::Peer;
use farebox_types::{Clock, ErrorKind};
use http::{HeaderMap, header::AUTHORIZATION};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tonic::Status;

use crate::refusal::Refusal;

/// Who a change by the master key is by. No key has such an id.
pub const MASTER: &str = "master-key";
/// The shortest master key that is taken.
pub const MASTER_MIN: usize = 16;

/// For the answer to arrive before a client gives up. At the deadline itself tonic's own timer would say `CANCELLED`.
const TRAVEL: Duration = Duration::from_millis(100);

const OPEN: [&str; 3] = ["/grpc.health.v1.", "/grpc.reflection.v1.", "/grpc.reflection.v1alpha."];
const READS: [&str; 8] = ["Get", "List", "Query", "Tail", "Reconcile", "Read", "Check", "Explain"];
/// Services whose changes need an owner.
const OWNED: [&str; 1] = ["farebox.admin.v1.ConfigService"];

/// Somebody with a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Admin {
    /// Key id.
    pub(crate) id: String,
    pub(crate) role: AdminRole,
}

impl Admin {
    /// Whoever the gate let in.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Result<Admin, Refusal> {
        let missing = || Refusal::new(ErrorKind::Internal, "a request came past the gate");
        request.extensions().get::<Admin>().cloned().ok_or_else(missing)
    }

    /// Refuses whoever has less than this role.
    pub(crate) fn at_least(&self, role: AdminRole) -> Result<(), Refusal> {
        if self.role >= role {
            return Ok(());
        }
        let message = format!("this needs the role {}, and the key `{}` has {}", name(role), self.id, name(self.role));
        Err(Refusal::new(ErrorKind::Forbidden, message))
    }
}

fn name(role: AdminRole) -> &'static str {
    match role {
        AdminRole::Viewer => "viewer",
        AdminRole::Operator => "operator",
        AdminRole::Owner => "owner",
    }
}

/// What a method needs.
fn needed(path: &str) -> AdminRole {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
    if !service.starts_with("farebox.admin.v1.") {
        AdminRole::Owner
    } else if READS.iter().any(|verb| method.starts_with(verb)) {
        AdminRole::Viewer
    } else if OWNED.contains(&service) {
        AdminRole::Owner
    } else {
        AdminRole::Operator
    }
}

/// What credentials are checked against.
pub(crate) struct Gate {
    pub(crate) directory: Directory,
    pub(crate) pepper: Pepper,
    pub(crate) master: Option<SecretString>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) request_timeout: Duration,
}

impl Gate {
    /// Lets a request in, or answers it.
    pub(crate) async fn admit(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
        let path = request.uri().path();
        if !OPEN.iter().any(|open| path.starts_with(open)) {
            let from = request.extensions().get::<Peer>().copied();
            let admitted = gate.admin(request.headers(), from).and_then(|admin| {
                admin.at_least(needed(path))?;
                Ok(admin)
            });
            match admitted {
                Ok(admin) => request.extensions_mut().insert(admin),
                Err(refusal) => return answer(refusal),
            };
        }
        let within = deadline(request.headers()).map_or(gate.request_timeout, in_time).min(gate.request_timeout);
        match timeout(within, next.run(request)).await {
            Ok(response) => response,
            Err(_) => answer(Refusal::new(ErrorKind::DeadlineExceeded, format!("not done within {within:?}"))),
        }
    }

    fn admin(&self, headers: &HeaderMap, from: Option<Peer>) -> Result<Admin, Refusal> {
        let nobody = |why: &str| Refusal::new(ErrorKind::Unauthenticated, why);
        let given = headers.get(AUTHORIZATION).ok_or_else(|| {
            nobody("no credentials came with the request: send the metadata `authorization: Bearer KEY`")
        })?;
        let bearer = given.to_str().ok().and_then(|text| text.split_once(' '));
        let text = bearer
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, text)| text.trim())
            .ok_or_else(|| nobody("the credentials are of another form: send `authorization: Bearer KEY`"))?;
        if self.master.as_ref().is_some_and(|master| same(master.expose_secret(), text)) {
            return Ok(Admin { id: MASTER.to_owned(), role: AdminRole::Owner });
        }
        let text: KeyText = text.parse().map_err(|error: farebox_policy::NoKey| nobody(&error.to_string()))?;
        let policies = self.directory.read()?;
        let key = policies.open(&text, &self.pepper, self.clock.now()).map_err(closed)?;
        let Some(role) = key.role else {
            let message = format!("the key `{}` is no admin's: make one with a role", key.id);
            return Err(Refusal::new(ErrorKind::Forbidden, message));
        };
        if !key.comes_from(from.map(|Peer(from)| from.ip())) {
            return Err(closed(KeyFault::Address));
        }
        Ok(Admin { id: key.id.to_string(), role })
    }

    /// Whether somebody who was let in before still would be.
    pub(crate) fn still_open(&self, admin: &Admin) -> Result<(), Refusal> {
        if admin.id == MASTER {
            return Ok(());
        }
        let policies = self.directory.newest();
        let found = policies.keys.values().find(|key| key.id.as_str() == admin.id);
        let key = found.filter(|key| key.role.is_some()).ok_or_else(|| closed(KeyFault::Unknown))?;
        policies.usable(key, self.clock.now()).map_err(closed)
    }
}

/// In constant time, whatever the lengths are.
fn same(one: &str, other: &str) -> bool {
    let digest = |text: &str| KeyHash(Sha256::digest(text).into());
    digest(one) == digest(other)
}

fn closed(fault: KeyFault) -> Refusal {
    Refusal::new(fault.kind(), fault.to_string())
}

fn answer(refusal: Refusal) -> Response {
    Status::from(refusal).into_http::<tonic::body::Body>().into_response()
}

/// The client's `grpc-timeout`: at most eight digits and a unit.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// A little before the deadline.
fn in_time(deadline: Duration) -> Duration {
    deadline - TRAVEL.min(deadline / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_needs_an_owner() {
        for (path, role) in [
            ("/farebox.admin.v1.KeyService/ListKeys", AdminRole::Viewer),
            ("/farebox.admin.v1.CallService/TailCalls", AdminRole::Viewer),
            ("/farebox.admin.v1.ConfigService/ReadConfig", AdminRole::Viewer),
            ("/farebox.admin.v1.BudgetService/RaiseBudget", AdminRole::Operator),
            ("/farebox.admin.v1.ConfigService/ApplyConfig", AdminRole::Owner),
            ("/farebox.other.v1.Service/GetIt", AdminRole::Owner),
            ("/nothing", AdminRole::Owner),
        ] {
            assert_eq!(needed(path), role, "{path}");
        }
    }

    #[test]
    fn a_deadline_is_read_in_its_unit() {
        let read =
            |text: &str| deadline(&HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), text.parse().unwrap())]));
        assert_eq!(read("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(in_time(Duration::from_millis(200)), Duration::from_millis(180));
        assert_eq!(in_time(Duration::from_secs(30)), Duration::from_millis(29_900));
        for bad in ["", "S", "5", "123456789S", "-1S", "1h"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
