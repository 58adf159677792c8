//! The direction of dependencies, and that every crate opts into the workspace's lints.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// Layers, lowest first; those in which a crate may use crates that stand earlier in the same layer.
const LAYERS: [(&str, bool); 6] =
    [("pure", true), ("infra", true), ("roles", false), ("beside", false), ("binary", false), ("development", true)];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What cargo itself says about the workspace.
fn metadata() -> Value {
    let cargo = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    serde_json::from_slice(&cargo.stdout).expect("cargo's metadata")
}

fn short(package: &str) -> &str {
    package.strip_prefix("farebox-").unwrap_or(package)
}

/// Layer and place of every crate that the workspace lists.
fn places(metadata: &Value) -> BTreeMap<String, (usize, usize)> {
    let listed = metadata["metadata"]["layers"].as_object().expect("[workspace.metadata.layers]");
    let known: BTreeSet<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    assert_eq!(listed.keys().map(String::as_str).collect::<BTreeSet<_>>(), known, "the layers have other names");
    let mut places = BTreeMap::new();
    for (layer, (name, _)) in LAYERS.iter().enumerate() {
        for (index, krate) in listed[*name].as_array().expect("a list").iter().enumerate() {
            let krate = krate.as_str().expect("a name").to_owned();
            assert!(places.insert(krate.clone(), (layer, index)).is_none(), "`{krate}` stands in two layers");
        }
    }
    places
}

#[test]
fn arrows_point_downwards_only() {
    let metadata = metadata();
    let places = places(&metadata);
    let packages = metadata["packages"].as_array().expect("packages");
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for package in packages {
        let name = short(package["name"].as_str().expect("a name"));
        let Some((layer, index)) = places.get(name).copied() else {
            wrong.push(format!("`{name}` stands in no layer"));
            continue;
        };
        seen.insert(name.to_owned());
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            // Tests may use anything.
            if dependency["kind"] == "dev" {
                continue;
            }
            let other = short(dependency["name"].as_str().expect("a name"));
            let Some((below, place)) = places.get(other).copied().filter(|_| !dependency["path"].is_null()) else {
                continue;
            };
            if below > layer || below == layer && !(LAYERS[layer].1 && place < index) {
                wrong.push(format!("`{name}` ({}) must not use `{other}` ({})", LAYERS[layer].0, LAYERS[below].0));
            }
        }
    }
    let listed: BTreeSet<String> = places.into_keys().collect();
    wrong.extend(listed.difference(&seen).map(|name| format!("`{name}` is listed in a layer and does not exist")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_pure_crate_has_no_way_out() {
    let metadata = metadata();
    let places = places(&metadata);
    let io = ["tokio", "async-nats", "reqwest", "hyper", "axum", "clickhouse", "tracing"];
    for package in metadata["packages"].as_array().expect("packages") {
        let name = short(package["name"].as_str().expect("a name"));
        if places.get(name).is_none_or(|(layer, _)| *layer != 0) {
            continue;
        }
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let used = dependency["name"].as_str().expect("a name");
            assert!(dependency["kind"] == "dev" || !io.contains(&used), "`{name}` is pure and uses `{used}`");
        }
    }
}

#[test]
fn every_crate_opts_into_the_lints() {
    for entry in fs::read_dir(root().join("crates")).expect("crates") {
        let dir = entry.expect("an entry").path();
        let manifest = fs::read_to_string(dir.join("Cargo.toml")).expect("a manifest");
        let lints = manifest.split("\n[lints]\n").nth(1).unwrap_or_default();
        let inherits = lints.trim_start().starts_with("workspace = true");
        // The one crate that loads a library: it may contain `unsafe`, and repeats the rest of the lints.
        let own = dir.ends_with("parts") && manifest.contains("[lints.rust]") && manifest.contains("[lints.clippy]");
        assert!(inherits || own, "{} does not say `[lints] workspace = true`", dir.display());
    }
}
