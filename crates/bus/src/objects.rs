//! Bodies too large for one message: stored in parts for a limited time, referred to by name.
//!
//! Few of them are on their way at a time, each one part after the other: on a connection small messages go their way in
//! between.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farebox_proto::v1;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::{
    connect::Bus,
    error::{ObjectError, StreamError},
    headers::Headers,
    store::Fence,
    stream::{Discard, StreamSpec},
};

/// Where a stored body is and what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    pub bucket: String,
    pub name: String,
    pub size: u64,
    /// SHA-256, in lower-case hexadecimal.
    pub digest: String,
}

impl From<ObjectRef> for v1::ObjectRef {
    fn from(ObjectRef { bucket, name, size, digest }: ObjectRef) -> v1::ObjectRef {
        v1::ObjectRef { bucket, name, size, digest }
    }
}

impl From<v1::ObjectRef> for ObjectRef {
    fn from(v1::ObjectRef { bucket, name, size, digest }: v1::ObjectRef) -> ObjectRef {
        ObjectRef { bucket, name, size, digest }
    }
}

pub(crate) fn bodies_spec(bucket: &str, max_bytes: u64, max_age: Duration, replicas: u8) -> StreamSpec {
    let subjects = format!("$O.{bucket}.C.>");
    StreamSpec {
        max_age: Some(max_age),
        discard: Discard::New,
        replicas,
        ..StreamSpec::new(&stream_name(bucket), &[&subjects], max_bytes)
    }
}

fn stream_name(bucket: &str) -> String {
    format!("OBJ_{bucket}")
}

fn text_of(digest: Sha256) -> String {
    data_encoding::HEXLOWER.encode(&digest.finalize())
}

impl Bus {
    fn object_max(&self) -> usize {
        usize::try_from(self.0.options.object_max.0).unwrap_or(usize::MAX)
    }

    /// Waits for its turn, and moves a body.
    async fn moved<T>(
        &self,
        within: Duration,
        moving: impl Future<Output = Result<T, ObjectError>>,
    ) -> Result<T, ObjectError> {
        let moved = async {
            let _turn = self.0.transfers.acquire().await.expect("it is never closed");
            moving.await
        };
        timeout(within, moved).await.unwrap_or(Err(ObjectError::Late { after: within }))
    }

    /// Stores a body. The time spent waiting for its turn counts towards `within`.
    pub async fn put_object(&self, bucket: &str, body: Bytes, within: Duration) -> Result<ObjectRef, ObjectError> {
        let max = self.object_max();
        if body.len() > max {
            return Err(ObjectError::TooLarge { size: body.len(), max });
        }
        self.moved(within, self.put_parts(bucket, body)).await
    }

    async fn put_parts(&self, bucket: &str, body: Bytes) -> Result<ObjectRef, ObjectError> {
        let options = &self.0.options;
        let name = data_encoding::BASE32_NOPAD.encode(&rand::random::<[u8; 16]>());
        let subject = format!("$O.{bucket}.C.{name}");
        let part = usize::try_from(options.object_chunk.0).unwrap_or(usize::MAX).clamp(1, self.max_payload().max(1));
        let (mut rest, mut digest) = (body.clone(), Sha256::new());
        while !rest.is_empty() {
            let chunk = rest.split_to(part.min(rest.len()));
            // Of the whole at once would hold up everything else.
            digest.update(&chunk);
            self.store(&subject, Headers::new(), Fence::none(), chunk, options.api_timeout.get()).await?;
        }
        Ok(ObjectRef { bucket: bucket.to_owned(), name, size: body.len() as u64, digest: text_of(digest) })
    }

    /// Fetches a stored body and checks that it is the one that was stored. The time spent waiting for its turn counts towards
    /// `within`.
    pub async fn get_object(&self, object: &ObjectRef, within: Duration) -> Result<Bytes, ObjectError> {
        let max = self.object_max();
        let size = usize::try_from(object.size).unwrap_or(usize::MAX);
        if size > max {
            return Err(ObjectError::TooLarge { size, max });
        }
        self.moved(within, self.get_parts(object, size)).await
    }

    async fn get_parts(&self, object: &ObjectRef, size: usize) -> Result<Bytes, ObjectError> {
        let subject = format!("$O.{}.C.{}", object.bucket, object.name);
        let gone = || ObjectError::Gone { name: object.name.clone() };
        let corrupt = || ObjectError::Corrupt { name: object.name.clone() };
        let mut parts = match self.read_from(&stream_name(&object.bucket), &subject, 1).await {
            Err(StreamError::NotFound { .. }) => return Err(gone()),
            other => other?.by(1),
        };
        let (mut body, mut digest) = (BytesMut::with_capacity(size), Sha256::new());
        while let Some(part) = parts.next().await? {
            if body.len() + part.payload.len() > size {
                return Err(corrupt());
            }
            digest.update(&part.payload);
            body.extend_from_slice(&part.payload);
        }
        if body.is_empty() && size > 0 {
            return Err(gone());
        }
        if body.len() != size || text_of(digest) != object.digest {
            return Err(corrupt());
        }
        Ok(body.freeze())
    }

    /// Removes a stored body before its time.
    pub async fn delete_object(&self, object: &ObjectRef) -> Result<(), ObjectError> {
        let subject = format!("$O.{}.C.{}", object.bucket, object.name);
        self.purge_up_to(&stream_name(&object.bucket), &subject, u64::MAX - 1).await?;
        Ok(())
    }
}
