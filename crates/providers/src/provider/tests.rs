use super::*;
use crate::AwsOptions;

fn key(text: &str) -> Option<Secret> {
    Some(text.parse().unwrap())
}

fn with_key() -> ProviderOptions {
    ProviderOptions { api_key: key("os.environ/KEY"), ..ProviderOptions::default() }
}

fn sent(provider: &Provider, path: &str) -> Request<()> {
    let request = Request::post(path).header("content-type", "application/json").body(()).unwrap();
    provider.apply(Some(&SecretString::from("sk-1")), request).unwrap()
}

#[test]
fn openai_takes_a_bearer_token() {
    let provider = Provider::new("openai", &with_key(), &Egress::default()).unwrap();
    let request = sent(&provider, "/chat/completions");
    assert_eq!(request.uri(), "https://api.openai.com/v1/chat/completions");
    assert_eq!(request.headers()["authorization"], "Bearer sk-1");
    assert!(request.headers()["authorization"].is_sensitive());
    assert_eq!(request.headers()["content-type"], "application/json");
    assert_eq!((provider.dialects()[0], provider.prices.as_str()), (DialectName::OpenAiChat, "openai"));
}

#[test]
fn anthropic_takes_a_header_of_its_own() {
    let options = ProviderOptions { headers: [("anthropic-beta".into(), "context-1m".into())].into(), ..with_key() };
    let provider = Provider::new("anthropic", &options, &Egress::default()).unwrap();
    let request = sent(&provider, "/v1/messages");
    assert_eq!(request.uri(), "https://api.anthropic.com/v1/messages");
    assert_eq!(request.headers()["x-api-key"], "sk-1");
    assert_eq!(request.headers()["anthropic-beta"], "context-1m");
    assert!(!request.headers().contains_key("authorization"));
}

#[test]
fn a_compatible_server_is_named_by_its_base() {
    let options = |kind: &str, base: &str| ProviderOptions {
        kind: Some(kind.into()),
        api_base: Some(base.into()),
        ..ProviderOptions::default()
    };
    let local = Provider::new("local", &options("openai-compatible", "http://127.0.0.1:11434/v1/"), &Egress::default())
        .unwrap();
    let request = Request::post("/chat/completions?a=1").body(()).unwrap();
    let request = local.apply(None, request).unwrap();
    assert_eq!(request.uri(), "http://127.0.0.1:11434/v1/chat/completions?a=1");
    assert!(request.headers().is_empty());
    assert_eq!((local.prices.as_str(), &local.identity), ("local", &Identity::Anonymous));
    for base in ["http://h/x", "http://h/x/", "http://h/x/v1"] {
        let provider = Provider::new("p", &options("anthropic-compatible", base), &Egress::default()).unwrap();
        assert_eq!(sent(&provider, "/v1/messages").uri(), "http://h/x/v1/messages", "{base}");
    }
    let root = Provider::new("p", &options("openai-compatible", "http://h"), &Egress::default()).unwrap();
    assert_eq!(sent(&root, "/chat/completions").uri(), "http://h/chat/completions");
    assert_eq!(root.base_url(), "http://h");
}

#[test]
fn a_call_goes_out_in_its_callers_own_dialect_where_there_is_one() {
    use DialectName as D;
    let openai = Provider::new("openai", &with_key(), &Egress::default()).unwrap();
    let sent = |operation, caller, model| openai.dialect_for(operation, caller, model);
    assert_eq!(sent(Operation::Generate, Some(D::OpenAiResponses), "gpt-5"), Some(D::OpenAiResponses));
    assert_eq!(sent(Operation::Generate, Some(D::AnthropicMessages), "gpt-5"), Some(D::OpenAiChat));
    assert_eq!(sent(Operation::Generate, None, "gpt-5"), Some(D::OpenAiChat));
    assert_eq!(sent(Operation::Generate, Some(D::OpenAiChat), "o3-pro"), Some(D::OpenAiResponses));
    assert_eq!(sent(Operation::Generate, Some(D::OpenAiChat), "davinci-002"), Some(D::OpenAiCompletions));
    assert_eq!(sent(Operation::CountTokens, Some(D::AnthropicCountTokens), "gpt-5"), Some(D::OpenAiChat));
    assert_eq!(sent(Operation::Embed, Some(D::OpenAiEmbeddings), "e"), Some(D::OpenAiEmbeddings));
    assert_eq!(sent(Operation::Rerank, Some(D::CohereRerank), "r"), None);

    let region = ProviderOptions { region: Some("eu-west-1".into()), ..ProviderOptions::default() };
    let bedrock = Provider::new("bedrock", &region, &Egress::default()).unwrap();
    let claude = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0";
    let sent = |caller, model| bedrock.dialect_for(Operation::Generate, Some(caller), model);
    assert_eq!(sent(D::AnthropicMessages, claude), Some(D::AnthropicMessages));
    assert_eq!(sent(D::AnthropicMessages, "amazon.nova-pro-v1:0"), Some(D::BedrockConverse));
    assert_eq!(sent(D::OpenAiChat, claude), Some(D::BedrockConverse));
    assert_eq!(bedrock.base_url(), "https://bedrock-runtime.eu-west-1.amazonaws.com");
    assert_eq!(bedrock.identity, Identity::Aws { region: "eu-west-1".into() });
    let count = bedrock.dialect_for(Operation::CountTokens, Some(D::AnthropicCountTokens), claude);
    assert_eq!(count, Some(D::AnthropicMessages));
    assert_eq!(bedrock.target(D::AnthropicMessages, claude).hosting, Hosting::Bedrock);
    assert_eq!(bedrock.target(D::BedrockConverse, claude).hosting, Hosting::Own);
}

#[test]
fn azure_has_two_apis() {
    let options = |api_version: Option<&str>| ProviderOptions {
        api_base: Some("https://team.openai.azure.com".into()),
        api_version: api_version.map(str::to_owned),
        ..with_key()
    };
    let sent = |api_version| {
        let azure = Provider::new("azure", &options(api_version), &Egress::default()).unwrap();
        let path = azure.target(DialectName::OpenAiChat, "gpt 4/prod").path;
        let request = sent(&azure, path.as_deref().unwrap_or("/chat/completions"));
        assert_eq!(request.headers()["api-key"], "sk-1");
        request.uri().to_string()
    };
    assert_eq!(sent(None), "https://team.openai.azure.com/openai/v1/chat/completions");
    let classic =
        "https://team.openai.azure.com/openai/deployments/gpt%204%2Fprod/chat/completions?api-version=2024-10-21";
    assert_eq!(sent(Some("2024-10-21")), classic);
}

#[test]
fn no_model_leads_out_of_the_base() {
    let options = ProviderOptions { api_base: Some("http://h/a/b".into()), ..with_key() };
    let provider = Provider::new("openai", &options, &Egress::default()).unwrap();
    let applied = |path: &str| {
        let request = Request::builder().uri(path).body(()).unwrap();
        provider.apply(None, request).map(|request| request.uri().to_string())
    };
    assert_eq!(applied("/models/..x:y?alt=..").unwrap(), "http://h/a/b/models/..x:y?alt=..");
    for path in ["/models/../../keys", "/..", "/./x", "/deployments/../chat"] {
        assert_eq!(applied(path), Err(ApplyError::Path), "{path}");
    }
    let target = provider.target(DialectName::OpenAiChat, "../x?y#z");
    assert_eq!(target.path, None);
    let azure = ProviderOptions { api_version: Some("2024-10-21".into()), ..options };
    let azure = Provider::new("azure", &azure, &Egress::default()).unwrap();
    let path = azure.target(DialectName::OpenAiChat, "../x?y#z").path.unwrap();
    assert_eq!(path, "/openai/deployments/..%2Fx%3Fy%23z/chat/completions?api-version=2024-10-21");
}

#[test]
fn vertex_is_addressed_by_project_and_location() {
    let options = |location: &str| ProviderOptions {
        project: Some("acme-llm".into()),
        location: Some(location.into()),
        ..ProviderOptions::default()
    };
    let base = |location| Provider::new("vertex", &options(location), &Egress::default()).unwrap().base_url();
    assert_eq!(
        base("europe-west4"),
        "https://europe-west4-aiplatform.googleapis.com/v1/projects/acme-llm/locations/europe-west4"
    );
    assert_eq!(base("global"), "https://aiplatform.googleapis.com/v1/projects/acme-llm/locations/global");
    let evil = Provider::new("vertex", &options("x/../y@evil.example"), &Egress::default()).unwrap_err();
    assert_eq!(evil.option(), "location");
}

#[test]
fn what_a_kind_has_no_use_for_is_said() {
    let said = |kind: &str, options: ProviderOptions| {
        let error = Provider::new(kind, &options, &Egress::default()).unwrap_err();
        (error.option(), error.to_string())
    };
    let none = ProviderOptions::default;
    let region = |options| ProviderOptions { region: Some("us-east-1".into()), ..options };
    assert_eq!(said("openai", region(with_key())).0, "region");
    assert_eq!(
        said("bedrock", none()),
        ("region", "a provider of the kind `bedrock` needs a `region`: it is part of its address".into())
    );
    let half = AwsOptions { access_key_id: key("os.environ/ID"), ..AwsOptions::default() };
    assert_eq!(said("bedrock", ProviderOptions { aws: Some(half), ..region(none()) }).0, "aws");
    let private = ProviderOptions { api_base: Some("http://169.254.169.254/v1".into()), ..with_key() };
    insta::assert_snapshot!(said("openai", private).1, @"`api_base` names a private address (169.254.169.254): list its network in `egress.allow`, such as `169.254.169.254/32`");
    let proxy = ProviderOptions { proxy: Some("http://user:secret@proxy:3128".into()), ..with_key() };
    assert!(!said("openai", proxy).1.contains("secret"));
}

#[test]
fn errors_say_what_to_do() {
    let said = |name: &str, options: ProviderOptions| {
        Provider::new(name, &options, &Egress::default()).unwrap_err().to_string()
    };
    let none = ProviderOptions::default;
    assert!(
        said("opanai", none()).starts_with("`opanai` is no kind of provider; known are: openai, azure, anthropic,")
    );
    insta::assert_snapshot!(said("openai-compatible", none()), @"a provider of the kind `openai-compatible` needs an `api_base`, such as http://127.0.0.1:11434/v1");
    insta::assert_snapshot!(said("anthropic", none()), @"a provider of the kind `anthropic` needs an `api_key`, such as os.environ/ANTHROPIC_API_KEY");
    insta::assert_snapshot!(said("demo", none()), @"the provider `demo` is only there under `farebox up --demo`, which gives it its address");
    for base in ["127.0.0.1:80", "ftp://h/", "http://u:p@h/", "http://h/?q", "http://h/#f", "/v1", ""] {
        let options = ProviderOptions { api_base: Some(base.into()), ..with_key() };
        let base = base.trim_start_matches("http://u:p@");
        let error = Provider::new("openai", &options, &Egress::default()).unwrap_err();
        assert_eq!(error, ProviderError::BadBase { given: base.into() });
    }
    let headers = ProviderOptions { headers: [("a b".into(), "c".into())].into(), ..with_key() };
    assert_eq!(Provider::new("openai", &headers, &Egress::default()).unwrap_err().option(), "headers");
    let provider = Provider::new("openai", &with_key(), &Egress::default()).unwrap();
    let bad_key = provider.apply(Some(&SecretString::from("a\nb")), Request::new(()));
    assert_eq!(bad_key.unwrap_err(), ApplyError::Key);
}
