//! Span edits: what is not edited stays byte for byte.

use farebox_dialect::{DialectName, Edit, RewriteError, outline, rewrite};
use proptest::prelude::*;

fn edited(body: &str, edits: &[Edit<'_>]) -> String {
    String::from_utf8(rewrite(body.as_bytes(), edits).unwrap().to_vec()).unwrap()
}

#[test]
fn everything_else_survives_exactly() {
    let body = "\r\n{ \"temperature\" : 1.10 ,\"seed\":123456789012345678901234567890,\t\"model\"\n:\t\"a\\u006cias\" ,\
                \"x\":{\"model\":\"in\\\"ner}\",\"e\":1E+2},\"x\" : [ ],\"farebox\": {\"a\":[\"}\",{}]} ,\"messages\":[\"\\ud83d\\ude00\"],\
                \"n\":-0.0 } \n";
    let expected = "\r\n{ \"temperature\" : 1.10 ,\"seed\":123456789012345678901234567890,\t\"model\"\n:\t\"gpt-x\" ,\
                \"x\":{\"model\":\"in\\\"ner}\",\"e\":1E+2},\"x\" : [ ],\"messages\":[\"\\ud83d\\ude00\"],\
                \"n\":-0.0,\"stream_options\":{\"include_usage\":true} } \n";
    let edits = [
        Edit::string("model", "gpt-x"),
        Edit::remove("farebox"),
        Edit::set_in("stream_options", "include_usage", "true"),
    ];
    assert_eq!(edited(body, &edits), expected);
}

#[test]
fn no_edit_is_no_change() {
    let body = " {\"a\" :1, \"a\":2 }";
    assert_eq!(edited(body, &[]), body);
    assert_eq!(edited(body, &[Edit::remove("b")]), body);
}

#[test]
fn members_are_removed_with_their_comma() {
    for (body, expected) in [
        ("{\"farebox\":1}", "{}"),
        ("{ \"farebox\" : {} }", "{ }"),
        ("{\"farebox\":1,\"b\":2}", "{\"b\":2}"),
        ("{\n  \"a\": 1,\n  \"farebox\": {}\n}", "{\n  \"a\": 1\n}"),
        ("{\"a\":1,\"farebox\":1,\"farebox\":2}", "{\"a\":1}"),
        ("{\"farebox\":1,\"a\":1,\"farebox\":2}", "{\"a\":1}"),
        ("{\"fare\\u0062ox\":1,\"a\":1}", "{\"a\":1}"),
    ] {
        assert_eq!(edited(body, &[Edit::remove("farebox")]), expected, "{body}");
    }
}

#[test]
fn a_key_is_known_by_its_meaning_and_every_duplicate_is_set() {
    assert_eq!(
        edited("{\"m\\u006fdel\":\"a\",\"model\" : \"b\"}", &[Edit::string("model", "c\"\n")]),
        "{\"m\\u006fdel\":\"c\\\"\\n\",\"model\" : \"c\\\"\\n\"}"
    );
}

#[test]
fn missing_members_are_added_at_the_end() {
    for (body, expected) in [
        ("{}", "{\"k\":[1]}"),
        ("{ }", "{\"k\":[1] }"),
        ("{\"a\":1}", "{\"a\":1,\"k\":[1]}"),
        ("{\n  \"a\": 1\n}\n", "{\n  \"a\": 1,\"k\":[1]\n}\n"),
    ] {
        assert_eq!(edited(body, &[Edit::set("k", "[1]")]), expected, "{body}");
    }
}

#[test]
fn a_member_of_a_member() {
    let edit = [Edit::set_in("stream_options", "include_usage", "true")];
    for (body, expected) in [
        ("{\"stream_options\":null}", "{\"stream_options\":{\"include_usage\":true}}"),
        ("{\"stream_options\": { }}", "{\"stream_options\": {\"include_usage\":true }}"),
        (
            "{\"stream_options\": {\"include_usage\" : false, \"y\":1.0}}",
            "{\"stream_options\": {\"include_usage\" : true, \"y\":1.0}}",
        ),
        ("{\"stream_options\": {\"y\":1.0}}", "{\"stream_options\": {\"y\":1.0,\"include_usage\":true}}"),
    ] {
        assert_eq!(edited(body, &edit), expected, "{body}");
    }
    let refused = rewrite(b"{\"stream_options\": 7}", &edit).unwrap_err();
    assert_eq!(refused, RewriteError::MemberNotAnObject { field: "stream_options".into() });
}

#[test]
fn bodies_that_are_no_object_are_refused() {
    for body in [
        "",
        "[]",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{\"a\":\"x",
        "{\"a\":[1",
        "{\"a\":\"\\",
    ] {
        let refused = rewrite(body.as_bytes(), &[Edit::remove("a")]).unwrap_err();
        assert!(matches!(refused, RewriteError::NotAnObject { .. }), "{body}");
    }
}

#[test]
fn a_farebox_member_joins_an_answer() {
    let answer = "{\"id\":\"chatcmpl-1\",\"choices\":[],\"usage\":{\"total_tokens\":3}}\n";
    assert_eq!(
        edited(answer, &[Edit::set("farebox", "{\"cost\":\"0.5\"}")]),
        "{\"id\":\"chatcmpl-1\",\"choices\":[],\"usage\":{\"total_tokens\":3},\"farebox\":{\"cost\":\"0.5\"}}\n"
    );
}

proptest! {
    #[test]
    fn any_object_stays_one_and_keeps_its_other_members(
        members in proptest::collection::vec(("[a-d\\\\\"]{0,3}", "[ -~é]{0,8}", "[ \t\n]{0,2}"), 0..6),
        key in "[a-d]",
    ) {
        let text: Vec<String> = members
            .iter()
            .map(|(k, v, w)| format!("{w}{}{w}:{w}{}{w}", serde_json::json!(k), serde_json::json!([v, {"k": v}])))
            .collect();
        let body = format!("{{{}}}", text.join(","));
        let before: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&body).unwrap();

        let removed = edited(&body, &[Edit::remove(&key)]);
        let mut expected = before.clone();
        expected.shift_remove(&key);
        prop_assert_eq!(serde_json::from_str::<serde_json::Map<_, _>>(&removed).unwrap(), expected);

        let set = edited(&body, &[Edit::set(&key, "7")]);
        let mut expected = before;
        expected.insert(key.clone(), 7.into());
        prop_assert_eq!(serde_json::from_str::<serde_json::Map<_, _>>(&set).unwrap(), expected);
    }

    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(prop::sample::select(b"{}[]\",:\\ a1\n\xc3".to_vec()), 0..40)) {
        let edits = [Edit::remove("a"), Edit::set("a", "1"), Edit::set_in("a", "a", "1")];
        for edit in edits {
            let _outcome = rewrite(&body, &[edit]);
        }
        let _outcome = outline(DialectName::OpenAiChat, &body);
    }
}
