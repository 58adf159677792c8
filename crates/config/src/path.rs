//! Where in a config something stands.

use std::fmt;

/// One step into a config.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Key(String),
    Index(usize),
}

/// A path such as `models.gpt-4.deployments[0].target`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// Reads `a.b[0].c`; `a.b.0.c` is the same. A key that holds a dot or a bracket is written in quotes: `a."x.y"`.
    pub fn parse(text: &str) -> Path {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            if let Some((key, tail)) = rest.strip_prefix('"').and_then(|quoted| quoted.split_once('"')) {
                steps.push(Step::Key(key.to_owned()));
                rest = tail;
            } else if let Some((index, tail)) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
                steps.push(match index.parse() {
                    Ok(index) => Step::Index(index),
                    Err(_) => Step::Key(index.to_owned()),
                });
                rest = tail;
            } else {
                let end = rest
                    .char_indices()
                    .skip(1)
                    .find_map(|(at, c)| matches!(c, '.' | '[').then_some(at))
                    .unwrap_or(rest.len());
                steps.push(Step::Key(rest[..end].to_owned()));
                rest = &rest[end..];
            }
        }
        Path(steps)
    }

    pub fn key(mut self, key: impl Into<String>) -> Path {
        self.0.push(Step::Key(key.into()));
        self
    }

    pub fn index(mut self, index: usize) -> Path {
        self.0.push(Step::Index(index));
        self
    }

    pub fn parent(&self) -> Option<Path> {
        let (_, parent) = self.0.split_last()?;
        Some(Path(parent.to_vec()))
    }

    /// Whether one of them holds the other.
    pub(crate) fn overlaps(&self, other: &Path) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a == b)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) => {
                    if i > 0 {
                        f.write_str(".")?;
                    }
                    if key.is_empty() || key.contains(['.', '[', '"']) {
                        write!(f, "\"{key}\"")?;
                    } else {
                        f.write_str(key)?;
                    }
                }
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_and_print() {
        for text in ["listen.http", "models.gpt-4.deployments[0].target", "models.\"gpt-4.1\".retries", "a", ""] {
            assert_eq!(Path::parse(text).to_string(), text);
        }
        assert_eq!(Path::parse("a[2].b"), Path::default().key("a").index(2).key("b"));
    }
}
