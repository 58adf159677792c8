//! Paths of any API: what is sent there is kept, and answered with given bytes.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::Script;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    /// As it was sent, percent signs and all.
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Everything below one path.
#[derive(Debug)]
pub(crate) struct Route {
    prefix: String,
    scripts: VecDeque<Script>,
    seen: Vec<Seen>,
}

/// A request is of the route with the longest prefix; prefixes end where a segment ends.
#[derive(Debug, Default)]
pub(crate) struct Routes(Vec<Route>);

impl Routes {
    pub(crate) fn push(&mut self, prefix: &str, script: Script) {
        match self.0.iter_mut().find(|route| route.prefix == prefix) {
            Some(route) => route.scripts.push_back(script),
            None => {
                self.0.push(Route { prefix: prefix.to_owned(), scripts: [script].into(), seen: Vec::new() });
                self.0.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
            }
        }
    }

    pub(crate) fn leads(&self, path: &str) -> bool {
        self.0.iter().any(|route| route.covers(path))
    }

    /// Keeps a request; what it is answered with, where anything is left.
    pub(crate) fn take(&mut self, seen: Seen) -> Option<Script> {
        let route = self.0.iter_mut().find(|route| route.covers(&seen.path))?;
        route.seen.push(seen);
        route.scripts.pop_front()
    }

    pub(crate) fn take_seen(&mut self, prefix: &str) -> Vec<Seen> {
        let route = self.0.iter_mut().find(|route| route.prefix == prefix);
        route.map(|route| std::mem::take(&mut route.seen)).unwrap_or_default()
    }
}

impl Route {
    fn covers(&self, path: &str) -> bool {
        path.strip_prefix(self.prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}
