//! Events folded into the whole answer.

use farebox_types::Usage;
use serde::Deserialize;

use super::{
    call::{Content, Part, Reasoning, ToolCall},
    completion::{Choice, Completion},
    event::{Delta, Event, PartId, PartKind},
};
use crate::json::RawJson;

/// Watches a stream: what has been said, used and finished so far.
#[derive(Debug, Default)]
pub struct Collector {
    completion: Completion,
    /// Where the part with this id stands: choice, place.
    places: Vec<(usize, usize)>,
    logprobs: Vec<(usize, String)>,
}

impl Collector {
    pub fn new() -> Collector {
        Collector::default()
    }

    pub fn push(&mut self, event: &Event) {
        match event {
            Event::Started { id, model, created } => {
                self.completion.id.clone_from(id);
                self.completion.model.clone_from(model);
                self.completion.created = *created;
            }
            Event::PartStart { choice, kind, .. } => self.start(*choice, kind),
            Event::Delta { id, delta } => self.extend(*id, delta),
            Event::Usage(usage) => self.completion.usage = *usage,
            Event::ServiceTier(tier) => self.completion.service_tier = Some(tier.clone()),
            Event::ReportedCost(cost) => self.completion.reported_cost = Some(*cost),
            Event::Finish { choice, reason, stop_sequence } => {
                let at = self.choice(*choice);
                self.completion.choices[at].finish = Some(reason.clone());
                self.completion.choices[at].stop_sequence.clone_from(stop_sequence);
            }
            Event::PartEnd { .. } | Event::Error(_) | Event::Unknown(_) => {}
        }
    }

    /// The usage reported so far.
    pub fn usage(&self) -> &Usage {
        &self.completion.usage
    }

    /// A part, as far as it has come.
    pub(crate) fn part(&self, id: PartId) -> Option<&Part> {
        let &(choice, place) = self.places.get(id.0 as usize)?;
        self.completion.choices.get(choice)?.parts.get(place)
    }

    /// The answer so far, without log probabilities.
    pub fn completion(&self) -> &Completion {
        &self.completion
    }

    /// The answer so far.
    pub fn into_completion(mut self) -> Completion {
        for choice in 0..self.completion.choices.len() {
            let items: Vec<&str> =
                self.logprobs.iter().filter(|(at, _)| *at == choice).map(|(_, raw)| raw.as_str()).collect();
            if !items.is_empty() {
                self.completion.choices[choice].logprobs =
                    RawJson::new(format!("{{\"content\":[{}],\"refusal\":null}}", items.join(",")));
            }
        }
        self.completion.choices.sort_by_key(|c| c.index);
        self.completion
    }

    fn choice(&mut self, index: u32) -> usize {
        let choices = &mut self.completion.choices;
        choices.iter().position(|c| c.index == index).unwrap_or_else(|| {
            choices.push(Choice { index, ..Choice::default() });
            choices.len() - 1
        })
    }

    fn start(&mut self, choice: u32, kind: &PartKind) {
        let at = self.choice(choice);
        let content = match kind {
            PartKind::Text => Content::Text(String::new()),
            PartKind::Refusal => Content::Refusal(String::new()),
            PartKind::Reasoning => Content::Reasoning(Reasoning::default()),
            PartKind::ToolCall { id, name } => {
                Content::ToolCall(ToolCall { id: id.clone(), name: name.clone(), arguments: String::new() })
            }
            PartKind::Media(content) => content.as_ref().clone(),
            PartKind::Other { dialect, kind, raw } => {
                Content::Other { dialect: *dialect, kind: kind.clone(), raw: raw.clone() }
            }
        };
        let parts = &mut self.completion.choices[at].parts;
        parts.push(Part::from(content));
        self.places.push((at, parts.len() - 1));
    }

    fn extend(&mut self, id: PartId, delta: &Delta) {
        let Some(&(choice, place)) = self.places.get(id.0 as usize) else {
            return;
        };
        let part = &mut self.completion.choices[choice].parts[place];
        match (delta, &mut part.content) {
            (Delta::Text(more), Content::Text(text) | Content::Refusal(text)) => text.push_str(more),
            (Delta::Args(more), Content::ToolCall(call)) => call.arguments.push_str(more),
            (Delta::Reasoning(more), Content::Reasoning(reasoning)) => reasoning.text.push_str(more),
            (Delta::Signature(whole), Content::Reasoning(reasoning)) => reasoning.signature = Some(whole.clone()),
            (Delta::Encrypted(whole), Content::Reasoning(reasoning)) => reasoning.encrypted = Some(whole.clone()),
            (Delta::Signature(whole), _) => part.signature = Some(whole.clone()),
            (Delta::Origin { dialect, id }, Content::Reasoning(reasoning)) => {
                reasoning.origin = Some(*dialect);
                reasoning.id.clone_from(id);
            }
            (Delta::Citation(citation), _) => part.citations.push(citation.as_ref().clone()),
            (Delta::Logprobs(raw), _) => self.logprobs.extend(logprob_items(raw).map(|item| (choice, item))),
            _ => {}
        }
    }
}

fn logprob_items(raw: &RawJson) -> impl Iterator<Item = String> {
    #[derive(Deserialize)]
    struct Logprobs {
        content: Option<Vec<RawJson>>,
    }
    let items = serde_json::from_str::<Logprobs>(raw.as_str()).ok().and_then(|l| l.content).unwrap_or_default();
    items.into_iter().map(|item| item.as_str().to_owned())
}
