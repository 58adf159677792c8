//! Something with an end that is fetched when it is needed, once for all who wait.

use std::time::Duration;

use farebox_types::Timestamp;
use tokio::sync::Mutex;

/// How long before its end a thing is fetched again.
const MARGIN: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(crate) struct Held<T>(Mutex<Option<(T, Option<Timestamp>)>>);

impl<T: Clone> Held<T> {
    pub(crate) fn new() -> Held<T> {
        Held(Mutex::new(None))
    }

    /// What is held, or what `fetch` brings: a value and when it ends (`None`: never).
    pub(crate) async fn get<E>(
        &self,
        now: Timestamp,
        fetch: impl Future<Output = Result<(T, Option<Timestamp>), E>>,
    ) -> Result<T, E> {
        let mut held = self.0.lock().await;
        if let Some((value, ends)) = held.as_ref()
            && ends.is_none_or(|ends| now.after(MARGIN) < ends)
        {
            return Ok(value.clone());
        }
        let fetched = fetch.await?;
        let value = fetched.0.clone();
        *held = Some(fetched);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn it_is_fetched_once_and_again_before_it_ends() {
        let (held, fetches) = (Held::new(), AtomicU32::new(0));
        let get = async |at: i64, ends: Option<i64>| {
            let fetch = async { Ok::<_, Infallible>((fetches.fetch_add(1, Ordering::Relaxed), ends.map(Timestamp))) };
            let Ok(value) = held.get(Timestamp(at), fetch).await;
            value
        };
        assert_eq!(get(0, Some(3_600_000)).await, 0);
        assert_eq!(get(3_400_000, Some(1)).await, 0);
        assert_eq!(get(3_500_000, None).await, 1, "it is about to end");
        assert_eq!(get(i64::MAX - 200_000, None).await, 1, "it never ends");
    }
}
