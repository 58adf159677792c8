//! What a user of the config sees, on a config that has every shape farebox uses.

use std::{collections::BTreeMap, fmt};

use farebox_config::{
    ByteSize, ConfigFault, Env, FileSource, Loaded, Origin, Secret, Sources, Span, load, resolve, schema,
};
use farebox_types::Money;
use serde::{Deserialize, Serialize, de};

#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Config {
    listen: Listen,
    body_limit: ByteSize,
    providers: BTreeMap<String, Provider>,
    models: BTreeMap<String, Model>,
    budgets: Vec<Budget>,
    durability: Durability,
    version: Option<String>,
}

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Listen {
    http: String,
    backlog: u16,
}

impl Default for Listen {
    fn default() -> Listen {
        Listen { http: "127.0.0.1:4000".into(), backlog: 128 }
    }
}

#[derive(Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Provider {
    api_key: Option<Secret>,
    api_base: Option<String>,
}

#[derive(Debug, Default, Serialize, schemars::JsonSchema)]
struct Model {
    targets: Vec<String>,
    timeout: Option<Span>,
}

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Model, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            targets: Vec<String>,
            #[serde(default)]
            timeout: Option<Span>,
        }
        struct Reader;
        impl<'de> de::Visitor<'de> for Reader {
            type Value = Model;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a target or a map")
            }
            fn visit_str<E: de::Error>(self, target: &str) -> Result<Model, E> {
                Ok(Model { targets: vec![target.to_owned()], timeout: None })
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Model, A::Error> {
                let long = Long::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Model { targets: long.targets, timeout: long.timeout })
            }
        }
        from.deserialize_any(Reader)
    }
}

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Budget {
    name: String,
    limit: Money,
    #[serde(default)]
    hard: bool,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Durability {
    #[default]
    Process,
    Power,
}

fn targets_lead_somewhere(config: &Config) -> Vec<ConfigFault> {
    let mut faults = Vec::new();
    for (name, model) in &config.models {
        for (i, target) in model.targets.iter().enumerate() {
            let provider = target.split('/').next().unwrap_or_default();
            if !config.providers.contains_key(provider) {
                let path = format!("models.\"{name}\".targets[{i}]");
                faults.push(ConfigFault::new(&path, format!("there is no provider `{provider}`")));
            }
        }
    }
    faults
}

fn sources(text: &str) -> Sources {
    Sources { file: Some(FileSource { name: "farebox.yaml".into(), text: text.into() }), ..Sources::default() }
}

fn env(vars: &[(&str, &str)]) -> Env {
    vars.iter().copied().collect()
}

fn loaded(sources: &Sources) -> Loaded<Config> {
    load(sources, targets_lead_somewhere).expect("the config is good")
}

fn faults(sources: &Sources) -> String {
    load(sources, targets_lead_somewhere).expect_err("the config is bad").to_string()
}

const GOOD: &str = r#"# a comment
listen: { http: "127.0.0.1:0" }
body_limit: 8MB
version: 1.10
providers:
  openai: { api_key: os.environ/OPENAI_API_KEY }
  azure-eu:
    api_key: file:/run/secrets/azure
models:
  small: openai/gpt-4o-mini
  gpt-4.1:
    targets: [openai/gpt-4.1, azure-eu/x]
    timeout: 90s
budgets:
  - { name: everything, limit: 0.50 USD, hard: true }
durability: power
"#;

#[test]
fn shows_every_value_with_its_origin() {
    let mut sources = sources(GOOD);
    sources.env = env(&[
        ("FAREBOX_LISTEN__BACKLOG", "64"),
        ("farebox_providers__azure_eu__api_base", "https://eu.example/v1"),
        ("FAREBOX_CONFIG", "farebox.yaml"),
        ("FAREBOX_SERVICE_HOST", "10.0.0.1"),
        ("FAREBOX_PORT", "tcp://10.0.0.1:4000"),
        ("FAREBOX_PORT_4000_TCP_ADDR", "10.0.0.1"),
        ("OTHER", "1"),
    ]);
    sources.reserved_env = vec!["CONFIG".into()];
    sources.flags = vec![("budgets[0].limit".into(), "20".into())];
    let loaded = loaded(&sources);
    insta::assert_snapshot!(loaded.show().unwrap(), @r#"
    listen:
      http: 127.0.0.1:0  # farebox.yaml:2:17
      backlog: 64  # environment FAREBOX_LISTEN__BACKLOG
    body_limit: 8MB  # farebox.yaml:3:13
    providers:
      azure-eu:
        api_key: file:/run/secrets/azure  # farebox.yaml:8:14
        api_base: https://eu.example/v1  # environment farebox_providers__azure_eu__api_base
      openai:
        api_key: os.environ/OPENAI_API_KEY  # farebox.yaml:6:22
        api_base: null  # default
    models:
      gpt-4.1:
        targets: [openai/gpt-4.1, azure-eu/x]  # farebox.yaml:12:14
        timeout: 90s  # farebox.yaml:13:14
      small:
        targets: [openai/gpt-4o-mini]  # farebox.yaml:10:10
        timeout: null  # farebox.yaml:10:10
    budgets:
      -
        name: everything  # farebox.yaml:15:13
        limit: "20"  # flag budgets[0].limit
        hard: true  # farebox.yaml:15:48
    durability: power  # farebox.yaml:16:13
    version: "1.10"  # farebox.yaml:4:10
    "#);
    assert_eq!(loaded.origin("listen.backlog"), Origin::Environment("FAREBOX_LISTEN__BACKLOG".into()));
    assert_eq!(loaded.value.budgets[0].limit, Money::usd(20));
    assert!(loaded.value.budgets[0].hard);
    assert_eq!(loaded.value.durability, Durability::Power);
}

#[test]
fn what_is_shown_loads_again_to_the_same() {
    let first = loaded(&sources(GOOD)).show().unwrap();
    let strip = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  # ").next().unwrap_or_default().to_owned()).collect()
    };
    let second = loaded(&sources(&first)).show().unwrap();
    assert_eq!(strip(&first), strip(&second));
}

#[test]
fn every_fault_is_reported_at_once_with_its_place() {
    let mut sources = sources(
        r#"listen: { htttp: 127.0.0.1:0, backlog: 70000 }
body_limit: 8XB
provders: {}
providers:
  openai: { api_key: sk-canary, region: eu }
  azure: { api_key: [1] }
models:
  small: { targets: [openai/gpt-4o-mini, opanai/x], timeuot: 5s }
  big: 7
budgets:
  - { name: everything, limit: five, harrd: true }
  - { limit: 1.5 }
durability: powr
"#,
    );
    sources.env = env(&[("FAREBOX_LISTEN__PORT", "1"), ("FAREBOX_LISTEN__", "1")]);
    sources.flags = vec![("listen.http.port".into(), "1".into()), ("durabillity".into(), "power".into())];
    let said = faults(&sources);
    assert!(!said.contains("canary"));
    insta::assert_snapshot!(said, @r"
    the config cannot be used, it has 18 faults:
      farebox.yaml:1:11: listen.htttp: unknown field, did you mean `http`?
      farebox.yaml:1:40: listen.backlog: expected a whole number (u16), found the number 70000
      farebox.yaml:2:13: body_limit: `8XB` is not a size: write bytes as a number, or with a unit, like 8MB or 1GiB
      farebox.yaml:3:1: provders: unknown field, did you mean `providers`?
      farebox.yaml:5:22: providers.openai.api_key: a secret is never written as plain text: write `os.environ/NAME` to take it from an environment variable, or `file:/path` to read it from a file
      farebox.yaml:5:33: providers.openai.region: unknown field, known here: api_key, api_base
      farebox.yaml:6:21: providers.azure.api_key: expected a text, found a list
      farebox.yaml:8:42: models.small.targets[1]: there is no provider `opanai`
      farebox.yaml:8:53: models.small.timeuot: unknown field, did you mean `timeout`?
      farebox.yaml:9:8: models.big: expected a target or a map, found the number 7
      farebox.yaml:11:32: budgets[0].limit: `five` is not an amount: write a decimal number of US dollars, like 0.50 or `0.50 USD`
      farebox.yaml:11:38: budgets[0].harrd: unknown field, did you mean `hard`?
      farebox.yaml:12:5: budgets[1]: `name` is missing
      farebox.yaml:13:13: durability: `powr` is not known here, did you mean `power`?
      environment FAREBOX_LISTEN__: listen: the name has an empty level: levels are separated by exactly two underscores
      environment FAREBOX_LISTEN__PORT: listen.port: unknown field, known here: http, backlog
      flag listen.http.port: listen.http: expected a text, found a map
      flag durabillity: durabillity: unknown field, did you mean `durability`?
    ");
}

#[test]
fn broken_yaml_says_where() {
    insta::assert_snapshot!(faults(&sources("listen:\n  http: [1\nbody_limit: 3\n")), @"the config cannot be used: farebox.yaml:3:11: this is not valid YAML: illegal placement of ':' indicator");
    insta::assert_snapshot!(faults(&sources("listen: {}\nlisten: {}\n")), @"the config cannot be used: farebox.yaml:2:1: `listen` stands here a second time, the first is at farebox.yaml:1:1");
    insta::assert_snapshot!(faults(&sources("listen: {}\n---\nlisten: {}\n")), @"the config cannot be used: farebox.yaml:2:1: a config is one YAML document, this is a second one");
    insta::assert_snapshot!(faults(&sources("- a\n- b\n")), @"the config cannot be used: farebox.yaml:1:1: expected a map, found a list");
}

#[test]
fn an_empty_file_and_empty_sections_are_defaults() {
    for text in ["", "# only a comment\n", "listen:\nproviders:\nbudgets:\n"] {
        let config = loaded(&sources(text)).value;
        assert_eq!(config.listen.backlog, 128, "{text:?}");
    }
    let none = loaded(&Sources::default());
    assert_eq!(none.origin("listen.http"), Origin::Default);
}

#[test]
fn anchors_and_bracketed_variables_are_understood() {
    let mut sources = sources("models:\n  a: &one { targets: [openai/a] }\n  b: *one\nproviders: { openai: {} }\n");
    sources.env = env(&[("FAREBOX_BUDGETS", "[{ name: day, limit: 3 }]"), ("FAREBOX_VERSION", "\"7\"")]);
    let loaded = loaded(&sources);
    assert_eq!(loaded.value.models["b"].targets, ["openai/a"]);
    assert_eq!(loaded.value.budgets[0].limit, Money::usd(3));
    assert_eq!(loaded.value.version.as_deref(), Some("7"));
    assert_eq!(loaded.origin("budgets[0].name").to_string(), "environment FAREBOX_BUDGETS");
}

#[test]
fn a_missing_file_is_named() {
    let error = FileSource::read("/no/such/farebox.yaml".as_ref()).expect_err("there is no such file");
    insta::assert_snapshot!(error.to_string(), @"the config cannot be used: `/no/such/farebox.yaml` cannot be read: No such file or directory (os error 2)");
}

#[test]
fn secrets_come_from_where_the_reference_points() {
    use secrecy::ExposeSecret;
    let key = "providers.openai.api_key";
    let env = env(&[("OPENAI_API_KEY", "sk-1"), ("EMPTY", "")]);
    let fetch = |text: &str| resolve(&text.parse().expect("a reference"), key, &env);
    assert_eq!(fetch("os.environ/OPENAI_API_KEY").unwrap().expose_secret(), "sk-1");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "sk-2\n").unwrap();
    let reference = format!("file:{}", file.path().display());
    assert_eq!(fetch(&reference).unwrap().expose_secret(), "sk-2");
    insta::assert_snapshot!(fetch("os.environ/NOT_THERE").unwrap_err().to_string(), @"the environment variable `NOT_THERE` is not set, but `providers.openai.api_key` needs it: set it, or change `providers.openai.api_key`");
    insta::assert_snapshot!(fetch("os.environ/EMPTY").unwrap_err().to_string(), @"the environment variable `EMPTY` is empty, but `providers.openai.api_key` needs it: set it, or change `providers.openai.api_key`");
    insta::assert_snapshot!(fetch("file:/no/such/file").unwrap_err().to_string(), @"the file `/no/such/file` that `providers.openai.api_key` refers to cannot be read");

    let loaded = loaded(&sources(GOOD));
    let fault = fetch("os.environ/NOT_THERE").unwrap_err().into_config_fault();
    let placed = loaded.place(vec![fault]).expect("one fault");
    assert!(placed.to_string().contains("farebox.yaml:6:22: providers.openai.api_key: "), "{placed}");
    assert!(loaded.place(Vec::new()).is_none());
}

#[test]
fn the_schema_names_every_field() {
    let schema = schema::<Config>();
    let fields: Vec<&String> = schema["properties"].as_object().expect("an object").keys().collect();
    assert_eq!(fields.len(), 7);
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn sections_of_another_document_stand_in_for_those_of_the_file() {
    let document =
        FileSource { name: "revision 7".into(), text: "models:\n  b: openai/b\nlisten: { http: elsewhere }\n".into() };
    assert_eq!(farebox_config::sections(&document).unwrap(), ["models", "listen"]);
    let sections = vec!["models".to_owned(), "providers".to_owned()];
    let mut all = sources("listen: { backlog: 7 }\nproviders: { openai: {} }\nmodels: { a: openai/a }\n");
    all.replacement = Some(farebox_config::Replacement { document, sections });
    all.flags = vec![("models.c".into(), "openai/c".into())];
    let loaded: Loaded<Config> = load(&all, |_| Vec::new()).unwrap();
    assert_eq!(loaded.value.models.keys().collect::<Vec<_>>(), ["b", "c"], "flags lie over both");
    assert!(loaded.value.providers.is_empty(), "what it leaves out is not the file's");
    assert_eq!((loaded.value.listen.http.as_str(), loaded.value.listen.backlog), ("127.0.0.1:4000", 7));
    assert_eq!(loaded.origin("models.b").to_string(), "revision 7:2:6");
    assert_eq!(loaded.origin("listen.backlog").to_string(), "farebox.yaml:1:20");

    all.replacement.as_mut().unwrap().document.text = "models: { b: 7 }\nproviders: [x]".into();
    let error = load::<Config>(&all, |_| Vec::new()).unwrap_err();
    let origins: Vec<String> = error.faults.iter().map(|fault| fault.origin.to_string()).collect();
    assert_eq!(origins, ["revision 7:1:14", "revision 7:2:12"], "{error}");
}
