//! What stands between the clients and the nodes: real TCP connections that can be reset or stalled.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use neo_api::{Address, Listener, Stream, Transport};
use neo_proto::net::TcpTransport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

/// Bytes that are passed on at once.
const BUFFER: usize = 64 << 10;
/// A node that restarts may listen elsewhere: what nobody uses is closed after so long.
const UNUSED: Duration = Duration::from_secs(30);

/// What may pass between clients and a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) to_node: bool,
    pub(super) to_client: bool,
}

impl Flow {
    pub(super) const OPEN: Self = Self {
        to_node: true,
        to_client: true,
    };
}

/// A transport that leads through a proxy of its own for each node. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Proxies {
    links: Arc<Mutex<BTreeMap<Address, Link>>>,
}

/// The proxy of a node.
#[derive(Debug)]
struct Link {
    /// Where the proxy listens.
    at: Address,
    flow: watch::Sender<Flow>,
    connections: Arc<Mutex<Connections>>,
    used: Instant,
    task: AbortHandle,
}

/// Open connections, each with what resets it.
#[derive(Debug, Default)]
struct Connections {
    next: u64,
    open: BTreeMap<u64, Arc<Notify>>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxies {
    /// The nodes that clients are connected to, with the number of connections.
    pub(super) fn connected(&self) -> Vec<(Address, usize)> {
        let links = lock(&self.links);
        let counts = links.iter().map(|(node, link)| {
            let connections = lock(&link.connections).open.len();
            (node.clone(), connections)
        });
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Resets connections to a node: all, or the one at a position. Returns how many.
    pub(super) fn reset(&self, node: &Address, only: Option<usize>) -> usize {
        let links = lock(&self.links);
        let Some(link) = links.get(node) else {
            return 0;
        };
        let connections = lock(&link.connections);
        let chosen: Vec<_> = match only {
            Some(at) => connections.open.values().nth(at).into_iter().collect(),
            None => connections.open.values().collect(),
        };
        chosen.iter().for_each(|reset| reset.notify_one());
        chosen.len()
    }

    /// Says what may pass from now on.
    pub(super) fn set_flow(&self, node: &Address, flow: Flow) {
        if let Some(link) = lock(&self.links).get(node) {
            link.flow.send_replace(flow);
        }
    }

    /// Where the proxy of a node listens; it is made if there is none.
    fn link(&self, node: &Address) -> io::Result<Address> {
        let mut links = lock(&self.links);
        let now = Instant::now();
        if let Some(link) = links.get_mut(node) {
            link.used = now;
            return Ok(link.at.clone());
        }
        links.retain(|_, link| {
            let is_open = !lock(&link.connections).open.is_empty();
            is_open || now.duration_since(link.used) < UNUSED
        });
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let at = Address::new("127.0.0.1", listener.local_addr()?.port());
        let listener = TcpListener::from_std(listener)?;
        let (flow, flows) = watch::channel(Flow::OPEN);
        let connections = Arc::<Mutex<Connections>>::default();
        let task = tokio::spawn(accept(
            listener,
            node.clone(),
            flows,
            Arc::clone(&connections),
        ));
        let link = Link {
            at: at.clone(),
            flow,
            connections,
            used: now,
            task: task.abort_handle(),
        };
        links.insert(node.clone(), link);
        Ok(at)
    }
}

#[async_trait]
impl Transport for Proxies {
    async fn connect(&self, to: &Address) -> io::Result<Box<dyn Stream>> {
        let proxy = self.link(to)?;
        TcpTransport::new().connect(&proxy).await
    }

    async fn bind(&self, at: &Address) -> io::Result<Box<dyn Listener>> {
        TcpTransport::new().bind(at).await
    }
}

async fn accept(
    listener: TcpListener,
    node: Address,
    flow: watch::Receiver<Flow>,
    connections: Arc<Mutex<Connections>>,
) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Too many open files, for instance: others may be closed soon.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let reset = Arc::new(Notify::new());
        let (number, node, flow) = {
            let mut connections = lock(&connections);
            let number = connections.next;
            connections.next += 1;
            connections.open.insert(number, Arc::clone(&reset));
            (number, node.clone(), flow.clone())
        };
        let connections = Arc::clone(&connections);
        tokio::spawn(async move {
            relay(client, &node, flow, &reset).await;
            lock(&connections).open.remove(&number);
        });
    }
}

/// Passes bytes on until an end closes, or the connection is reset: then what was not read yet is
/// lost, both ways.
async fn relay(mut client: TcpStream, node: &Address, flow: watch::Receiver<Flow>, reset: &Notify) {
    let Ok(mut server) = reach(node).await else {
        // One that is not connected any more needs no reset.
        let _ = client.set_zero_linger();
        return;
    };
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let both = async {
            tokio::try_join!(
                pump(from_client, to_server, flow.clone(), |flow| flow.to_node),
                pump(from_server, to_client, flow, |flow| flow.to_client),
            )
        };
        tokio::select! {
            ended = both => ended.is_ok(),
            () = reset.notified() => false,
        }
    };
    if !ended {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

async fn reach(node: &Address) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((node.host(), node.port())).await?;
    // With nobody there, a local port can be given to the very attempt to reach it.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut flow: watch::Receiver<Flow>,
    may_pass: impl Fn(&Flow) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        flow.wait_for(&may_pass).await.map_err(io::Error::other)?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pair(proxies: &Proxies) -> (Address, Box<dyn Stream>, TcpStream) {
        let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = node.local_addr().unwrap().port();
        let address = Address::new("127.0.0.1", port);
        let client = proxies.connect(&address).await.unwrap();
        let (server, _) = node.accept().await.unwrap();
        (address, client, server)
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_so_does_the_end() {
        let proxies = Proxies::default();
        let (node, mut client, mut server) = pair(&proxies).await;
        assert_eq!(proxies.connected(), [(node, 1)]);
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "question");
        server.write_all(b"answer").await.unwrap();
        drop(server);
        text.clear();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "answer");
    }

    #[tokio::test]
    async fn a_reset_is_one_on_both_ends() {
        let proxies = Proxies::default();
        let (node, mut client, mut server) = pair(&proxies).await;
        assert_eq!(proxies.reset(&node, Some(0)), 1);
        let mut byte = [0];
        let kind = client.read(&mut byte).await.unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::ConnectionReset);
        let kind = server.read(&mut byte).await.unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::ConnectionReset);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_stalled_passes_later() {
        let proxies = Proxies::default();
        let (node, mut client, mut server) = pair(&proxies).await;
        let blocked = Flow {
            to_node: false,
            ..Flow::OPEN
        };
        proxies.set_flow(&node, blocked);
        client.write_all(b"late").await.unwrap();
        server.write_all(b"soon").await.unwrap();
        let mut four = [0; 4];
        client.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"soon");
        let early = tokio::time::timeout(Duration::from_secs(1), server.read(&mut four)).await;
        assert!(early.is_err(), "nothing passes");
        proxies.set_flow(&node, Flow::OPEN);
        server.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"late");
    }
}
