//! What routing reads.

use farebox_dialect::{DialectName, Outline, outline};
use farebox_types::ErrorKind;

fn read(body: &str) -> Outline {
    outline(DialectName::OpenAiChat, body.as_bytes()).unwrap()
}

fn fault(body: &str) -> String {
    let fault = outline(DialectName::OpenAiChat, body.as_bytes()).unwrap_err();
    assert_eq!(fault.kind, ErrorKind::BadRequest, "{body}");
    fault.message
}

#[test]
fn reads_what_routing_needs() {
    let body = " {\"model\":\"old\",\"messages\":[{\"role\":\"system\",\"content\":\"a\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"see https://x.invalid/a.png\"}]}],\
                \"max_tokens\":500,\"max_completion_tokens\":300,\"n\":2,\"stream\":true,\"stream_options\":{\"include_usage\":true},\
                \"tools\":[{\"function\":{}}],\"service_tier\":\"flex\",\"seed\":99999999999999999999999,\"safety_identifier\":\"some\\u0062ody\",\"user\":7,\"metadata\":{\"a\":1},\"farebox\": { \"task\" : \"code\" } ,\"model\":\"m\\u006fre\"}";
    let outline = read(body);
    let span = outline.farebox.clone().unwrap();
    assert_eq!(&body[span], "{ \"task\" : \"code\" }");
    assert_eq!(&body[outline.metadata.clone().unwrap()], "{\"a\":1}");
    let expected = Outline {
        model: Some("more".into()),
        stream: true,
        include_usage: true,
        max_output_tokens: Some(500),
        n: Some(2),
        messages: 2,
        has_tools: true,
        designed_tools: 0,
        repeated: 0,
        named_reasoning: 0,
        remote_media: None,
        inline_media: 0,
        inline_documents: 0,
        media_bytes: 0,
        unbounded: None,
        unbounded_elsewhere: None,
        unmetered: false,
        unmetered_elsewhere: false,
        searches: false,
        unseen: None,
        service_tier: Some("flex".into()),
        farebox: outline.farebox.clone(),
        metadata: outline.metadata.clone(),
        user: Some("somebody".into()),
    };
    assert_eq!(outline, expected);
}

#[test]
fn little_is_required() {
    let outline =
        read("{\"messages\":[{\"content\":null}],\"model\":null,\"tools\":[],\"max_tokens\":null,\"stream\":null}");
    assert_eq!(outline, Outline { messages: 1, ..Outline::default() });
    let marked = b"\xef\xbb\xbf{\"farebox\":{},\"messages\":[{}]}";
    let span = super::outline::outline(DialectName::OpenAiChat, marked).unwrap().farebox.unwrap();
    assert_eq!(&marked[span], b"{}");
}

#[test]
fn what_the_provider_would_fetch_is_named() {
    for (content, field) in [
        (
            r#"[{"type":"text","text":"hi"},{"type":"image_url","image_url":{"url":"https://x.invalid/a.png"}}]"#,
            Some("messages[0].content[1].image_url.url"),
        ),
        (r#"[{"type":"image_url","image_url":"HTTP://x.invalid/a.png"}]"#, Some("messages[0].content[0].image_url")),
        (
            r#"[{"type":"image_url","image_url":{"url":"gs://bucket/a.png"}}]"#,
            Some("messages[0].content[0].image_url.url"),
        ),
        (
            r#"[{"type":"image_url","image_url":{"\u0075rl":"https:\/\/x.invalid"}}]"#,
            Some("messages[0].content[0].image_url.url"),
        ),
        (
            r#"[{"type":"file","file":{"file_data":"https://x.invalid/a.pdf"}}]"#,
            Some("messages[0].content[0].file.file_data"),
        ),
        (
            r#"[{"type":"image","source":{"type":"url","url":"https://x.invalid"}}]"#,
            Some("messages[0].content[0].source.url"),
        ),
        (
            r#"[{"type":"tool_result","content":[{"type":"image","source":{"url":"https://x.invalid"}}]}]"#,
            Some("messages[0].content[0].content[0].source.url"),
        ),
        (r#"[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]"#, None),
        (r#"[{"type":"tool_use","input":{"url":"https://x.invalid"}}]"#, None),
        (r#""https://x.invalid/a.png""#, None),
    ] {
        let body = format!("{{\"messages\":[{{\"role\":\"user\",\"content\":{content}}}]}}");
        assert_eq!(read(&body).remote_media.as_deref(), field, "{content}");
    }
}

#[test]
fn the_output_limit_of_each_dialect() {
    let body = br#"{"max_tokens":9,"max_completion_tokens":7,"messages":[{}]}"#;
    assert_eq!(outline(DialectName::OpenAiChat, body).unwrap().max_output_tokens, Some(9));
    assert_eq!(outline(DialectName::AnthropicMessages, body).unwrap().max_output_tokens, Some(9));
}

#[test]
fn faults_name_the_field_and_the_remedy() {
    insta::assert_snapshot!(
        "outline_faults",
        [
            "{\"messages\":[{}],\n \"stream\": tru}",
            "{\"messages\":[{}]} x",
            "{\"messages\":[{}]",
            "[]",
            "",
            "{}",
            "{\"messages\":[]}",
            "{\"messages\":{}}",
            "{\"messages\":[7]}",
            "{\"messages\":[{}],\"stream\":\"yes\"}",
            "{\"messages\":[{}],\"model\":7}",
            "{\"messages\":[{}],\"max_tokens\":-1}",
            "{\"messages\":[{}],\"n\":1.5}",
            "{\"messages\":[{}],\"farebox\":\"x\"}",
            "{\"messages\":[{}],\"stream_options\":[]}",
        ]
        .map(fault)
        .join("\n")
    );
    let refused = outline(DialectName::OpenAiChat, b"{\"model\":\"\xff\"}").unwrap_err();
    assert_eq!(refused.message, "the body is not UTF-8 at byte 10; send JSON in UTF-8");
}

#[test]
fn media_are_counted() {
    let outline = read(
        "{\"messages\":[{\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,AAAA\"}},\
         {\"type\":\"input_audio\",\"input_audio\":{\"data\":\"AAAA\",\"format\":\"wav\"}},{\"type\":\"text\",\"text\":\"image_url\"}]}]}",
    );
    assert_eq!((outline.inline_media, outline.remote_media), (2, None));
    assert_eq!(outline.media_bytes, "data:image/png;base64,AAAA".len() + "\"AAAA\"".len());
}

#[test]
fn documents_and_earlier_recordings_are_counted() {
    let outline = read(
        r#"{"messages":[{"role":"assistant","content":null,"audio":{"id":"audio-1"}},{"role":"assistant","audio":null},
            {"content":[{"type":"file","file":{"file_data":"data:application/pdf;base64,AAAA"}}]}]}"#,
    );
    assert_eq!((outline.inline_media, outline.inline_documents, outline.unbounded), (2, 1, None));
}

#[test]
fn what_has_no_bound_is_named() {
    for (member, field) in [
        (
            r#""messages":[{"content":[{"type":"file","file":{"file_id":"file-1"}}]}]"#,
            "messages[0].content[0].file.file_id",
        ),
        (r#""messages":[{}],"web_search_options":{}"#, "web_search_options"),
        (
            r#""messages":[{}],"tools":[{"type":"function","function":{}},{"type":"web_search","size":1}]"#,
            "tools[1].type",
        ),
        (r#""messages":[{}],"tools":[7,{"type":"function","type":"web_search"}]"#, "tools[1].type"),
    ] {
        let told = read(&format!("{{{member}}}"));
        assert_eq!(told.unbounded.as_deref(), Some(field), "{member}");
        // A tool that the provider runs is left out at one that does not have it.
        let elsewhere = Some(field).filter(|field| !field.starts_with("tools"));
        assert_eq!(
            (told.unbounded_elsewhere.as_deref(), told.unmetered_elsewhere),
            (elsewhere, field == "web_search_options")
        );
    }
    let group = |tools: &str| {
        let body =
            format!(r#"{{"input":"x","tools":[{{"type":"function"}},{{"type":"namespace","name":"g",{tools}}}]}}"#);
        let outline = outline(DialectName::OpenAiResponses, body.as_bytes()).unwrap();
        (outline.has_tools, outline.unbounded, outline.unmetered, outline.searches)
    };
    let free = (true, None, false, false);
    assert_eq!(group(r#""tools":[{"type":"function","name":"f"},{"type":"custom","name":"c"}]"#), free);
    assert_eq!(group(r#""tools":[]"#), free);
    let hosted = |field: &str, unmetered, searches| (true, Some(field.to_owned()), unmetered, searches);
    let inside = "tools[1].tools[1].type";
    let search = r#""tools":[{"type":"function"},{"type":"web_search"}]"#;
    assert_eq!(group(search), hosted(inside, false, true));
    assert_eq!(group(r#""tools":[{"type":"function"},{"type":"image_generation"}]"#), hosted(inside, true, false));
    assert_eq!(
        group(&format!(r#""tools":[{{"type":"function"}},{{"type":"namespace",{search}}}]"#)),
        hosted(inside, true, false)
    );
    // Tools that come later stand among the items.
    let among = |tools: &str| {
        let body =
            format!(r#"{{"input":[{{"role":"user","content":"x"}},{{"type":"additional_tools","tools":{tools}}}]}}"#);
        let outline = outline(DialectName::OpenAiResponses, body.as_bytes()).unwrap();
        (outline.has_tools, outline.unbounded, outline.unmetered, outline.searches)
    };
    assert_eq!(among("[]"), (false, None, false, false));
    assert_eq!(among(r#"[{"type":"function","name":"f"}]"#), free);
    assert_eq!(among(r#"[{"type":"web_search"}]"#), hosted("input[1].tools[0].type", false, true));
    assert_eq!(among(r#"[{"type":"shell"}]"#), hosted("input[1].tools[0].type", true, false));
    for twice in [r#""tools":[],"tools":[{"type":"web_search"}]"#, r#""Tools":[{"type":"web_search"}]"#] {
        assert_eq!(group(twice), hosted("tools[1].type", true, false), "{twice}");
    }
    let harmless = r#"{"messages":[{"content":[{"file":{"file_id":null}}]}],"web_search_options":null,"tools":[{"type":"custom"},{"function":{}}]}"#;
    assert_eq!(read(harmless).unbounded, None);
}

#[test]
fn only_what_carries_its_bytes_is_not_remote() {
    let remote = |address: &str| {
        let body = format!(
            "{{\"messages\":[{{\"content\":[{{\"type\":\"image_url\",\"image_url\":{{\"url\":\"{address}\"}}}}]}}]}}"
        );
        read(&body).remote_media.is_some()
    };
    for address in ["https://a.invalid/x.png", "https:/a.invalid/x.png", "//a/x.png", "/etc/x", "gs:x", "x.png"] {
        assert!(remote(address), "{address}");
    }
    for address in ["data:image/png;base64,AAAA", "DATA:,x", "iVBORw0KGgo+/A=="] {
        assert!(!remote(address), "{address}");
    }
}

#[test]
fn what_decides_about_money_is_said_once_and_in_its_own_spelling() {
    for (body, said) in [
        ("{\"messages\":[{}],\"max_tokens\":1,\"max_tokens\":50000}", "max_tokens"),
        ("{\"messages\":[{}],\"n\":1,\"\\u006e\":9}", "n"),
        ("{\"messages\":[{}],\"Max_Tokens\":9}", "Max_Tokens"),
        ("{\"messages\":[{}],\"max_to\u{212a}ens\":9}", "max_tokens"),
        ("{\"messages\":[{}],\"service_tier\":\"priority\",\"service_tier\":\"auto\"}", "service_tier"),
    ] {
        let fault = outline(DialectName::OpenAiChat, body.as_bytes()).unwrap_err();
        assert!(fault.message.contains(said), "{}", fault.message);
    }
}

#[test]
fn what_makes_a_provider_do_more_is_named() {
    for name in ["web_search_options", "models", "plugins", "prediction"] {
        let outline = read(&format!("{{\"messages\":[{{}}],\"{name}\":{{}}}}"));
        assert_eq!(outline.unbounded.as_deref(), Some(name));
    }
}

#[test]
fn what_usage_does_not_show_is_told_apart_from_what_it_does() {
    let told = |dialect, content: &str, member: &str| {
        let outline = outline(dialect, format!("{{{content},{member}}}").as_bytes()).unwrap();
        assert!(outline.unbounded.is_some(), "{member}");
        (outline.unmetered, outline.searches)
    };
    let chat = r#""messages":[{"role":"user","content":"hi"}]"#;
    for (dialect, member, expected) in [
        (DialectName::OpenAiChat, r#""prediction":{"type":"content"}"#, (false, false)),
        (DialectName::OpenAiChat, r#""prediction":{},"plugins":[{}]"#, (true, false)),
        (DialectName::OpenAiChat, r#""tools":[{"type":"web_search"}]"#, (true, false)),
        (DialectName::AnthropicMessages, r#""tools":[{"type":"web_search_20250305"}]"#, (false, true)),
        (DialectName::AnthropicMessages, r#""tools":[{"type":"web_fetch_20250910"}]"#, (false, false)),
        (
            DialectName::AnthropicMessages,
            r#""tools":[{"type":"web_search_20250305"},{"type":"code_execution_20250825"}]"#,
            (true, true),
        ),
        (DialectName::AnthropicMessages, r#""speed":"fast""#, (true, false)),
        (DialectName::OpenAiResponses, r#""previous_response_id":"r""#, (false, false)),
        (DialectName::OpenAiResponses, r#""tools":[{"type":"web_search_preview"}]"#, (false, true)),
        (DialectName::OpenAiResponses, r#""tools":[{"type":"mcp"}]"#, (false, false)),
        (DialectName::OpenAiResponses, r#""tools":[{"type":"image_generation"}]"#, (true, false)),
        (DialectName::OpenAiResponses, r#""tools":[{"type":"mcp","Type":"file_search"}]"#, (true, false)),
    ] {
        let content = if dialect == DialectName::OpenAiResponses { r#""input":"hi""# } else { chat };
        assert_eq!(told(dialect, content, member), expected, "{member}");
    }
}

#[test]
fn every_dialect_of_callers_has_its_own_members() {
    let read = |dialect, body: &str| outline(dialect, body.as_bytes()).unwrap();
    let responses = |body: &str| read(DialectName::OpenAiResponses, body);
    let told =
        responses(r#"{"input":"hi","max_output_tokens":7,"stream":true,"tools":[{"type":"function","name":"f"}]}"#);
    assert_eq!((told.messages, told.max_output_tokens, told.stream, told.has_tools), (1, Some(7), true, true));
    let items = responses(
        r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"a"},
            {"type":"input_image","image_url":"https://x.invalid/a.png"},{"type":"input_file","file_data":"data:a,b"}]},
            {"type":"function_call_output","call_id":"c","output":[{"type":"input_image","image_url":"data:image/png,a"}]}]}"#,
    );
    assert_eq!((items.messages, items.inline_media, items.inline_documents), (2, 3, 1));
    assert_eq!(items.remote_media.as_deref(), Some("input[0].content[1].image_url"));
    for (member, field) in [
        (r#""previous_response_id":"resp_1""#, "previous_response_id"),
        (r#""tools":[{"type":"web_search"}]"#, "tools[0].type"),
    ] {
        let told = responses(&format!(r#"{{"input":"hi",{member}}}"#));
        assert_eq!(told.unbounded.as_deref(), Some(field));
    }
    for (background, unseen) in [("true", Some("background")), ("false", None)] {
        let told = responses(&format!(r#"{{"input":"hi","background":{background},"previous_response_id":"r"}}"#));
        assert_eq!((told.unseen, told.unbounded.as_deref()), (unseen, Some("previous_response_id")));
    }
    let stored = responses(r#"{"input":[{"type":"item_reference","id":"msg_1"}]}"#);
    assert_eq!(stored.unbounded.as_deref(), Some("input[0]"));

    let completions = read(DialectName::OpenAiCompletions, r#"{"prompt":["a","b"],"n":2,"best_of":5,"max_tokens":3}"#);
    assert_eq!((completions.messages, completions.n, completions.max_output_tokens), (2, Some(5), Some(3)));
    for (input, count) in [(r#""a""#, 1), (r#"["a","b"]"#, 2), ("[1,2,3]", 1), ("[[1,2],[3]]", 2)] {
        let embeddings = read(DialectName::OpenAiEmbeddings, &format!(r#"{{"model":"m","input":{input}}}"#));
        assert_eq!(embeddings.messages, count, "{input}");
    }
    let rerank = read(DialectName::CohereRerank, r#"{"query":"q","documents":["a",{"text":"b"}]}"#);
    assert_eq!(rerank.messages, 2);
    let claude = |tool: &str| {
        let body =
            format!(r#"{{"messages":[{{"role":"user","content":"a"}}],"tools":[{{"type":"{tool}","name":"t"}}]}}"#);
        read(DialectName::AnthropicMessages, &body).unbounded
    };
    assert_eq!(claude("bash_20250124"), None);
    assert_eq!(claude("web_search_20250305").as_deref(), Some("tools[0].type"));
    let mcp = r#"{"messages":[{"role":"user","content":"a"}],"mcp_servers":[{"url":"https://x.invalid"}]}"#;
    assert_eq!(read(DialectName::AnthropicMessages, mcp).unbounded.as_deref(), Some("mcp_servers"));
}

#[test]
fn what_is_read_page_by_page_is_a_document() {
    let of = |dialect, message: &str| {
        let body = format!(r#"{{"messages":[{message}],"input":[{message}]}}"#);
        let outline = outline(dialect, body.as_bytes()).unwrap();
        (outline.inline_media, outline.inline_documents)
    };
    let (chat, anthropic) = (DialectName::OpenAiChat, DialectName::AnthropicMessages);
    let part = |part: &str| format!(r#"{{"role":"user","content":[{part}]}}"#);
    for (dialect, message, found) in [
        (anthropic, part(r#"{"type":"document","source":{"media_type":"application/pdf","data":"JVBE"}}"#), (1, 1)),
        (anthropic, part(r#"{"type":"document","source":{"media_type":"text/plain","data":"a"}}"#), (1, 0)),
        (anthropic, part(r#"{"type":"image","source":{"media_type":"image/png","data":"iVBO"}}"#), (1, 0)),
        (chat, part(r#"{"type":"image_url","image_url":{"url":"DATA:application/pdf;base64,JVBE"}}"#), (1, 1)),
        (chat, part(r#"{"type":"video_url","video_url":{"url":"data:video/mp4;base64,AAAA"}}"#), (1, 1)),
        (chat, part(r#"{"type":"image_url","image_url":{"url":"data:IMAGE/png;base64,iVBO"}}"#), (1, 0)),
        (chat, part(r#"{"type":"file","file":{"file_data":"data:application/pdf;base64,JVBE"}}"#), (1, 1)),
        (
            DialectName::OpenAiResponses,
            part(r#"{"type":"input_file","file_data":"data:application/pdf;base64,A"}"#),
            (1, 1),
        ),
    ] {
        assert_eq!(of(dialect, &message), found, "{message}");
    }
    let items = br#"{"input":[{"type":"reasoning","id":"rs_1"},{"type":"reasoning","encrypted_content":"x"}]}"#;
    assert_eq!(outline(DialectName::OpenAiResponses, items).unwrap().named_reasoning, 1);
}

#[test]
fn a_cost_of_its_own_is_named_in_every_dialect() {
    let of = |dialect, extra: &str| {
        let content = r#""messages":[{"content":"a"}],"input":"a","prompt":"a","documents":["a"]"#;
        outline(dialect, format!("{{{content},{extra}}}").as_bytes()).unwrap().unbounded
    };
    for (dialect, extra, field) in [
        (DialectName::AnthropicMessages, r#""inference_geo":"us""#, "inference_geo"),
        (DialectName::AnthropicMessages, r#""speed":"fast""#, "speed"),
        (DialectName::OpenAiChat, r#""search_parameters":{"mode":"on"}"#, "search_parameters"),
        (DialectName::OpenAiChat, r#""enable_search":true"#, "enable_search"),
        (DialectName::OpenAiCompletions, r#""plugins":[{"id":"web"}]"#, "plugins"),
        (DialectName::OpenAiChat, r#""tools":[{"google_search":{}}]"#, "tools[0].type"),
        (DialectName::OpenAiChat, r#""tools":[{"type":"web_search","type":"function"}]"#, "tools[0].type"),
        (DialectName::OpenAiChat, r#""tools":[{"Type":"web_search","function":{}}]"#, "tools[0].type"),
    ] {
        assert_eq!(of(dialect, extra).as_deref(), Some(field), "{extra}");
    }
    assert_eq!(of(DialectName::OpenAiChat, r#""enable_search":false,"tools":[{"function":{"name":"f"}}]"#), None);
    let pictures = outline(DialectName::OpenAiEmbeddings, br#"{"input":["a",{"image":"x"}]}"#).unwrap();
    assert_eq!(pictures.unbounded.as_deref(), Some("input[1]"));
}

#[test]
fn what_bounds_a_cost_is_said_once() {
    for body in [
        r#"{"prompt":["a","b"],"prompt":"a"}"#,
        r#"{"prompt":"a","Prompt":["a","b"]}"#,
        r#"{"prompt":"a","Plugins":[{"id":"web"}]}"#,
        r#"{"prompt":"a","plugins":[{"id":"web"}],"plugins":null}"#,
    ] {
        assert!(outline(DialectName::OpenAiCompletions, body.as_bytes()).is_err(), "{body}");
    }
}
