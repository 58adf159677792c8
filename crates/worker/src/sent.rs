//! Whether a request has left: what was never written is billed by nobody.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Set once the HTTP client has taken the body for a connection that stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<AtomicBool>);

impl Sent {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// A body that says when it is taken.
    pub(crate) fn watch(&self, bytes: Bytes) -> Watched {
        Watched { bytes: Some(bytes), sent: self.clone() }
    }
}

pub(crate) struct Watched {
    bytes: Option<Bytes>,
    sent: Sent,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.sent.0.store(true, Ordering::Release);
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn post(url: String, sent: &Sent) -> Result<reqwest::Response, reqwest::Error> {
        let body = reqwest::Body::wrap(sent.watch(Bytes::from_static(b"hello")));
        reqwest::Client::new().post(url).body(body).send().await
    }

    #[tokio::test]
    async fn a_request_that_no_connection_takes_was_not_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let sent = Sent::default();
        assert!(post(url, &sent).await.is_err());
        assert!(!sent.is_set());
    }

    #[tokio::test]
    async fn a_request_that_arrives_was_sent_and_says_its_length() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"hello") {
                assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            String::from_utf8(seen).unwrap().to_ascii_lowercase()
        };
        let sent = Sent::default();
        let (answer, seen) = tokio::join!(post(url, &sent), serve);
        assert_eq!(answer.unwrap().status(), 204);
        assert!(seen.contains("content-length: 5"), "{seen}");
        assert!(sent.is_set());
    }
}
