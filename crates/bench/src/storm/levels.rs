//! The budgets of the storm and the keys that it is called with, and which row counts in which.

use std::path::Path;

use farebox_testkit::Row;
use farebox_types::Money;

/// A budget.
pub(crate) struct Level {
    pub(crate) name: &'static str,
    /// What it counts by, as the config says it.
    scope: &'static str,
    usd: i64,
    /// What a row is counted under, in farebox's words.
    pub(crate) subject: fn(&Row) -> String,
    /// Whether it has answers shortened to what is left.
    clamps: bool,
}

/// Each of them is too small for what is asked of it, on at least one subject.
pub(crate) const LEVELS: [Level; 5] = [
    Level { name: "all", scope: "everything", usd: 20, subject: |_| String::new(), clamps: false },
    Level { name: "per-project", scope: "project", usd: 12, subject: |row| row.project.clone(), clamps: false },
    Level { name: "per-key", scope: "key", usd: 8, subject: |row| row.key_id.clone(), clamps: false },
    Level { name: "per-actor", scope: "actor", usd: 7, subject: |row| row.actor.clone(), clamps: false },
    Level {
        name: "per-task",
        scope: "task",
        usd: 3,
        subject: |row| format!("{}/{}", row.project, row.task_id),
        clamps: true,
    },
];

impl Level {
    pub(crate) fn limit(&self) -> Money {
        Money::usd(self.usd)
    }

    fn config(&self) -> String {
        let Level { name, scope, usd, .. } = self;
        let short = if self.clamps { ", when_short: clamp, clamp_floor: 20" } else { "" };
        format!("  - {{ name: {name}, scope: {scope}, limit: {usd} USD, period: day, hard: true{short} }}\n")
    }
}

/// Keys, by their id, and the projects that they act for.
const KEYS: [(&str, &str); 4] = [("a1", "alpha"), ("a2", "alpha"), ("b1", "beta"), ("b2", "beta")];
/// Of the callers' connections, the key of each: some have far more to say.
pub(crate) const CONNECTIONS: [&str; 8] = ["a1", "b1", "a1", "a2", "a1", "b1", "a1", "b2"];

/// The text of a key.
pub(crate) fn key(id: &str) -> String {
    format!("fb-{id}-{}", "storm0storm".repeat(4))
}

/// What the config says of projects, keys and budgets. The keys are kept in files of this directory.
pub(crate) fn config(dir: &Path) -> std::io::Result<String> {
    let mut text = String::from("projects: { alpha: {}, beta: {} }\nkeys:\n");
    for (id, project) in KEYS {
        let file = dir.join(format!("{id}.key"));
        std::fs::write(&file, key(id))?;
        text.push_str(&format!("  {id}: {{ key: \"file:{}\", project: {project} }}\n", file.display()));
    }
    text.push_str("budgets:\n");
    text.extend(LEVELS.iter().map(Level::config));
    Ok(text)
}
