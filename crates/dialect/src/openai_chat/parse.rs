//! A caller's request.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{citations, stream, types as answer};
use crate::{
    canonical::{
        CacheMark, Call, Content, Effort, Extra, Media, Message, NativeTool, Part, ReasoningRequest, ResponseFormat,
        Role, Sampling, Source, Tool, ToolCall, ToolChoice, ToolResult,
    },
    dialect::DialectName,
    error::BadRequest,
    json::{Object, Path, RawJson, read},
    outline::{object_of, text_of},
};

type Result<T> = std::result::Result<T, BadRequest>;

pub(super) fn parse(body: &[u8]) -> Result<Call> {
    let mut top = object_of(text_of(body)?)?;
    let root = Path::Root;
    // farebox's own options; they are read where the call is routed.
    top.take("farebox");
    let mut call = Call {
        model: top.optional("model", root, "a string")?.unwrap_or_default(),
        messages: messages(&mut top)?,
        parallel_tool_calls: top.optional("parallel_tool_calls", root, "true or false")?,
        max_output_tokens: output_limit(&mut top)?,
        sampling: sampling(&mut top)?,
        stop: stop(&mut top)?,
        n: top.optional("n", root, "a whole number")?,
        logprobs: top.optional("logprobs", root, "true or false")?,
        top_logprobs: top.optional("top_logprobs", root, "a whole number")?,
        reasoning: reasoning(&mut top)?,
        stream: top.optional("stream", root, "true or false")?.unwrap_or(false),
        user: top.optional("user", root, "a string")?,
        metadata: top.take("metadata").map(RawJson::from),
        service_tier: top.optional("service_tier", root, "a string")?,
        dialect: Some(DialectName::OpenAiChat),
        ..Call::default()
    };
    tools(&mut top, &mut call)?;
    let (choice, rest) = tool_choice(&mut top)?;
    call.tool_choice = choice;
    functions(&mut top, &mut call)?;
    call.response_format = response_format(&mut top)?;
    if let Some(raw) = top.take("stream_options") {
        let at = root.member("stream_options");
        call.include_usage = Object::read(raw, at)?.optional("include_usage", at, "true or false")?.unwrap_or(false);
    }
    call.extra = top.into_extra();
    call.extra.extend(rest);
    Ok(call)
}

fn output_limit(top: &mut Object<'_>) -> Result<Option<u64>> {
    let limit = top.optional("max_completion_tokens", Path::Root, "a whole number of tokens")?;
    let old = top.optional("max_tokens", Path::Root, "a whole number of tokens")?;
    Ok(limit.or(old))
}

fn sampling(top: &mut Object<'_>) -> Result<Sampling> {
    let root = Path::Root;
    Ok(Sampling {
        temperature: top.optional("temperature", root, "a number")?,
        top_p: top.optional("top_p", root, "a number")?,
        top_k: top.optional("top_k", root, "a whole number")?,
        seed: top.optional("seed", root, "a whole number")?,
        frequency_penalty: top.optional("frequency_penalty", root, "a number")?,
        presence_penalty: top.optional("presence_penalty", root, "a number")?,
    })
}

/// OpenAI's `reasoning_effort`, or OpenRouter's `reasoning` object, which says more.
fn reasoning(top: &mut Object<'_>) -> Result<Option<ReasoningRequest>> {
    let root = Path::Root;
    let expected = "a string such as `low`, `medium` or `high`";
    let effort: Option<String> = top.optional("reasoning_effort", root, expected)?;
    let mut asked = ReasoningRequest { effort: effort.as_deref().map(Effort::from), ..ReasoningRequest::default() };
    if let Some(raw) = top.take("reasoning") {
        let at = root.member("reasoning");
        let mut object = Object::read(raw, at)?;
        let effort: Option<String> = object.optional("effort", at, expected)?;
        asked.effort = effort.as_deref().map(Effort::from).or(asked.effort);
        asked.budget_tokens = object.optional("max_tokens", at, "a whole number of tokens")?;
        if object.optional("exclude", at, "true or false")? == Some(true) {
            asked.summary = Some("none".to_owned());
        }
        match object.optional("enabled", at, "true or false")? {
            Some(false) => asked.effort = Some(Effort::None),
            Some(true) => asked.adaptive = asked.budget_tokens.is_none(),
            None => {}
        }
    }
    Ok(Some(asked).filter(|asked| *asked != ReasoningRequest::default()))
}

fn stop(top: &mut Object<'_>) -> Result<Vec<String>> {
    let Some(raw) = top.take("stop") else {
        return Ok(Vec::new());
    };
    let root = Path::Root;
    if raw.get().starts_with('"') {
        return Ok(vec![read(raw, root.member("stop"), "a string or an array of strings")?]);
    }
    read(raw, root.member("stop"), "a string or an array of strings")
}

fn tools(top: &mut Object<'_>, call: &mut Call) -> Result<()> {
    let root = Path::Root;
    let list: Vec<&RawValue> = top.optional("tools", root, "an array of tools")?.unwrap_or_default();
    let tools = root.member("tools");
    for (index, raw) in list.into_iter().enumerate() {
        let at = tools.item(index);
        let mut tool = Object::read(raw, at)?;
        let kind = tool.optional("type", at, "a string")?.unwrap_or_else(|| "function".to_owned());
        if kind != "function" {
            let (dialect, raw) = (DialectName::OpenAiChat, RawJson::from(raw));
            call.native_tools.push(NativeTool { dialect, kind, raw, grouped: false });
            continue;
        }
        let at = at.member("function");
        let function = Object::read(
            tool.take("function").ok_or_else(|| BadRequest::field(at, "is missing: it must describe the function"))?,
            at,
        )?;
        let cache = cache_mark(&mut tool);
        call.tools.push(Tool { cache, extra: tool.into_extra(), ..function_tool(function, at)? });
    }
    Ok(())
}

fn function_tool(mut function: Object<'_>, at: Path<'_>) -> Result<Tool> {
    Ok(Tool {
        name: function.required("name", at, "the function's name")?,
        description: function.optional("description", at, "a string")?,
        parameters: function.take("parameters").map(RawJson::from),
        strict: function.optional("strict", at, "true or false")?,
        ..Tool::default()
    })
}

/// What `tools` and `tool_choice` were before there were other tools than functions:
/// <https://platform.openai.com/docs/api-reference/chat/create#chat-create-functions>.
fn functions(top: &mut Object<'_>, call: &mut Call) -> Result<()> {
    #[derive(Deserialize)]
    struct Name {
        name: String,
    }
    let root = Path::Root;
    let list: Vec<&RawValue> = top.optional("functions", root, "an array of functions")?.unwrap_or_default();
    let functions = root.member("functions");
    for (index, raw) in list.into_iter().enumerate() {
        let at = functions.item(index);
        call.tools.push(function_tool(Object::read(raw, at)?, at)?);
    }
    if let Some(raw) = top.take("function_call") {
        let choice = match raw.get() {
            "\"auto\"" => ToolChoice::Auto,
            "\"none\"" => ToolChoice::None,
            _ => {
                let expected = "`auto`, `none` or an object that names a function";
                ToolChoice::Named(read::<Name>(raw, root.member("function_call"), expected)?.name)
            }
        };
        call.tool_choice.get_or_insert(choice);
    }
    Ok(())
}

/// Anthropic's marks in this dialect, as OpenRouter and DashScope take them:
/// <https://openrouter.ai/docs/guides/best-practices/prompt-caching>.
fn cache_mark(object: &mut Object<'_>) -> Option<CacheMark> {
    #[derive(Deserialize)]
    struct Mark {
        ttl: Option<String>,
    }
    let mark: Mark = serde_json::from_str(object.take("cache_control")?.get()).ok()?;
    Some(if mark.ttl.as_deref() == Some("1h") { CacheMark::Long } else { CacheMark::Short })
}

/// A choice of a form that is not known here stays among the extra members, for a provider of the same dialect.
fn tool_choice(top: &mut Object<'_>) -> Result<(Option<ToolChoice>, Extra)> {
    #[derive(Deserialize)]
    struct Named {
        function: Name,
    }
    #[derive(Deserialize)]
    struct Name {
        name: String,
    }
    let Some(raw) = top.take("tool_choice") else {
        return Ok((None, Extra::new()));
    };
    let choice = match raw.get() {
        "\"auto\"" => Some(ToolChoice::Auto),
        "\"none\"" => Some(ToolChoice::None),
        // `any` is Mistral's word: <https://docs.mistral.ai/capabilities/function_calling>.
        "\"required\"" | "\"any\"" => Some(ToolChoice::Required),
        other => serde_json::from_str::<Named>(other).ok().map(|named| ToolChoice::Named(named.function.name)),
    };
    let mut rest = Extra::new();
    if choice.is_none() {
        if !raw.get().starts_with('{') {
            let problem = "must be `auto`, `none`, `required` or an object that names a function";
            return Err(BadRequest::field("tool_choice", problem));
        }
        rest.insert("tool_choice".to_owned(), RawJson::from(raw));
    }
    Ok((choice, rest))
}

fn response_format(top: &mut Object<'_>) -> Result<Option<ResponseFormat>> {
    let root = Path::Root;
    let Some(raw) = top.take("response_format") else {
        return Ok(None);
    };
    let at = root.member("response_format");
    let mut format = Object::read(raw, at)?;
    let kind: String = format.required("type", at, "`text`, `json_object` or `json_schema`")?;
    match kind.as_str() {
        "text" => Ok(Some(ResponseFormat::Text)),
        "json_object" => Ok(Some(ResponseFormat::JsonObject)),
        "json_schema" => {
            let at = at.member("json_schema");
            let raw = format
                .take("json_schema")
                .ok_or_else(|| BadRequest::field(at, "is missing: it must hold `name` and `schema`"))?;
            let mut schema = Object::read(raw, at)?;
            Ok(Some(ResponseFormat::JsonSchema {
                name: schema.required("name", at, "a string")?,
                description: schema.optional("description", at, "a string")?,
                schema: schema.take("schema").map(RawJson::from),
                strict: schema.optional("strict", at, "true or false")?,
            }))
        }
        _ => Err(BadRequest::field(at.member("type"), "must be `text`, `json_object` or `json_schema`")),
    }
}

fn messages(top: &mut Object<'_>) -> Result<Vec<Message>> {
    let root = Path::Root;
    let list: Vec<&RawValue> = top.required("messages", root, "an array with at least one message")?;
    if list.is_empty() {
        return Err(BadRequest::field("messages", "is empty: it must hold at least one message"));
    }
    let messages = root.member("messages");
    let mut function_calls = FunctionCalls::default();
    list.into_iter().enumerate().map(|(index, raw)| message(raw, messages.item(index), &mut function_calls)).collect()
}

/// Legacy function calls have no ids: each result answers the call before it. They are given some.
#[derive(Default)]
struct FunctionCalls {
    seen: usize,
}

impl FunctionCalls {
    fn id(&self) -> String {
        format!("call_{}", self.seen)
    }
}

fn message(raw: &RawValue, at: Path<'_>, function_calls: &mut FunctionCalls) -> Result<Message> {
    let mut object = Object::read(raw, at)?;
    let word: String = object.required("role", at, "`system`, `developer`, `user`, `assistant` or `tool`")?;
    let role = match word.as_str() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        _ => {
            let problem = "must be `system`, `developer`, `user`, `assistant` or `tool`";
            return Err(BadRequest::field(at.member("role"), problem));
        }
    };
    let mut parts = thoughts(&mut object, at)?;
    if let Some(raw) = object.take("content") {
        content(raw, at.member("content"), &mut parts)?;
    }
    if let Some(text) = object.optional::<String>("refusal", at, "a string")? {
        parts.push(Part::from(Content::Refusal(text)));
    }
    if role == Role::Assistant {
        said(&mut object, &mut parts);
    }
    tool_calls(&mut object, at, &mut parts)?;
    if let Some(raw) = object.take("function_call") {
        function_calls.seen += 1;
        let at = at.member("function_call");
        parts.push(Part::from(function_call(function_calls.id(), Object::read(raw, at)?, at)?));
    }
    if let Some(signature) = signature(&mut object) {
        let tool = parts.iter().position(|part| matches!(part.content, Content::ToolCall(_)));
        let text = parts.iter().rposition(|part| matches!(part.content, Content::Text(_)));
        if let Some(at) = tool.or(text) {
            parts[at].signature.get_or_insert(signature);
        }
    }
    let mut name = object.optional("name", at, "a string")?;
    if role == Role::Tool {
        let call_id = if word == "function" {
            name = None;
            function_calls.id()
        } else {
            object.required("tool_call_id", at, "the id of the tool call that this answers")?
        };
        parts = vec![Part::from(Content::ToolResult(ToolResult { call_id, is_error: false, parts }))];
    }
    Ok(Message { role, name, parts, extra: object.into_extra() })
}

/// The reasoning of an earlier answer, with its proofs where the client kept them.
fn thoughts(object: &mut Object<'_>, at: Path<'_>) -> Result<Vec<Part>> {
    let text: Option<String> = object.optional("reasoning_content", at, "a string")?;
    let other = object.take("reasoning").and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let answer = answer::Message {
        reasoning_content: text.map(answer::Text),
        reasoning: other.map(answer::Text),
        reasoning_details: object.take("reasoning_details").and_then(|raw| serde_json::from_str(raw.get()).ok()),
        ..answer::Message::default()
    };
    stream::parts("", answer).map_err(|problem| BadRequest::field(at, problem))
}

/// What else an earlier answer held: images, and where its text came from.
fn said(object: &mut Object<'_>, parts: &mut Vec<Part>) {
    let images = object.take("images").and_then(|raw| serde_json::from_str::<Vec<answer::Image>>(raw.get()).ok());
    for image in images.unwrap_or_default() {
        parts.push(Part::from(Content::Image(Media::from(Source::of_url(image.image_url.url)))));
    }
    let annotations = object.take("annotations").and_then(|raw| serde_json::from_str::<Vec<RawJson>>(raw.get()).ok());
    if let Some(text) = parts.iter_mut().find(|part| matches!(part.content, Content::Text(_))) {
        text.citations.extend(annotations.unwrap_or_default().iter().map(citations::read));
    }
}

fn signature(object: &mut Object<'_>) -> Option<String> {
    serde_json::from_str::<answer::ExtraContent>(object.take("extra_content")?.get()).ok()?.signature()
}

fn function_call(id: String, mut function: Object<'_>, at: Path<'_>) -> Result<Content> {
    let name = function.required("name", at, "the function's name")?;
    let arguments = function.optional("arguments", at, "JSON as a string")?.unwrap_or_default();
    Ok(Content::ToolCall(ToolCall { id, name, arguments }))
}

fn tool_calls(object: &mut Object<'_>, at: Path<'_>, parts: &mut Vec<Part>) -> Result<()> {
    let list: Vec<&RawValue> = object.optional("tool_calls", at, "an array of tool calls")?.unwrap_or_default();
    let calls = at.member("tool_calls");
    for (index, raw) in list.into_iter().enumerate() {
        let at = calls.item(index);
        let mut call = Object::read(raw, at)?;
        let kind: String = call.optional("type", at, "a string")?.unwrap_or_else(|| "function".to_owned());
        let Some(raw_function) = call.take("function").filter(|_| kind == "function") else {
            let raw = RawJson::from(raw);
            parts.push(Part::from(Content::Other {
                dialect: DialectName::OpenAiChat,
                kind: format!("tool_call:{kind}"),
                raw,
            }));
            continue;
        };
        let id = call.required("id", at, "the tool call's id")?;
        let at = at.member("function");
        let content = function_call(id, Object::read(raw_function, at)?, at)?;
        let signature = signature(&mut call);
        parts.push(Part { signature, ..Part::with_extra(content, call_extra(call)) });
    }
    Ok(())
}

fn call_extra(mut call: Object<'_>) -> Extra {
    call.take("type");
    call.into_extra()
}

fn content(raw: &RawValue, at: Path<'_>, parts: &mut Vec<Part>) -> Result<()> {
    const EXPECTED: &str = "a string or an array of content parts";
    if raw.get().starts_with('"') {
        parts.push(Part::text(read::<String>(raw, at, EXPECTED)?));
        return Ok(());
    }
    let list: Vec<&RawValue> = read(raw, at, EXPECTED)?;
    for (index, raw) in list.into_iter().enumerate() {
        parts.push(part(raw, at.item(index))?);
    }
    Ok(())
}

fn part(raw: &RawValue, at: Path<'_>) -> Result<Part> {
    let mut object = Object::read(raw, at)?;
    let kind: String = object.required("type", at, "the kind of the part, such as `text`")?;
    let content = match kind.as_str() {
        "text" => Content::Text(object.required("text", at, "a string")?),
        "refusal" => Content::Refusal(object.required("refusal", at, "a string")?),
        "image_url" => {
            let at = at.member("image_url");
            let mut image = inner(&mut object, "image_url", at)?;
            let url: String = image.required("url", at, "a URL")?;
            Content::Image(Media {
                source: Source::of_url(url),
                name: None,
                detail: image.optional("detail", at, "a string")?,
            })
        }
        "input_audio" => {
            let at = at.member("input_audio");
            let mut audio = inner(&mut object, "input_audio", at)?;
            let format: String = audio.required("format", at, "a format such as `wav` or `mp3`")?;
            let data = audio.required("data", at, "base64")?;
            Content::Audio(Media::from(Source::Base64 { media_type: format!("audio/{format}"), data }))
        }
        "file" => {
            let at = at.member("file");
            let mut file = inner(&mut object, "file", at)?;
            let name = file.optional("filename", at, "a string")?;
            let source = match file.optional::<String>("file_id", at, "a string")? {
                Some(id) => Source::Uploaded(id),
                None => Source::of_url(file.required("file_data", at, "a data URL, unless there is a `file_id`")?),
            };
            Content::File(Media { source, name, detail: None })
        }
        _ => {
            return Ok(Part::from(Content::Other { dialect: DialectName::OpenAiChat, kind, raw: RawJson::from(raw) }));
        }
    };
    let cache = cache_mark(&mut object);
    Ok(Part { cache, ..Part::with_extra(content, object.into_extra()) })
}

fn inner<'a>(object: &mut Object<'a>, name: &str, at: Path<'_>) -> Result<Object<'a>> {
    let raw = object.take(name).ok_or_else(|| BadRequest::field(at, "is missing"))?;
    Object::read(raw, at)
}
