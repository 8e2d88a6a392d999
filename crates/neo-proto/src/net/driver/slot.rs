//! One connection's stream in the loop.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use neo_api::{Address, Env, Stream, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::endpoint::Endpoint;
use crate::node::{ConnId, Core};

/// Reads and writes of a connection before others have their turn.
const READS: usize = 4;
const WRITES: usize = 16;
/// Pieces that are written at once.
const SLICES: usize = 32;
/// How long a closed connection waits for the end of the peer's stream: what the peer has not read
/// is lost when the socket is closed over bytes that came meanwhile.
const LINGER: Duration = Duration::from_secs(1);

/// What becomes of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It waits for its waker.
    Stays,
    /// It has more to do now.
    Again,
    /// It is done with.
    Gone,
}

pub(super) struct Slot {
    waker: Waker,
    state: State,
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

enum State {
    Connecting(Connecting),
    Open(Open),
    Lingering(Pin<Box<dyn Future<Output = ()> + Send>>),
}

struct Open {
    stream: Box<dyn Stream>,
    /// Whether the endpoint has bytes for it.
    has_bytes: bool,
    /// Whether bytes may be stuck in the stream.
    is_unflushed: bool,
    is_vectored: bool,
    /// Whether nothing is read until the peer has taken something.
    is_paused: bool,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

impl Open {
    fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            has_bytes: true,
            is_unflushed: false,
            is_vectored: stream.is_write_vectored(),
            is_paused: false,
            stream,
        }
    }
}

impl Slot {
    pub(super) fn open(stream: Box<dyn Stream>, waker: Waker) -> Self {
        Self {
            waker,
            state: State::Open(Open::new(stream)),
        }
    }

    pub(super) fn connecting(transport: Arc<dyn Transport>, to: Address, waker: Waker) -> Self {
        Self {
            waker,
            state: State::Connecting(Box::pin(async move { transport.connect(&to).await })),
        }
    }

    /// Closes the stream behind what was written.
    pub(super) fn lingering(self) -> Option<Self> {
        let State::Open(Open { mut stream, .. }) = self.state else {
            return None;
        };
        let close = async move {
            let mut rest = [0; 4096];
            if stream.shutdown().await.is_ok() {
                while stream.read(&mut rest).await.is_ok_and(|bytes| bytes > 0) {}
            }
        };
        let state = State::Lingering(Box::pin(async move {
            // Whether the peer was done in time or not, the stream is dropped.
            drop(tokio::time::timeout(LINGER, close).await);
        }));
        Some(Self { state, ..self })
    }

    /// The endpoint has bytes for it.
    pub(super) const fn transmit(&mut self) {
        if let State::Open(open) = &mut self.state {
            open.has_bytes = true;
        }
    }

    /// The waker was woken.
    pub(super) fn poll<C: Core>(
        &mut self,
        conn: ConnId,
        endpoint: &mut Endpoint<C>,
        env: &dyn Env,
    ) -> Fate {
        let mut cx = Context::from_waker(&self.waker);
        match &mut self.state {
            State::Connecting(connecting) => match connecting.as_mut().poll(&mut cx) {
                Poll::Pending => Fate::Stays,
                Poll::Ready(Ok(stream)) => {
                    self.state = State::Open(Open::new(stream));
                    endpoint.opened(env.now(), conn);
                    Fate::Again
                }
                Poll::Ready(Err(error)) => {
                    endpoint.connect_failed(env.now(), conn, error.to_string());
                    Fate::Gone
                }
            },
            State::Lingering(lingering) => match lingering.as_mut().poll(&mut cx) {
                Poll::Pending => Fate::Stays,
                Poll::Ready(()) => Fate::Gone,
            },
            State::Open(open) => {
                let read = open.read(&mut cx, conn, endpoint, env);
                if read == Fate::Gone {
                    return read;
                }
                match open.write(&mut cx, conn, endpoint, env) {
                    Fate::Stays => read,
                    fate => fate,
                }
            }
        }
    }

    /// Writes what the endpoint has.
    pub(super) fn write<C: Core>(
        &mut self,
        conn: ConnId,
        endpoint: &mut Endpoint<C>,
        env: &dyn Env,
    ) -> Fate {
        match &mut self.state {
            State::Open(open) => {
                let mut cx = Context::from_waker(&self.waker);
                open.write(&mut cx, conn, endpoint, env)
            }
            State::Connecting(_) | State::Lingering(_) => Fate::Stays,
        }
    }
}

impl Open {
    fn read<C: Core>(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        endpoint: &mut Endpoint<C>,
        env: &dyn Env,
    ) -> Fate {
        for _ in 0..READS {
            if !endpoint.wants_bytes(conn) {
                self.is_paused = true;
                return Fate::Stays;
            }
            let Some((buffer, room)) = endpoint.room(conn) else {
                return Fate::Gone;
            };
            match poll_read(&mut self.stream, cx, buffer, room) {
                Poll::Pending => return Fate::Stays,
                Poll::Ready(Ok(0)) => {
                    endpoint.closed(env.now(), conn, None);
                    return Fate::Gone;
                }
                Poll::Ready(Ok(bytes)) => {
                    endpoint.came(env.now(), conn);
                    if bytes == room {
                        // Others have their turn before what may follow.
                        return Fate::Again;
                    }
                }
                Poll::Ready(Err(error)) => {
                    endpoint.closed(env.now(), conn, Some(error.to_string()));
                    return Fate::Gone;
                }
            }
        }
        Fate::Again
    }

    fn write<C: Core>(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        endpoint: &mut Endpoint<C>,
        env: &dyn Env,
    ) -> Fate {
        if !self.has_bytes && !self.is_unflushed && !self.is_paused {
            return Fate::Stays;
        }
        let now = env.now();
        for _ in 0..WRITES {
            if !self.has_bytes {
                break;
            }
            if !endpoint.has_bytes(now, conn) {
                self.has_bytes = false;
                break;
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = endpoint.slices(conn, &mut slices);
            let stream = Pin::new(&mut *self.stream);
            let written = if self.is_vectored {
                stream.poll_write_vectored(cx, &slices[..count])
            } else {
                stream.poll_write(cx, &slices[0])
            };
            match written {
                Poll::Pending => return self.flush(cx, conn, endpoint, env),
                Poll::Ready(Ok(0)) => {
                    let error = io::Error::from(io::ErrorKind::WriteZero);
                    endpoint.closed(env.now(), conn, Some(error.to_string()));
                    return Fate::Gone;
                }
                Poll::Ready(Ok(bytes)) => {
                    self.is_unflushed = true;
                    endpoint.went(now, conn, bytes);
                }
                Poll::Ready(Err(error)) => {
                    endpoint.closed(env.now(), conn, Some(error.to_string()));
                    return Fate::Gone;
                }
            }
        }
        if self.flush(cx, conn, endpoint, env) == Fate::Gone {
            return Fate::Gone;
        }
        if self.has_bytes || (self.is_paused && endpoint.wants_bytes(conn)) {
            self.is_paused = false;
            return Fate::Again;
        }
        Fate::Stays
    }

    fn flush<C: Core>(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        endpoint: &mut Endpoint<C>,
        env: &dyn Env,
    ) -> Fate {
        if self.is_unflushed {
            match Pin::new(&mut *self.stream).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.is_unflushed = false,
                Poll::Ready(Err(error)) => {
                    endpoint.closed(env.now(), conn, Some(error.to_string()));
                    return Fate::Gone;
                }
            }
        }
        Fate::Stays
    }
}

/// Appends what there is to a buffer, `room` bytes at most.
fn poll_read(
    stream: &mut Box<dyn Stream>,
    cx: &mut Context<'_>,
    buffer: &mut BytesMut,
    room: usize,
) -> Poll<io::Result<usize>> {
    let mut limited = buffer.limit(room);
    // It holds nothing between polls: to drop it loses nothing.
    pin!(stream.read_buf(&mut limited)).poll(cx)
}
