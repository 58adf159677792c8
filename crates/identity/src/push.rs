//! Accounts at run time.

use std::time::Duration;

use farebox_bus::{Bus, Headers};
use farebox_types::Project;
use serde_json::Value;

use crate::{accounts::Accounts, error::IdentityError, jwt};

const UPDATE: &str = "$SYS.REQ.CLAIMS.UPDATE";
const LIST: &str = "$SYS.REQ.CLAIMS.LIST";

/// Gives the server the account of a project. `system` is a connection of the system account. From its answer on, keys
/// of the project connect.
///
/// An account that the server has already is not pushed again: nats-server 2.15.1 then drops the account's service
/// imports, and requests of the project reach nobody.
pub async fn push_account(
    system: &Bus,
    accounts: &Accounts,
    project: &Project,
    within: Duration,
) -> Result<(), IdentityError> {
    let token = accounts.project(project)?;
    if has_same(system, &token, within).await {
        return Ok(());
    }
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

/// Whether the server has this account with these very rights. When that cannot be told, the push will tell.
async fn has_same(system: &Bus, token: &str, within: Duration) -> bool {
    let Ok(wanted) = jwt::read(token) else { return false };
    let Some(key) = wanted["sub"].as_str() else { return false };
    let Ok(listed) = system.request(LIST, Headers::new(), Default::default(), within).await else { return false };
    let listed: Value = serde_json::from_slice(&listed.payload).unwrap_or_default();
    let known = listed["data"].as_array().is_some_and(|keys| keys.iter().any(|known| known == key));
    if !known {
        return false;
    }
    let look_up = format!("$SYS.REQ.ACCOUNT.{key}.CLAIMS.LOOKUP");
    let Ok(present) = system.request(&look_up, Headers::new(), Default::default(), within).await else { return false };
    let present = jwt::read(&String::from_utf8_lossy(&present.payload));
    present.is_ok_and(|present| present["nats"] == wanted["nats"] && present["name"] == wanted["name"])
}
