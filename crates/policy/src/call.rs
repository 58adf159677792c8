//! What budgets and limits see of a call.

use farebox_proto::v1;

use crate::scope::Dimension;

/// One attempt of one call, as rules look at it. Empty texts stand for what is not there.
#[derive(Clone, Copy, Debug)]
pub struct CallScope<'a> {
    pub principal: &'a v1::Principal,
    pub labels: &'a v1::Labels,
    /// The model alias.
    pub model: &'a str,
    pub provider: &'a str,
    pub upstream_model: &'a str,
}

impl CallScope<'_> {
    /// What the call has in a dimension: nothing, one thing, or for groups and tags several, each once.
    pub fn values(&self, dimension: Dimension) -> Vec<String> {
        let one = |text: &str| if text.is_empty() { Vec::new() } else { vec![text.to_owned()] };
        let in_project = |text: &str| match text.is_empty() {
            true => Vec::new(),
            false => vec![format!("{}/{text}", self.principal.project)],
        };
        let mut values = match dimension {
            Dimension::Organisation => one(&self.principal.organisation),
            Dimension::Project => one(&self.principal.project),
            Dimension::Key => one(&self.principal.key_id),
            Dimension::Group => self.principal.groups.clone(),
            Dimension::Actor => one(&self.labels.actor),
            // Two projects may use the same words for what is theirs alone.
            Dimension::Task => in_project(&self.labels.task_id),
            Dimension::Session => in_project(&self.labels.session_id),
            Dimension::EndUser => in_project(&self.labels.end_user),
            Dimension::Tag => self.labels.tags.clone(),
            Dimension::Model => one(self.model),
            Dimension::Provider => one(self.provider),
            Dimension::Deployment => vec![format!("{}/{}", self.provider, self.upstream_model)],
        };
        values.sort_unstable();
        values.dedup();
        values
    }
}
