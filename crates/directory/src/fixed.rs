//! What the config says, and the bucket does not change.

use std::sync::Arc;

use farebox_policy::Policies;
use tokio::sync::watch;

/// The policies of the config. They may be others after the config has changed.
#[derive(Clone, Debug)]
pub struct Fixed(watch::Receiver<Arc<Policies>>);

impl Fixed {
    pub(crate) fn now(&self) -> Arc<Policies> {
        self.0.borrow().clone()
    }

    /// Once they have changed; `false`: they will not change any more.
    pub(crate) async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

impl From<watch::Receiver<Arc<Policies>>> for Fixed {
    fn from(policies: watch::Receiver<Arc<Policies>>) -> Fixed {
        Fixed(policies)
    }
}

/// Those of a config that does not change.
impl From<Arc<Policies>> for Fixed {
    fn from(policies: Arc<Policies>) -> Fixed {
        Fixed(watch::channel(policies).1)
    }
}

impl From<Policies> for Fixed {
    fn from(policies: Policies) -> Fixed {
        Arc::new(policies).into()
    }
}
