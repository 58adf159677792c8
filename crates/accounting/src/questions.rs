//! Questions about usage: read, asked of ClickHouse for the caller's own project (for any where a role of farebox asks),
//! answered in the form they came in.

use bytes::Bytes;
use farebox_bus::{Bus, Delivery, Headers, Subscription, caller};
use farebox_clickhouse::{Certainty, Client, Error as ClickHouseError, GroupBy, Period, UsageSum};
use farebox_proto::{
    headers, json,
    subjects::{self, Tenancy},
    v1,
};
use farebox_types::{ErrorKind, Fault, Project};
use prost::Message;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{options::Options, rows::call_fact, service::Deps};

/// Whoever answers.
#[derive(Clone)]
pub(crate) struct Questions {
    bus: Bus,
    tenancy: Tenancy,
    clickhouse: Client,
    questions_max: usize,
    groups_max: u32,
    recent_max: u32,
}

/// The JSON form. All fields may be absent.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct JsonQuery {
    group_by: GroupBy,
    from_unix_ms: i64,
    until_unix_ms: i64,
    recent: u32,
}

/// A question, whatever form it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Question {
    by: GroupBy,
    period: Period,
    recent: u32,
}

impl Questions {
    pub(crate) fn new(options: &Options, deps: &Deps) -> Questions {
        Questions {
            bus: deps.bus.clone(),
            tenancy: deps.tenancy,
            clickhouse: deps.clickhouse.clone(),
            questions_max: options.questions_max.max(1),
            groups_max: options.groups_max,
            recent_max: options.recent_max,
        }
    }

    /// Answers until the subscription ends.
    pub(crate) async fn serve(self, mut callers: Subscription, mut roles: Subscription) {
        let mut answering = JoinSet::new();
        loop {
            let next = tokio::select! {
                next = callers.next() => next,
                next = roles.next() => next,
            };
            let Some(delivery) = next else { break };
            while answering.len() >= self.questions_max {
                answering.join_next().await;
            }
            while answering.try_join_next().is_some() {}
            let questions = self.clone();
            answering.spawn(async move { questions.answer(&delivery).await });
        }
        while answering.join_next().await.is_some() {}
    }

    async fn answer(&self, delivery: &Delivery) {
        let Some(reply) = delivery.reply.as_ref().filter(|reply| subjects::may_answer_to(reply)) else {
            return;
        };
        // A protobuf question whose fields are all default is empty too: its header tells.
        let is_protobuf = delivery.headers.get(headers::CONTENT_TYPE) == Some(headers::PROTOBUF);
        let is_json = !is_protobuf && is_json(&delivery.payload);
        let report = match self.report(delivery, is_json).await {
            Ok(report) => report,
            Err(fault) => v1::UsageReport { error: Some(fault.into()), ..v1::UsageReport::default() },
        };
        let body = if is_json { as_json(&report) } else { report.encode_to_vec() };
        if let Err(error) = self.bus.publish(reply, Headers::new(), Bytes::from(body)).await {
            tracing::debug!(%error, "an answer about usage was not sent");
        }
    }

    async fn report(&self, delivery: &Delivery, is_json: bool) -> Result<v1::UsageReport, Fault> {
        let question = read(&delivery.payload, is_json)?;
        let project = match delivery.subject == subjects::USAGE {
            true => asked_about(delivery)?,
            // A caller sees its own project.
            false => Some(caller(delivery, self.tenancy)?.project),
        };
        self.ask(project.as_ref(), question).await.map_err(|error| fault(&error))
    }

    async fn ask(&self, project: Option<&Project>, question: Question) -> Result<v1::UsageReport, ClickHouseError> {
        let mut report = v1::UsageReport::default();
        if question.recent > 0 {
            let max = question.recent.min(self.recent_max);
            let rows = self.clickhouse.recent_calls(project, question.period, max).await?;
            report.calls = rows.into_iter().map(call_fact).collect();
        } else {
            let sums = self.clickhouse.usage(project, question.by, question.period, self.groups_max).await?;
            report.rows = sums.into_iter().map(usage_row).collect();
        }
        Ok(report)
    }
}

/// The project that a role of farebox asks about; none: all.
fn asked_about(delivery: &Delivery) -> Result<Option<Project>, Fault> {
    let name = delivery.headers.get(headers::PROJECT).filter(|name| !name.is_empty());
    let bad = |error: farebox_types::InvalidName| Fault::new(ErrorKind::BadRequest, error.to_string());
    name.map(Project::parse).transpose().map_err(bad)
}

/// Nothing at all is a JSON question too: `nats req llm.usage ''`.
fn is_json(payload: &[u8]) -> bool {
    payload.is_empty() || payload.trim_ascii_start().first() == Some(&b'{')
}

fn read(payload: &[u8], is_json: bool) -> Result<Question, Fault> {
    let bad =
        |reason: String| Fault::new(ErrorKind::BadRequest, format!("the question about usage is malformed: {reason}"));
    if is_json {
        let query: JsonQuery = match payload {
            [] => JsonQuery::default(),
            text => serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?,
        };
        let period = Period::new(query.from_unix_ms, query.until_unix_ms);
        return Ok(Question { by: query.group_by, period, recent: query.recent });
    }
    let query = v1::UsageQuery::decode(payload).map_err(|error| bad(error.to_string()))?;
    let by = match query.group_by() {
        v1::usage_query::GroupBy::Unspecified | v1::usage_query::GroupBy::Model => GroupBy::Model,
        v1::usage_query::GroupBy::Provider => GroupBy::Provider,
        v1::usage_query::GroupBy::Project => GroupBy::Project,
        v1::usage_query::GroupBy::Task => GroupBy::Task,
        v1::usage_query::GroupBy::Actor => GroupBy::Actor,
    };
    Ok(Question { by, period: Period::new(query.from_unix_ms, query.until_unix_ms), recent: query.recent })
}

fn fault(error: &ClickHouseError) -> Fault {
    match error.certainty() {
        Certainty::Retryable | Certainty::Unclear => Fault::new(
            ErrorKind::Unavailable,
            format!("usage cannot be told at the moment, and nothing is lost: {error}"),
        ),
        Certainty::Final => {
            tracing::warn!(%error, "a question about usage failed");
            Fault::new(
                ErrorKind::Unavailable,
                "usage cannot be told: accounting and ClickHouse do not agree, see the log",
            )
        }
    }
}

fn usage_row(sum: UsageSum) -> v1::UsageRow {
    v1::UsageRow {
        group: sum.group,
        calls: sum.calls,
        errors: sum.errors,
        input_tokens: sum.input_tokens,
        output_tokens: sum.output_tokens,
        cached_tokens: sum.cached_tokens,
        cost: Some(sum.cost.into()),
    }
}

/// `{"rows": […], "calls": […]}`, calls in the form of `llm.event`; or `{"error": {…}}`.
fn as_json(report: &v1::UsageReport) -> Vec<u8> {
    if let Some(error) = &report.error {
        return json!({ "error": json::error_body(error) }).to_string().into_bytes();
    }
    let row = |row: &v1::UsageRow| {
        json!({
            "group": row.group,
            "calls": row.calls,
            "errors": row.errors,
            "input_tokens": row.input_tokens,
            "output_tokens": row.output_tokens,
            "cached_tokens": row.cached_tokens,
            "cost_usd": v1::Money::of(&row.cost).to_string(),
        })
    };
    let rows: Vec<Value> = report.rows.iter().map(row).collect();
    let call = |fact: &v1::CallFact| serde_json::from_slice(&json::event(fact)).unwrap_or(Value::Null);
    let calls: Vec<Value> = report.calls.iter().map(call).collect();
    json!({ "rows": rows, "calls": calls }).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_ask_the_same() {
        let text = br#" {"group_by":"task","from_unix_ms":5,"until_unix_ms":9,"recent":3}"#;
        assert!(is_json(text));
        let query = v1::UsageQuery {
            group_by: v1::usage_query::GroupBy::Task.into(),
            from_unix_ms: 5,
            until_unix_ms: 9,
            recent: 3,
        };
        let bytes = query.encode_to_vec();
        assert!(!is_json(&bytes));
        assert_eq!(read(text, true), read(&bytes, false));
        assert_eq!(read(text, true).unwrap().by, GroupBy::Task);
    }

    #[test]
    fn no_question_is_the_whole_time_by_model() {
        assert!(is_json(b""));
        let question = read(b"", true).unwrap();
        assert_eq!(question, Question { by: GroupBy::Model, period: Period::new(0, Period::END), recent: 0 });
    }

    #[test]
    fn what_is_misspelt_is_refused() {
        for bad in [r#"{"groupby":"model"}"#, r#"{"group_by":"colour"}"#, "{"] {
            let fault = read(bad.as_bytes(), true).unwrap_err();
            assert_eq!(fault.kind, ErrorKind::BadRequest, "{bad}");
        }
        assert_eq!(read(b"\xff", false).unwrap_err().kind, ErrorKind::BadRequest);
    }

    #[test]
    fn money_is_text_in_json() {
        let report = v1::UsageReport {
            rows: vec![v1::UsageRow { cost: Some(v1::Money { usd: 0, pico: 10_500_000_000 }), ..Default::default() }],
            ..Default::default()
        };
        let value: Value = serde_json::from_slice(&as_json(&report)).unwrap();
        assert_eq!(value["rows"][0]["cost_usd"], "0.0105");
    }
}
