//! The body of a request: whole, unpacked, bounded in size and time.

use std::{
    convert::Infallible,
    error::Error,
    future::ready,
    pin::Pin,
    task::{Context, Poll},
};

use axum::response::Response;
use bytes::{Bytes, BytesMut};
use farebox_types::{ByteSize, ErrorKind, Fault, Span};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version, header, request::Parts};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;
use tower::ServiceExt;
use tower_http::decompression::RequestDecompression;

use crate::{
    failure::{Shape, refusal},
    options::Options,
    room::Room,
};

/// What is unpacked.
const ENCODINGS: [&str; 5] = ["gzip", "deflate", "br", "zstd", "identity"];

/// Why there is no body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    TooLarge(ByteSize),
    Late(Span),
    Encoding(String),
    Broken(String),
    NoRoom(Fault),
}

impl Unread {
    pub(crate) fn response(self, shape: Shape) -> Response {
        let (kind, status, message) = match self {
            Unread::NoRoom(fault) => return refusal(shape, &fault),
            Unread::TooLarge(max) => {
                let message = format!("the body is too large: at most {max}, unpacked (edge.body_max)");
                (ErrorKind::TooLarge, StatusCode::PAYLOAD_TOO_LARGE, message)
            }
            Unread::Late(within) => {
                let message = format!("the body did not arrive within {within} (edge.body_timeout)");
                (ErrorKind::DeadlineExceeded, StatusCode::REQUEST_TIMEOUT, message)
            }
            Unread::Encoding(given) => {
                let message = format!("a body in `{given}` cannot be read here: send one of {}", ENCODINGS.join(", "));
                (ErrorKind::BadRequest, StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
            }
            Unread::Broken(reason) => {
                (ErrorKind::BadRequest, StatusCode::BAD_REQUEST, format!("the body cannot be read: {reason}"))
            }
        };
        let mut response = refusal(shape, &Fault::new(kind, message));
        *response.status_mut() = status;
        if status == StatusCode::REQUEST_TIMEOUT {
            // What is left of the body is not to be taken for the next request.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Reads the body, which takes room for as much as has come of it, however much is to come. Afterwards its headers say what
/// it is now: no encoding, no length.
pub(crate) async fn read(
    head: &mut Parts,
    mut incoming: Incoming,
    room: &mut Room,
    options: &Options,
) -> Result<Bytes, Unread> {
    let encoding = encoding(&head.headers)?;
    let (max, within) = (options.body_max.len(), options.body_timeout);
    if incoming.size_hint().lower() > options.body_max.0 {
        discard(head, incoming, options).await;
        return Err(Unread::TooLarge(options.body_max));
    }
    head.headers.remove(header::CONTENT_ENCODING);
    head.headers.remove(header::CONTENT_LENGTH);
    let (read, rest) = match encoding {
        None => {
            let reading = collect(&mut incoming, room, max, |error| Failure::of(&error));
            (timeout(within.get(), reading).await, Some(incoming))
        }
        Some(encoding) => (timeout(within.get(), unpack(incoming, encoding, room, max)).await, None),
    };
    let unread = match read {
        Ok(Ok(body)) => return Ok(body),
        Ok(Err(Failure::TooLarge)) => Unread::TooLarge(options.body_max),
        Ok(Err(Failure::NoRoom(fault))) => Unread::NoRoom(fault),
        Ok(Err(Failure::Broken(reason))) => return Err(Unread::Broken(reason)),
        Err(_) => return Err(Unread::Late(within)),
    };
    room.give_back();
    if let Some(rest) = rest {
        discard(head, rest, options).await;
    }
    Err(unread)
}

/// Lets a client finish sending what nobody will read, so that it hears why: many look at the answer only then. Within the
/// bounds of any body; not if the client waits to be asked for it, nor over HTTP/2, which can say to send no more.
pub(crate) async fn discard(head: &Parts, mut incoming: Incoming, options: &Options) {
    let can_stop = head.version == Version::HTTP_2 || head.headers.contains_key(header::EXPECT);
    if can_stop || incoming.size_hint().lower() > options.body_max.0 * 2 {
        return;
    }
    let discarding = async {
        let mut left = options.body_max.0;
        while let Some(Ok(frame)) = incoming.frame().await {
            let size = frame.data_ref().map_or(0, |data| data.len() as u64);
            let Some(less) = left.checked_sub(size) else { return };
            left = less;
        }
    };
    // It was for the client's sake only.
    let _late = timeout(options.body_timeout.get(), discarding).await;
}

/// How the body is packed: once, or not at all.
fn encoding(headers: &HeaderMap) -> Result<Option<HeaderValue>, Unread> {
    let mut given = headers.get_all(header::CONTENT_ENCODING).iter();
    let Some(first) = given.next() else { return Ok(None) };
    let text = first.to_str().unwrap_or("?").trim().to_ascii_lowercase();
    if given.next().is_some() {
        return Err(Unread::Encoding(format!("{text} and another")));
    }
    if !ENCODINGS.contains(&text.as_str()) {
        return Err(Unread::Encoding(text.chars().take(40).collect()));
    }
    let packed = text != "identity";
    Ok(HeaderValue::from_str(&text).ok().filter(|_| packed))
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("too large")]
    TooLarge,
    #[error(transparent)]
    NoRoom(Fault),
    #[error("{0}")]
    Broken(String),
}

impl Failure {
    fn of(error: &(dyn Error + 'static)) -> Failure {
        let too_large = |cause: &(dyn Error + 'static)| matches!(cause.downcast_ref(), Some(Failure::TooLarge));
        if chain(error).any(too_large) {
            return Failure::TooLarge;
        }
        Failure::Broken(chain(error).last().map(ToString::to_string).unwrap_or_default())
    }
}

/// No more than so many bytes. (`Limited` has boxed errors, which a body that is unpacked cannot have.)
struct Bounded {
    incoming: Incoming,
    left: usize,
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let Some(frame) = std::task::ready!(Pin::new(&mut self.incoming).poll_frame(cx)) else {
            return Poll::Ready(None);
        };
        let frame = frame.map_err(|error| Failure::of(&error))?;
        let size = frame.data_ref().map_or(0, Bytes::len);
        self.left = self.left.checked_sub(size).ok_or(Failure::TooLarge)?;
        Poll::Ready(Some(Ok(frame)))
    }
}

async fn collect<B>(
    body: &mut B,
    room: &mut Room,
    max: usize,
    failure: fn(B::Error) -> Failure,
) -> Result<Bytes, Failure>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let (mut first, mut whole) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        // What is no data is a trailer.
        let Ok(data) = frame.map_err(failure)?.into_data() else { continue };
        let size = first.len() + whole.len() + data.len();
        if size > max {
            return Err(Failure::TooLarge);
        }
        room.hold(size).map_err(Failure::NoRoom)?;
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

async fn unpack(incoming: Incoming, encoding: HeaderValue, room: &mut Room, max: usize) -> Result<Bytes, Failure> {
    let mut packed = Request::new(Bounded { incoming, left: max });
    packed.headers_mut().insert(header::CONTENT_ENCODING, encoding);
    let echo = tower::service_fn(|request: Request<_>| ready(Ok::<_, Infallible>(Response::new(request.into_body()))));
    let mut unpacked = match RequestDecompression::new(echo).oneshot(packed).await {
        Ok(unpacked) => unpacked.into_body(),
        Err(never) => match never {},
    };
    collect(&mut unpacked, room, max, |error| Failure::of(&*error)).await
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}
