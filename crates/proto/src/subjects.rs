//! Every subject that farebox speaks on.
//!
//! An agent uses the plain subjects (`llm.request`). On a server with one account per project they arrive at farebox
//! with the project in second place (`llm.<project>.request`), put there by the server. On a server without accounts
//! there is one tenant and the plain subjects are all there is.

use farebox_types::{CallId, Project, RequestId};

/// Whether the project stands in the subjects that farebox itself sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenancy {
    /// One NATS account per project: `llm.<project>.…`.
    Projects,
    /// A server without accounts: `llm.…`, and everything belongs to the project `default`.
    Single,
}

/// A caller's side: the subjects that an agent uses.
pub mod agent {
    use farebox_types::RequestId;

    pub const REQUEST: &str = "llm.request";
    pub const JOB: &str = "llm.job";
    pub const USAGE: &str = "llm.usage";
    /// All call facts of one's project.
    pub const CALLS: &str = "llm.call.*";
    pub const EVENTS: &str = "llm.event.*";

    pub fn response(request: &RequestId) -> String {
        format!("llm.response.{request}")
    }

    pub fn result(request: &RequestId) -> String {
        format!("llm.result.{request}")
    }

    pub fn cancel(request: &RequestId) -> String {
        format!("llm.cancel.{request}")
    }
}

impl Tenancy {
    fn any(self, rest: &str) -> String {
        match self {
            Tenancy::Projects => format!("llm.*.{rest}"),
            Tenancy::Single => format!("llm.{rest}"),
        }
    }

    fn of(self, project: &Project, rest: &str) -> String {
        match self {
            Tenancy::Projects => format!("llm.{project}.{rest}"),
            Tenancy::Single => format!("llm.{rest}"),
        }
    }

    pub fn requests(self) -> String {
        self.any("request")
    }

    pub fn jobs(self) -> String {
        self.any("job")
    }

    pub fn results(self) -> String {
        self.any("result.*")
    }

    pub fn cancels(self) -> String {
        self.any("cancel.*")
    }

    pub fn usage_queries(self) -> String {
        self.any("usage")
    }

    /// All stored final answers: what the results stream captures.
    pub fn responses(self) -> String {
        self.any("response.*")
    }

    /// All call facts: what the calls stream captures.
    pub fn calls(self) -> String {
        self.any("call.*")
    }

    pub fn response(self, project: &Project, request: &RequestId) -> String {
        self.of(project, &format!("response.{request}"))
    }

    pub fn call(self, project: &Project, call: &CallId) -> String {
        self.of(project, &format!("call.{call}"))
    }

    pub fn event(self, project: &Project, call: &CallId) -> String {
        self.of(project, &format!("event.{call}"))
    }

    pub fn alert(self, project: &Project, rule: &str) -> String {
        self.of(project, &format!("alert.{rule}"))
    }

    /// The project that a subject of a caller names, as the server put it there.
    pub fn project_in(self, subject: &str) -> Option<Project> {
        match self {
            Tenancy::Single => Some(Project::default_project()),
            Tenancy::Projects => Project::parse(subject.split('.').nth(1)?).ok(),
        }
    }

    /// The last token: the request id of `…result.<id>` and `…cancel.<id>`.
    pub fn request_in(self, subject: &str) -> Option<RequestId> {
        RequestId::parse(subject.rsplit('.').next()?).ok()
    }
}

/// Work for the pool of workers.
pub const WORK: &str = "farebox.v1.work.default";
/// Cancels that intake says again to all workers.
pub const CANCEL: &str = "farebox.v1.cancel";
/// Requests that came in over HTTP, from the edge to intake.
pub const EDGE_REQUEST: &str = "farebox.v1.edge.request";
/// Cancels of the edge.
pub const EDGE_CANCEL: &str = "farebox.v1.edge.cancel";
/// Whether an answer to the edge may still come.
pub const EDGE_LOOKUP: &str = "farebox.v1.edge.lookup";
/// Questions about usage from farebox's own roles, about the project that the header names, or about all.
pub const USAGE: &str = "farebox.v1.usage";
pub const WORK_QUEUE: &str = "worker";
pub const INTAKE_QUEUE: &str = "intake";
pub const GUARD_QUEUE: &str = "guard";
pub const ACCOUNTING_QUEUE: &str = "accounting";

/// The one guard shard there is.
pub const SHARD: u32 = 0;

pub fn reserve(shard: u32) -> String {
    format!("farebox.v1.guard.{shard}.reserve")
}

pub fn amend(shard: u32) -> String {
    format!("farebox.v1.guard.{shard}.amend")
}

pub fn settle(shard: u32) -> String {
    format!("farebox.v1.guard.{shard}.settle")
}

pub fn release(shard: u32) -> String {
    format!("farebox.v1.guard.{shard}.release")
}

pub fn heartbeat(shard: u32) -> String {
    format!("farebox.v1.guard.{shard}.heartbeat")
}

pub fn lookup(shard: u32) -> String {
    format!("farebox.v1.guard.{shard}.lookup")
}

pub fn budgets(shard: u32) -> String {
    format!("farebox.v1.guard.{shard}.budgets")
}

pub fn books(shard: u32) -> String {
    format!("farebox.v1.guard.{shard}.books")
}

/// Everything that one guard shard answers.
pub fn guard_all(shard: u32) -> String {
    format!("farebox.v1.guard.{shard}.*")
}

/// The ledger's batches.
pub fn ledger(shard: u32) -> String {
    format!("farebox.v1.ledger.{shard}")
}

pub fn ledger_snapshot(shard: u32) -> String {
    format!("farebox.v1.ledger.{shard}.snapshot")
}

/// What the ledger stream captures.
pub const LEDGER_ALL: &str = "farebox.v1.ledger.>";

/// What intakes reserve while no guard leads.
pub fn grace(shard: u32) -> String {
    format!("farebox.v1.grace.{shard}")
}

/// What the grace stream captures.
pub const GRACE_ALL: &str = "farebox.v1.grace.>";

/// Asks accounting to compare the books now.
pub const BOOKS_CHECK: &str = "farebox.v1.accounting.check";

/// A stored job. One subject for each, so that it can be found by its id.
pub fn job(project: &Project, request: &RequestId) -> String {
    format!("farebox.v1.job.{project}.{request}")
}

/// Whose job a subject holds, and which.
pub fn of_job(subject: &str) -> Option<(Project, RequestId)> {
    let (project, request) = subject.strip_prefix("farebox.v1.job.")?.split_once('.')?;
    Some((Project::parse(project).ok()?, RequestId::parse(request).ok()?))
}

pub const JOBS_ALL: &str = "farebox.v1.job.*.*";

/// Whether an answer may go to a reply subject that a caller chose. Nobody makes farebox, which may publish more than
/// its callers, speak where the server, its roles or its other callers listen.
pub fn may_answer_to(subject: &str) -> bool {
    !(subject.starts_with('$') || subject.starts_with("farebox.") || subject.starts_with("llm."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_says_which_project_is_calling() {
        assert_eq!(Tenancy::Projects.project_in("llm.acme.request").unwrap().as_str(), "acme");
        assert_eq!(Tenancy::Projects.project_in("llm.request"), None);
        assert_eq!(Tenancy::Single.project_in("llm.request").unwrap().as_str(), "default");
    }

    #[test]
    fn a_reply_subject_is_no_lever() {
        for subject in ["_INBOX.a.b", "_R_.x.y", "agent.replies", "llms", ""] {
            assert!(may_answer_to(subject), "{subject}");
        }
        let levers = ["$JS.API.STREAM.DELETE.FAREBOX_LEDGER", "$SYS.REQ", "farebox.v1.ledger.0", "llm.acme.response.r"];
        for subject in levers {
            assert!(!may_answer_to(subject), "{subject}");
        }
    }

    #[test]
    fn a_subject_of_a_request_names_it() {
        let id = RequestId::parse("r-1").unwrap();
        let acme = Project::parse("acme").unwrap();
        let subject = Tenancy::Projects.response(&acme, &id);
        assert_eq!(subject, "llm.acme.response.r-1");
        assert_eq!(Tenancy::Projects.request_in(&subject), Some(id.clone()));
        assert_eq!(of_job(&job(&acme, &id)), Some((acme, id)));
        assert_eq!(of_job("farebox.v1.job.acme"), None);
    }
}
