//! What would become of a request, without sending it anywhere.

use std::sync::Arc;

use bytes::Bytes;
use farebox_bus::Caller;
use farebox_directory::{Directory, Keys};
use farebox_proto::v1;
use farebox_types::{Clock, Fault, Project};
use tokio::sync::watch;

use crate::{
    authorise::Authoriser,
    options::Options,
    request::{Arrival, Payload, Request, on_the_bus},
    route::{Router, Routes},
};

/// A request as a caller would send it.
#[derive(Clone, Debug)]
pub struct Question {
    pub project: Project,
    pub key_id: Option<String>,
    /// JSON.
    pub body: Bytes,
    /// None: OpenAI chat completions.
    pub dialect: Option<String>,
}

/// Whom it would count for, and where it would be served.
#[derive(Clone, Debug)]
pub struct Explained {
    pub principal: v1::Principal,
    /// With what the key pins.
    pub labels: v1::Labels,
    /// In the order in which they would be tried. Never empty.
    pub deployments: Vec<v1::Deployment>,
    pub warnings: Vec<String>,
}

/// Reads, authorises and routes a request as intake would.
pub fn explain(
    question: &Question,
    directory: Directory,
    routes: Routes,
    options: &Options,
    clock: Arc<dyn Clock>,
) -> Result<Explained, Fault> {
    let now = clock.now();
    let caller = Caller { project: question.project.clone(), key_id: question.key_id.clone() };
    let arrival = Arrival {
        principal: on_the_bus(&caller),
        message: Payload::new(true, &question.body, question.dialect.as_deref()),
        now,
        default_deadline: options.default_deadline.get(),
        assigned: None,
    };
    let request = Request::read(arrival, options)?;
    let request = Authoriser { directory, keys: Keys::Own, clock }.authorise(request)?;
    let plan = Router::new(watch::channel(Arc::new(routes)).1, options.clone()).plan(&request, now)?;
    let warnings = [request.warnings, plan.warnings].concat();
    Ok(Explained { principal: request.principal, labels: request.labels, deployments: plan.deployments, warnings })
}
