//! ClickHouse's RowBinary: values one after the other, without names.

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

/// Writes values in the order of the columns.
#[derive(Default)]
pub(crate) struct RowBinary(BytesMut);

impl RowBinary {
    pub(crate) fn with_capacity(bytes: usize) -> RowBinary {
        RowBinary(BytesMut::with_capacity(bytes))
    }

    pub(crate) fn into_bytes(self) -> bytes::Bytes {
        self.0.freeze()
    }

    pub(crate) fn uuid(&mut self, id: Uuid) {
        let (high, low) = id.as_u64_pair();
        self.0.put_u64_le(high);
        self.0.put_u64_le(low);
    }

    pub(crate) fn string(&mut self, text: &str) {
        self.length(text.len());
        self.0.put_slice(text.as_bytes());
    }

    pub(crate) fn strings(&mut self, texts: &[String]) {
        self.length(texts.len());
        for text in texts {
            self.string(text);
        }
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.put_u32_le(value);
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.put_u64_le(value);
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.0.put_i64_le(value);
    }

    pub(crate) fn i128(&mut self, value: i128) {
        self.0.put_i128_le(value);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.0.put_u8(u8::from(value));
    }

    pub(crate) fn nullable_u64(&mut self, value: Option<u64>) {
        self.bool(value.is_none());
        if let Some(value) = value {
            self.u64(value);
        }
    }

    /// Seven bits at a time, lowest first (LEB128).
    fn length(&mut self, length: usize) {
        let mut left = length;
        while left >= 0x80 {
            self.0.put_u8((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        self.0.put_u8(left as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_the_format_says() {
        let mut row = RowBinary::default();
        row.string("ab");
        row.nullable_u64(None);
        row.nullable_u64(Some(258));
        row.i128(-1);
        row.strings(&["x".repeat(200)]);
        let bytes = row.into_bytes();
        assert_eq!(&bytes[..4], [2, b'a', b'b', 1]);
        assert_eq!(&bytes[4..13], [0, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[13..29], [0xff; 16]);
        assert_eq!(&bytes[29..32], [1, 200 | 0x80, 1]);
        assert_eq!(bytes.len(), 32 + 200);
    }
}
