//! What a caller may, applied to what it asks for.

use std::sync::Arc;

use farebox_directory::{Access, Directory, Keys, Models};
use farebox_proto::v1;
use farebox_types::{Clock, ErrorKind, Fault};

use crate::request::{Request, Target};

/// Knows what callers may.
pub(crate) struct Authoriser {
    pub(crate) directory: Directory,
    pub(crate) keys: Keys,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Authoriser {
    /// Whether a caller may come in at all.
    pub(crate) fn admit(&self, principal: &v1::Principal) -> Result<(), Fault> {
        self.access(principal).map(|_| ())
    }

    fn access(&self, principal: &v1::Principal) -> Result<Access, Fault> {
        let project = principal.project().map_err(|error| Fault::new(ErrorKind::Internal, error.to_string()))?;
        let key_id = Some(principal.key_id.as_str()).filter(|id| !id.is_empty());
        // Whatever users the server has, over HTTP there are no keys but farebox's own.
        let keys = if principal.entrance() == v1::Entrance::Http { Keys::Own } else { self.keys };
        Ok(self.directory.access(&project, key_id, keys, self.clock.now())?)
    }

    /// The request as it may be made: with what its key pins, and whom it counts for.
    pub(crate) fn authorise(&self, mut request: Request) -> Result<Request, Fault> {
        let access = self.access(&request.principal)?;
        request.principal.organisation = access.organisation().to_owned();
        request.principal.groups = access.groups().to_vec();
        if let Some(pins) = access.pins() {
            let v1::Labels { actor, task_id, session_id, end_user, .. } = &mut request.labels;
            let pinned = [
                (actor, &pins.actor),
                (task_id, &pins.task_id),
                (session_id, &pins.session_id),
                (end_user, &pins.end_user),
            ];
            for (label, pin) in pinned.into_iter().filter(|(_, pin)| !pin.is_empty()) {
                label.clone_from(pin);
            }
        }
        let models = access.models();
        check(&models, &request)?;
        request.models = models;
        Ok(request)
    }
}

/// What the caller names itself. What its words lead to is checked where the plan is made.
fn check(models: &Models, request: &Request) -> Result<(), Fault> {
    if let Target::Model(alias) = &request.target {
        models.check(alias)?;
    }
    request.fallback_models.iter().try_for_each(|alias| models.check(alias))
}
