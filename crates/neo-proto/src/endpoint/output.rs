//! What an endpoint wants done.

use neo_api::Address;

use crate::node::{ConnId, Core};

/// What an endpoint wants of the world around it, in this order.
#[derive(Debug)]
pub enum Output<C: Core> {
    /// Connect to an address, then [`Endpoint::opened`](crate::Endpoint::opened) or
    /// [`Endpoint::connect_failed`](crate::Endpoint::connect_failed).
    Connect {
        /// Name of the connection that is to be.
        conn: ConnId,
        /// Where to.
        to: Address,
    },
    /// There may be bytes to send: see [`Endpoint::poll_transmit`](crate::Endpoint::poll_transmit) and [`Endpoint::slices`](crate::Endpoint::slices).
    Transmit {
        /// Where to.
        conn: ConnId,
    },
    /// Close a connection, or give up the attempt. Nothing that is said of it later counts.
    Close {
        /// Which.
        conn: ConnId,
        /// Whether to drop it as it is. If not, what was sent must reach the peer.
        abort: bool,
    },
    /// Work for the shell.
    Job(C::Job),
    /// News for the application.
    Event(C::Event),
    /// The core has ended. What was sent is still to be sent: see [`Endpoint::is_quiet`](crate::Endpoint::is_quiet).
    Stop {
        /// `None`: cleanly.
        failure: Option<String>,
    },
}
