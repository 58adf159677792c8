//! Pages of lists.

use data_encoding::BASE64URL_NOPAD;

use crate::refusal::Refusal;

const DEFAULT: usize = 100;
const MAX: usize = 1000;

/// Where a page begins and how long it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// What the page before ended with; empty: this is the first.
    pub(crate) after: String,
    pub(crate) size: usize,
}

impl Page {
    pub(crate) fn read(size: u32, token: &str) -> Result<Page, Refusal> {
        let bad = || Refusal::field("page_token", "this is no token of a page: take the one of the page before");
        let after = BASE64URL_NOPAD.decode(token.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let size = match size {
            0 => DEFAULT,
            size => (size as usize).min(MAX),
        };
        Ok(Page { after: after.ok_or_else(bad)?, size })
    }

    /// This page of a list in order of its names, and the token of the next one.
    pub(crate) fn of<T>(&self, all: Vec<T>, name: impl Fn(&T) -> String) -> (Vec<T>, String) {
        let mut page: Vec<T> = all.into_iter().filter(|item| name(item) > self.after).take(self.size + 1).collect();
        let more = page.len() > self.size;
        page.truncate(self.size);
        let next = page.last().filter(|_| more).map(|last| token(&name(last))).unwrap_or_default();
        (page, next)
    }
}

/// The token of a page that begins after this.
pub(crate) fn token(last: &str) -> String {
    BASE64URL_NOPAD.encode(last.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_everything_once() {
        let all: Vec<String> = (0..7).map(|n| format!("n{n}")).collect();
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            let page = Page::read(3, &next).unwrap();
            let (items, token) = page.of(all.clone(), Clone::clone);
            assert!(items.len() <= 3);
            seen.extend(items);
            next = token;
            if next.is_empty() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn sizes_are_bounded_and_tokens_checked() {
        assert_eq!(Page::read(0, "").unwrap().size, DEFAULT);
        assert_eq!(Page::read(1_000_000, "").unwrap().size, MAX);
        assert!(Page::read(1, "no token!").is_err());
    }
}
