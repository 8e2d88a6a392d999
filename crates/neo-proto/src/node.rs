//! The shape of a node: a pure core that takes inputs and emits effects.
//!
//! A core does no I/O, reads no clock and never waits. The same core runs under the driver, over
//! real sockets, and in the simulator. Below it, an endpoint owns the sessions of its connections:
//! a core sees whole messages only, of connections whose greeting has succeeded.

use std::fmt::Debug;

use neo_api::{Address, Instant, Now};

use crate::packet::{Message, MsgId, Packet};

/// A connection of this process, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Names an attempt to connect; the core chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectToken(pub u64);

/// What happens to a node.
#[derive(Debug)]
pub enum Input<C: Core> {
    /// A connection that the core asked for is up, greeting done.
    Connected {
        /// Which attempt.
        token: ConnectToken,
        /// The connection.
        conn: ConnId,
    },
    /// An attempt to connect failed; `error` is for logs and for the user.
    ConnectFailed {
        /// Which attempt.
        token: ConnectToken,
        /// How.
        error: String,
    },
    /// A peer connected, greeting done.
    Accepted {
        /// The connection.
        conn: ConnId,
        /// The other end, for logs.
        from: Address,
    },
    /// A connection ended: by the peer, by silence, by nonsense. Nothing more comes from it. Not
    /// given for connections that the core closed itself.
    Closed {
        /// Which.
        conn: ConnId,
        /// Why, for logs.
        reason: String,
    },
    /// A message. Once its payload is used or stored, the core emits [`Effect::Consumed`].
    Message {
        /// From where.
        conn: ConnId,
        /// What.
        message: Message,
    },
    /// The application, or the process around the node, wants something.
    Command(C::Command),
    /// A job of the core is done.
    Done(C::Done),
    /// The moment of [`Core::poll_timeout`] has come; also given at the start.
    Timer,
}

/// What a node wants done, in this order.
#[derive(Debug)]
pub enum Effect<C: Core> {
    /// Connect to an address; answered by `Connected` or `ConnectFailed`.
    Connect {
        /// Name of the attempt.
        token: ConnectToken,
        /// Where to.
        to: Address,
    },
    /// Send a message. Without a payload it is sent in order with the others; one with a payload
    /// waits for credit and may be overtaken by those without. Dropped when the connection is
    /// gone.
    Send {
        /// Where to.
        conn: ConnId,
        /// What.
        message: Message,
    },
    /// Do not send these requests if they still wait for credit.
    Cancel {
        /// Where to.
        conn: ConnId,
        /// Ids of requests of this side.
        ids: Vec<MsgId>,
    },
    /// So many bytes of payload are dealt with: the peer may send as many again.
    Consumed {
        /// From where they came.
        conn: ConnId,
        /// How many.
        bytes: u64,
    },
    /// Close a connection once what was sent is out.
    Close {
        /// Which.
        conn: ConnId,
        /// Why, for logs.
        reason: String,
    },
    /// Work for the shell; answered by `Done`.
    Job(C::Job),
    /// Tell the application, or the process around the node.
    Event(C::Event),
    /// The node ends: cleanly, or by a failure that makes going on unsafe.
    Stop {
        /// `None`: cleanly.
        failure: Option<String>,
    },
}

/// A node's pure core.
///
/// # To ensure correctness
/// - `handle` **must not** fail or panic by anything that a peer, a disk or a user does.
/// - It **must not** depend on anything but its inputs: maps are ordered, randomness is a seed.
/// - An answer that depends on the disk **must not** be sent before the job that wrote it is done.
pub trait Core: Debug + Send + Sized + 'static {
    /// From the application, or the process around the node.
    type Command: Debug + Send + 'static;
    /// To it.
    type Event: Debug + Send + 'static;
    /// Work for the shell (reads and writes of the backend).
    type Job: Debug + Send + 'static;
    /// Its result.
    type Done: Debug + Send + 'static;

    /// Takes one input; effects are carried out in the order pushed.
    fn handle(&mut self, now: Now, input: Input<Self>, out: &mut Effects<Self>);

    /// A peer does not take the answers with object bytes that wait for it, or takes them again.
    /// Meanwhile nothing more should be read for it: it would fill the memory. Its new requests
    /// are held back anyway. Effects are carried out as those of `handle` are.
    fn congested(
        &mut self,
        _now: Now,
        _conn: ConnId,
        _is_congested: bool,
        _out: &mut Effects<Self>,
    ) {
    }

    /// When it wants [`Input::Timer`]; asked after each input.
    fn poll_timeout(&self) -> Option<Instant>;
}

/// Effects in the order in which they are carried out.
#[derive(Debug)]
pub struct Effects<C: Core> {
    list: Vec<Effect<C>>,
}

impl<C: Core> Default for Effects<C> {
    fn default() -> Self {
        Self { list: Vec::new() }
    }
}

impl<C: Core> Effects<C> {
    /// No effects yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an effect.
    pub fn push(&mut self, effect: Effect<C>) {
        self.list.push(effect);
    }

    /// Sends a request or an answer without payload.
    pub fn send(&mut self, conn: ConnId, id: MsgId, packet: Packet) {
        self.push(Effect::Send {
            conn,
            message: Message::new(id, packet),
        });
    }

    /// Sends a notification.
    pub fn notify(&mut self, conn: ConnId, packet: Packet) {
        self.push(Effect::Send {
            conn,
            message: Message::notify(packet),
        });
    }

    /// Closes a connection.
    pub fn close(&mut self, conn: ConnId, reason: impl Into<String>) {
        self.push(Effect::Close {
            conn,
            reason: reason.into(),
        });
    }

    /// Asks the shell for work.
    pub fn job(&mut self, job: C::Job) {
        self.push(Effect::Job(job));
    }

    /// Tells the application.
    pub fn event(&mut self, event: C::Event) {
        self.push(Effect::Event(event));
    }

    /// Takes what was pushed.
    pub fn take(&mut self) -> Vec<Effect<C>> {
        std::mem::take(&mut self.list)
    }

    /// What was pushed, to look at.
    #[must_use]
    pub fn as_slice(&self) -> &[Effect<C>] {
        &self.list
    }
}
