//! What may be asked for, as OpenAI and Anthropic list it.

use axum::response::{IntoResponse, Json, Response};
use farebox_directory::Keys;
use farebox_types::{ErrorKind, Fault};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::{
    access::Caller,
    app::{App, Offered},
    failure::{Shape, refusal},
};

/// Both shapes name the moment at which a model was made. Farebox does not know it, and says this one of all.
const CREATED: (i64, &str) = (1_735_689_600, "2025-01-01T00:00:00Z");
/// The most on one page, as at Anthropic. Who does not ask for less gets as many.
const PAGE_MAX: usize = 1000;

/// All that the caller may ask for.
pub(crate) fn list(app: &App, shape: Shape, caller: Result<Caller, Fault>, query: Option<&str>) -> Response {
    let open = match open(app, caller) {
        Ok(open) => open,
        Err(fault) => return refusal(shape, &fault),
    };
    match shape {
        Shape::OpenAi => {
            let data: Vec<Value> = open.iter().map(|model| entry(shape, model)).collect();
            Json(json!({ "object": "list", "data": data })).into_response()
        }
        Shape::Anthropic => match page(&open, query.unwrap_or_default()) {
            Ok(page) => Json(page).into_response(),
            Err(fault) => refusal(shape, &fault),
        },
    }
}

/// One of them.
pub(crate) fn one(app: &App, shape: Shape, caller: Result<Caller, Fault>, id: &str) -> Response {
    let found = open(app, caller).and_then(|open| {
        let unknown = || {
            Fault::new(ErrorKind::NotFound, format!("there is no model `{id}` for this key: GET /v1/models lists them"))
        };
        open.into_iter().find(|model| model.alias == id).ok_or_else(unknown)
    });
    match found {
        Ok(model) => Json(entry(shape, &model)).into_response(),
        Err(fault) => refusal(shape, &fault),
    }
}

fn open(app: &App, caller: Result<Caller, Fault>) -> Result<Vec<Offered>, Fault> {
    let caller = caller?;
    let access = app.deps.directory.access(&caller.project, caller.key_id(), Keys::Own, app.deps.clock.now())?;
    let models = access.models();
    let offered = app.deps.offered.borrow().clone();
    // Of `task:…` and `agent:…` it is decided only when they lead to a model.
    let open = |offered: &&Offered| offered.alias.contains(':') || models.allow(&offered.alias);
    Ok(offered.iter().filter(open).cloned().collect())
}

fn entry(shape: Shape, model: &Offered) -> Value {
    let id = &model.alias;
    match shape {
        Shape::OpenAi => json!({ "id": id, "object": "model", "created": CREATED.0, "owned_by": model.provider }),
        Shape::Anthropic => json!({ "type": "model", "id": id, "display_name": id, "created_at": CREATED.1 }),
    }
}

/// <https://docs.anthropic.com/en/api/models-list>
fn page(open: &[Offered], query: &str) -> Result<Value, Fault> {
    let given = |name: &str| {
        let value = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?.1;
        Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
    };
    let limit =
        match given("limit") {
            None => PAGE_MAX,
            Some(text) => text.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit)).ok_or_else(|| {
                Fault::new(ErrorKind::BadRequest, format!("limit: write a number from 1 to {PAGE_MAX}"))
            })?,
        };
    let place = |name: &str| -> Result<Option<usize>, Fault> {
        let Some(id) = given(name) else { return Ok(None) };
        let unknown = || Fault::new(ErrorKind::BadRequest, format!("{name}: there is no model `{id}`"));
        open.iter().position(|model| model.alias == id).map(Some).ok_or_else(unknown)
    };
    let (all, has_more) = match (place("after_id")?, place("before_id")?) {
        (Some(after), _) => (&open[after + 1..], open.len() - after - 1 > limit),
        (None, Some(before)) => (&open[before.saturating_sub(limit)..before], before > limit),
        (None, None) => (open, open.len() > limit),
    };
    let shown = &all[..all.len().min(limit)];
    let data: Vec<Value> = shown.iter().map(|model| entry(Shape::Anthropic, model)).collect();
    let id = |model: Option<&Offered>| model.map(|model| model.alias.clone());
    Ok(json!({ "data": data, "has_more": has_more, "first_id": id(shown.first()), "last_id": id(shown.last()) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_walked_in_both_directions() {
        let offered = |name: &str| Offered { alias: name.to_owned(), provider: "p".to_owned() };
        let open = ["a", "b/c", "d", "e"].map(offered);
        for (query, ids, has_more) in [
            ("", vec!["a", "b/c", "d", "e"], false),
            ("limit=2", vec!["a", "b/c"], true),
            ("limit=4", vec!["a", "b/c", "d", "e"], false),
            ("limit=2&after_id=b%2Fc", vec!["d", "e"], false),
            ("limit=1&after_id=b%2Fc", vec!["d"], true),
            ("after_id=e", vec![], false),
            ("limit=2&before_id=e", vec!["b/c", "d"], true),
            ("limit=2&before_id=d", vec!["a", "b/c"], false),
            ("beta=true&limit=1", vec!["a"], true),
        ] {
            let page = page(&open, query).unwrap();
            let shown: Vec<&str> = page["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
            assert_eq!((shown.clone(), page["has_more"].as_bool()), (ids, Some(has_more)), "{query}");
            assert_eq!(page["first_id"].as_str(), shown.first().copied(), "{query}");
            assert_eq!(page["last_id"].as_str(), shown.last().copied(), "{query}");
        }
        for query in ["limit=0", "limit=1001", "limit=x", "after_id=z"] {
            assert_eq!(page(&open, query).unwrap_err().kind, ErrorKind::BadRequest, "{query}");
        }
    }
}
