use std::time::Duration;

use tokio::time::Instant;

/// Long enough for a loaded machine; a test that needs this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

/// Waits until the condition holds, and panics with `what` if it does not within `timeout`.
pub async fn eventually<F: Future<Output = bool>>(timeout: Duration, what: &str, mut condition: impl FnMut() -> F) {
    let give_up = Instant::now() + timeout;
    while !condition().await {
        assert!(Instant::now() < give_up, "not within {timeout:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}
