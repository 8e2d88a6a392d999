//! Byte streams by address.

use std::fmt::Debug;
use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::address::Address;

/// A connected, ordered, reliable stream of bytes, both ways.
pub trait Stream: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin> Stream for T {}

/// How nodes reach each other: TCP, TLS over any transport, in memory, or your own.
///
/// # To ensure correctness
/// - A stream **must not** lose, repeat or reorder bytes while it is open. When it can't go on, it
///   ends with an error or an end of file on both sides, sooner or later; neo notices a silent
///   peer by itself.
/// - Bytes that were written **must** be sent without waiting for more (no Nagle delay).
/// - Dropping a stream **must** close it, to the other side too. `shutdown` ends one direction, and
///   the other goes on; what was written and flushed before it arrives, although the stream is then
///   dropped.
/// - Dropping a listener **must** free its address, although it had connections; those go on.
/// - An attempt to connect that is given up **must not** harm the listener or other attempts.
#[async_trait]
pub trait Transport: Debug + Send + Sync + 'static {
    /// Connects to a listener. The caller sets the deadline: dropping the future gives the attempt
    /// up.
    ///
    /// # Errors
    /// As the operating system words them. Where nobody listens it fails at once, if that can be
    /// known: it does not wait for somebody to come.
    async fn connect(&self, to: &Address) -> io::Result<Box<dyn Stream>>;

    /// Listens at an address; port 0 takes any free port.
    ///
    /// # Errors
    /// `AddrInUse` when somebody listens there already.
    async fn bind(&self, at: &Address) -> io::Result<Box<dyn Listener>>;

    /// Whether [`connect`](Self::connect) makes a TCP connection to the address and nothing else, so
    /// that a thread that blocks may make one by itself.
    fn is_plain_tcp(&self) -> bool {
        false
    }
}

/// Where others connect to.
#[async_trait]
pub trait Listener: Debug + Send {
    /// The next connection, with the address of the other end (for logs only).
    ///
    /// The caller polls it to its end, or drops it together with the listener.
    ///
    /// # Errors
    /// An error is of one attempt: the listener goes on, and the caller calls again after a pause.
    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, Address)>;

    /// Where it listens, with the real port.
    fn local_address(&self) -> Address;
}
