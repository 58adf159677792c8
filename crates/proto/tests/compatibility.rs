//! The contract only grows: what stands in `proto/contract.lock` keeps its name, number and type.
//!
//! A release writes the lock anew (`UPDATE_CONTRACT=1 cargo test -p farebox-proto`); between releases additions are
//! free and everything else fails here.

use std::{collections::BTreeSet, env, fs};

use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

const LOCK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/contract.lock");

fn of_enum(prefix: &str, declared: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    for value in &declared.value {
        lines.insert(format!("enum {prefix}.{}: {} = {}", declared.name(), value.name(), value.number()));
    }
}

fn of_message(prefix: &str, declared: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let name = format!("{prefix}.{}", declared.name());
    for field in &declared.field {
        let choice = field.oneof_index.filter(|_| !field.proto3_optional());
        let choice = choice.map(|i| format!(" oneof {}", declared.oneof_decl[i as usize].name()));
        lines.insert(format!(
            "message {name}: {} = {} {:?} {:?} {}{}{}",
            field.name(),
            field.number(),
            field.label(),
            field.r#type(),
            field.type_name(),
            if field.proto3_optional() { " optional" } else { "" },
            choice.unwrap_or_default(),
        ));
    }
    declared.nested_type.iter().for_each(|nested| of_message(&name, nested, lines));
    declared.enum_type.iter().for_each(|nested| of_enum(&name, nested, lines));
}

fn contract() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(farebox_proto::DESCRIPTOR).expect("protox made it");
    let mut lines = BTreeSet::new();
    for file in &set.file {
        file.message_type.iter().for_each(|message| of_message(file.package(), message, &mut lines));
        file.enum_type.iter().for_each(|declared| of_enum(file.package(), declared, &mut lines));
    }
    lines
}

#[test]
fn the_contract_only_grows() {
    let now = contract();
    if env::var_os("UPDATE_CONTRACT").is_some() {
        fs::write(LOCK, now.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }
    let locked: BTreeSet<String> = fs::read_to_string(LOCK).unwrap().lines().map(str::to_owned).collect();
    assert!(locked.len() > 100, "the lock is not the contract");
    let broken: Vec<_> = locked.difference(&now).collect();
    assert!(broken.is_empty(), "removed or changed since the last release: {broken:#?}");
}

#[test]
fn no_number_is_used_twice() {
    let mut seen = BTreeSet::new();
    for line in contract() {
        let (owner, rest) = line.split_once(": ").unwrap();
        let number = rest.split(" = ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        assert!(seen.insert((owner.to_owned(), number)), "{line}");
    }
}
