//! A node without its I/O: the core and the sessions of its connections.
//!
//! The driver feeds it from sockets, the simulator from its event heap. It turns bytes into
//! [`Input`]s and [`Effect`]s into bytes and [`Output`]s.

mod output;
mod peer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use neo_api::{Address, Instant, Now};
use tracing::{Span, debug, info, info_span, trace, warn};

use crate::node::{ConnId, ConnectToken, Core, Effect, Effects, Input};
use crate::packet::Message;
use crate::session::{Patience, Seconds, Session, SessionError, SessionEvent, SessionSettings};
pub use output::Output;
use peer::{KnownAs, Peer, Phase};

/// What the core is told next.
#[derive(Debug)]
enum Told<C: Core> {
    Input(Input<C>),
    Congested(ConnId, bool),
}

/// A core with its sessions.
#[derive(Debug)]
pub struct Endpoint<C: Core> {
    core: C,
    settings: Arc<SessionSettings>,
    peers: BTreeMap<ConnId, Peer>,
    next_conn: u64,
    /// At or before the moment at which a peer wants to be looked at.
    timers: BTreeSet<(Instant, ConnId)>,
    /// Given to the core one after the other, each within the span of the peer that it is of.
    inputs: VecDeque<(Span, Told<C>)>,
    is_handling: bool,
    effects: Effects<C>,
    /// Sessions that a message of this side was too much for.
    failing: Vec<ConnId>,
    outputs: VecDeque<Output<C>>,
    is_stopped: bool,
}

impl<C: Core> Endpoint<C> {
    /// A node that has not started.
    pub fn new(core: C, settings: SessionSettings) -> Self {
        Self {
            core,
            settings: Arc::new(settings),
            peers: BTreeMap::new(),
            next_conn: 1,
            timers: BTreeSet::new(),
            inputs: VecDeque::new(),
            is_handling: false,
            effects: Effects::new(),
            failing: Vec::new(),
            outputs: VecDeque::new(),
            is_stopped: false,
        }
    }

    /// The core, to look at.
    pub const fn core(&self) -> &C {
        &self.core
    }

    /// The core's first input.
    pub fn start(&mut self, now: Now) {
        self.input(now, Span::none(), Input::Timer);
    }

    /// The application wants something.
    pub fn command(&mut self, now: Now, command: C::Command) {
        self.input(now, Span::none(), Input::Command(command));
    }

    /// A job is done.
    pub fn done(&mut self, now: Now, done: C::Done) {
        self.input(now, Span::none(), Input::Done(done));
    }

    // --- connections ---

    /// The stream of an [`Output::Connect`] is up.
    pub fn opened(&mut self, now: Now, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let Phase::Dialing { token } = peer.phase else {
            return;
        };
        peer.phase = Phase::Greeting {
            token: Some(token),
            session: Session::new(now.mono, Arc::clone(&self.settings), false),
        };
        self.transmit_later(conn);
        self.reschedule(conn);
    }

    /// An [`Output::Connect`] failed.
    pub fn connect_failed(&mut self, now: Now, conn: ConnId, error: String) {
        self.lost(now, conn, error);
    }

    /// A peer connected; `None`: there are too many, or the node ends: drop it.
    pub fn accepted(&mut self, now: Now, from: Address) -> Option<ConnId> {
        if self.is_stopped || self.peers.len() >= self.settings.connections_max {
            return None;
        }
        let conn = self.next_conn();
        let session = Session::new(now.mono, Arc::clone(&self.settings), true);
        let peer = Peer {
            span: info_span!("peer", address = %from),
            address: from,
            phase: Phase::Greeting {
                token: None,
                session,
            },
            patience: Some((Patience::new(now.mono), self.settings.connect_timeout)),
            scheduled: None,
            is_dirty: false,
            is_congested: false,
        };
        self.peers.insert(conn, peer);
        self.transmit_later(conn);
        self.reschedule(conn);
        Some(conn)
    }

    /// The stream ended: `error`, or the end of the stream.
    pub fn closed(&mut self, now: Now, conn: ConnId, error: Option<String>) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let is_odd = peer.session().is_some_and(|session| session.has_part());
        let reason = match (error, peer.session()) {
            (Some(error), _) => format!("connection lost: {error}"),
            (None, Some(session)) => session.end_of_stream(),
            (None, None) => "no stream".to_owned(),
        };
        if is_odd {
            peer.span.in_scope(|| info!(%reason, "disconnected"));
        }
        self.lost(now, conn, reason);
    }

    // --- bytes in ---

    /// Whether bytes of a connection are taken now; asked again after bytes were sent.
    pub fn wants_bytes(&mut self, conn: ConnId) -> bool {
        self.session(conn).is_some_and(|s| s.wants_bytes())
    }

    /// Where to read into, and how much at most; then [`Endpoint::came`] is called.
    pub fn room(&mut self, conn: ConnId) -> Option<(&mut BytesMut, usize)> {
        self.session(conn).map(Session::room)
    }

    /// Bytes came into the [`Endpoint::room`].
    pub fn came(&mut self, now: Now, conn: ConnId) {
        if let Some(session) = self.session(conn) {
            session.came(now.mono);
            self.pump(now, conn);
        }
    }

    /// Takes a copy of bytes that came.
    pub fn receive(&mut self, now: Now, conn: ConnId, bytes: &[u8]) {
        if let Some(session) = self.session(conn) {
            session.receive(now.mono, bytes);
            self.pump(now, conn);
        }
    }

    // --- bytes out ---

    /// The next bytes to send on a connection, for whoever has room for all.
    pub fn poll_transmit(&mut self, now: Now, conn: ConnId) -> Option<Bytes> {
        let bytes = self.session(conn)?.poll_transmit(now.mono);
        if bytes.is_none() {
            self.transmitted(now, conn);
        }
        bytes
    }

    /// Whether there are bytes to send on a connection: then [`Endpoint::slices`] has them.
    pub fn has_bytes(&mut self, now: Now, conn: ConnId) -> bool {
        let has_bytes = self.session(conn).is_some_and(Session::refill);
        if !has_bytes {
            self.transmitted(now, conn);
        }
        has_bytes
    }

    /// The next pieces to send on a connection, in order.
    pub fn slices<'a>(&'a self, conn: ConnId, out: &mut [IoSlice<'a>]) -> usize {
        match self.peers.get(&conn).map(|peer| &peer.phase) {
            Some(
                Phase::Greeting { session, .. }
                | Phase::Open { session }
                | Phase::Closing { session },
            ) => session.slices(out),
            _ => 0,
        }
    }

    /// So many bytes of the pieces are sent.
    pub fn went(&mut self, now: Now, conn: ConnId, bytes: usize) {
        if let Some(session) = self.session(conn) {
            session.went(now.mono, bytes);
        }
    }

    /// All bytes of a connection are sent.
    fn transmitted(&mut self, now: Now, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        peer.is_dirty = false;
        if let Phase::Closing { session } = &peer.phase {
            if session.is_idle() {
                if let Some(at) = peer.scheduled {
                    self.timers.remove(&(at, conn));
                }
                self.peers.remove(&conn);
                self.outputs.push_back(Output::Close { conn, abort: false });
            }
        } else {
            // Messages that were held back until the peer took its answers.
            self.pump(now, conn);
        }
    }

    // --- time ---

    /// When [`Endpoint::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let core = if self.is_stopped {
            None
        } else {
            self.core.poll_timeout()
        };
        let peers = self.timers.first().map(|(at, _)| *at);
        core.into_iter().chain(peers).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some((at, conn)) = self.timers.first().copied()
            && at <= now.mono
        {
            self.timers.pop_first();
            if let Some(peer) = self.peers.get_mut(&conn) {
                peer.scheduled = None;
                self.peer_timeout(now, conn);
            }
        }
        if !self.is_stopped && self.core.poll_timeout().is_some_and(|at| at <= now.mono) {
            self.input(now, Span::none(), Input::Timer);
        }
    }

    fn peer_timeout(&mut self, now: Now, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        if let Some((patience, max)) = &mut peer.patience
            && patience.is_over(now.mono, *max)
        {
            let max = *max;
            let what = match &peer.phase {
                Phase::Dialing { .. } => "no connection",
                Phase::Greeting { .. } => "no greeting",
                Phase::Open { .. } => "no message",
                Phase::Closing { .. } => "not all was taken",
            };
            let reason = format!("{what} within {}", Seconds(max));
            if peer.is_accepted() {
                peer.span.in_scope(|| info!(%reason, "disconnected"));
            }
            self.outputs.push_back(Output::Close { conn, abort: true });
            self.lost(now, conn, reason);
            return;
        }
        if let Some(session) = peer.session() {
            session.handle_timeout(now.mono);
        }
        self.pump(now, conn);
    }

    // --- outputs ---

    /// What is to be done, until there is nothing.
    pub fn poll_output(&mut self) -> Option<Output<C>> {
        self.outputs.pop_front()
    }

    /// Whether every connection is closed.
    pub fn is_quiet(&self) -> bool {
        self.peers.is_empty()
    }

    // --- inside ---

    fn session(&mut self, conn: ConnId) -> Option<&mut Session> {
        self.peers.get_mut(&conn)?.session()
    }

    const fn next_conn(&mut self) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        conn
    }

    /// Turns what came of a session's bytes into inputs.
    fn pump(&mut self, now: Now, conn: ConnId) {
        while let Some(event) = self.session(conn).and_then(Session::poll_event) {
            match event {
                SessionEvent::Open(version) => self.open(now, conn, version),
                SessionEvent::Message(message) => self.deliver(now, conn, message),
                SessionEvent::Failed(error) => self.fail(now, conn, &error),
            }
        }
        // A credit may have come, or been granted.
        self.transmit_later(conn);
        self.reschedule(conn);
        self.tell_congestion(now, conn);
    }

    /// Tells the core when a peer begins or ceases to take less than it asks for.
    fn tell_congestion(&mut self, now: Now, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        if let Phase::Open { session } = &peer.phase
            && session.is_congested() != peer.is_congested
        {
            peer.is_congested = session.is_congested();
            let (span, is_congested) = (peer.span.clone(), peer.is_congested);
            self.tell(now, span, Told::Congested(conn, is_congested));
        }
    }

    fn open(&mut self, now: Now, conn: ConnId, version: u16) {
        let Some(mut peer) = self.peers.remove(&conn) else {
            return;
        };
        if let Phase::Greeting { token, session } = peer.phase {
            debug!(peer = %peer.address, version, "connected");
            peer.phase = Phase::Open { session };
            let from = peer.address.clone();
            // Who connects speaks first.
            let patience = (Patience::new(now.mono), self.settings.connect_timeout);
            peer.patience = token.is_none().then_some(patience);
            let span = peer.span.clone();
            self.peers.insert(conn, peer);
            let input = match token {
                Some(token) => Input::Connected { token, conn },
                None => Input::Accepted { conn, from },
            };
            self.input(now, span, input);
        } else {
            self.peers.insert(conn, peer);
        }
    }

    fn deliver(&mut self, now: Now, conn: ConnId, message: Message) {
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.patience = None;
            trace_message(&peer.address, &message, "received");
            let span = peer.span.clone();
            self.input(now, span, Input::Message { conn, message });
        }
    }

    /// A session can't go on.
    fn fail(&mut self, now: Now, conn: ConnId, error: &SessionError) {
        let Some(peer) = self.peers.get(&conn) else {
            return;
        };
        let (known_as, span) = (peer.known_as(), peer.span.clone());
        if error.is_protocol() {
            span.in_scope(|| warn!(reason = %error, "disconnected"));
        } else if matches!(known_as, KnownAs::Stranger)
            || matches!(error, SessionError::Peer { .. })
        {
            span.in_scope(|| info!(reason = %error, "disconnected"));
        }
        self.retire(now, conn, error.is_dead());
        self.tell_end(now, conn, span, known_as, error.to_string());
    }

    /// A connection is gone, or an attempt failed.
    fn lost(&mut self, now: Now, conn: ConnId, reason: String) {
        let Some(peer) = self.peers.remove(&conn) else {
            return;
        };
        if let Some(at) = peer.scheduled {
            self.timers.remove(&(at, conn));
        }
        debug!(peer = %peer.address, reason, "connection gone");
        let known_as = peer.known_as();
        self.tell_end(now, conn, peer.span, known_as, reason);
    }

    fn tell_end(&mut self, now: Now, conn: ConnId, span: Span, known_as: KnownAs, reason: String) {
        match known_as {
            KnownAs::Attempt(token) => {
                let error = reason;
                self.input(now, span, Input::ConnectFailed { token, error });
            }
            KnownAs::Connection => self.input(now, span, Input::Closed { conn, reason }),
            KnownAs::Stranger | KnownAs::Nothing => {}
        }
    }

    /// Closes a connection once what was sent is out, or at once.
    fn retire(&mut self, now: Now, conn: ConnId, abort: bool) {
        let Some(mut peer) = self.peers.remove(&conn) else {
            return;
        };
        match peer.phase {
            Phase::Greeting { mut session, .. }
            | Phase::Open { mut session }
            | Phase::Closing { mut session }
                if !abort =>
            {
                session.close();
                peer.phase = Phase::Closing { session };
                peer.patience = Some((Patience::new(now.mono), self.settings.close_timeout));
                let is_dirty = std::mem::replace(&mut peer.is_dirty, true);
                self.peers.insert(conn, peer);
                if !is_dirty {
                    self.outputs.push_back(Output::Transmit { conn });
                }
                self.reschedule(conn);
            }
            _ => {
                if let Some(at) = peer.scheduled {
                    self.timers.remove(&(at, conn));
                }
                self.outputs.push_back(Output::Close { conn, abort: true });
            }
        }
    }

    /// Gives an input to the core, after those that wait, and carries out the effects.
    fn input(&mut self, now: Now, span: Span, input: Input<C>) {
        self.tell(now, span, Told::Input(input));
    }

    fn tell(&mut self, now: Now, span: Span, told: Told<C>) {
        self.inputs.push_back((span, told));
        if self.is_handling {
            return;
        }
        self.is_handling = true;
        while let Some((span, told)) = self.inputs.pop_front() {
            if self.is_stopped {
                continue;
            }
            let (core, out) = (&mut self.core, &mut self.effects);
            span.in_scope(|| match told {
                Told::Input(input) => core.handle(now, input, out),
                Told::Congested(conn, is) => core.congested(now, conn, is, out),
            });
            for effect in self.effects.take() {
                self.apply(now, effect);
            }
            while let Some(conn) = self.failing.pop() {
                let event = self.session(conn).and_then(Session::poll_event);
                if let Some(SessionEvent::Failed(error)) = event {
                    self.fail(now, conn, &error);
                }
            }
        }
        self.is_handling = false;
    }

    fn apply(&mut self, now: Now, effect: Effect<C>) {
        if self.is_stopped {
            return;
        }
        match effect {
            Effect::Connect { token, to } => self.connect(now, token, to),
            Effect::Send { conn, message } => self.send(now, conn, message),
            Effect::Cancel { conn, ids } => {
                if let Some(session) = self.session(conn) {
                    session.cancel(&ids);
                }
            }
            Effect::Consumed { conn, bytes } => {
                if let Some(session) = self.session(conn) {
                    session.consumed(bytes);
                    self.transmit_later(conn);
                }
            }
            Effect::Close { conn, reason } => {
                if let Some(peer) = self.peers.get(&conn) {
                    debug!(peer = %peer.address, reason, "closing");
                    self.retire(now, conn, false);
                }
            }
            Effect::Job(job) => self.outputs.push_back(Output::Job(job)),
            Effect::Event(event) => self.outputs.push_back(Output::Event(event)),
            Effect::Stop { failure } => self.stop(now, failure),
        }
    }

    fn connect(&mut self, now: Now, token: ConnectToken, to: Address) {
        let conn = self.next_conn();
        let peer = Peer {
            span: info_span!("peer", address = %to),
            address: to.clone(),
            phase: Phase::Dialing { token },
            patience: Some((Patience::new(now.mono), self.settings.connect_timeout)),
            scheduled: None,
            is_dirty: false,
            is_congested: false,
        };
        self.peers.insert(conn, peer);
        self.outputs.push_back(Output::Connect { conn, to });
        self.reschedule(conn);
    }

    fn send(&mut self, now: Now, conn: ConnId, message: Message) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        if let Phase::Open { session } = &mut peer.phase {
            trace_message(&peer.address, &message, "sent");
            session.send(now.mono, message);
            if session.is_failing() {
                self.failing.push(conn);
            }
            self.transmit_later(conn);
            self.tell_congestion(now, conn);
        }
    }

    fn stop(&mut self, now: Now, failure: Option<String>) {
        self.is_stopped = true;
        let conns: Vec<ConnId> = self.peers.keys().copied().collect();
        for conn in conns {
            self.retire(now, conn, false);
        }
        self.outputs.push_back(Output::Stop { failure });
    }

    fn transmit_later(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let has_bytes = match &peer.phase {
            Phase::Dialing { .. } => false,
            Phase::Greeting { session, .. }
            | Phase::Open { session }
            | Phase::Closing { session } => !session.is_idle(),
        };
        if has_bytes && !peer.is_dirty {
            peer.is_dirty = true;
            self.outputs.push_back(Output::Transmit { conn });
        }
    }

    /// Sees to it that a peer is looked at when it wants to be, or earlier: most deadlines move
    /// away again and again, and are only looked at when they come.
    fn reschedule(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return;
        };
        let Some(at) = peer.poll_timeout() else {
            return;
        };
        if let Some(scheduled) = peer.scheduled {
            if scheduled <= at {
                return;
            }
            self.timers.remove(&(scheduled, conn));
        }
        peer.scheduled = Some(at);
        self.timers.insert((at, conn));
    }
}

fn trace_message(peer: &Address, message: &Message, what: &'static str) {
    trace!(
        %peer,
        id = message.id.0,
        message = message.packet.name(),
        payload = message.payload.len(),
        "{what}"
    );
}
