//! Gemini's embeddings, by itself and at Vertex.

use farebox_dialect::{
    DecodeError, DialectName, EmbedCall, EmbedDialect, EmbedInput, EmbedPurpose, Hosting, Provider, RawJson, Target,
    Vector, provider_dialect,
};
use farebox_types::Usage;
use serde_json::{Value, json};

use crate::tape::tape;

fn embeddings() -> &'static dyn EmbedDialect {
    match provider_dialect(DialectName::GeminiEmbeddings) {
        Some(Provider::Embed(dialect)) => dialect,
        _ => panic!("no dialect of embeddings"),
    }
}

#[test]
fn embeddings_by_number_and_host() {
    let text = |text: &str| EmbedInput::Text(text.into());
    let request = |inputs: Vec<EmbedInput>, target: &Target| {
        let purpose = Some(EmbedPurpose::SearchQuery);
        let call = EmbedCall { inputs, dimensions: Some(768), purpose, ..EmbedCall::default() };
        let encoded = embeddings().encode(&call, target).unwrap();
        assert!(encoded.warnings.is_empty());
        let request = encoded.request;
        let around = embeddings().request(target, request.body().clone()).unwrap();
        assert_eq!(around.uri(), request.uri());
        (request.uri().to_string(), serde_json::from_slice::<Value>(request.body()).unwrap())
    };
    let own = Target::new("gemini-embedding-001");
    let one = |words: &str| {
        json!({"model": "models/gemini-embedding-001", "content": {"parts": [{"text": words}]},
            "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 768})
    };
    assert_eq!(request(vec![text("a")], &own), ("/models/gemini-embedding-001:embedContent".into(), one("a")));
    assert_eq!(
        request(vec![text("a"), text("b")], &own),
        ("/models/gemini-embedding-001:batchEmbedContents".into(), json!({"requests": [one("a"), one("b")]}))
    );
    let vertex = Target { hosting: Hosting::Vertex, ..own };
    let instance = |words: &str| json!({"content": words, "task_type": "RETRIEVAL_QUERY"});
    let predict = json!({"instances": [instance("a"), instance("b")], "parameters": {"outputDimensionality": 768}});
    assert_eq!(
        request(vec![text("a"), text("b")], &vertex),
        ("/publishers/google/models/gemini-embedding-001:predict".into(), predict)
    );
}

#[test]
fn vectors_as_written_and_tokens_where_they_are_said() {
    let decode = |name: &str| {
        let tape = tape(name);
        embeddings().decode(&tape.head, &tape.body).unwrap()
    };
    let one = decode("gemini-embeddings/one");
    assert_eq!(one.vectors, [Vector::Numbers(RawJson::new("[-0.25,0.0015,0.5]").unwrap())]);
    assert_eq!(one.usage.input, Some(4));
    let batch = decode("gemini-embeddings/batch");
    assert_eq!((batch.vectors.len(), batch.usage), (2, Usage::default()));
    let predicted = decode("gemini-embeddings/predict");
    assert_eq!((predicted.vectors.len(), predicted.usage.input), (2, Some(11)));
    for body in ["{}", "[]", "{\"embedding\":{}}", "{\"embedding\":{\"values\":7}}", "<html>"] {
        let error = embeddings().decode(&farebox_dialect::Head::default(), body.as_bytes()).unwrap_err();
        assert!(matches!(error, DecodeError::Corrupt { .. }), "{body}");
    }
}

#[test]
fn what_embeddings_cannot_do() {
    for (inputs, what) in [(vec![], "at least one"), (vec![EmbedInput::Tokens(vec![1])], "token ids")] {
        let call = EmbedCall { inputs, ..EmbedCall::default() };
        let error = embeddings().encode(&call, &Target::new("gemini-embedding-001")).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
}
