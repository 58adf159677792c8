//! Texts into vectors: calls, answers on tape, and the two ways to write a vector.

use base64::{Engine, engine::general_purpose::STANDARD};
use farebox_dialect::{
    Caller, Content, DialectName, EmbedCall, EmbedCaller, EmbedDialect, EmbedInput, EmbedPurpose, Embeddings, Head,
    Hosting, Media, OnUnsupported, Part, Provider, Source, Stamp, Target, Vector, VectorEncoding, caller_dialect,
    provider_dialect, rewrite,
};
use farebox_types::{ErrorKind, Usage};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::tape::tape;

fn provider(name: DialectName) -> &'static dyn EmbedDialect {
    match provider_dialect(name) {
        Some(Provider::Embed(dialect)) => dialect,
        _ => panic!("{name} embeds nothing"),
    }
}

fn openai() -> &'static dyn EmbedCaller {
    match caller_dialect(DialectName::OpenAiEmbeddings) {
        Some(Caller::Embed(caller)) => caller,
        _ => panic!("callers embed in OpenAI's words"),
    }
}

fn parse(body: &Value) -> EmbedCall {
    openai().parse(&HeaderMap::new(), body.to_string().as_bytes()).unwrap()
}

fn encode(name: DialectName, call: &EmbedCall) -> (Value, Vec<String>) {
    let encoded = provider(name).encode(call, &Target::new("tape-embed-1")).unwrap();
    let body = serde_json::from_slice(encoded.request.body()).unwrap();
    (body, encoded.warnings.into_iter().map(|warning| warning.0).collect())
}

fn decode(name: &str) -> Embeddings {
    let tape = tape(name);
    provider(tape.dialect).decode(&tape.head, &tape.body).unwrap()
}

fn stamp() -> Stamp {
    Stamp { id: "own".into(), created: 1_770_000_000, model: None }
}

fn render(call: &EmbedCall, answer: &Embeddings) -> Value {
    serde_json::from_slice(&openai().render(call, answer, &stamp()).unwrap()).unwrap()
}

fn numbers(answer: &Embeddings) -> Vec<&str> {
    let vectors = answer.vectors.iter();
    vectors.map(|v| if let Vector::Numbers(raw) = v { raw.as_str() } else { "base64" }).collect()
}

fn input(tokens: u64) -> Usage {
    Usage { input: Some(tokens), ..Usage::default() }
}

#[test]
fn parse_after_encode_gives_the_call_back() {
    for given in [json!("a text"), json!(["one", "two"]), json!([1, 2, 4_000_000_000_u32]), json!([[1, 2], [3]])] {
        let body = json!({"model": "tape-embed-1", "input": given, "dimensions": 256, "encoding_format": "base64",
            "user": "u", "input_type": "search_query", "truncate": "END", "later": {"a": 1}});
        let call = parse(&body);
        assert_eq!(call.encoding, Some(VectorEncoding::Base64));
        assert_eq!(call.purpose, Some(EmbedPurpose::SearchQuery));
        let (written, warnings) = encode(DialectName::OpenAiEmbeddings, &call);
        assert_eq!((parse(&written), warnings), (call, vec![]), "{body}");
    }
    assert_eq!(parse(&json!({"input": [7, 8]})).inputs, [EmbedInput::Tokens(vec![7, 8])]);
}

#[test]
fn bad_inputs_are_named() {
    for (body, field) in [
        (json!({"model": "m"}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": {"text": "a"}}), "input"),
        (json!({"input": [1, "a"]}), "input"),
        (json!({"input": ["a", 1]}), "input[1]"),
        (json!({"input": [[1], [-1]]}), "input[1]"),
        (json!({"input": "a", "dimensions": "many"}), "dimensions"),
    ] {
        let bad = openai().parse(&HeaderMap::new(), body.to_string().as_bytes()).unwrap_err();
        assert_eq!((bad.kind, bad.field.as_deref()), (ErrorKind::BadRequest, Some(field)), "{body}");
    }
}

#[test]
fn a_body_that_passes_through_gets_the_providers_name() {
    for (name, path) in [(DialectName::OpenAiEmbeddings, "/embeddings"), (DialectName::CohereEmbed, "/v2/embed")] {
        let target = Target::new("their-name");
        let body = rewrite(br#"{"model": "ours", "input":["a"]}"#, &provider(name).edits(&target)).unwrap();
        assert_eq!(body, r#"{"model": "their-name", "input":["a"]}"#.as_bytes());
        let request = provider(name).request(&target, body.clone()).unwrap();
        assert_eq!((request.uri().path(), request.body()), (path, &body));
    }
}

#[test]
fn openai_answers_in_the_order_of_the_inputs() {
    let done = decode("openai-embeddings/float");
    assert_eq!(numbers(&done), ["[-0.021774292,0.000025391579,0.5]", "[1.0,-0.25]"]);
    assert_eq!((done.model.as_str(), done.usage), ("tape-embed-1", input(9)));
    let done = decode("openai-embeddings/compatible");
    assert_eq!(numbers(&done), ["[0.5]", "[0.75]"]);
    assert_eq!((done.id.as_str(), done.usage), ("e0b1", input(6)));
}

#[test]
fn a_vector_is_written_as_its_caller_wants_it() {
    let as_base64 = EmbedCall { encoding: Some(VectorEncoding::Base64), ..EmbedCall::default() };
    let (floats, packed) = (decode("openai-embeddings/float"), decode("openai-embeddings/base64"));
    let body = render(&EmbedCall::default(), &packed);
    assert_eq!(body["data"][0]["embedding"].to_string(), "[-0.021774292,0.1,1e-40]");
    assert_eq!(body["usage"], json!({"prompt_tokens": 4, "total_tokens": 4}));
    let body = render(&as_base64, &floats);
    assert_eq!(body["data"][0]["embedding"], in_base64(&[-0.021774292, 2.5391579e-05, 0.5]));
    assert_eq!(body["data"][1]["index"], 1);
    // What is already in the wanted form is not touched.
    assert_eq!(render(&as_base64, &packed)["data"][0]["embedding"], packed_text(&packed));
    assert_eq!(render(&EmbedCall::default(), &floats)["data"][1]["embedding"].to_string(), "[1.0,-0.25]");
}

fn in_base64(floats: &[f32]) -> String {
    STANDARD.encode(floats.iter().flat_map(|float| float.to_le_bytes()).collect::<Vec<u8>>())
}

fn packed_text(answer: &Embeddings) -> &str {
    if let Vector::Base64(text) = &answer.vectors[0] { text } else { panic!("the tape is in base64") }
}

#[test]
fn decode_after_render_gives_the_answer_back() {
    for (name, encoding) in [("float", VectorEncoding::Float), ("base64", VectorEncoding::Base64)] {
        let done = decode(&format!("openai-embeddings/{name}"));
        let call = EmbedCall { encoding: Some(encoding), ..EmbedCall::default() };
        let again = openai().render(&call, &done, &stamp()).unwrap();
        assert_eq!(provider(DialectName::OpenAiEmbeddings).decode(&Head::default(), &again).unwrap(), done);
    }
}

#[test]
fn what_is_no_answer_is_corrupt_and_an_error_in_its_place_is_a_refusal() {
    let decode = |name, body: &str| provider(name).decode(&Head::default(), body.as_bytes()).unwrap_err();
    for body in ["{}", r#"{"data":[{"embedding":7}]}"#, r#"{"data":[{}]}"#, "nonsense"] {
        let error = decode(DialectName::OpenAiEmbeddings, body);
        assert!(error.to_string().contains("not what openai-embeddings promises"), "{error}");
    }
    for body in ["{}", r#"{"embeddings":{}}"#, r#"{"embeddings":[7]}"#, r#"{"embeddings":{"float":[]}}"#] {
        let error = decode(DialectName::CohereEmbed, body);
        assert!(error.to_string().contains("not what cohere-embed promises"), "{error}");
    }
    let refused = decode(DialectName::OpenAiEmbeddings, r#"{"error":{"message":"no such model","code":404}}"#);
    assert_eq!((refused.kind(), refused.to_string().as_str()), (ErrorKind::NotFound, "no such model"));
}

#[test]
fn refusals() {
    for (name, kind, said) in [
        ("openai-embeddings/error-401", ErrorKind::Upstream, "Access denied"),
        ("cohere-embed/error-404", ErrorKind::NotFound, "model 'tape-embed-9' not found"),
    ] {
        let tape = tape(name);
        let refusal = provider(tape.dialect).decode_error(&tape.head, &tape.body);
        assert_eq!(refusal.kind, kind, "{name}");
        assert!(refusal.message.contains(said), "{}", refusal.message);
    }
}

#[test]
fn cohere_is_told_what_the_vectors_are_for() {
    let call =
        parse(&json!({"input": ["heron", "otter"], "dimensions": 512, "encoding_format": "base64", "user": "u"}));
    let (body, warnings) = encode(DialectName::CohereEmbed, &call);
    let expected = json!({"model": "tape-embed-1", "input_type": "search_document", "texts": ["heron", "otter"],
        "embedding_types": ["float"], "output_dimension": 512});
    assert_eq!(body, expected);
    assert!(warnings[0].contains("`user`") && warnings[1].contains("`search_document`"), "{warnings:?}");
    let call =
        parse(&json!({"input": "heron", "input_type": "clustering", "encoding_format": "int8", "truncate": "END"}));
    let (body, warnings) = encode(DialectName::CohereEmbed, &call);
    let expected = json!({"model": "tape-embed-1", "input_type": "clustering", "texts": ["heron"],
        "embedding_types": ["int8"], "truncate": "END"});
    assert_eq!((body, warnings), (expected, vec![]));
}

#[test]
fn bedrock_takes_coheres_body_without_its_model() {
    let cohere = provider(DialectName::CohereEmbed);
    let profile = "arn:aws:bedrock:us-east-1:000000000000:inference-profile/us.cohere.embed-v4:0";
    let call =
        parse(&json!({"input": "heron", "input_type": "search_query", "dimensions": 512, "encoding_format": "int8"}));
    for (model, path) in [
        ("cohere.embed-v4:0", "/model/cohere.embed-v4%3A0/invoke"),
        (
            profile,
            "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A000000000000%3Ainference-profile%2Fus.cohere.embed-v4%3A0/invoke",
        ),
    ] {
        let target = Target { hosting: Hosting::Bedrock, ..Target::new(model) };
        let request = cohere.encode(&call, &target).unwrap().request;
        assert_eq!(request.uri(), path);
        let expected = json!({"input_type": "search_query", "texts": ["heron"], "embedding_types": ["int8"],
            "output_dimension": 512});
        assert_eq!(serde_json::from_slice::<Value>(request.body()).unwrap(), expected);
        let body = rewrite(br#"{"model":"ours","texts":["a"]}"#, &cohere.edits(&target)).unwrap();
        assert_eq!(body, r#"{"texts":["a"]}"#);
        assert_eq!(cohere.request(&target, body).unwrap().uri(), path);
    }
    let mut head = Head { status: StatusCode::TOO_MANY_REQUESTS, ..Head::default() };
    head.headers.insert("x-amzn-errortype", HeaderValue::from_static("ThrottlingException:http://internal.invalid/"));
    let refusal = cohere.decode_error(&head, br#"{"message":"Too many tokens."}"#);
    assert_eq!((refusal.kind, refusal.code.as_deref()), (ErrorKind::RateLimited, Some("ThrottlingException")));
}

#[test]
fn cohere_takes_images_but_no_token_ids() {
    let source = Source::Base64 { media_type: "image/png".into(), data: "AAAA".into() };
    let image = Part::from(Content::Image(Media::from(source)));
    let of = |inputs| EmbedCall { inputs, ..EmbedCall::default() };
    let (body, _) = encode(DialectName::CohereEmbed, &of(vec![EmbedInput::Parts(vec![image.clone()])]));
    assert_eq!((&body["images"], &body["input_type"]), (&json!(["data:image/png;base64,AAAA"]), &json!("image")));
    let both = vec![EmbedInput::Parts(vec![Part::text("a heron"), image]), EmbedInput::Text("an otter".into())];
    let (body, _) = encode(DialectName::CohereEmbed, &of(both));
    let expected = json!([
        {"content": [{"type": "text", "text": "a heron"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
        {"content": [{"type": "text", "text": "an otter"}]},
    ]);
    assert_eq!(body["inputs"], expected);
    let tokens = of(vec![EmbedInput::Tokens(vec![1])]);
    let refused = provider(DialectName::CohereEmbed).encode(&tokens, &Target::new("m")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    let image = of(vec![EmbedInput::Parts(vec![])]);
    assert!(provider(DialectName::OpenAiEmbeddings).encode(&image, &Target::new("m")).is_err());
}

#[test]
fn members_of_another_dialect_are_not_passed_on() {
    let call = parse(&json!({"input": "a", "input_type": "search_query", "later": 1}));
    let (body, warnings) = encode(DialectName::CohereEmbed, &call);
    assert!(body.get("later").is_none() && warnings[0].contains("`later`"), "{warnings:?}");
    let strict = Target { unsupported: OnUnsupported::Refuse, ..Target::new("m") };
    assert!(provider(DialectName::CohereEmbed).encode(&call, &strict).is_err());
}

#[test]
fn cohere_answers_by_type_or_in_the_old_way() {
    let done = decode("cohere-embed/by-type");
    assert_eq!(numbers(&done), ["[0.015943069,-0.25]", "[0.5,0.00001]"]);
    assert_eq!(done.usage, Usage { image_input: Some(0), ..input(4) });
    let body = render(&EmbedCall { encoding: Some(VectorEncoding::Base64), ..EmbedCall::default() }, &done);
    assert!(body["data"][1]["embedding"].is_string());
    assert_eq!(numbers(&decode("cohere-embed/floats-v1")), ["[0.5,-0.125]"]);
    assert_eq!(numbers(&decode("cohere-embed/int8")), ["[18,-7,127]"]);
    assert_eq!(decode("cohere-embed/bedrock").usage, input(3));
    assert_eq!(decode("cohere-embed/image").usage, Usage { image_input: Some(1), ..Usage::default() });
}
