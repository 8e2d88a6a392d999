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
                let fate = open.poll(&mut cx, conn, endpoint, env);
                fate.unwrap_or_else(|error| failed(&error, conn, endpoint, env))
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
                let fate = open.write(&mut cx, conn, endpoint, env);
                fate.unwrap_or_else(|error| failed(&error, conn, endpoint, env))
            }
            State::Connecting(_) | State::Lingering(_) => Fate::Stays,
        }
    }
}

fn failed<C: Core>(
    error: &io::Error,
    conn: ConnId,
    endpoint: &mut Endpoint<C>,
    env: &dyn Env,
) -> Fate {
    endpoint.closed(env.now(), conn, Some(error.to_string()));
    Fate::Gone
}

impl Open {
    fn poll<C: Core>(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        endpoint: &mut Endpoint<C>,
        env: &dyn Env,
    ) -> io::Result<Fate> {
        let read = self.read(cx, conn, endpoint, env)?;
        if read == Fate::Gone {
            return Ok(read);
        }
        match self.write(cx, conn, endpoint, env)? {
            Fate::Stays => Ok(read),
            fate => Ok(fate),
        }
    }

    fn read<C: Core>(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        endpoint: &mut Endpoint<C>,
        env: &dyn Env,
    ) -> io::Result<Fate> {
        for _ in 0..READS {
            if !endpoint.wants_bytes(conn) {
                self.is_paused = true;
                return Ok(Fate::Stays);
            }
            let Some((buffer, room)) = endpoint.room(conn) else {
                return Ok(Fate::Gone);
            };
            let Poll::Ready(bytes) = poll_read(&mut self.stream, cx, buffer, room)? else {
                return Ok(Fate::Stays);
            };
            if bytes == 0 {
                endpoint.closed(env.now(), conn, None);
                return Ok(Fate::Gone);
            }
            endpoint.came(env.now(), conn);
            if bytes == room {
                // Others have their turn before what may follow.
                break;
            }
        }
        Ok(Fate::Again)
    }

    fn write<C: Core>(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        endpoint: &mut Endpoint<C>,
        env: &dyn Env,
    ) -> io::Result<Fate> {
        if !self.has_bytes && !self.is_unflushed && !self.is_paused {
            return Ok(Fate::Stays);
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
                stream.poll_write_vectored(cx, &slices[..count])?
            } else {
                stream.poll_write(cx, &slices[0])?
            };
            match written {
                Poll::Pending => {
                    self.flush(cx)?;
                    return Ok(Fate::Stays);
                }
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(bytes) => {
                    self.is_unflushed = true;
                    endpoint.went(now, conn, bytes);
                }
            }
        }
        self.flush(cx)?;
        if self.has_bytes || (self.is_paused && endpoint.wants_bytes(conn)) {
            self.is_paused = false;
            return Ok(Fate::Again);
        }
        Ok(Fate::Stays)
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.is_unflushed && Pin::new(&mut *self.stream).poll_flush(cx)?.is_ready() {
            self.is_unflushed = false;
        }
        Ok(())
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
