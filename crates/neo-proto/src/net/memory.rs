//! Streams within the process, by address.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use neo_api::{Address, Listener, Stream, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

/// Bytes on their way, each way, at most.
const PIPE_BYTES_MAX: usize = 256 << 10;
/// Connections that wait to be accepted.
const BACKLOG: usize = 128;
/// The first port that a bind to port 0 is given.
const FIRST_PORT: u16 = 10_000;

/// A network within the process: whole clusters without a socket, and a cable to cut.
///
/// Clones are the same network. Host names are free to choose.
#[derive(Debug, Clone, Default)]
pub struct MemoryNetwork {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    listeners: BTreeMap<Address, mpsc::Sender<(MemoryStream, Address)>>,
    /// Every connection with the listener that it was made to.
    links: Vec<(Address, Weak<Link>)>,
    binds: u16,
    connects: u16,
}

impl MemoryNetwork {
    /// A network of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Resets every connection to a listener, as if the cable was cut; new ones can be made. Says
    /// how many there were.
    pub fn cut(&self, listener: &Address) -> usize {
        self.each_link(Some(listener), Link::cut)
    }

    /// Resets every connection.
    pub fn cut_all(&self) -> usize {
        self.each_link(None, Link::cut)
    }

    /// Lets nothing through on the connections that a listener has, without a sign of it at either
    /// end. Says how many there were.
    pub fn freeze(&self, listener: &Address) -> usize {
        self.each_link(Some(listener), Link::freeze)
    }

    fn each_link(&self, to: Option<&Address>, act: fn(&Link)) -> usize {
        let links: Vec<Arc<Link>> = {
            let state = lock(&self.state);
            state
                .links
                .iter()
                .filter(|(listener, _)| to.is_none_or(|to| to == listener))
                .filter_map(|(_, link)| link.upgrade())
                .collect()
        };
        for link in &links {
            act(link);
        }
        links.len()
    }
}

#[async_trait]
impl Transport for MemoryNetwork {
    async fn connect(&self, to: &Address) -> io::Result<Box<dyn Stream>> {
        let (near, offer) = {
            let mut state = lock(&self.state);
            let listener = state.listeners.get(to).filter(|l| !l.is_closed());
            let Some(listener) = listener.cloned() else {
                return Err(io::Error::new(
                    io::ErrorKind::ConnectionRefused,
                    format!("nobody listens at {to}"),
                ));
            };
            state.connects = state.connects.wrapping_add(1);
            let from = Address::new("memory", state.connects);
            let link = Arc::new(Link::default());
            state.links.retain(|(_, link)| link.strong_count() > 0);
            state.links.push((to.clone(), Arc::downgrade(&link)));
            let near = MemoryStream {
                link: Arc::clone(&link),
                end: 0,
            };
            let far = MemoryStream { link, end: 1 };
            (near, async move { listener.send((far, from)).await })
        };
        let refused = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
        offer.await.map_err(refused)?;
        Ok(Box::new(near))
    }

    async fn bind(&self, at: &Address) -> io::Result<Box<dyn Listener>> {
        let mut state = lock(&self.state);
        let mut local = at.clone();
        if at.port() == 0 {
            loop {
                local = at.with_port(FIRST_PORT + state.binds % 50_000);
                state.binds = state.binds.wrapping_add(1);
                if !state.listeners.contains_key(&local) {
                    break;
                }
            }
        }
        if state.listeners.get(&local).is_some_and(|l| !l.is_closed()) {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("somebody listens at {local}"),
            ));
        }
        let (sender, incoming) = mpsc::channel(BACKLOG);
        state.listeners.insert(local.clone(), sender);
        Ok(Box::new(MemoryListener { incoming, local }))
    }
}

#[derive(Debug)]
struct MemoryListener {
    incoming: mpsc::Receiver<(MemoryStream, Address)>,
    local: Address,
}

#[async_trait]
impl Listener for MemoryListener {
    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, Address)> {
        let (stream, from) = self
            .incoming
            .recv()
            .await
            .ok_or(io::ErrorKind::NotConnected)?;
        Ok((Box::new(stream), from))
    }

    fn local_address(&self) -> Address {
        self.local.clone()
    }
}

/// A connection: what end 0 writes is in pipe 0, read by end 1.
#[derive(Debug, Default)]
struct Link {
    pipes: [Mutex<Pipe>; 2],
}

#[derive(Debug, Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// The writer will write nothing more.
    is_ended: bool,
    /// The reader is gone.
    is_unread: bool,
    is_cut: bool,
    is_frozen: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn wake(&mut self) {
        let wakers = [self.reader.take(), self.writer.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Link {
    fn cut(&self) {
        for pipe in &self.pipes {
            let mut pipe = lock(pipe);
            pipe.is_cut = true;
            pipe.bytes.clear();
            pipe.wake();
        }
    }

    fn freeze(&self) {
        for pipe in &self.pipes {
            lock(pipe).is_frozen = true;
        }
    }
}

/// One end of a connection.
#[derive(Debug)]
struct MemoryStream {
    link: Arc<Link>,
    end: usize,
}

impl MemoryStream {
    fn outgoing(&self) -> MutexGuard<'_, Pipe> {
        lock(&self.link.pipes[self.end])
    }

    fn incoming(&self) -> MutexGuard<'_, Pipe> {
        lock(&self.link.pipes[1 - self.end])
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut pipe = self.incoming();
        if pipe.is_cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.is_frozen || (pipe.bytes.is_empty() && !pipe.is_ended) {
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        while out.remaining() > 0 && !pipe.bytes.is_empty() {
            let (front, _) = pipe.bytes.as_slices();
            let part = front.len().min(out.remaining());
            out.put_slice(&front[..part]);
            pipe.bytes.drain(..part);
        }
        if let Some(writer) = pipe.writer.take() {
            writer.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.outgoing();
        if pipe.is_cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if !pipe.is_frozen && (pipe.is_unread || pipe.is_ended) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = PIPE_BYTES_MAX - pipe.bytes.len();
        if pipe.is_frozen || room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let part = room.min(bytes.len());
        pipe.bytes.extend(&bytes[..part]);
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(part))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.outgoing();
        pipe.is_ended = true;
        pipe.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        let mut pipe = self.outgoing();
        pipe.is_ended = true;
        pipe.wake();
        drop(pipe);
        let mut pipe = self.incoming();
        pipe.is_unread = true;
        pipe.bytes.clear();
        pipe.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds a lock here can panic half way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
