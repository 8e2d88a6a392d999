//! What stands between all who talk: real TCP connections that can be reset or stalled.
//!
//! Each node and each client has a transport of its own ([`Via`]), which leads through the hub: a
//! connection begins with a line that says who wants to reach whom. So the hub knows both ends.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use neo_api::{Address, Listener, Stream, Transport};
use neo_proto::net::TcpTransport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use super::nodes::Party;

/// Bytes that are passed on at once.
const BUFFER: usize = 64 << 10;
/// Most bytes of the line that a connection begins with.
const LINE_MAX: usize = 512;
/// The words that a line begins with.
const LISTENS: &str = "LISTENS";
const REACH: &str = "REACH";
/// What the hub answers when it has done what a line says; otherwise it hangs up.
const DONE: u8 = b'+';

/// From whom to whom.
pub(super) type Way = (Party, Party);

/// The hub. Clones share it; it ends with the runtime.
#[derive(Debug, Clone)]
pub(super) struct Hub {
    at: Address,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Where nothing passes.
    blocked: watch::Sender<BTreeSet<Way>>,
}

#[derive(Debug, Default)]
struct State {
    /// Who listens where.
    listeners: BTreeMap<Address, Party>,
    next: u64,
    open: BTreeMap<u64, Open>,
}

/// A connection, and what resets it.
#[derive(Debug)]
struct Open {
    way: Way,
    reset: Arc<Notify>,
}

impl Hub {
    /// A hub to which nobody is connected yet.
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let at = Address::new("127.0.0.1", listener.local_addr()?.port());
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            blocked: watch::channel(BTreeSet::new()).0,
        });
        tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { at, shared })
    }

    /// Where it listens.
    pub(super) const fn address(&self) -> &Address {
        &self.at
    }

    /// The open connections: the number of each, and who reached whom by it.
    pub(super) fn connections(&self) -> Vec<(u64, Way)> {
        let state = self.shared.state();
        let open = state.open.iter();
        open.map(|(number, open)| (*number, open.way)).collect()
    }

    /// Resets a connection, unless it has ended.
    pub(super) fn reset(&self, number: u64) {
        if let Some(open) = self.shared.state().open.get(&number) {
            open.reset.notify_one();
        }
    }

    /// Says where nothing passes from now on.
    pub(super) fn block(&self, ways: BTreeSet<Way>) {
        self.shared.blocked.send_replace(ways);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listens(&self, party: Party, at: Address) {
        let mut state = self.state();
        // One that was started again listens elsewhere.
        state.listeners.retain(|_, known| *known != party);
        state.listeners.insert(at, party);
    }

    fn opened(&self, way: Way) -> (u64, Arc<Notify>) {
        let reset = Arc::new(Notify::new());
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        let open = Open {
            way,
            reset: Arc::clone(&reset),
        };
        state.open.insert(number, open);
        (number, reset)
    }

    /// Waits until something may pass.
    async fn free(&self, way: Way) {
        // The sender is this very value: there is no error.
        let mut blocked = self.blocked.subscribe();
        let _ = blocked.wait_for(|blocked| !blocked.contains(&way)).await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
            // Too many open files, for instance: others may be closed soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Does what the first line of a connection says.
async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let Ok(Some((word, party, address))) = asked(&mut stream).await else {
        return;
    };
    if word == LISTENS {
        shared.listens(party, address);
        let _ = stream.write_all(&[DONE]).await;
        return;
    }
    let target = shared.state().listeners.get(&address).copied();
    let Some(target) = target else { return };
    let way = (party, target);
    let (number, reset) = shared.opened(way);
    let ended = tokio::select! {
        ended = relay(&mut stream, &address, way, &shared) => ended.is_ok(),
        () = reset.notified() => false,
    };
    shared.state().open.remove(&number);
    if !ended {
        // One that is not connected any more needs no reset.
        let _ = stream.set_zero_linger();
    }
}

async fn asked(stream: &mut TcpStream) -> io::Result<Option<(String, Party, Address)>> {
    stream.set_nodelay(true)?;
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => break,
            byte if line.len() < LINE_MAX => line.push(byte),
            _ => return Ok(None),
        }
    }
    let line = String::from_utf8_lossy(&line);
    let mut words = line.split(' ');
    let (word, party, address) = (words.next(), words.next(), words.next());
    Ok(word.and_then(|word| {
        let (party, address) = (Party::named(party?)?, address?.parse().ok()?);
        Some((word.to_owned(), party, address))
    }))
}

/// Passes bytes on until an end closes; with an error, what was not read yet is lost both ways.
async fn relay(
    near: &mut TcpStream,
    address: &Address,
    way: Way,
    shared: &Shared,
) -> io::Result<()> {
    let back = (way.1, way.0);
    // To connect, something must pass both ways.
    shared.free(way).await;
    shared.free(back).await;
    let mut far = TcpStream::connect((address.host(), address.port())).await?;
    // With nobody there, a local port can be given to the very attempt to reach it.
    if far.local_addr()? == far.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    far.set_nodelay(true)?;
    // What ends before its time is reset at both ends; what was closed is not open any more.
    far.set_zero_linger()?;
    near.write_all(&[DONE]).await?;
    let (from_near, to_near) = near.split();
    let (from_far, to_far) = far.split();
    tokio::try_join!(
        pump(from_near, to_far, way, shared),
        pump(from_far, to_near, back, shared),
    )?;
    Ok(())
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    way: Way,
    shared: &Shared,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        shared.free(way).await;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
    }
}

/// How one of those who talk reaches the others: through a hub.
#[derive(Debug, Clone)]
pub(super) struct Via {
    hub: Address,
    name: String,
}

impl Via {
    /// The transport of somebody, by the name that [`Party::named`] takes.
    pub(super) const fn new(hub: Address, name: String) -> Self {
        Self { hub, name }
    }

    async fn ask(&self, word: &str, address: &Address) -> io::Result<Box<dyn Stream>> {
        let mut stream = TcpTransport::new().connect(&self.hub).await?;
        let line = format!("{word} {} {address}\n", self.name);
        stream.write_all(line.as_bytes()).await?;
        let mut answer = [0];
        match stream.read(&mut answer).await? {
            0 => Err(io::ErrorKind::ConnectionRefused.into()),
            _ => Ok(stream),
        }
    }
}

#[async_trait]
impl Transport for Via {
    async fn connect(&self, to: &Address) -> io::Result<Box<dyn Stream>> {
        self.ask(REACH, to).await
    }

    async fn bind(&self, at: &Address) -> io::Result<Box<dyn Listener>> {
        let listener = TcpTransport::new().bind(at).await?;
        self.ask(LISTENS, &listener.local_address()).await?;
        Ok(listener)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stress::nodes::Node;

    const CLIENT: Party = Party::Client(0);
    const STORAGE: Party = Party::Node(Node::Storage(0));

    /// A client that is connected to a storage node.
    async fn pair(hub: &Hub) -> (Box<dyn Stream>, Box<dyn Stream>) {
        let of = |party: Party| Via::new(hub.address().clone(), party.name());
        let mut node = of(STORAGE)
            .bind(&Address::new("127.0.0.1", 0))
            .await
            .unwrap();
        let at = node.local_address();
        let client = of(CLIENT);
        let (connected, accepted) = tokio::join!(client.connect(&at), node.accept());
        (connected.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_so_does_the_end() {
        let hub = Hub::start().await.unwrap();
        let (mut client, mut server) = pair(&hub).await;
        assert_eq!(hub.connections(), [(0, (CLIENT, STORAGE))]);
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
        let hub = Hub::start().await.unwrap();
        let (mut client, mut server) = pair(&hub).await;
        hub.reset(0);
        let mut byte = [0];
        let kind = client.read(&mut byte).await.unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::ConnectionReset);
        let kind = server.read(&mut byte).await.unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn who_listens_nowhere_is_not_reached() {
        let hub = Hub::start().await.unwrap();
        let client = Via::new(hub.address().clone(), CLIENT.name());
        for port in [1, hub.address().port()] {
            let error = client.connect(&Address::new("127.0.0.1", port)).await;
            assert_eq!(error.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_stalled_passes_later() {
        let hub = Hub::start().await.unwrap();
        let (mut client, mut server) = pair(&hub).await;
        hub.block([(CLIENT, STORAGE)].into());
        client.write_all(b"late").await.unwrap();
        server.write_all(b"soon").await.unwrap();
        let mut four = [0; 4];
        client.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"soon");
        let early = tokio::time::timeout(Duration::from_secs(1), server.read(&mut four)).await;
        assert!(early.is_err(), "nothing passes");
        hub.block(BTreeSet::new());
        server.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"late");
    }
}
