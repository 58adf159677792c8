//! Defaults < file < environment < flags.

use std::{collections::BTreeMap, path::Path as FilePath};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    fault::{ConfigError, ConfigFault, Origin, PlacedFault},
    layers,
    path::Path,
    show,
    tree::{self, Node},
};

/// What comes before the name of every variable.
const PREFIX: &str = "FAREBOX_";

/// The environment as a value. Whoever starts the process reads it, once.
#[derive(Clone, Debug, Default)]
pub struct Env {
    vars: BTreeMap<String, String>,
}

impl Env {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str)
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(vars: I) -> Env {
        Env { vars: vars.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }
}

/// A config file: its name as the user knows it, and its text.
#[derive(Clone, Debug)]
pub struct FileSource {
    pub name: String,
    pub text: String,
}

impl FileSource {
    pub fn read(path: &FilePath) -> Result<FileSource, ConfigError> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(FileSource { name, text }),
            Err(error) => Err(ConfigError::one(Origin::Default, format!("`{name}` cannot be read: {error}"))),
        }
    }
}

/// A document whose sections stand in for those of the file, as when a config is changed while its process runs.
#[derive(Clone, Debug)]
pub struct Replacement {
    pub document: FileSource,
    /// The names of these sections. What the file says of them is not looked at, also where the document leaves one out;
    /// what the document says of others is not, either.
    pub sections: Vec<String>,
}

/// Everything that a config is made of, apart from the defaults of its type.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub file: Option<FileSource>,
    pub replacement: Option<Replacement>,
    /// `FAREBOX_LISTEN__HTTP=…`: two underscores separate levels, capitals do not matter, values are YAML scalars or
    /// lists and maps in brackets.
    pub env: Env,
    /// Names below the prefix that are no config but flags of the command line: `CONFIG` for `FAREBOX_CONFIG`.
    pub reserved_env: Vec<String>,
    /// Dotted path and value, as in `--set guard.lease=6s`. A later one wins.
    pub flags: Vec<(String, String)>,
}

/// A config and where each of its values came from.
#[derive(Debug)]
pub struct Loaded<T> {
    pub value: T,
    tree: Node,
}

impl<T> Loaded<T> {
    /// Where the value at `path` came from.
    pub fn origin(&self, path: &str) -> Origin {
        show::origin(&self.tree, &Path::parse(path))
    }

    /// Gives the faults that somebody finds later (a secret that is not there) their place in the file.
    pub fn place(&self, faults: Vec<ConfigFault>) -> Option<ConfigError> {
        let faults: Vec<PlacedFault> = faults.into_iter().map(|fault| place(&self.tree, fault)).collect();
        (!faults.is_empty()).then_some(ConfigError { faults })
    }
}

impl<T: Serialize> Loaded<T> {
    /// The whole effective config, defaults included, as YAML with the origin of each value as a comment. Secrets are
    /// references, so it is safe to print.
    pub fn show(&self) -> Result<String, ConfigError> {
        show::show(&self.value, &self.tree)
    }
}

/// Loads a config and reports every fault at once. `validate` finds what the type cannot say: references that lead
/// nowhere, limits that contradict each other.
pub fn load<T: DeserializeOwned>(
    sources: &Sources,
    validate: impl FnOnce(&T) -> Vec<ConfigFault>,
) -> Result<Loaded<T>, ConfigError> {
    let mut faults: Vec<PlacedFault> = Vec::new();
    let mut root = Node::empty_map(Origin::Default);
    if let Some(file) = &sources.file {
        match tree::parse(&file.name, &file.text) {
            Ok(parsed) => root = parsed,
            Err(wrong) => return Err(ConfigError { faults: wrong }),
        }
    }
    if let Some(Replacement { document, sections }) = &sources.replacement {
        match tree::parse(&document.name, &document.text) {
            Ok(given) => faults.extend(layers::replace(&mut root, given, sections).err()),
            Err(wrong) => return Err(ConfigError { faults: wrong }),
        }
    }
    overlay(&mut root, sources, &mut faults);
    let (value, found) = crate::de::read::<T>(&mut root);
    let faulty: Vec<Path> = found.iter().map(|fault| fault.path.clone()).collect();
    faults.extend(found.into_iter().map(|fault| {
        let key = if fault.is_key { root.key_origin_of(&fault.path) } else { None };
        PlacedFault {
            origin: key.unwrap_or_else(|| root.origin_of(&fault.path)),
            path: fault.path,
            message: fault.message,
        }
    }));
    if let Some(value) = &value {
        // What is said about something that could not be read is only a consequence.
        let own = validate(value).into_iter().filter(|fault| !faulty.iter().any(|path| path.overlaps(&fault.path)));
        faults.extend(own.map(|fault| place(&root, fault)));
    }
    match value {
        Some(value) if faults.is_empty() => Ok(Loaded { value, tree: root }),
        _ => {
            faults.sort_by_key(|fault| match &fault.origin {
                Origin::File { line, column, .. } => (0, *line, *column),
                Origin::Environment(_) => (1, 0, 0),
                Origin::Flag(_) => (2, 0, 0),
                Origin::Default => (3, 0, 0),
            });
            Err(ConfigError { faults })
        }
    }
}

/// The names of the sections of a document.
pub fn sections(document: &FileSource) -> Result<Vec<String>, ConfigError> {
    let root = tree::parse(&document.name, &document.text).map_err(|faults| ConfigError { faults })?;
    Ok(layers::sections(&root).map(str::to_owned).collect())
}

fn overlay(root: &mut Node, sources: &Sources, faults: &mut Vec<PlacedFault>) {
    for (name, value) in &sources.env.vars {
        let upper = name.to_uppercase();
        let Some(rest) = upper.strip_prefix(PREFIX) else {
            continue;
        };
        let reserved = sources.reserved_env.iter().any(|r| r.eq_ignore_ascii_case(rest));
        if reserved || layers::is_service_link(rest, value) {
            continue;
        }
        faults.extend(layers::set_from_environment(root, name, rest, value).err());
    }
    for (path, value) in &sources.flags {
        faults.extend(layers::set_from_flag(root, path, value).err());
    }
}

fn place(root: &Node, fault: ConfigFault) -> PlacedFault {
    PlacedFault { origin: root.origin_of(&fault.path), path: fault.path, message: fault.message }
}
