//! Accounts at run time.

use std::time::Duration;

use farebox_bus::{Bus, Headers};
use farebox_types::Project;
use serde_json::Value;

use crate::{accounts::Accounts, error::IdentityError};

const UPDATE: &str = "$SYS.REQ.CLAIMS.UPDATE";

/// Gives the server the account of a project. `system` is a connection of the system account. From its answer on, keys
/// of the project connect; to do it again changes nothing.
pub async fn push_account(
    system: &Bus,
    accounts: &Accounts,
    project: &Project,
    within: Duration,
) -> Result<(), IdentityError> {
    let token = accounts.project(project)?;
    let answer = system.request(UPDATE, Headers::new(), token.into(), within).await;
    let answer = answer.map_err(|source| IdentityError::PushCall { project: project.to_string(), source })?;
    let said: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
    if said["data"]["code"] == 200 {
        return Ok(());
    }
    let reason = said["error"]["description"].as_str().or_else(|| said["data"]["message"].as_str());
    Err(IdentityError::Push {
        project: project.to_string(),
        reason: reason.unwrap_or("the answer cannot be understood").to_owned(),
    })
}
