//! Who is calling.
//!
//! A key comes as `Authorization: Bearer KEY`, as `x-api-key: KEY`, or as both. Where both are there and one is another
//! provider's, the farebox key counts. A key's text is never logged, nor repeated in an answer.

use farebox_directory::{Denied, Directory};
use farebox_policy::{KeyFault, KeyId, KeyText, NoKey, Pepper};
use farebox_proto::v1;
use farebox_types::{ErrorKind, Fault, Project, Timestamp};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, FORWARDED, ORIGIN, VIA},
};

use crate::{
    app::{App, Deps, Peer},
    options::Options,
};

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
    let Deps { directory, pepper, clock, .. } = &app.deps;
    Door { directory, pepper, options: &app.options, now: clock.now() }.admit(headers, peer)
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

/// Where callers come in.
struct Door<'a> {
    directory: &'a Directory,
    pepper: &'a Pepper,
    options: &'a Options,
    now: Timestamp,
}

impl Door<'_> {
    fn admit(&self, headers: &HeaderMap, peer: Peer) -> Result<Caller, Fault> {
        let given = keys(headers);
        let mut own = given.iter().copied().filter(|key| key.starts_with(OWN));
        let Some(key) = own.next() else { return self.without_a_key(headers, peer, !given.is_empty()) };
        if own.any(|other| other != key) {
            return Err(nobody("two different farebox keys came with one request: send one"));
        }
        self.with_key(key, peer)
    }

    fn with_key(&self, given: &str, peer: Peer) -> Result<Caller, Fault> {
        let text: KeyText = given.parse().map_err(|error: NoKey| nobody(error.to_string()))?;
        let policies = self.directory.read().map_err(Denied::from)?;
        let key = policies.open(&text, self.pepper, self.now).map_err(Denied::from)?;
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
    fn without_a_key(&self, headers: &HeaderMap, peer: Peer, foreign: bool) -> Result<Caller, Fault> {
        let is_strangers = self.is_a_strangers_page(headers);
        if is_strangers || !(self.options.anonymous && is_local(headers, peer)) {
            let page = if is_strangers { "; a web page may call only where `edge.cors` names its origin" } else { "" };
            let what = if foreign { "the key that came is no farebox key" } else { "no key came with the request" };
            return Err(nobody(format!("{what}: send `Authorization: Bearer fb-…` or `x-api-key: fb-…`{page}")));
        }
        let project = Project::default_project();
        if self.directory.newest().is_disabled(&project) {
            return Err(Denied::Disabled.into());
        }
        Ok(Caller { project, key: None })
    }

    /// Whether a request is of a web page that may not call.
    fn is_a_strangers_page(&self, headers: &HeaderMap) -> bool {
        let open = self.options.cors.iter().flat_map(|cors| &cors.origins);
        let may_call =
            |origin: &HeaderValue| open.clone().any(|open| open == "*" || open.as_bytes() == origin.as_bytes());
        headers.get(ORIGIN).is_some_and(|origin| !may_call(origin))
    }
}

/// Whether a request is of somebody on this machine, and not through a proxy on it.
fn is_local(headers: &HeaderMap, peer: Peer) -> bool {
    let forwarded = [FORWARDED, FORWARDED_FOR, VIA].iter().any(|name| headers.contains_key(name));
    peer.0.to_canonical().is_loopback() && !forwarded
}

fn nobody(message: impl Into<String>) -> Fault {
    Fault::new(ErrorKind::Unauthenticated, message)
}

#[cfg(test)]
mod tests {
    use farebox_policy::{Key, Policies, ProjectPolicy};

    use super::*;
    use crate::options::CorsOptions;

    const NOW: Timestamp = Timestamp(1_000_000);
    const KEY: &str = "fb-k1-0123456789abcdef0123";
    const OTHER: &str = "fb-k2-0123456789abcdef0123";
    const LOCAL: &str = "127.0.0.1";

    type Headers<'a> = &'a [(&'a str, &'a str)];

    fn key(text: &str) -> Key {
        let text: KeyText = text.parse().unwrap();
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

    fn pepper() -> Pepper {
        Pepper::new([9; 32])
    }

    fn directory(keys: impl IntoIterator<Item = Key>) -> Directory {
        let keys = keys.into_iter().map(|key| (key.id.clone(), key)).collect();
        Directory::fixed(Policies { keys, ..Policies::default() })
    }

    fn come(directory: &Directory, options: &Options, headers: Headers<'_>, from: &str) -> Result<Caller, Fault> {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let door = Door { directory, pepper: &pepper(), options, now: NOW };
        door.admit(&headers, Peer(from.parse().unwrap()))
    }

    #[test]
    fn a_key_may_come_in_either_header_or_both() {
        let (bearer, directory) = (format!("Bearer {KEY}"), directory([key(KEY), key(OTHER)]));
        for headers in [
            vec![("authorization", bearer.as_str())],
            vec![("authorization", "bearer fb-k1-0123456789abcdef0123")],
            vec![("x-api-key", KEY)],
            vec![("authorization", &bearer), ("x-api-key", KEY)],
            vec![("authorization", "Bearer sk-somebody-elses"), ("x-api-key", KEY)],
            vec![("authorization", &bearer), ("x-api-key", "sk-ant-somebody-elses")],
            vec![("authorization", "Basic dXNlcjpwYXNz"), ("x-api-key", KEY)],
        ] {
            let caller = come(&directory, &Options::default(), &headers, "10.0.0.1").unwrap();
            assert_eq!((caller.project.as_str(), caller.key_id()), ("acme", Some("k1")), "{headers:?}");
            assert_eq!(caller.principal().entrance(), v1::Entrance::Http);
        }
    }

    #[test]
    fn who_is_refused_is_told_why_and_never_the_key() {
        let local = Key { addresses: vec!["10.1.0.0/16".parse().unwrap()], ..key(KEY) };
        let cases = [
            (key(KEY), vec![("x-api-key", "fb-k1-ffffffffffffffffffff")], ErrorKind::Unauthenticated, "not known"),
            (key(KEY), vec![("x-api-key", "fb-k1-short")], ErrorKind::Unauthenticated, "looks like fb-<id>-<secret>"),
            (key(OTHER), vec![("x-api-key", KEY)], ErrorKind::Unauthenticated, "not known"),
            (
                key(KEY),
                vec![("authorization", "Bearer fb-k1-0123456789abcdef0123"), ("x-api-key", OTHER)],
                ErrorKind::Unauthenticated,
                "two different",
            ),
            (Key { revoked: Some(NOW), ..key(KEY) }, vec![("x-api-key", KEY)], ErrorKind::Unauthenticated, "revoked"),
            (Key { expires: Some(NOW), ..key(KEY) }, vec![("x-api-key", KEY)], ErrorKind::Unauthenticated, "expired"),
            (Key { project: None, ..key(KEY) }, vec![("x-api-key", KEY)], ErrorKind::Forbidden, "administrator"),
            (local, vec![("x-api-key", KEY)], ErrorKind::Forbidden, "address"),
        ];
        for (key, headers, kind, said) in cases {
            // A wrong key is refused also where none is needed.
            let fault = come(&directory([key]), &Options::default(), &headers, LOCAL).unwrap_err();
            assert_eq!(fault.kind, kind, "{fault}");
            assert!(fault.message.contains(said), "{fault}");
            assert!(!fault.message.contains("0123") && !fault.message.contains("ffff"), "{fault}");
        }
    }

    #[test]
    fn a_key_that_may_come_from_somewhere_only_does() {
        let local = Key { addresses: vec!["10.1.0.0/16".parse().unwrap()], ..key(KEY) };
        for from in ["10.1.2.3", "::ffff:10.1.2.3"] {
            assert!(
                come(&directory([local.clone()]), &Options::default(), &[("x-api-key", KEY)], from).is_ok(),
                "{from}"
            );
        }
    }

    #[test]
    fn who_cannot_know_does_not_say_that_a_key_is_wrong() {
        let (_feed, stale) = Directory::fed(Policies::default());
        let fault = come(&stale, &Options::default(), &[("x-api-key", KEY)], LOCAL).unwrap_err();
        assert_eq!(fault.kind, ErrorKind::Unavailable);
        assert!(fault.retry_after.is_some());
    }

    #[test]
    fn without_a_key_only_programs_of_this_machine_come_in() {
        let (nobody, open) = (directory([]), Options::default());
        let closed = Options { anonymous: false, ..Options::default() };
        let pages = CorsOptions { origins: vec!["https://app.example".to_owned()], ..CorsOptions::default() };
        let pages = Options { cors: Some(pages), ..Options::default() };
        let page = [("origin", "https://app.example")];
        let cases: [(&Options, Headers<'_>, &str, bool); 12] = [
            (&open, &[], LOCAL, true),
            (&open, &[], "::1", true),
            (&open, &[], "::ffff:127.0.0.1", true),
            (&open, &[("authorization", "Bearer sk-dummy")], LOCAL, true),
            (&open, &[("x-api-key", "")], LOCAL, true),
            (&pages, &page, LOCAL, true),
            (&open, &page, LOCAL, false),
            (&open, &[("x-forwarded-for", "10.0.0.1")], LOCAL, false),
            (&open, &[("via", "1.1 proxy")], LOCAL, false),
            (&open, &[], "10.0.0.1", false),
            (&open, &[("authorization", "Bearer sk-dummy")], "10.0.0.1", false),
            (&closed, &[], LOCAL, false),
        ];
        for (options, headers, from, comes_in) in cases {
            let come = come(&nobody, options, headers, from);
            assert_eq!(come.is_ok(), comes_in, "{headers:?} {from}");
            match come {
                Ok(caller) => assert_eq!((caller.project.as_str(), caller.key_id()), ("default", None)),
                Err(fault) => {
                    assert_eq!(fault.kind, ErrorKind::Unauthenticated);
                    assert!(fault.message.contains("Authorization: Bearer fb-…"), "{fault}");
                    let is_page = headers.iter().any(|(name, _)| *name == "origin");
                    assert_eq!(fault.message.contains("`edge.cors`"), is_page, "{fault}");
                }
            }
        }
        let disabled = ProjectPolicy {
            name: Project::default_project(),
            organisation: String::new(),
            models: Vec::new(),
            provider_keys: Default::default(),
            disabled: true,
            metadata: Default::default(),
        };
        let projects = [("default".to_owned(), disabled)].into_iter().collect();
        let shut = Directory::fixed(Policies { projects, ..Policies::default() });
        assert_eq!(come(&shut, &open, &[], LOCAL).unwrap_err().kind, ErrorKind::Forbidden);
    }
}
