//! What a body says to farebox: its options in the member `farebox`, and whom and what the call is for.

use farebox_dialect::Outline;
use farebox_proto::v1;
use farebox_types::{ErrorKind, Fault, Money, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::options::Options;

/// farebox's own options in a body, in the member `farebox`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Extension {
    pub(crate) request_id: String,
    pub(crate) task_type: String,
    pub(crate) agent_role: String,
    actor: String,
    task_id: String,
    session_id: String,
    end_user: String,
    tags: Vec<String>,
    deadline_ms: Option<u64>,
    deadline_unix_ms: Option<i64>,
    pub(crate) fallback_models: Vec<String>,
    pub(crate) max_cost: Option<Money>,
    cache: Option<serde::de::IgnoredAny>,
}

impl Extension {
    pub(crate) fn read(outline: &Outline, body: &[u8]) -> Result<Extension, Fault> {
        let Some(range) = outline.farebox.clone() else { return Ok(Extension::default()) };
        serde_json::from_slice(&body[range]).map_err(|error| {
            Fault::new(ErrorKind::BadRequest, format!("`farebox` in the body is not understood: {error}"))
        })
    }

    pub(crate) fn deadline(&self, now: Timestamp) -> Option<Timestamp> {
        let after = |span| now.after(std::time::Duration::from_millis(span));
        self.deadline_unix_ms.map(Timestamp).or(self.deadline_ms.map(after))
    }

    pub(crate) fn asks_for_cache(&self) -> bool {
        self.cache.is_some()
    }

    fn labels(&self) -> v1::Labels {
        v1::Labels {
            actor: self.actor.clone(),
            task_id: self.task_id.clone(),
            session_id: self.session_id.clone(),
            end_user: self.end_user.clone(),
            tags: self.tags.clone(),
        }
    }
}

/// What a request says of itself. Each label counts as it is said first: beside the body, in `farebox`, in `metadata`, as
/// the API's user.
pub(crate) fn labels(
    beside: v1::Labels,
    extension: &Extension,
    outline: &Outline,
    body: &[u8],
    options: &Options,
) -> v1::Labels {
    let mut labels = beside;
    complete(&mut labels, extension.labels());
    let metadata: Value =
        outline.metadata.clone().and_then(|range| serde_json::from_slice(&body[range]).ok()).unwrap_or_default();
    complete(&mut labels, kept(in_metadata(&metadata), options));
    let user = metadata["user_id"].as_str().or(outline.user.as_deref()).map(user_of).unwrap_or_default();
    complete(&mut labels, kept(user, options));
    labels
}

/// Fills what is not said yet.
fn complete(labels: &mut v1::Labels, more: v1::Labels) {
    let v1::Labels { actor, task_id, session_id, end_user, tags } = labels;
    let texts =
        [(actor, more.actor), (task_id, more.task_id), (session_id, more.session_id), (end_user, more.end_user)];
    for (label, said) in texts.into_iter().filter(|(label, _)| label.is_empty()) {
        *label = said;
    }
    if tags.is_empty() {
        *tags = more.tags;
    }
}

/// Tags are a list, or a text with commas: OpenAI's metadata has texts only.
fn in_metadata(metadata: &Value) -> v1::Labels {
    let text = |name: &str| metadata[name].as_str().unwrap_or_default().to_owned();
    let words =
        |text: &str| text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let tags = match &metadata["tags"] {
        Value::Array(tags) => tags.iter().filter_map(|tag| Some(tag.as_str()?.to_owned())).collect(),
        tags => tags.as_str().map(words).unwrap_or_default(),
    };
    v1::Labels {
        actor: text("actor"),
        task_id: text("task_id"),
        session_id: text("session_id"),
        end_user: text("end_user"),
        tags,
    }
}

/// The API's user is whom the call is for. Claude Code says more there, as JSON in the text.
fn user_of(said: &str) -> v1::Labels {
    let Some(parts @ Value::Object(_)) = serde_json::from_str(said).ok() else {
        return v1::Labels { end_user: said.to_owned(), ..Default::default() };
    };
    let part = |name: &str| parts[name].as_str().filter(|part| !part.is_empty()).map(str::to_owned);
    v1::Labels {
        session_id: part("session_id").unwrap_or_default(),
        end_user: part("account_uuid").or_else(|| part("device_id")).unwrap_or_default(),
        ..Default::default()
    }
}

/// Labels from members that are not farebox's own: what is too long, or too many, for it is nobody's mistake.
fn kept(mut labels: v1::Labels, options: &Options) -> v1::Labels {
    let fits = |label: &str| label.len() <= options.label_max.len();
    let v1::Labels { actor, task_id, session_id, end_user, tags } = &mut labels;
    for label in [actor, task_id, session_id, end_user] {
        if !fits(label) {
            label.clear();
        }
    }
    tags.retain(|tag| fits(tag));
    tags.truncate(options.tags_max);
    labels
}
