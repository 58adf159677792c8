//! What a request asks of a model, in every dialect, as a careful provider reads it: members that it does not know, calls
//! without results and thoughts that are not its own are refused.

use serde_json::Value;

use crate::{Dialect, anthropic, gemini};

/// What the obedient model looks at.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) streams: bool,
    /// What was said since the model spoke last.
    pub(crate) turn: Vec<Said>,
    pub(crate) tools: Vec<Tool>,
    /// The name of a search that the provider offers to do itself.
    own_search: Option<String>,
    pub(crate) choice: Choice,
    pub(crate) parallel: bool,
    /// The JSON schema that the answer is to follow.
    pub(crate) schema: Option<Value>,
    pub(crate) thinks: bool,
    /// The stored answer that this one follows.
    pub(crate) follows: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    Text(String),
    Image(String),
    Call(String),
    Result(String, String),
    /// The model's own words.
    Model,
}

#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) schema: Value,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) enum Choice {
    #[default]
    Free,
    None,
    Any,
    Named(String),
}

const OPENAI: &str = "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens \
    messages metadata modalities model moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key \
    prompt_cache_options prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier stop \
    store stream stream_options temperature tool_choice tools top_logprobs top_p user verbosity web_search_options";
const RESPONSES: &str = "background client_metadata context_management conversation include input instructions \
    max_output_tokens max_tool_calls metadata model moderation parallel_tool_calls previous_response_id prompt \
    prompt_cache_key prompt_cache_options prompt_cache_retention reasoning safety_identifier service_tier store stream \
    stream_options temperature text tool_choice tools top_logprobs top_p truncation user";
const ANTHROPIC: &str = "billing_policy cache_control compaction container context_management diagnostics fallbacks \
    inference_geo max_tokens mcp_servers messages metadata model output_config output_format service_tier speed \
    stop_sequences stream system temperature thinking thread tool_choice tools top_k top_p user_profile_id workspace_id";
const GEMINI: &str = "cachedContent contents generationConfig safetySettings serviceTier store systemInstruction \
    toolConfig tools";

impl Asked {
    /// Or what the provider says against it.
    pub(crate) fn read(dialect: Dialect, model: &str, streams: bool, body: &[u8]) -> Result<Asked, String> {
        let body: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        known(dialect, &body)?;
        within(dialect, model, &body)?;
        let said = said(dialect, model, &body)?;
        paired(dialect, &said)?;
        let last = said.iter().rposition(|said| matches!(said, Said::Model | Said::Call(_)));
        let turn = said.into_iter().skip(last.map_or(0, |at| at + 1)).collect();
        let mut asked = Asked { streams, turn, tools: tools(dialect, &body), parallel: true, ..Asked::default() };
        asked.own_search = own_search(dialect, &body);
        asked.choose(dialect, &body);
        asked.want(dialect, &body);
        let is_forced = matches!(asked.choice, Choice::Any | Choice::Named(_));
        if dialect == Dialect::Anthropic && is_forced && asked.thinks {
            return Err("Thinking may not be enabled when tool_choice forces tool use.".to_owned());
        }
        Ok(asked)
    }

    /// What the provider searches for, where it must or has no other tool.
    pub(crate) fn search(&self) -> Option<&str> {
        let own = self.own_search.as_ref()?;
        let must = match &self.choice {
            Choice::Named(name) => name == own,
            Choice::Free | Choice::Any => self.tools.is_empty(),
            Choice::None => false,
        };
        if !must {
            return None;
        }
        self.turn.iter().rev().find_map(|said| if let Said::Text(text) = said { Some(text.as_str()) } else { None })
    }

    fn choose(&mut self, dialect: Dialect, body: &Value) {
        let named = |value: &Value| value.as_str().map(|name| Choice::Named(name.to_owned()));
        let choice = match dialect {
            Dialect::Gemini => &body["toolConfig"]["functionCallingConfig"],
            _ => &body["tool_choice"],
        };
        let mode = [&choice["type"], &choice["mode"], choice].into_iter().find_map(Value::as_str);
        self.choice = match mode {
            Some("none" | "NONE") => Choice::None,
            Some("any" | "required") => Choice::Any,
            Some("ANY") => named(&choice["allowedFunctionNames"][0]).unwrap_or(Choice::Any),
            Some("tool" | "function") => {
                named(&choice["name"]).or_else(|| named(&choice["function"]["name"])).unwrap_or_default()
            }
            _ => Choice::Free,
        };
        self.parallel = body["parallel_tool_calls"] != false && choice["disable_parallel_tool_use"] != true;
    }

    fn want(&mut self, dialect: Dialect, body: &Value) {
        let generation = &body["generationConfig"];
        let (schema, thinks) = match dialect {
            Dialect::OpenAi => {
                let effort = body["reasoning_effort"].as_str();
                (&body["response_format"]["json_schema"]["schema"], effort.is_some_and(|effort| effort != "none"))
            }
            Dialect::OpenAiResponses => (&body["text"]["format"]["schema"], body["reasoning"]["summary"].is_string()),
            Dialect::Anthropic => {
                let thinking = body["thinking"]["type"].as_str();
                let format = [&body["output_config"]["format"], &body["output_format"]];
                let schema =
                    format.into_iter().find(|format| format.is_object()).map_or(&Value::Null, |f| &f["schema"]);
                (schema, matches!(thinking, Some("enabled" | "adaptive")))
            }
            Dialect::Gemini => {
                let own = &generation["responseSchema"];
                let schema = if own.is_null() { &generation["responseJsonSchema"] } else { own };
                (schema, generation["thinkingConfig"]["includeThoughts"] == true)
            }
        };
        self.schema = Some(schema).filter(|schema| schema.is_object()).cloned();
        self.thinks = thinks;
        self.follows = body["previous_response_id"].as_str().map(str::to_owned);
    }
}

fn known(dialect: Dialect, body: &Value) -> Result<(), String> {
    let names = match dialect {
        Dialect::OpenAi => OPENAI,
        Dialect::OpenAiResponses => RESPONSES,
        Dialect::Anthropic => ANTHROPIC,
        Dialect::Gemini => GEMINI,
    };
    let mut members = body.as_object().into_iter().flat_map(|object| object.keys());
    match members.find(|member| !names.split(' ').any(|name| name == *member)) {
        None => Ok(()),
        Some(member) => Err(match dialect {
            Dialect::OpenAi => format!("Unrecognized request argument supplied: {member}"),
            Dialect::OpenAiResponses => format!("Unknown parameter: '{member}'."),
            Dialect::Anthropic => format!("{member}: Extra inputs are not permitted"),
            Dialect::Gemini => format!("Invalid JSON payload received. Unknown name \"{member}\": Cannot find field."),
        }),
    }
}

/// What some models do not do: GPT-4 does not reason and ends its answers, Flash ends its thoughts.
fn within(dialect: Dialect, model: &str, body: &Value) -> Result<(), String> {
    const LONGEST: u64 = 16_384;
    const FLASH_MAX: u64 = 24_576;
    const SUMMARIES: [&str; 3] = ["auto", "concise", "detailed"];
    let limits = ["max_completion_tokens", "max_tokens", "max_output_tokens"].map(|name| body[name].as_u64());
    let longest = limits.into_iter().flatten().max().unwrap_or_default();
    let budget = body["generationConfig"]["thinkingConfig"]["thinkingBudget"].as_u64().unwrap_or_default();
    match dialect {
        Dialect::OpenAi if model.starts_with("gpt-4") && !body["reasoning_effort"].is_null() => {
            Err("Unrecognized request argument supplied: reasoning_effort".to_owned())
        }
        Dialect::OpenAiResponses if model.starts_with("gpt-4") && !body["reasoning"]["effort"].is_null() => {
            Err("Unsupported parameter: 'reasoning.effort' is not supported with this model.".to_owned())
        }
        Dialect::OpenAiResponses if body["reasoning"]["summary"].as_str().is_some_and(|s| !SUMMARIES.contains(&s)) => {
            Err(format!(
                "Invalid value: {}. Supported values are: 'concise', 'detailed', and 'auto'.",
                body["reasoning"]["summary"]
            ))
        }
        Dialect::OpenAi | Dialect::OpenAiResponses if model.starts_with("gpt-4o") && longest > LONGEST => Err(format!(
            "max_tokens is too large: {longest}. This model supports at most {LONGEST} completion tokens, whereas you \
             provided {longest}."
        )),
        Dialect::Gemini if model.contains("flash") && budget > FLASH_MAX => {
            Err(format!("The thinking budget {budget} is invalid. Please choose a value between 0 and {FLASH_MAX}."))
        }
        _ => Ok(()),
    }
}

fn tools(dialect: Dialect, body: &Value) -> Vec<Tool> {
    let tool = |of: &Value, schema: &str| {
        let name = of["name"].as_str()?.to_owned();
        Some(Tool { name, schema: of[schema].clone() })
    };
    let listed = list(&body["tools"]);
    match dialect {
        Dialect::OpenAi => listed.filter_map(|t| tool(&t["function"], "parameters")).collect(),
        Dialect::OpenAiResponses => listed.filter_map(|t| tool(t, "parameters")).collect(),
        Dialect::Anthropic => listed.filter(|t| !is_search(t)).filter_map(|t| tool(t, "input_schema")).collect(),
        Dialect::Gemini => listed
            .flat_map(|t| list(&t["functionDeclarations"]))
            .filter_map(|t| tool(t, if t["parameters"].is_null() { "parametersJsonSchema" } else { "parameters" }))
            .collect(),
    }
}

/// <https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/web-search-tool>
fn is_search(tool: &Value) -> bool {
    tool["type"].as_str().is_some_and(|kind| kind.starts_with("web_search_"))
}

fn own_search(dialect: Dialect, body: &Value) -> Option<String> {
    let search = list(&body["tools"]).find(|tool| dialect == Dialect::Anthropic && is_search(tool))?;
    search["name"].as_str().map(str::to_owned)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" "),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn id(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn said(dialect: Dialect, model: &str, body: &Value) -> Result<Vec<Said>, String> {
    let mut said = Vec::new();
    if body["messages"].is_string() || body["contents"].is_string() {
        return Err("messages: Input should be a valid list".to_owned());
    }
    match dialect {
        Dialect::OpenAi => list(&body["messages"]).for_each(|m| chat_message(m, &mut said)),
        Dialect::OpenAiResponses => match &body["input"] {
            Value::String(text) => said.push(Said::Text(text.clone())),
            items => list(items).for_each(|item| input_item(item, &mut said)),
        },
        Dialect::Anthropic => {
            for message in list(&body["messages"]) {
                message_blocks(message, &mut said)?;
            }
        }
        Dialect::Gemini => {
            for content in list(&body["contents"]) {
                content_parts(model, content, &mut said)?;
            }
        }
    }
    Ok(said)
}

/// Texts and images of OpenAI's chat and responses.
fn openai_parts(content: &Value, said: &mut Vec<Said>) {
    if let Some(text) = content.as_str() {
        said.push(Said::Text(text.to_owned()));
    }
    for part in list(content) {
        match part["type"].as_str() {
            Some("text" | "input_text") => said.push(Said::Text(text_of(&part["text"]))),
            Some("image_url") => said.push(Said::Image(image(&part["image_url"]["url"]))),
            Some("input_image") => said.push(Said::Image(image(&part["image_url"]))),
            _ => {}
        }
    }
}

fn chat_message(message: &Value, said: &mut Vec<Said>) {
    match message["role"].as_str() {
        Some("user") => openai_parts(&message["content"], said),
        Some("tool") => said.push(Said::Result(id(&message["tool_call_id"]), text_of(&message["content"]))),
        Some("assistant") => {
            said.push(Said::Model);
            said.extend(list(&message["tool_calls"]).map(|call| Said::Call(id(&call["id"]))));
        }
        _ => {}
    }
}

fn input_item(item: &Value, said: &mut Vec<Said>) {
    match (item["type"].as_str(), item["role"].as_str()) {
        (Some("function_call"), _) => said.push(Said::Call(id(&item["call_id"]))),
        (Some("function_call_output"), _) => {
            said.push(Said::Result(id(&item["call_id"]), text_of(&item["output"])));
            openai_parts(item["output"].as_array().map_or(&Value::Null, |_| &item["output"]), said);
        }
        (_, Some("user")) => openai_parts(&item["content"], said),
        (_, Some("assistant")) => said.push(Said::Model),
        _ => {}
    }
}

fn message_blocks(message: &Value, said: &mut Vec<Said>) -> Result<(), String> {
    let (role, content) = (message["role"].as_str(), &message["content"]);
    if role == Some("assistant") {
        said.push(Said::Model);
    }
    if let (Some("user"), Some(text)) = (role, content.as_str()) {
        said.push(Said::Text(text.to_owned()));
    }
    for block in list(content) {
        match (block["type"].as_str(), role) {
            (Some("text"), Some("user")) => said.push(Said::Text(text_of(&block["text"]))),
            (Some("image"), _) => said.push(Said::Image(anthropic_image(block))),
            (Some("tool_use"), _) => said.push(Said::Call(id(&block["id"]))),
            (Some("tool_result"), _) => {
                said.push(Said::Result(id(&block["tool_use_id"]), text_of(&block["content"])));
                let images = list(&block["content"]).filter(|part| part["type"] == "image");
                said.extend(images.map(|part| Said::Image(anthropic_image(part))));
            }
            (Some("thinking"), _) if block["signature"] != anthropic::SIGNATURE => {
                return Err("Invalid `signature` in `thinking` block".to_owned());
            }
            _ => {}
        }
    }
    Ok(())
}

fn content_parts(model: &str, content: &Value, said: &mut Vec<Said>) -> Result<(), String> {
    let is_model = content["role"] == "model";
    if is_model {
        said.push(Said::Model);
    }
    let mut is_first = true;
    for part in list(&content["parts"]) {
        let call = &part["functionCall"];
        let result = &part["functionResponse"];
        let name = |of: &Value| if of["id"].is_string() { id(&of["id"]) } else { id(&of["name"]) };
        if call.is_object() {
            if is_first && model.starts_with("gemini-3") && part["thoughtSignature"] != gemini::SIGNATURE {
                return Err(format!("Function call `{}` is missing a thought_signature.", id(&call["name"])));
            }
            is_first = false;
            said.push(Said::Call(name(call)));
        } else if result.is_object() {
            said.push(Said::Result(name(result), response_text(&result["response"])));
        } else if part["inlineData"].is_object() {
            let data = &part["inlineData"];
            said.push(Said::Image(described(&id(&data["mimeType"]), &id(&data["data"]))));
        } else if let (Some(text), false) = (part["text"].as_str(), is_model) {
            said.push(Said::Text(text.to_owned()));
        }
    }
    Ok(())
}

/// Gemini's tools answer with an object; a text is its only member.
fn response_text(response: &Value) -> String {
    let mut members = response.as_object().into_iter().flat_map(|object| object.values());
    match (members.next(), members.next()) {
        (Some(Value::String(text)), None) => text.clone(),
        _ => response.to_string(),
    }
}

fn anthropic_image(block: &Value) -> String {
    let source = &block["source"];
    match source["url"].as_str() {
        Some(url) => url.to_owned(),
        None => described(&id(&source["media_type"]), &id(&source["data"])),
    }
}

fn image(url: &Value) -> String {
    let url = url.as_str().unwrap_or_default();
    let inline = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    inline.map_or_else(|| url.to_owned(), |(kind, data)| described(kind, data))
}

fn described(kind: &str, base64: &str) -> String {
    let data = base64.trim_end_matches('=');
    format!("{kind} of {} bytes", data.len() * 3 / 4)
}

/// Every call has its result before anything else is said, and every result its call.
fn paired(dialect: Dialect, said: &[Said]) -> Result<(), String> {
    let mut open: Vec<&str> = Vec::new();
    let orphan = |id: &str| match dialect {
        Dialect::Anthropic => {
            format!("`tool_use` ids were found without `tool_result` blocks immediately after: {id}")
        }
        Dialect::OpenAi => format!(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each \
             'tool_call_id'. The following tool_call_ids did not have response messages: {id}"
        ),
        Dialect::OpenAiResponses => format!("No tool output found for function call {id}."),
        Dialect::Gemini => {
            "Please ensure that the number of function response parts is equal to the number of function \
                            call parts of the function call turn."
                .to_owned()
        }
    };
    for said in said {
        match said {
            Said::Call(id) => open.push(id),
            Said::Result(id, _) => match open.iter().position(|call| call == id) {
                Some(at) => drop(open.remove(at)),
                None => return Err(format!("No tool call found for the result of {id}.")),
            },
            // In responses, items of one turn may stand in any order.
            Said::Model | Said::Text(_) if dialect != Dialect::OpenAiResponses => {
                if let Some(id) = open.first() {
                    return Err(orphan(id));
                }
            }
            _ => {}
        }
    }
    open.first().map_or(Ok(()), |id| Err(orphan(id)))
}
