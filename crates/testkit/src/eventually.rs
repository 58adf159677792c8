use std::time::Duration;

use tokio::time::Instant;

/// Long enough for a loaded machine; a test that needs this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// Waits until the condition holds, and panics with `what` if it does not within `timeout`.
///
/// A look may take long and then tells how things stood when it began: the last one begins when the time is over.
pub async fn eventually<F: Future<Output = bool>>(timeout: Duration, what: &str, mut condition: impl FnMut() -> F) {
    let give_up = Instant::now() + timeout;
    loop {
        let began = Instant::now();
        if condition().await {
            return;
        }
        assert!(began < give_up, "not within {timeout:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}
