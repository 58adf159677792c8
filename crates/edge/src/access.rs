//! Who is calling.
//!
//! A key comes as `Authorization: Bearer KEY`, as `x-api-key: KEY`, or as both. Where both are there and one is another
//! provider's, the farebox key counts. A key's text is never logged, nor repeated in an answer.

use farebox_directory::Denied;
use farebox_policy::{KeyFault, KeyId, KeyText, NoKey};
use farebox_proto::v1;
use farebox_types::{ErrorKind, Fault, Project};
use http::{
    HeaderMap, HeaderName,
    header::{AUTHORIZATION, FORWARDED, ORIGIN, VIA},
};

use crate::app::{App, Peer};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// What every key of farebox begins with.
const OWN: &str = "fb-";

/// Who is calling, as is known from the key alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) project: Project,
    /// None: somebody on this machine, where that is enough.
    pub(crate) key: Option<KeyId>,
}

impl Caller {
    pub(crate) fn key_id(&self) -> Option<&str> {
        self.key.as_ref().map(KeyId::as_str)
    }

    pub(crate) fn principal(&self) -> v1::Principal {
        v1::Principal {
            project: self.project.as_str().to_owned(),
            key_id: self.key_id().unwrap_or_default().to_owned(),
            entrance: v1::Entrance::Http.into(),
            ..Default::default()
        }
    }
}

/// Finds out who is calling.
pub(crate) fn principal(app: &App, headers: &HeaderMap, peer: Peer) -> Result<Caller, Fault> {
    let given = keys(headers);
    let mut own = given.iter().copied().filter(|key| key.starts_with(OWN));
    match (own.next(), own.next()) {
        (None, _) => without_a_key(app, headers, peer, !given.is_empty()),
        (Some(key), other) if other.is_none_or(|other| other == key) => with_key(app, key, peer),
        _ => Err(nobody("two different farebox keys came with one request: send one")),
    }
}

/// Everything that came where keys come.
fn keys(headers: &HeaderMap) -> Vec<&str> {
    let bearer = headers.get_all(AUTHORIZATION).into_iter().filter_map(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key)
    });
    let plain = headers.get_all(API_KEY).into_iter().filter_map(|value| value.to_str().ok());
    bearer.chain(plain).map(str::trim).filter(|key| !key.is_empty()).collect()
}

fn with_key(app: &App, given: &str, peer: Peer) -> Result<Caller, Fault> {
    let text: KeyText = given.parse().map_err(|error: NoKey| nobody(error.to_string()))?;
    let policies = app.deps.directory.read().map_err(Denied::from)?;
    let key = policies.open(&text, &app.deps.pepper, app.deps.clock.now()).map_err(Denied::from)?;
    if !key.comes_from(Some(peer.0)) {
        return Err(Denied::from(KeyFault::Address).into());
    }
    let Some(project) = key.project.clone() else {
        let message = "this key is an administrator's, which opens the admin API only: use a key of a project";
        return Err(Fault::new(ErrorKind::Forbidden, message));
    };
    Ok(Caller { project, key: Some(key.id.clone()) })
}

/// `foreign`: there was a key, of somebody else.
fn without_a_key(app: &App, headers: &HeaderMap, peer: Peer, foreign: bool) -> Result<Caller, Fault> {
    if !(app.options.anonymous && is_local(app, headers, peer)) {
        let what = if foreign { "the key that came is no farebox key" } else { "no key came with the request" };
        return Err(nobody(format!("{what}: send `Authorization: Bearer fb-…` or `x-api-key: fb-…`")));
    }
    let project = Project::default_project();
    if app.deps.directory.newest().projects.get(project.as_str()).is_some_and(|policy| policy.disabled) {
        return Err(Denied::Disabled.into());
    }
    Ok(Caller { project, key: None })
}

/// Whether a request is of a program on this machine: neither through a proxy on it, nor of a web page that a browser on it
/// shows, unless such pages may call.
fn is_local(app: &App, headers: &HeaderMap, peer: Peer) -> bool {
    let from_a_page = headers.get(ORIGIN).is_some_and(|origin| {
        let cors = app.options.cors.as_ref();
        !cors.is_some_and(|cors| cors.origins.iter().any(|open| open == "*" || open.as_bytes() == origin.as_bytes()))
    });
    let forwarded = [FORWARDED, FORWARDED_FOR, VIA].iter().any(|name| headers.contains_key(name));
    peer.0.to_canonical().is_loopback() && !from_a_page && !forwarded
}

fn nobody(message: impl Into<String>) -> Fault {
    Fault::new(ErrorKind::Unauthenticated, message)
}
