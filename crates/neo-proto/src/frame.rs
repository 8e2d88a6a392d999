//! Frames: two lengths, a message's CBOR, its object bytes.
//!
//! `[u32 header length][u32 payload length][header][payload]`, lengths big-endian. The header is
//! never empty.

use bytes::{Buf, Bytes, BytesMut};
use neo_api::OBJECT_BYTES_MAX;

use crate::codec;
use crate::packet::{MsgId, Packet};

/// Longest CBOR of a message: 24 MiB. The longest is the vote of a transaction with all the oids
/// (16 MiB) and metadata (3 MiB) that it may have.
pub const HEADER_BYTES_MAX: usize = 24 << 20;

/// Room for what a batch of values held before the one that reached the size asked for.
pub const BATCH_BYTES_MAX: usize = 16 << 20;

/// Longest object bytes of a message: 80 MiB. A batch ends with the value that reaches the size
/// asked for, which is [`BATCH_BYTES_MAX`] at most.
pub const PAYLOAD_BYTES_MAX: usize = OBJECT_BYTES_MAX + BATCH_BYTES_MAX;

/// Bytes of the two lengths.
pub const LENGTHS_BYTES: usize = 8;

/// Room that a read is given at least.
const READ_BYTES_MIN: usize = 8 << 10;
/// Room that a read is given at most, when no longer frame is under way: some hundred small
/// messages, so that others have their turn.
const READ_BYTES_MAX: usize = 16 << 10;
/// Size of a read buffer.
const BUFFER_BYTES: usize = 64 << 10;
/// A longer frame gets a buffer of its own, which starts with this size and grows as bytes come.
const LARGE_BYTES: usize = 256 << 10;
/// A shorter payload is copied out: it would keep a whole read buffer alive.
const COPIED_PAYLOAD_BYTES: usize = 1 << 10;

/// Bytes that are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame without a message.
    #[error("a frame without a message")]
    Empty,
    /// A header above the limit.
    #[error("a message of {bytes} bytes, where {max} is the most")]
    HeaderTooLong {
        /// What the frame says.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// A payload above the limit.
    #[error("object bytes of {bytes} bytes, where {max} is the most")]
    PayloadTooLong {
        /// What the frame says.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
}

/// A whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// CBOR of the message.
    pub header: Bytes,
    /// Object bytes.
    pub payload: Bytes,
}

/// Most bytes of a frame's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// Of the CBOR.
    pub header: usize,
    /// Of the object bytes.
    pub payload: usize,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self {
            header: HEADER_BYTES_MAX,
            payload: PAYLOAD_BYTES_MAX,
        }
    }
}

impl FrameLimits {
    fn check(self, lengths: Lengths) -> Result<Lengths, FrameError> {
        if lengths.header == 0 {
            return Err(FrameError::Empty);
        }
        if lengths.header > self.header {
            return Err(FrameError::HeaderTooLong {
                bytes: lengths.header,
                max: self.header,
            });
        }
        if lengths.payload > self.payload {
            return Err(FrameError::PayloadTooLong {
                bytes: lengths.payload,
                max: self.payload,
            });
        }
        Ok(lengths)
    }
}

#[derive(Debug, Clone, Copy)]
struct Lengths {
    header: usize,
    payload: usize,
}

impl Lengths {
    fn peek(bytes: &[u8]) -> Option<Self> {
        let (head, _) = bytes.split_first_chunk::<LENGTHS_BYTES>()?;
        let [a, b, c, d, e, f, g, h] = *head;
        Some(Self {
            header: u32::from_be_bytes([a, b, c, d]) as usize,
            payload: u32::from_be_bytes([e, f, g, h]) as usize,
        })
    }

    const fn frame(self) -> usize {
        LENGTHS_BYTES + self.header + self.payload
    }
}

/// Cuts frames out of bytes as they come.
///
/// It holds what has come and not more than the same again (or 256 KiB), whatever lengths a frame
/// claims. A payload is handed out as a slice of the buffer that it was read into, so whoever
/// keeps a small one for long copies it first; those below 1 KiB are copied here.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    limits: FrameLimits,
}

impl Decoder {
    /// A decoder with the limits of the protocol.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the limits, for frames whose lengths were not yet looked at.
    pub fn set_limits(&mut self, limits: FrameLimits) {
        self.limits = limits;
    }

    /// Takes a copy of some bytes.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (buffer, room) = self.room();
            let part = bytes.len().min(room);
            buffer.extend_from_slice(&bytes[..part]);
            bytes = &bytes[part..];
        }
    }

    /// Where to read into, and how much at most; at least one byte. What is appended to it counts
    /// as come.
    pub fn room(&mut self) -> (&mut BytesMut, usize) {
        let frame = Lengths::peek(&self.buffer)
            .and_then(|lengths| self.limits.check(lengths).ok())
            .map_or(0, Lengths::frame);
        if frame > LARGE_BYTES && self.buffer.len() < frame {
            return self.large(frame);
        }
        let rest = frame.saturating_sub(self.buffer.len());
        if self.buffer.capacity() - self.buffer.len() < rest.max(READ_BYTES_MIN) {
            self.buffer.reserve(rest.max(BUFFER_BYTES));
        }
        let room = self.buffer.capacity() - self.buffer.len();
        (&mut self.buffer, room.min(rest.max(READ_BYTES_MAX)))
    }

    /// A buffer of the frame's own: it ends where the frame does.
    fn large(&mut self, frame: usize) -> (&mut BytesMut, usize) {
        let len = self.buffer.len();
        if self.buffer.capacity() == len || self.buffer.capacity() < LARGE_BYTES {
            let mut grown = BytesMut::with_capacity(frame.min(LARGE_BYTES.max(len * 2)));
            grown.extend_from_slice(&self.buffer);
            self.buffer = grown;
        }
        let room = (self.buffer.capacity() - len).min(frame - len);
        (&mut self.buffer, room)
    }

    /// The next whole frame, if it has come.
    ///
    /// # Errors
    /// When a length is beyond the limits. The bytes stay: there is no way on.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(lengths) = self.whole()? else {
            return Ok(None);
        };
        self.buffer.advance(LENGTHS_BYTES);
        let header = self.buffer.split_to(lengths.header).freeze();
        let payload = self.take_payload(lengths.payload);
        Ok(Some(Frame { header, payload }))
    }

    /// The next whole frame, if it has come, its header decoded where it lies.
    ///
    /// # Errors
    /// When a length is beyond the limits, or by `decode`. There is no way on.
    pub fn next_with<T, E: From<FrameError>>(
        &mut self,
        decode: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<Option<(T, Bytes)>, E> {
        let Some(lengths) = self.whole()? else {
            return Ok(None);
        };
        let header = decode(&self.buffer[LENGTHS_BYTES..LENGTHS_BYTES + lengths.header])?;
        self.buffer.advance(LENGTHS_BYTES + lengths.header);
        let payload = self.take_payload(lengths.payload);
        Ok(Some((header, payload)))
    }

    fn whole(&self) -> Result<Option<Lengths>, FrameError> {
        let Some(lengths) = Lengths::peek(&self.buffer) else {
            return Ok(None);
        };
        let lengths = self.limits.check(lengths)?;
        Ok((self.buffer.len() >= lengths.frame()).then_some(lengths))
    }

    fn take_payload(&mut self, bytes: usize) -> Bytes {
        if bytes >= COPIED_PAYLOAD_BYTES {
            return self.buffer.split_to(bytes).freeze();
        }
        let payload = Bytes::copy_from_slice(&self.buffer[..bytes]);
        self.buffer.advance(bytes);
        payload
    }

    /// What has come and is not handed out yet.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.buffer
    }

    /// Takes bytes that are no frame off the front: the greeting.
    pub fn skip(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
    }

    /// Forgets what has come.
    pub fn clear(&mut self) {
        self.buffer = BytesMut::new();
    }
}

/// Appends the lengths and the header of a message, to be followed by its payload.
///
/// # Errors
/// When the message is longer than a frame may be; nothing is appended then.
pub fn encode_head(
    id: MsgId,
    packet: &Packet,
    payload: usize,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTHS_BYTES]);
    codec::encode(id, packet, out);
    let header = out.len() - start - LENGTHS_BYTES;
    if let Err(error) = FrameLimits::default().check(Lengths { header, payload }) {
        out.truncate(start);
        return Err(error);
    }
    // Both are below the limits, which fit.
    out[start..start + 4].copy_from_slice(&(header as u32).to_be_bytes());
    out[start + 4..start + LENGTHS_BYTES].copy_from_slice(&(payload as u32).to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(header: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut bytes = (header.len() as u32).to_be_bytes().to_vec();
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(header);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn the_layout_is_lengths_header_payload() {
        let mut bytes = Vec::new();
        encode_head(MsgId(0), &Packet::Heartbeat {}, 5, &mut bytes).unwrap();
        assert_eq!(bytes, [0, 0, 0, 3, 0, 0, 0, 5, 0x82, 0x03, 0x00]);
    }

    #[test]
    fn frames_come_out_whatever_the_chunks() {
        let large = vec![7; 3 * LARGE_BYTES];
        let mut bytes = frame(b"one", b"");
        bytes.extend(frame(b"two", b"small"));
        bytes.extend(frame(b"three", &large));
        bytes.extend(frame(b"four", &[1; 5000]));
        for chunk in [1, 7, 8, 100, 65_536, 1 << 20, bytes.len()] {
            let mut decoder = Decoder::new();
            let mut frames = Vec::new();
            for part in bytes.chunks(chunk) {
                decoder.feed(part);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    frames.push((frame.header, frame.payload.len()));
                }
            }
            let expected: [(&[u8], usize); 4] = [
                (b"one", 0),
                (b"two", 5),
                (b"three", large.len()),
                (b"four", 5000),
            ];
            assert_eq!(frames.len(), 4);
            for ((header, len), expected) in frames.iter().zip(expected) {
                assert_eq!((header.as_ref(), *len), expected);
            }
            assert!(decoder.pending().is_empty());
        }
    }

    #[test]
    fn a_payload_is_not_copied() {
        for len in [4096, 3 * LARGE_BYTES] {
            let mut decoder = Decoder::new();
            let bytes = frame(b"h", &vec![1; len]);
            let mut at = 0;
            let mut last = std::ptr::null();
            while at < bytes.len() {
                let (buffer, room) = decoder.room();
                let part = room.min(bytes.len() - at);
                buffer.extend_from_slice(&bytes[at..at + part]);
                at += part;
                last = buffer.as_ptr();
            }
            let frame = decoder.next_frame().unwrap().unwrap();
            assert_eq!(frame.payload.len(), len);
            assert_eq!(frame.payload.as_ptr(), last.wrapping_add(9));
        }
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        let mut decoder = Decoder::new();
        let mut bytes = frame(b"h", b"");
        bytes[4..8].copy_from_slice(&(PAYLOAD_BYTES_MAX as u32).to_be_bytes());
        decoder.feed(&bytes);
        for _ in 0..100 {
            let came = decoder.pending().len();
            let (buffer, room) = decoder.room();
            assert!(room > 0);
            assert!(buffer.capacity() <= LARGE_BYTES.max(2 * came));
            buffer.extend_from_slice(&vec![0; room.min(100_000)]);
        }
        assert_eq!(decoder.next_frame(), Ok(None));
    }

    #[test]
    fn a_large_frame_takes_exactly_its_bytes() {
        let payload = vec![3; 10 << 20];
        let mut bytes = frame(b"h", &payload);
        let whole = bytes.len();
        bytes.extend(frame(b"next", b""));
        let mut decoder = Decoder::new();
        let mut at = 0;
        while at < whole {
            let (buffer, room) = decoder.room();
            let part = room.min(bytes.len() - at);
            buffer.extend_from_slice(&bytes[at..at + part]);
            at += part;
        }
        // The first bytes of a frame are read before its length is known.
        assert_eq!(at, whole);
        assert_eq!(decoder.buffer.capacity(), whole);
        assert_eq!(decoder.next_frame().unwrap().unwrap().payload, payload);
    }

    #[test]
    fn lengths_beyond_the_limits_are_errors_at_once() {
        let claims = [
            (0, 0, FrameError::Empty),
            (
                u32::MAX,
                0,
                FrameError::HeaderTooLong {
                    bytes: u32::MAX as usize,
                    max: HEADER_BYTES_MAX,
                },
            ),
            (
                1,
                u32::MAX,
                FrameError::PayloadTooLong {
                    bytes: u32::MAX as usize,
                    max: PAYLOAD_BYTES_MAX,
                },
            ),
        ];
        for (header, payload, error) in claims {
            let mut decoder = Decoder::new();
            decoder.feed(&header.to_be_bytes());
            assert_eq!(decoder.next_frame(), Ok(None));
            decoder.feed(&payload.to_be_bytes());
            assert_eq!(decoder.next_frame(), Err(error));
        }
    }

    #[test]
    fn a_message_above_the_limit_is_not_encoded() {
        let mut out = vec![1];
        let error = encode_head(
            MsgId(0),
            &Packet::Heartbeat {},
            PAYLOAD_BYTES_MAX + 1,
            &mut out,
        );
        assert!(matches!(error, Err(FrameError::PayloadTooLong { .. })));
        assert_eq!(out, [1]);
    }
}
