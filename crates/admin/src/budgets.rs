//! Budgets, and what was spent of them.

use farebox_proto::v1 as wire;
use farebox_types::Money;
use tonic::{Request, Response};

use crate::{
    api::{Answer, Api, counts, reply, required},
    deed::Deed,
    paging::Page,
    refusal::Refusal,
    v1::{self, budget_service_server::BudgetService},
};

#[tonic::async_trait]
impl BudgetService for Api {
    async fn create_budget(&self, request: Request<v1::CreateBudgetRequest>) -> Answer<v1::BudgetRecord> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        let budget = required("budget", request.into_inner().budget)?;
        reply(self.entities().create(&deed, budget).await)
    }

    async fn get_budget(&self, request: Request<v1::GetBudgetRequest>) -> Answer<v1::BudgetRecord> {
        reply(self.entities().get::<wire::Budget>(&request.get_ref().name).await)
    }

    async fn list_budgets(&self, request: Request<v1::ListBudgetsRequest>) -> Answer<v1::ListBudgetsResponse> {
        let ask = request.into_inner();
        let page = Page::read(ask.page_size, &ask.page_token)?;
        let (budgets, next_page_token) = self.entities().list::<wire::Budget>(&page, |_| true).await?;
        let budgets = budgets.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListBudgetsResponse { budgets, next_page_token }))
    }

    async fn update_budget(&self, request: Request<v1::UpdateBudgetRequest>) -> Answer<v1::BudgetRecord> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        let budget = required("budget", request.into_inner().budget)?;
        reply(self.entities().update(&deed, &budget.name, |_| Ok(budget.clone())).await)
    }

    async fn delete_budget(&self, request: Request<v1::DeleteBudgetRequest>) -> Answer<v1::DeleteBudgetResponse> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        self.entities().delete::<wire::Budget>(&deed, &request.get_ref().name, |_| Ok(())).await?;
        Ok(Response::new(v1::DeleteBudgetResponse {}))
    }

    async fn raise_budget(&self, request: Request<v1::RaiseBudgetRequest>) -> Answer<v1::BudgetRecord> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        let ask = request.into_inner();
        let raise = raise(&ask, &deed)?;
        let raised = |budget: &wire::Budget| {
            if budget.raises.len() >= RAISES_MAX {
                return Err(Refusal::field(
                    "name",
                    format!("the budget has {RAISES_MAX} raises: update it without the old ones"),
                ));
            }
            let mut budget = budget.clone();
            budget.raises.push(raise.clone());
            Ok(budget)
        };
        reply(self.entities().update(&deed, &ask.name, raised).await)
    }

    async fn get_budget_status(&self, request: Request<v1::GetBudgetStatusRequest>) -> Answer<v1::BudgetStatusReport> {
        let ask = request.into_inner();
        if !ask.name.is_empty() {
            self.entities().get::<wire::Budget>(&ask.name).await?;
        }
        let status = self.guard_status(&ask.name, if ask.subject.is_empty() { counts(ask.max) } else { 0 }).await?;
        let mut windows = status.budgets;
        windows.retain(|window| ask.subject.is_empty() || window.subject == ask.subject);
        windows.truncate(counts(ask.max) as usize);
        let (open, waiting, sequence) = (status.open, status.waiting, status.sequence);
        Ok(Response::new(v1::BudgetStatusReport { windows, open, waiting, sequence }))
    }
}

/// The most raises that one budget keeps.
const RAISES_MAX: usize = 100;

fn raise(ask: &v1::RaiseBudgetRequest, deed: &Deed) -> Result<wire::BudgetRaise, Refusal> {
    let now = deed.at().millis();
    let from = if ask.from_unix_ms == 0 { now } else { ask.from_unix_ms };
    let mut wrong = Vec::new();
    if wire::Money::of(&ask.by) <= Money::ZERO {
        wrong.push(("by", "must be above zero: to lower a budget, update its limit"));
    }
    if ask.until_unix_ms <= from.max(now) {
        wrong.push(("until_unix_ms", "must be later than now and than from_unix_ms"));
    }
    if deed.reason.trim().is_empty() {
        wrong.push(("write.reason", "a raise needs a reason"));
    }
    if !wrong.is_empty() {
        let wrong = wrong.into_iter().map(|(path, message)| (path.to_owned(), message.to_owned())).collect();
        return Err(Refusal::fields(wrong));
    }
    Ok(wire::BudgetRaise {
        by: ask.by,
        from_unix_ms: from,
        until_unix_ms: ask.until_unix_ms,
        reason: deed.reason.clone(),
        admin: deed.admin.id.clone(),
        subject: ask.subject.clone(),
    })
}
