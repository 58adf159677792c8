//! What callers ask for, one case for each thing that dialects write differently.

use farebox_dialect::{
    CacheMark, Call, Content, DialectName, Effort, EmbedCall, EmbedInput, EmbedPurpose, Media, Message, NativeTool,
    Part, RawJson, Reasoning, ReasoningRequest, RerankCall, RerankDocument, Role, Source, VectorEncoding,
};
use serde_json::{Value, json};

use crate::encode::parse;

/// Names a golden file.
pub(crate) type Case<T> = (&'static str, T);

fn asked(more: Value) -> Call {
    let mut body = json!({"model": "alias", "messages": [{"role": "user", "content": "When does the ferry go?"}]});
    let Value::Object(more) = more else { panic!("{more} is no object") };
    body.as_object_mut().unwrap().extend(more);
    parse(&body)
}

fn messages(list: Value) -> Call {
    asked(json!({"messages": list}))
}

fn tools(more: Value) -> Call {
    let schema = json!({"type": "object", "properties": {"harbour": {"type": "string"}}, "required": ["harbour"]});
    let mut body = json!({"tools": [
        {"type": "function", "function": {"name": "ferry_times", "description": "Ferries of today.", "parameters": schema, "strict": true}},
        {"type": "function", "function": {"name": "now"}}
    ]});
    let Value::Object(more) = more else { panic!("{more} is no object") };
    body.as_object_mut().unwrap().extend(more);
    asked(body)
}

fn tool_call(id: &str, name: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"time": {"type": "string"}}, "required": ["time"], "additionalProperties": false})
}

fn reasoning(asked_for: ReasoningRequest) -> Call {
    Call { reasoning: Some(asked_for), max_output_tokens: Some(20_000), ..asked(json!({})) }
}

fn media(content: Vec<Content>) -> Call {
    let parts = std::iter::once(Part::text("What is this?")).chain(content.into_iter().map(Part::from));
    Call { messages: vec![Message::new(Role::User, parts.collect())], ..Call::default() }
}

fn base64(media_type: &str, data: &str) -> Source {
    Source::Base64 { media_type: media_type.into(), data: data.into() }
}

fn named(source: Source, name: &str) -> Media {
    Media { name: Some(name.into()), ..source.into() }
}

/// A turn of thought before an answer in words, for each piece of reasoning.
fn thoughts(given: impl IntoIterator<Item = Reasoning>) -> Call {
    let mut call = Call::default();
    for (turn, reasoning) in given.into_iter().enumerate() {
        let words = vec![Part::from(Content::Reasoning(reasoning)), Part::text(format!("Answer {turn}."))];
        call.messages.push(Message::text(Role::User, format!("Question {turn}?")));
        call.messages.push(Message::new(Role::Assistant, words));
    }
    call.messages.push(Message::text(Role::User, "And now?"));
    call
}

fn proven(origin: Option<DialectName>) -> Reasoning {
    let whose = origin.map_or("nobody", DialectName::as_str);
    Reasoning {
        text: format!("Thoughts of {whose}."),
        signature: Some(format!("c2ln-{whose}")),
        origin,
        ..Reasoning::default()
    }
}

fn locked(origin: DialectName) -> Reasoning {
    Reasoning {
        encrypted: Some(format!("ZW5j-{origin}")),
        id: (origin == DialectName::OpenAiResponses).then(|| "rs_1".to_owned()),
        origin: Some(origin),
        ..Reasoning::default()
    }
}

fn signed_call() -> Call {
    let mut call = tools(json!({"messages": [
        {"role": "user", "content": "When?"},
        {"role": "assistant", "content": null, "tool_calls": [tool_call("c1", "ferry_times", "{\"harbour\":\"Oban\"}")]},
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
        {"role": "user", "content": "And what is the time?"},
        {"role": "assistant", "content": null, "tool_calls": [tool_call("c2", "now", "{}")]},
        {"role": "tool", "tool_call_id": "c2", "content": "ten"}
    ]}));
    call.messages[1].parts[0].signature = Some("c2ln".into());
    call
}

fn marked() -> Call {
    let mut call = tools(json!({"messages": [
        {"role": "system", "content": "A long instruction."},
        {"role": "user", "content": "A long document."},
        {"role": "assistant", "content": "Read."},
        {"role": "user", "content": "And now?"}
    ]}));
    call.messages[0].parts[0].cache = Some(CacheMark::Long);
    call.messages[1].parts[0].cache = Some(CacheMark::Short);
    call.tools[1].cache = Some(CacheMark::Long);
    call
}

fn native_tools() -> Call {
    let native = |dialect, kind: &str, raw: Value| NativeTool {
        dialect,
        kind: kind.into(),
        raw: RawJson::new(raw.to_string()).unwrap(),
        grouped: false,
    };
    Call {
        native_tools: vec![
            native(
                DialectName::AnthropicMessages,
                "web_search_20250305",
                json!({"type": "web_search_20250305", "name": "web_search"}),
            ),
            native(DialectName::OpenAiResponses, "web_search", json!({"type": "web_search"})),
            native(DialectName::Gemini, "googleSearch", json!({"googleSearch": {}})),
            native(DialectName::OpenAiChat, "custom", json!({"type": "custom", "custom": {"name": "grep"}})),
        ],
        ..asked(json!({}))
    }
}

/// Conversations.
pub(crate) fn generating() -> Vec<Case<Call>> {
    let effort = |effort| ReasoningRequest { effort: Some(effort), ..ReasoningRequest::default() };
    let budget = |budget| ReasoningRequest { budget_tokens: Some(budget), ..ReasoningRequest::default() };
    let format = |format: Value| asked(json!({"response_format": format}));
    let wanted = json!({"type": "json_schema", "json_schema": {"name": "ferry", "schema": schema(), "strict": true}});
    let parallel = json!({"messages": [
        {"role": "user", "content": "When?"},
        {"role": "assistant", "content": "I look.", "tool_calls": [
            tool_call("c1", "ferry_times", "{\"harbour\":\"Oban\"}"), tool_call("c2", "now", "")]},
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "ten"}]}
    ]});
    let picture = json!([{"type": "text", "text": "The map."}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}}]);
    let origins = [
        DialectName::AnthropicMessages,
        DialectName::BedrockConverse,
        DialectName::Gemini,
        DialectName::OpenAiResponses,
        DialectName::OpenAiChat,
    ];
    vec![
        (
            "system",
            messages(
                json!([{"role": "system", "content": "Be brief."}, {"role": "developer", "content": "No lists."}, {"role": "user", "content": "hi"}]),
            ),
        ),
        (
            "system-in-the-middle",
            messages(
                json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello."}, {"role": "system", "content": "Answer in French."}, {"role": "user", "content": "So?"}]),
            ),
        ),
        (
            "turns",
            messages(
                json!([{"role": "user", "name": "ann", "content": "hi"}, {"role": "user", "content": "Are you there?"}, {"role": "assistant", "content": "Yes."}, {"role": "assistant", "content": "Still."}, {"role": "user", "content": "Good."}, {"role": "assistant", "content": "The"}]),
            ),
        ),
        ("tools", tools(json!({}))),
        ("tool-results", tools(parallel)),
        (
            "tool-result-with-image",
            tools(json!({"messages": [
                {"role": "user", "content": "When?"},
                {"role": "assistant", "content": null, "tool_calls": [tool_call("c1", "ferry_times", "{\"harbour\":\"Oban\"}")]},
                {"role": "tool", "tool_call_id": "c1", "content": picture}
            ]})),
        ),
        ("tool-choice-none", tools(json!({"tool_choice": "none"}))),
        ("tool-choice-required", tools(json!({"tool_choice": "required"}))),
        (
            "tool-choice-named-one-at-a-time",
            tools(
                json!({"tool_choice": {"type": "function", "function": {"name": "now"}}, "parallel_tool_calls": false}),
            ),
        ),
        ("json-mode", format(json!({"type": "json_object"}))),
        ("json-schema", format(wanted.clone())),
        ("json-schema-beside-tools", tools(json!({"response_format": wanted}))),
        (
            "images",
            media(vec![
                Content::Image(Media { detail: Some("low".into()), ..base64("image/png", "iVBORw0=").into() }),
                Content::Image(Source::Url("https://img.invalid/b.jpg".into()).into()),
            ]),
        ),
        (
            "documents",
            media(vec![
                Content::File(named(base64("application/pdf", "JVBERi0="), "tides.pdf")),
                Content::File(named(Source::Text("Low at six.".into()), "notes.txt")),
            ]),
        ),
        ("audio", media(vec![Content::Audio(base64("audio/wav", "UklGRg==").into())])),
        ("reasoning-effort", reasoning(effort(Effort::High))),
        ("reasoning-effort-none", reasoning(effort(Effort::None))),
        ("reasoning-budget", reasoning(budget(5000))),
        ("reasoning-signed", thoughts(origins.into_iter().map(Some).chain([None]).map(proven))),
        ("reasoning-encrypted", thoughts(origins.map(locked))),
        ("tool-call-signed", signed_call()),
        (
            "sampling",
            asked(
                json!({"temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ["END", "\n\n"], "frequency_penalty": 0.5, "presence_penalty": -1.0, "max_tokens": 100}),
            ),
        ),
        ("log-probabilities", asked(json!({"logprobs": true, "top_logprobs": 3}))),
        ("two-answers", asked(json!({"n": 2}))),
        ("cache-marks", marked()),
        ("native-tools", native_tools()),
        (
            "unknown-members",
            asked(
                json!({"logit_bias": {"1": 2}, "messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "tone": "dry"}], "mood": 1.10}], "metadata": {"k": "v"}, "user": "u-1", "service_tier": "flex"}),
            ),
        ),
        ("streamed", asked(json!({"stream": true}))),
    ]
}

pub(crate) fn embedding() -> Vec<Case<EmbedCall>> {
    let texts = || EmbedCall {
        model: "alias".into(),
        inputs: vec![EmbedInput::Text("ferry".into()), EmbedInput::Text("pier".into())],
        ..EmbedCall::default()
    };
    let one = || EmbedCall { inputs: vec![EmbedInput::Text("ferry".into())], ..texts() };
    let picture = Part::from(Content::Image(base64("image/png", "iVBORw0=").into()));
    vec![
        ("embed-texts", texts()),
        ("embed-one-text", one()),
        ("embed-tokens", EmbedCall { inputs: vec![EmbedInput::Tokens(vec![1, 2, 3])], ..one() }),
        ("embed-image", EmbedCall { inputs: vec![EmbedInput::Parts(vec![picture])], ..one() }),
        (
            "embed-short-base64-for-a-purpose",
            EmbedCall {
                dimensions: Some(256),
                encoding: Some(VectorEncoding::Base64),
                purpose: Some(EmbedPurpose::SearchQuery),
                truncate: Some("END".into()),
                user: Some("u-1".into()),
                ..one()
            },
        ),
    ]
}

pub(crate) fn reranking() -> Vec<Case<RerankCall>> {
    let fields = RawJson::new("{\"title\":\"Pier\",\"depth\":1.10}").unwrap();
    vec![(
        "rerank",
        RerankCall {
            model: "alias".into(),
            query: "ferry".into(),
            documents: vec![RerankDocument::Text("A ferry.".into()), RerankDocument::Fields(fields)],
            top_n: Some(1),
            return_documents: Some(true),
            max_tokens_per_document: Some(512),
            ..RerankCall::default()
        },
    )]
}
