use farebox_proto::v1;
use proptest::{prelude::*, sample::subsequence};

use super::*;
use crate::{
    call::CallScope,
    key::{Key, KeyHash, Pins},
};

fn key(id: &str, project: &str) -> (KeyId, Key) {
    let id = KeyId::parse(id).unwrap();
    let key = Key {
        id: id.clone(),
        project: Project::parse(project).ok(),
        name: String::new(),
        hash: KeyHash([0; 32]),
        previous: None,
        groups: Vec::new(),
        expires: None,
        revoked: None,
        models: Vec::new(),
        subjects: Vec::new(),
        addresses: Vec::new(),
        pins: Pins::default(),
        metadata: Default::default(),
        created: farebox_types::Timestamp(0),
        role: None,
    };
    (id, key)
}

/// Two keys of a project, and one of another.
fn policies() -> Policies {
    Policies { keys: [key("a1", "a"), key("a2", "a"), key("b1", "b")].into(), ..Policies::default() }
}

fn any(values: &[&str]) -> Pick {
    Pick::Any(values.iter().map(|value| (*value).to_owned()).collect())
}

#[test]
fn a_rule_belongs_to_a_project_where_all_it_counts_together_does() {
    use Dimension as D;
    let each = |dimension| (dimension, Pick::Each);
    for (terms, belongs) in [
        (vec![], false),
        (vec![each(D::Project)], true),
        (vec![(D::Project, any(&["a"])), each(D::Actor)], true),
        (vec![(D::Project, any(&["a", "b"]))], false),
        (vec![(D::Project, any(&["a", "b"])), each(D::Key)], true),
        (vec![each(D::Key)], true),
        (vec![(D::Key, any(&["a1", "a2"]))], true),
        (vec![(D::Key, any(&["a1", "b1"]))], false),
        (vec![(D::Key, any(&["a1", "gone"]))], false),
        (vec![each(D::Task)], true),
        (vec![each(D::Session), each(D::Model)], true),
        (vec![(D::EndUser, any(&["a/eve", "a/bob"]))], true),
        (vec![(D::EndUser, any(&["a/eve", "b/eve"]))], false),
        // In whatever project.
        (vec![(D::Task, any(&["nightly"]))], false),
        (vec![each(D::Actor)], false),
        (vec![each(D::Tag), each(D::Provider)], false),
        (vec![each(D::Organisation)], false),
        (vec![each(D::Group)], false),
        (vec![(D::Group, any(&["lab"]))], false),
        (vec![(D::Model, any(&["m"]))], false),
        (vec![each(D::Deployment)], false),
    ] {
        let scope = Scope::new(terms);
        assert_eq!(policies().owner(&scope, "a"), belongs.then_some("a"), "{scope:?}");
    }
}

/// What calls may have in a dimension, and what a rule may name.
fn values(dimension: Dimension) -> &'static [&'static str] {
    match dimension {
        Dimension::Organisation => &["o"],
        Dimension::Project => &["a", "b"],
        Dimension::Key => &["a1", "a2", "b1", "gone"],
        Dimension::Group => &["lab", "night"],
        Dimension::Actor => &["w"],
        Dimension::Task | Dimension::Session | Dimension::EndUser => &["t", "u", "a/t", "a/u", "b/t", "a/b/t"],
        Dimension::Tag => &["x", "y"],
        Dimension::Model => &["m"],
        Dimension::Provider => &["p"],
        Dimension::Deployment => &["p/m"],
    }
}

fn pick(dimension: Dimension) -> impl Strategy<Value = Pick> {
    let all = values(dimension);
    prop_oneof![Just(Pick::Each), subsequence(all, 1..=all.len()).prop_map(|some| any(&some))]
}

fn scopes() -> impl Strategy<Value = Scope> {
    let term = |dimension| pick(dimension).prop_map(move |pick| (dimension, pick));
    let terms = move |dimensions: Vec<Dimension>| dimensions.into_iter().map(term).collect::<Vec<_>>();
    subsequence(Dimension::ALL.to_vec(), 0..=3).prop_flat_map(terms).prop_map(Scope::new)
}

/// A call of one of these keys' project, with labels that its caller chose.
fn calls(keys: &'static [&'static str]) -> impl Strategy<Value = (v1::Principal, v1::Labels)> {
    let text = |values: &'static [&'static str]| proptest::sample::select(values).prop_map(str::to_owned);
    let names = || text(&["", "t", "u", "a/t", "b/t"]);
    let some = |values: &'static [&'static str]| {
        subsequence(values, 0..=values.len()).prop_map(|some| some.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let project = keys[0][..1].to_owned();
    let labels = (text(&["", "w"]), names(), names(), names(), some(&["x", "y"]));
    (text(keys), prop::bool::ANY, some(&["lab", "night"]), labels).prop_map(move |(key_id, keyless, groups, labels)| {
        let key_id = if keyless { String::new() } else { key_id };
        let organisation = "o".to_owned();
        let principal = v1::Principal { project: project.clone(), key_id, organisation, groups, ..Default::default() };
        let (actor, task_id, session_id, end_user, tags) = labels;
        (principal, v1::Labels { actor, task_id, session_id, end_user, tags })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    /// Else what one project is told would be what the other one spends.
    #[test]
    fn what_belongs_to_a_project_counts_no_call_of_another_with_its_own(
        scope in scopes(), a in calls(&["a1", "a2"]), b in calls(&["b1"]),
    ) {
        let subjects = |(principal, labels): &(v1::Principal, v1::Labels)| {
            let call = CallScope { principal, labels, model: "m", provider: "p", upstream_model: "m" };
            scope.subjects(&call)
        };
        let (of_a, of_b) = (subjects(&a), subjects(&b));
        if of_a.iter().any(|subject| of_b.contains(subject)) {
            prop_assert_eq!(policies().owner(&scope, "a"), None);
            prop_assert_eq!(policies().owner(&scope, "b"), None);
        }
    }
}
