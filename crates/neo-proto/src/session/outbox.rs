//! What waits to be sent, in three stages: messages without object bytes, messages with, bytes.
//!
//! Bytes are committed to their order as late as possible, so that a message without object bytes
//! overtakes all those with.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};
use neo_api::Tid;

use super::error::SessionError;
use super::settings::SessionSettings;
use crate::frame;
use crate::packet::{Message, MsgId, Packet};

/// Bytes committed to their order; more wait as messages.
const WIRE_BYTES: usize = 128 << 10;
/// Shorter pieces are copied together.
const COALESCED_BYTES: usize = 1 << 10;
/// Size of the buffer that they are copied into.
const TAIL_BYTES: usize = 8 << 10;

/// A message without object bytes that waits.
#[derive(Debug)]
enum Control {
    Frame(Bytes),
    Invalidation { tid: Tid, frame: Bytes },
    InvalidateAll { tid: Tid },
}

#[derive(Debug)]
pub(super) struct Outbox {
    control: VecDeque<Control>,
    /// Bytes of frames in `control`.
    control_bytes: usize,
    invalidations: usize,
    invalidation_bytes: usize,
    /// Messages with object bytes, first come, first served.
    objects: VecDeque<Message>,
    /// Object bytes of answers among them.
    held_bytes: usize,
    /// Object bytes that the peer takes; below zero after a message larger than what was left.
    credit: i64,
    /// Pieces in their order, each not empty.
    wire: VecDeque<Bytes>,
    /// The last piece, still growing.
    tail: BytesMut,
    /// Bytes of `wire` and `tail`.
    wire_bytes: usize,
    /// Bytes of them up to the end of the last object bytes.
    wire_object_bytes: usize,
    scratch: Vec<u8>,
}

impl Outbox {
    /// An outbox whose first bytes are a greeting.
    pub(super) fn new(greeting: &[u8]) -> Self {
        Self {
            control: VecDeque::new(),
            control_bytes: 0,
            invalidations: 0,
            invalidation_bytes: 0,
            objects: VecDeque::new(),
            held_bytes: 0,
            credit: 0,
            wire: VecDeque::new(),
            tail: BytesMut::from(greeting),
            wire_bytes: greeting.len(),
            wire_object_bytes: 0,
            scratch: Vec::new(),
        }
    }

    /// Takes a message.
    pub(super) fn push(
        &mut self,
        message: Message,
        settings: &SessionSettings,
    ) -> Result<(), SessionError> {
        if !message.payload.is_empty() {
            if self.objects.is_empty() && self.credit > 0 && self.has_room() {
                return self.commit_objects(message);
            }
            if message.packet.is_answer() {
                self.held_bytes += message.payload.len();
            }
            self.objects.push_back(message);
            return Ok(());
        }
        self.encode(message.id, &message.packet, 0)?;
        if self.has_room() {
            self.commit_scratch();
            return Ok(());
        }
        let frame = Bytes::copy_from_slice(&self.scratch);
        match message.packet {
            Packet::InvalidateObjects { tid, .. } => self.queue_invalidation(tid, frame, settings),
            Packet::InvalidateAll { tid } => self.queue_invalidate_all(tid),
            _ => {
                self.control_bytes += frame.len();
                self.control.push_back(Control::Frame(frame));
            }
        }
        if self.control_bytes > settings.control_bytes_max {
            return Err(SessionError::NotReading {
                bytes: self.control_bytes,
            });
        }
        Ok(())
    }

    /// Whether a message can be committed without overtaking one that waits.
    fn has_room(&self) -> bool {
        self.control.is_empty() && self.wire_bytes < WIRE_BYTES
    }

    fn queue_invalidation(&mut self, tid: Tid, frame: Bytes, settings: &SessionSettings) {
        if let Some(Control::InvalidateAll { tid: last }) = self.control.back_mut() {
            *last = tid;
            return;
        }
        self.invalidations += 1;
        self.invalidation_bytes += frame.len();
        self.control_bytes += frame.len();
        self.control.push_back(Control::Invalidation { tid, frame });
        if self.invalidations > settings.invalidations_max
            || self.invalidation_bytes > settings.invalidation_bytes_max
        {
            self.collapse_invalidations();
        }
    }

    fn queue_invalidate_all(&mut self, tid: Tid) {
        if let Some(Control::InvalidateAll { tid: last }) = self.control.back_mut() {
            *last = tid;
        } else {
            self.control.push_back(Control::InvalidateAll { tid });
        }
    }

    /// Makes one `InvalidateAll` of every run of invalidations. Not one of all: an answer between
    /// two of them says what the peer may rely on at that point.
    fn collapse_invalidations(&mut self) {
        let mut kept: VecDeque<Control> = VecDeque::new();
        for entry in self.control.drain(..) {
            match entry {
                Control::Frame(_) => kept.push_back(entry),
                Control::Invalidation { tid, .. } | Control::InvalidateAll { tid } => {
                    if let Some(Control::InvalidateAll { tid: last }) = kept.back_mut() {
                        *last = tid;
                    } else {
                        kept.push_back(Control::InvalidateAll { tid });
                    }
                }
            }
        }
        self.control = kept;
        self.control_bytes -= self.invalidation_bytes;
        self.invalidations = 0;
        self.invalidation_bytes = 0;
    }

    /// Drops requests that wait for credit; `dropped` is told each.
    pub(super) fn cancel(&mut self, ids: &[MsgId], mut dropped: impl FnMut(MsgId)) {
        self.objects.retain(|message| {
            let keep = message.packet.is_answer() || !ids.contains(&message.id);
            if !keep {
                dropped(message.id);
            }
            keep
        });
    }

    /// More object bytes may be sent.
    pub(super) fn add_credit(&mut self, bytes: u64) {
        self.credit = self
            .credit
            .saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Drops what can't be sent without hearing from the peer again.
    pub(super) fn drop_objects_without_credit(&mut self) {
        let mut credit = self.credit;
        self.objects.retain(|message| {
            let sent = credit > 0;
            credit = credit.saturating_sub_unsigned(message.payload.len() as u64);
            sent
        });
    }

    /// Drops everything that is not committed.
    pub(super) fn drop_messages(&mut self) {
        self.control.clear();
        self.control_bytes = 0;
        self.invalidations = 0;
        self.invalidation_bytes = 0;
        self.objects.clear();
        self.held_bytes = 0;
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.drop_messages();
        self.wire.clear();
        self.tail.clear();
        self.wire_bytes = 0;
        self.wire_object_bytes = 0;
    }

    /// Object bytes of answers that wait.
    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether nothing can be sent now.
    pub(super) fn is_idle(&self) -> bool {
        self.wire_bytes == 0
            && self.control.is_empty()
            && (self.objects.is_empty() || self.credit <= 0)
    }

    /// Whether nothing waits, not even for credit.
    pub(super) fn is_empty(&self) -> bool {
        self.wire_bytes == 0 && self.control.is_empty() && self.objects.is_empty()
    }

    /// Whether bytes can be sent now, once messages are committed.
    pub(super) fn refill(&mut self) -> Result<bool, SessionError> {
        while self.wire_bytes < WIRE_BYTES {
            if let Some(entry) = self.control.pop_front() {
                self.commit_control(entry)?;
            } else if self.credit > 0
                && let Some(message) = self.objects.pop_front()
            {
                if message.packet.is_answer() {
                    self.held_bytes -= message.payload.len();
                }
                self.commit_objects(message)?;
            } else {
                break;
            }
        }
        Ok(self.wire_bytes > 0)
    }

    /// The next pieces to send, in order.
    pub(super) fn slices<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        let pieces = self.wire.iter().map(|piece| &piece[..]);
        let tail = Some(&self.tail[..]).filter(|tail| !tail.is_empty());
        for (slot, piece) in out.iter_mut().zip(pieces.chain(tail)) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// So many bytes of the pieces are sent; tells whether object bytes were or are among them.
    pub(super) fn advance(&mut self, mut bytes: usize) -> bool {
        assert!(bytes <= self.wire_bytes, "no more is sent than there was");
        let has_objects = self.count(bytes);
        while bytes > 0 {
            let Some(piece) = self.wire.front_mut() else {
                self.tail.advance(bytes);
                break;
            };
            if piece.len() > bytes {
                piece.advance(bytes);
                break;
            }
            bytes -= piece.len();
            self.wire.pop_front();
        }
        has_objects
    }

    fn count(&mut self, sent: usize) -> bool {
        let has_objects = self.wire_object_bytes > 0;
        self.wire_bytes -= sent;
        self.wire_object_bytes = self.wire_object_bytes.saturating_sub(sent);
        has_objects
    }

    /// The next piece to send, which then counts as sent; and as [`Outbox::advance`] tells.
    pub(super) fn take(&mut self) -> Option<(Bytes, bool)> {
        if self.wire.is_empty() {
            self.seal();
        }
        let piece = self.wire.pop_front()?;
        let has_objects = self.count(piece.len());
        Some((piece, has_objects))
    }

    fn encode(&mut self, id: MsgId, packet: &Packet, payload: usize) -> Result<(), SessionError> {
        self.scratch.clear();
        frame::encode_head(id, packet, payload, &mut self.scratch).map_err(|error| {
            SessionError::TooLong {
                name: packet.name(),
                error,
            }
        })
    }

    fn commit_control(&mut self, entry: Control) -> Result<(), SessionError> {
        match entry {
            Control::Frame(frame) => {
                self.control_bytes -= frame.len();
                self.commit(frame);
            }
            Control::Invalidation { frame, .. } => {
                self.control_bytes -= frame.len();
                self.invalidation_bytes -= frame.len();
                self.invalidations -= 1;
                self.commit(frame);
            }
            Control::InvalidateAll { tid } => {
                self.encode(MsgId(0), &Packet::InvalidateAll { tid }, 0)?;
                self.commit_scratch();
            }
        }
        Ok(())
    }

    fn commit_objects(&mut self, message: Message) -> Result<(), SessionError> {
        let payload = message.payload.len();
        self.encode(message.id, &message.packet, payload)?;
        self.commit_scratch();
        self.commit(message.payload);
        self.wire_object_bytes = self.wire_bytes;
        self.credit = self.credit.saturating_sub_unsigned(payload as u64);
        Ok(())
    }

    fn commit_scratch(&mut self) {
        if self.scratch.len() > TAIL_BYTES {
            let piece = Bytes::from(std::mem::take(&mut self.scratch));
            self.commit(piece);
        } else {
            self.wire_bytes += self.scratch.len();
            self.tail.reserve(self.scratch.len());
            self.tail.extend_from_slice(&self.scratch);
        }
    }

    fn commit(&mut self, piece: Bytes) {
        self.wire_bytes += piece.len();
        if piece.len() <= COALESCED_BYTES {
            self.tail.extend_from_slice(&piece);
        } else {
            self.seal();
            self.wire.push_back(piece);
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.wire.push_back(self.tail.split().freeze());
        }
    }
}
