//! Titan embeddings through Bedrock.

use farebox_dialect::{
    Content, DecodeError, DialectName, EmbedCall, EmbedDialect, EmbedInput, EmbedPurpose, EncodeError, Part, Provider,
    Source, Target, Vector, VectorEncoding, provider_dialect,
};
use farebox_types::ErrorKind;
use serde_json::{Value, json};

use crate::tape::tape;

const V1: &str = "amazon.titan-embed-text-v1";
const V2: &str = "amazon.titan-embed-text-v2:0";
const IMAGE: &str = "amazon.titan-embed-image-v1";

fn titan() -> &'static dyn EmbedDialect {
    match provider_dialect(DialectName::TitanEmbeddings) {
        Some(Provider::Embed(dialect)) => dialect,
        _ => panic!("titan embeds"),
    }
}

fn call(input: EmbedInput) -> EmbedCall {
    EmbedCall { inputs: vec![input], ..EmbedCall::default() }
}

fn text() -> EmbedCall {
    call(EmbedInput::Text("a heron".into()))
}

fn body(call: &EmbedCall, model: &str) -> (Value, usize) {
    let encoded = titan().encode(call, &Target::new(model)).unwrap();
    (serde_json::from_slice(encoded.request.body()).unwrap(), encoded.warnings.len())
}

fn image() -> Part {
    Part::from(Content::Image(Source::Base64 { media_type: "image/png".into(), data: "iVBORw0=".into() }.into()))
}

#[test]
fn each_model_is_asked_in_its_words() {
    let request = titan().encode(&text(), &Target::new(V2)).unwrap().request;
    assert_eq!(request.uri(), "/model/amazon.titan-embed-text-v2%3A0/invoke");
    assert_eq!(body(&text(), V1), (json!({"inputText": "a heron"}), 0));
    let short = EmbedCall { dimensions: Some(256), encoding: Some(VectorEncoding::Base64), ..text() };
    assert_eq!(body(&short, V2), (json!({"inputText": "a heron", "dimensions": 256}), 0));
    let config = json!({"outputEmbeddingLength": 256});
    assert_eq!(body(&short, IMAGE), (json!({"inputText": "a heron", "embeddingConfig": config}), 0));
    let binary = EmbedCall { encoding: Some(VectorEncoding::Other("binary".into())), ..text() };
    assert_eq!(body(&binary, V2), (json!({"inputText": "a heron", "embeddingTypes": ["binary"]}), 0));
    let both = call(EmbedInput::Parts(vec![Part::text("a heron"), image()]));
    assert_eq!(body(&both, IMAGE), (json!({"inputText": "a heron", "inputImage": "iVBORw0="}), 0));
    let noted = EmbedCall {
        purpose: Some(EmbedPurpose::SearchQuery),
        truncate: Some("END".into()),
        user: Some("u".into()),
        ..text()
    };
    assert_eq!(body(&noted, V2), (json!({"inputText": "a heron"}), 3));
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let several = EmbedCall { inputs: vec![EmbedInput::Text("a".into()), EmbedInput::Text("b".into())], ..text() };
    let url = Part::from(Content::Image(Source::Url("https://img.invalid/b.png".into()).into()));
    for (call, model) in [
        (several, V2),
        (EmbedCall::default(), V2),
        (call(EmbedInput::Tokens(vec![1])), V2),
        (call(EmbedInput::Parts(vec![image()])), V2),
        (call(EmbedInput::Parts(vec![image(), image()])), IMAGE),
        (call(EmbedInput::Parts(vec![url])), IMAGE),
        (call(EmbedInput::Parts(vec![])), IMAGE),
        (EmbedCall { dimensions: Some(256), ..text() }, V1),
        (EmbedCall { encoding: Some(VectorEncoding::Other("int8".into())), ..text() }, V2),
    ] {
        let error = titan().encode(&call, &Target::new(model)).unwrap_err();
        assert!(matches!(error, EncodeError::Unsupported { .. }), "{error}");
    }
}

#[test]
fn vectors_and_what_they_used() {
    for (name, numbers, tokens) in [
        ("text", "[-0.5,0.25,1e-7]", Some(4)),
        ("binary", "[0,1,1,0]", Some(3)),
        // An image has no tokens; what is counted stands in a header.
        ("image", "[0.125]", Some(0)),
    ] {
        let tape = tape(&format!("titan-embeddings/{name}"));
        let done = titan().decode(&tape.head, &tape.body).unwrap();
        let [Vector::Numbers(raw)] = done.vectors.as_slice() else { panic!("{name}: {:?}", done.vectors) };
        assert_eq!((raw.as_str(), done.usage.input, done.usage.total()), (numbers, tokens, tokens.unwrap()), "{name}");
    }
    let tape = tape("titan-embeddings/message");
    let DecodeError::Refused(refusal) = titan().decode(&tape.head, &tape.body).unwrap_err() else { panic!() };
    assert_eq!((refusal.kind, refusal.message.as_str()), (ErrorKind::Upstream, "Unable to process provided image."));
    for body in ["", "[]", "{}", r#"{"embedding":1}"#] {
        let error = titan().decode(&tape.head, body.as_bytes()).unwrap_err();
        assert!(matches!(error, DecodeError::Corrupt { .. }), "{body}");
    }
}

#[test]
fn a_refusal_has_a_kind() {
    let tape = tape("titan-embeddings/error-400");
    let refusal = titan().decode_error(&tape.head, &tape.body);
    assert_eq!((refusal.kind, refusal.code.as_deref()), (ErrorKind::BadRequest, Some("ValidationException")));
}
