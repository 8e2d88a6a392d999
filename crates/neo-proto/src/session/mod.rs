//! One connection, sans I/O: bytes in, messages out, and back.
//!
//! A session greets, cuts frames, keeps the credits of object bytes, sends heartbeats, and notices
//! silence and nonsense. It knows nothing of what messages mean.

mod error;
mod outbox;
mod patience;
mod settings;

use std::collections::{BTreeSet, VecDeque};
use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use neo_api::Instant;

pub(crate) use error::Seconds;
pub use error::SessionError;
pub use settings::SessionSettings;

use crate::codec;
use crate::error::ErrorCode;
use crate::frame::{Decoder, FrameLimits};
use crate::handshake::{GREETING_BYTES, Versions, closed_in_greeting, read_greeting};
use crate::packet::{Message, MsgId, Packet};
use crate::words::shown;
use outbox::Outbox;
pub(crate) use patience::Patience;

/// What comes of a session's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// The greeting succeeded: the version that both speak.
    Open(u16),
    /// A message.
    Message(Message),
    /// It can't go on. What is left to send may still be sent, then the connection is closed.
    Failed(SessionError),
}

#[derive(Debug)]
enum State {
    Greeting,
    Open,
    /// Nothing more is looked at; what waits is sent.
    Closing,
    /// To be reported.
    Failing(SessionError),
}

/// One connection's state.
#[derive(Debug)]
pub struct Session {
    settings: Arc<SessionSettings>,
    state: State,
    decoder: Decoder,
    outbox: Outbox,
    /// Messages held back while too many answers wait.
    inbox: VecDeque<(Message, usize)>,
    inbox_bytes: usize,
    is_paused: bool,
    /// Requests that were sent and are not answered.
    requests: BTreeSet<MsgId>,
    /// Object bytes that the peer may still send; below zero after a message larger than that.
    window: i64,
    /// Object bytes that came and are not consumed.
    unconsumed: u64,
    /// Consumed, and not yet told.
    consumed: u64,
    /// Since bytes last came.
    heard: Patience,
    /// Since bytes were last sent, or began to wait.
    sent: Patience,
    /// While paused: since object bytes were last sent.
    taken: Patience,
}

impl Session {
    /// The session of a connection that is just up. `first_limit`: frames are kept short until this
    /// side says something, for peers that connected.
    #[must_use]
    pub fn new(now: Instant, settings: Arc<SessionSettings>, first_limit: bool) -> Self {
        let mut decoder = Decoder::new();
        if first_limit {
            decoder.set_limits(settings.first_frame());
        }
        Self {
            state: State::Greeting,
            decoder,
            outbox: Outbox::new(&Versions::OWN.greeting()),
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            is_paused: false,
            requests: BTreeSet::new(),
            window: 0,
            unconsumed: 0,
            consumed: 0,
            heard: Patience::new(now),
            sent: Patience::new(now),
            taken: Patience::new(now),
            settings,
        }
    }

    // --- in ---

    /// Whether bytes are taken now. When not, answers wait for the peer to read them.
    #[must_use]
    pub fn wants_bytes(&self) -> bool {
        match self.state {
            State::Greeting | State::Open => self.inbox_bytes <= self.settings.inbox_bytes_max,
            State::Closing | State::Failing(_) => false,
        }
    }

    /// Where to read into, and how much at most; then [`Session::came`] is called.
    pub fn room(&mut self) -> (&mut BytesMut, usize) {
        self.decoder.room()
    }

    /// Bytes came into the [`Session::room`].
    pub fn came(&mut self, now: Instant) {
        self.heard.renew(now);
    }

    /// Takes a copy of bytes that came.
    pub fn receive(&mut self, now: Instant, bytes: &[u8]) {
        self.decoder.feed(bytes);
        self.came(now);
    }

    /// What comes of the bytes; called until there is nothing, after bytes came, after bytes were
    /// sent and after [`Session::handle_timeout`].
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        match &self.state {
            State::Closing => return None,
            State::Failing(_) => return Some(self.report()),
            State::Greeting => {
                let greeting = read_greeting(Versions::OWN, self.decoder.pending())?;
                match greeting {
                    Err(error) => {
                        self.outbox.drop_messages();
                        self.state = State::Failing(error.into());
                        return Some(self.report());
                    }
                    Ok(version) => {
                        self.decoder.skip(GREETING_BYTES);
                        self.state = State::Open;
                        self.grant(self.settings.credit_window_bytes);
                        return Some(SessionEvent::Open(version));
                    }
                }
            }
            State::Open => {}
        }
        self.update_pause();
        if !self.is_paused
            && let Some((message, weight)) = self.inbox.pop_front()
        {
            self.inbox_bytes -= weight;
            return Some(SessionEvent::Message(message));
        }
        loop {
            let (message, weight) = match self.next_message() {
                Ok(next) => next?,
                Err(error) => {
                    self.fail(error);
                    return Some(self.report());
                }
            };
            if !self.is_paused || message.packet.is_answer() {
                return Some(SessionEvent::Message(message));
            }
            self.inbox_bytes += weight;
            self.inbox.push_back((message, weight));
            if !self.wants_bytes() {
                return None;
            }
        }
    }

    /// The next message that is not the session's own, and the memory that it takes, roughly.
    fn next_message(&mut self) -> Result<Option<(Message, usize)>, SessionError> {
        loop {
            let next = self.decoder.next_with(|header| {
                let (id, packet) = codec::decode(header)?;
                Ok::<_, SessionError>((id, packet, header.len()))
            })?;
            let Some(((id, packet, header), payload)) = next else {
                return Ok(None);
            };
            if !payload.is_empty() {
                self.take_window(packet.name(), payload.len())?;
            }
            match packet {
                Packet::Heartbeat {} => {}
                Packet::Credit { bytes } => self.outbox.add_credit(bytes),
                Packet::Error { code, message } if id == MsgId(0) => {
                    let message = shown(&message);
                    return Err(SessionError::Peer { code, message });
                }
                packet => {
                    if packet.is_answer() && !self.requests.remove(&id) {
                        return Err(SessionError::UnknownAnswer {
                            name: packet.name(),
                            id,
                        });
                    }
                    let weight = size_of::<Message>() + header + payload.len();
                    let message = Message {
                        id,
                        packet,
                        payload,
                    };
                    return Ok(Some((message, weight)));
                }
            }
        }
    }

    fn take_window(&mut self, name: &'static str, bytes: usize) -> Result<(), SessionError> {
        if self.window <= 0 {
            return Err(SessionError::NoCredit { name });
        }
        self.window = self.window.saturating_sub_unsigned(bytes as u64);
        self.unconsumed += bytes as u64;
        Ok(())
    }

    /// A peer that asks for more than it takes is not listened to until it has taken half. Its
    /// credits still count, since our answers wait for them; so do its own answers, since its
    /// credits may wait for ours, when both ask for much.
    fn update_pause(&mut self) {
        if self.outbox.held_bytes() <= self.settings.held_bytes_max / 2 {
            self.is_paused = false;
        }
    }

    // --- out ---

    /// Sends a message. One with object bytes waits for credit, after those that wait already.
    pub fn send(&mut self, now: Instant, message: Message) {
        if !matches!(self.state, State::Open) {
            return;
        }
        self.decoder.set_limits(FrameLimits::default());
        if message.id != MsgId(0) && !message.packet.is_answer() {
            self.requests.insert(message.id);
            if self.requests.len() > self.settings.requests_max {
                self.fail(SessionError::NotAnswering {
                    requests: self.requests.len(),
                });
                return;
            }
        }
        self.push(now, message);
        if !self.is_paused && self.outbox.held_bytes() > self.settings.held_bytes_max {
            self.is_paused = true;
            self.taken.renew(now);
        }
    }

    fn push(&mut self, now: Instant, message: Message) {
        if self.outbox.is_idle() {
            self.sent.renew(now);
        }
        if let Err(error) = self.outbox.push(message, &self.settings) {
            self.fail(error);
        }
    }

    /// Takes back requests that still wait for credit.
    pub fn cancel(&mut self, ids: &[MsgId]) {
        let requests = &mut self.requests;
        self.outbox.cancel(ids, |id| {
            requests.remove(&id);
        });
    }

    /// So many object bytes that came are dealt with.
    pub fn consumed(&mut self, bytes: u64) {
        let bytes = bytes.min(self.unconsumed);
        self.unconsumed -= bytes;
        self.consumed += bytes;
        // Told in batches: the peer still has three quarters of its window.
        if self.consumed >= self.settings.credit_window_bytes.div_ceil(4) {
            let bytes = std::mem::take(&mut self.consumed);
            self.grant(bytes);
        }
    }

    fn grant(&mut self, bytes: u64) {
        if !matches!(self.state, State::Open) {
            return;
        }
        self.window = self.window.saturating_add_unsigned(bytes);
        let credit = Message::notify(Packet::Credit { bytes });
        if let Err(error) = self.outbox.push(credit, &self.settings) {
            self.fail(error);
        }
    }

    /// Whether there is something to send now; commits messages to their order.
    pub fn refill(&mut self) -> bool {
        match self.outbox.refill() {
            Ok(has_bytes) => has_bytes,
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }

    /// The next pieces to send, in order; after [`Session::refill`].
    pub fn slices<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        self.outbox.slices(out)
    }

    /// So many bytes of the pieces are sent.
    pub fn went(&mut self, now: Instant, bytes: usize) {
        let has_objects = self.outbox.advance(bytes);
        self.progress(now, has_objects);
    }

    /// The next bytes to send, for whoever has room for all.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        if !self.refill() {
            return None;
        }
        let (piece, has_objects) = self.outbox.take()?;
        self.progress(now, has_objects);
        Some(piece)
    }

    fn progress(&mut self, now: Instant, has_objects: bool) {
        self.sent.renew(now);
        if has_objects {
            self.taken.renew(now);
            if !self.wants_bytes() {
                // While nothing is read, the answers that the peer takes show that it lives.
                self.heard.renew(now);
            }
        }
    }

    /// Whether the peer has asked for more than it takes.
    #[must_use]
    pub const fn is_congested(&self) -> bool {
        self.is_paused
    }

    /// Whether there is nothing that can be sent now.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.outbox.is_idle()
    }

    /// Whether everything is sent, and nothing waits for credit.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Whether [`Session::poll_event`] will say that it can't go on.
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        matches!(self.state, State::Failing(_))
    }

    // --- time and end ---

    /// When [`Session::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let silence_max = self.settings.silence_max;
        let mut silent = self.heard.deadline(silence_max);
        if self.is_paused {
            silent = silent.min(self.taken.deadline(silence_max));
        }
        match self.state {
            State::Closing | State::Failing(_) => None,
            State::Greeting => Some(silent),
            State::Open if self.outbox.is_idle() => {
                Some(silent.min(self.sent.since() + self.settings.heartbeat_interval))
            }
            State::Open => Some(silent.min(self.sent.deadline(silence_max))),
        }
    }

    /// Sends a heartbeat, or notices that the peer is silent, if it is time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !matches!(self.state, State::Open | State::Greeting) {
            return;
        }
        let silence_max = self.settings.silence_max;
        if self.is_paused && self.taken.is_over(now, silence_max) {
            self.fail(SessionError::NotTaking {
                bytes: self.outbox.held_bytes(),
                waited: silence_max,
            });
        } else if self.heard.is_over(now, silence_max) {
            self.fail(SessionError::Silent(silence_max));
        } else if !self.outbox.is_idle() {
            if self.sent.is_over(now, silence_max) {
                self.fail(SessionError::Stalled(silence_max));
            }
        } else if matches!(self.state, State::Open)
            && now.since(self.sent.since()) >= self.settings.heartbeat_interval
        {
            self.push(now, Message::notify(Packet::Heartbeat {}));
        }
    }

    /// Nothing more is taken or looked at; what was sent still goes, but for what would need more
    /// credit.
    pub fn close(&mut self) {
        self.state = State::Closing;
        self.outbox.drop_objects_without_credit();
        self.inbox.clear();
        self.decoder.clear();
    }

    /// Why a session ends whose stream has ended.
    #[must_use]
    pub fn end_of_stream(&self) -> String {
        match self.state {
            State::Greeting => closed_in_greeting(self.decoder.pending()).to_string(),
            _ if !self.decoder.pending().is_empty() => {
                "closed by the peer, in the middle of a message".to_owned()
            }
            _ => "closed by the peer".to_owned(),
        }
    }

    /// Whether a part of a greeting or of a message has come, and the rest has not.
    #[must_use]
    pub fn has_part(&self) -> bool {
        !self.decoder.pending().is_empty()
    }

    fn fail(&mut self, error: SessionError) {
        if matches!(self.state, State::Failing(_)) {
            return;
        }
        self.state = State::Failing(error);
    }

    fn report(&mut self) -> SessionEvent {
        let state = std::mem::replace(&mut self.state, State::Closing);
        let State::Failing(error) = state else {
            unreachable!("only a failing session reports");
        };
        if error.is_dead() {
            self.outbox.clear();
        } else if error.is_protocol() {
            let told = Packet::Error {
                code: ErrorCode::Protocol,
                message: error.to_string(),
            };
            // The connection ends anyway: a peer that does not read is not told.
            drop(self.outbox.push(Message::notify(told), &self.settings));
        }
        self.close();
        SessionEvent::Failed(error)
    }
}

#[cfg(test)]
mod tests;
