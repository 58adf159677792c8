//! Subscriptions.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::mpsc;

use crate::{connect::Bus, delivery::Delivery, error::SubscribeError};

impl Bus {
    /// Subscribes; with a group, each message goes to one member of it. [`Bus::flush`] afterwards makes sure that the
    /// server knows before anything else is done.
    pub async fn subscribe(&self, subject: &str, group: Option<&str>) -> Result<Subscription, SubscribeError> {
        let client = &self.0.client;
        let to = subject.to_owned();
        let subscribed = match group {
            None => client.subscribe(to).await,
            Some(group) => client.queue_subscribe(to, group.to_owned()).await,
        };
        let inner = subscribed.map_err(|error| match error.kind() {
            async_nats::client::SubscribeErrorKind::Other => {
                SubscribeError::Disconnected { subject: subject.to_owned() }
            }
            _ => SubscribeError::BadSubject { subject: subject.to_owned() },
        })?;
        let near = self.0.near.listen(subject, group, self.0.options.subscription_capacity);
        Ok(Subscription { inner, near, near_first: false })
    }
}

/// What arrives on a subject, also after the connection was made again. Holds at most `subscription_capacity`
/// messages; more are lost and counted (`slow_consumers`).
pub struct Subscription {
    inner: async_nats::Subscriber,
    /// What comes from this very process.
    near: Option<mpsc::Receiver<Delivery>>,
    /// Both are looked at in turn, so that neither starves the other.
    near_first: bool,
}

impl Subscription {
    /// The next message; `None` once the subscription was stopped or the connection closed for good.
    pub async fn next(&mut self) -> Option<Delivery> {
        poll_fn(|cx| self.poll_delivery(cx)).await
    }

    /// A message that is already here.
    pub fn try_next(&mut self) -> Option<Delivery> {
        self.next().now_or_never().flatten()
    }

    fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.near_first = !self.near_first;
        if self.near_first
            && let Poll::Ready(Some(delivery)) = self.poll_near(cx)
        {
            return Poll::Ready(Some(delivery));
        }
        let far = self.inner.poll_next_unpin(cx).map(|message| message.map(Delivery::from));
        if let Poll::Ready(Some(_)) = &far {
            return far;
        }
        // Once the server's side has ended, what waits here still comes out, then the end.
        match self.poll_near(cx) {
            Poll::Ready(Some(delivery)) => Poll::Ready(Some(delivery)),
            _ => far,
        }
    }

    fn poll_near(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.near.as_mut().map_or(Poll::Ready(None), |near| near.poll_recv(cx))
    }

    /// Waits for one message and takes what else has queued up meanwhile, `max` at most. Empty at the end.
    pub async fn next_batch(&mut self, max: usize) -> Vec<Delivery> {
        let Some(first) = self.next().await else {
            return Vec::new();
        };
        let mut batch = vec![first];
        while batch.len() < max {
            match self.try_next() {
                Some(delivery) => batch.push(delivery),
                None => break,
            }
        }
        batch
    }

    /// Asks the server for no more messages. Those that arrived before still come out, then the end.
    pub async fn stop(&mut self) {
        if let Some(near) = &mut self.near {
            near.close();
        }
        // It fails only when the connection is closed, and then the subscription has ended anyway.
        let _ = self.inner.drain().await;
    }
}

impl Stream for Subscription {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.poll_delivery(cx)
    }
}
