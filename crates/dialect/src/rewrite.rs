//! Edits of single members of a JSON object, in place: every byte that is not edited stays as it was.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::memchr2;

use crate::error::RewriteError;

/// One edit of a top-level member. Of duplicate members all are edited, so that no reader can see the old value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit<'a> {
    /// Gives the member this raw JSON value; added at the end where it is missing.
    Set { key: &'a str, value: Cow<'a, str> },
    /// Gives the member this raw JSON value where it is missing or `null`.
    Default { key: &'a str, value: Cow<'a, str> },
    /// Takes the member out, with its comma.
    Remove { key: &'a str },
    /// Gives the member this number where it is there, not `null`, and no smaller number.
    Lower { key: &'a str, limit: u64 },
    /// Sets a member of a member; an outer one that is missing, `null` or overruled by a later one becomes an object.
    SetIn { outer: &'a str, key: &'a str, value: Cow<'a, str> },
}

impl<'a> Edit<'a> {
    /// Raw JSON, which must be one valid value.
    pub fn set(key: &'a str, value: impl Into<Cow<'a, str>>) -> Edit<'a> {
        Edit::Set { key, value: value.into() }
    }

    /// A string, quoted here.
    pub fn string(key: &'a str, text: &str) -> Edit<'a> {
        Edit::Set { key, value: Cow::Owned(quote(text)) }
    }

    pub fn default(key: &'a str, value: impl Into<Cow<'a, str>>) -> Edit<'a> {
        Edit::Default { key, value: value.into() }
    }

    pub fn remove(key: &'a str) -> Edit<'a> {
        Edit::Remove { key }
    }

    pub fn lower(key: &'a str, limit: u64) -> Edit<'a> {
        Edit::Lower { key, limit }
    }

    pub fn set_in(outer: &'a str, key: &'a str, value: impl Into<Cow<'a, str>>) -> Edit<'a> {
        Edit::SetIn { outer, key, value: value.into() }
    }

    fn key(&self) -> &'a str {
        match self {
            Edit::Set { key, .. } | Edit::Default { key, .. } | Edit::Lower { key, .. } | Edit::Remove { key } => key,
            Edit::SetIn { outer, .. } => outer,
        }
    }
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The body with the edits made, in their order. The body must be valid JSON (as [`crate::outline`] checks); a body
/// that is not may come back edited or as an error, never as a panic.
pub fn rewrite(body: &[u8], edits: &[Edit<'_>]) -> Result<Bytes, RewriteError> {
    let mut current: Option<Vec<u8>> = None;
    for edit in edits {
        let from = current.as_deref().unwrap_or(body);
        current = Some(apply(from, edit)?);
    }
    Ok(current.map_or_else(|| Bytes::copy_from_slice(body), Bytes::from))
}

fn apply(body: &[u8], edit: &Edit<'_>) -> Result<Vec<u8>, RewriteError> {
    let object = scan(body)?;
    let mut out = Vec::with_capacity(body.len() + 64);
    out.extend_from_slice(&body[..object.open]);
    let counted = object.members.iter().rposition(|member| member.is(body, edit.key()));
    let mut kept = 0;
    for (at, member) in object.members.iter().enumerate() {
        let hit = member.is(body, edit.key());
        if hit && matches!(edit, Edit::Remove { .. }) {
            continue;
        }
        if kept > 0 {
            out.push(b',');
        }
        kept += 1;
        if !hit {
            out.extend_from_slice(&body[member.start..member.end]);
            continue;
        }
        out.extend_from_slice(&body[member.start..member.value.0]);
        let old = &body[member.value.0..member.value.1];
        match edit {
            Edit::Set { value, .. } => out.extend_from_slice(value.as_bytes()),
            Edit::Default { value, .. } => out.extend_from_slice(if old == b"null" { value.as_bytes() } else { old }),
            Edit::Lower { limit, .. } => out.extend_from_slice(&lowered(old, *limit)),
            Edit::SetIn { outer, key, value } => {
                // A duplicate that does not count may be anything.
                let old = if old.starts_with(b"{") || counted == Some(at) { old } else { b"null" };
                out.extend_from_slice(&set_inside(old, outer, key, value)?);
            }
            Edit::Remove { .. } => {}
        }
        out.extend_from_slice(&body[member.value.1..member.end]);
    }
    // White space before the closing brace belongs to the object, not to a removed last member.
    if let Some(last) = object.members.last()
        && matches!(edit, Edit::Remove { .. })
        && last.is(body, edit.key())
    {
        out.extend_from_slice(&body[last.value.1..last.end]);
    }
    if counted.is_none() {
        insert(&mut out, kept > 0, edit);
    }
    out.extend_from_slice(&body[object.close..]);
    Ok(out)
}

fn lowered(old: &[u8], limit: u64) -> Cow<'_, [u8]> {
    let fits = serde_json::from_slice::<Option<u64>>(old).is_ok_and(|said| said.is_none_or(|said| said <= limit));
    if fits { Cow::Borrowed(old) } else { Cow::Owned(limit.to_string().into_bytes()) }
}

fn set_inside(old: &[u8], outer: &str, key: &str, value: &str) -> Result<Vec<u8>, RewriteError> {
    match old.first() {
        Some(b'{') => apply(old, &Edit::set(key, value)),
        Some(b'n') => Ok(format!("{{{}:{value}}}", quote(key)).into_bytes()),
        _ => Err(RewriteError::MemberNotAnObject { field: outer.to_owned() }),
    }
}

/// Adds a missing member at the end, before the white space that precedes the closing brace.
fn insert(out: &mut Vec<u8>, after_another: bool, edit: &Edit<'_>) {
    let text = match edit {
        Edit::Set { key, value } | Edit::Default { key, value } => format!("{}:{value}", quote(key)),
        Edit::SetIn { outer, key, value } => format!("{}:{{{}:{value}}}", quote(outer), quote(key)),
        Edit::Lower { .. } | Edit::Remove { .. } => return,
    };
    let tail = out.iter().rev().take_while(|b| is_space(**b)).count();
    let at = out.len() - tail;
    let comma = after_another.then_some(b',');
    out.splice(at..at, comma.into_iter().chain(text.into_bytes()));
}

/// One member, from behind the brace or comma before it to the brace or comma behind it.
struct Member {
    start: usize,
    end: usize,
    /// The key's text with its quotes.
    key: (usize, usize),
    value: (usize, usize),
}

impl Member {
    fn is(&self, body: &[u8], key: &str) -> bool {
        let quoted = &body[self.key.0..self.key.1];
        let plain = &quoted[1..quoted.len() - 1];
        if !plain.contains(&b'\\') {
            return plain == key.as_bytes();
        }
        serde_json::from_slice::<String>(quoted).is_ok_and(|decoded| decoded == key)
    }
}

struct Members {
    /// Behind the opening brace.
    open: usize,
    /// At the closing brace.
    close: usize,
    members: Vec<Member>,
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn scan(body: &[u8]) -> Result<Members, RewriteError> {
    let mut at = Cursor { body, at: if body.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 } };
    at.space();
    at.expect(b'{')?;
    let open = at.at;
    let mut members = Vec::new();
    at.space();
    if at.peek() == Some(b'}') {
        // The white space of an empty object counts as before its end.
        return Ok(Members { open: at.at, close: at.at, members });
    }
    let mut start = open;
    loop {
        at.space();
        let key = at.string()?;
        at.space();
        at.expect(b':')?;
        at.space();
        let value = at.value()?;
        at.space();
        members.push(Member { start, end: at.at, key, value });
        match at.peek() {
            Some(b',') => at.at += 1,
            Some(b'}') => {
                return Ok(Members { open, close: at.at, members });
            }
            _ => return Err(at.misfit()),
        }
        start = at.at;
    }
}

struct Cursor<'a> {
    body: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn misfit(&self) -> RewriteError {
        RewriteError::NotAnObject { at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), RewriteError> {
        if self.peek() != Some(byte) {
            return Err(self.misfit());
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(usize, usize), RewriteError> {
        let start = self.at;
        self.expect(b'"')?;
        // One may be most of a body of many megabytes.
        while let Some(next) = memchr2(b'"', b'\\', self.body.get(self.at..).unwrap_or_default()) {
            self.at += next;
            if self.peek() == Some(b'"') {
                self.at += 1;
                return Ok((start, self.at));
            }
            self.at += 2;
        }
        Err(self.misfit())
    }

    fn value(&mut self) -> Result<(usize, usize), RewriteError> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.string()?;
                }
                Some(b'{' | b'[') => {
                    depth += 1;
                    self.at += 1;
                }
                Some(b'}' | b']') if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                Some(b',' | b':') if depth > 0 => self.at += 1,
                Some(byte) if depth > 0 && is_space(byte) => self.at += 1,
                Some(b',' | b':' | b'}' | b']') | None => return Err(self.misfit()),
                Some(_) => self.scalar(),
            }
            if depth == 0 {
                return if self.at > start { Ok((start, self.at)) } else { Err(self.misfit()) };
            }
        }
    }

    fn scalar(&mut self) {
        while self.peek().is_some_and(|b| !is_space(b) && !matches!(b, b',' | b':' | b'}' | b']')) {
            self.at += 1;
        }
    }
}
