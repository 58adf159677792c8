//! Messages that need not travel: a role of this process that listens on one of farebox's own subjects takes them
//! directly. Same subjects, same meaning, no server in between.
//!
//! Only for queue groups on internal subjects: there one member of the group is enough, and the near one will do. Whoever
//! connects with a connection of its own (another process, a caller) goes through the server as ever.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use tokio::sync::mpsc::{self, error::TrySendError};

use crate::delivery::Delivery;

/// Below this, subjects are farebox's own.
const INTERNAL: &str = "farebox.v1.";

/// How far a message may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To a listener of this process, where there is one; else wherever the server sends it.
    Near,
    /// Wherever the server sends it.
    Far,
}

pub(crate) fn is_internal(subject: &str) -> bool {
    subject.starts_with(INTERNAL)
}

/// The listeners of this process, by what they subscribed to.
#[derive(Default)]
pub(crate) struct Near {
    listeners: RwLock<HashMap<String, Vec<mpsc::Sender<Delivery>>>>,
}

impl Near {
    /// Takes part in what is published in this process, if the subscription is of the kind that may.
    pub(crate) fn listen(
        &self,
        subject: &str,
        group: Option<&str>,
        capacity: usize,
    ) -> Option<mpsc::Receiver<Delivery>> {
        group.filter(|_| is_internal(subject))?;
        let (to, from) = mpsc::channel(capacity.max(1));
        let mut listeners = self.listeners.write().unwrap_or_else(PoisonError::into_inner);
        let members = listeners.entry(subject.to_owned()).or_default();
        members.retain(|member| !member.is_closed());
        members.push(to);
        Some(from)
    }

    /// Hands a message to a listener. It comes back where there is none, or none with room.
    pub(crate) fn deliver(&self, mut message: Delivery) -> Option<Delivery> {
        if !is_internal(&message.subject) {
            return Some(message);
        }
        let listeners = self.listeners.read().unwrap_or_else(PoisonError::into_inner);
        let above = || Some(format!("{}.*", message.subject.rsplit_once('.')?.0));
        let members = listeners.get(&message.subject).or_else(|| listeners.get(&above()?));
        for member in members.into_iter().flatten() {
            match member.try_send(message) {
                Ok(()) => return None,
                Err(TrySendError::Full(back) | TrySendError::Closed(back)) => message = back,
            }
        }
        Some(message)
    }
}
