//! TCP.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use neo_api::{Address, Listener, Stream, Transport};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// TCP, over IPv4 and IPv6. Names are looked up, and each of their addresses is tried.
///
/// The kernel probes idle connections as well: behind a router that forgets, an end that is gone
/// is noticed although neo's own heartbeats go out.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TcpTransport;

impl TcpTransport {
    /// TCP.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Transport for TcpTransport {
    fn is_plain_tcp(&self) -> bool {
        true
    }

    async fn connect(&self, to: &Address) -> io::Result<Box<dyn Stream>> {
        let mut last = None;
        for address in resolve(to).await? {
            match TcpStream::connect(address).await {
                // With nobody there, a local port can be given to the very attempt to reach it.
                Ok(stream) if stream.local_addr()? == stream.peer_addr()? => {
                    last = Some(io::ErrorKind::ConnectionRefused.into());
                }
                Ok(stream) => {
                    prepare(&stream)?;
                    return Ok(Box::new(stream));
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| unknown_host(to)))
    }

    async fn bind(&self, at: &Address) -> io::Result<Box<dyn Listener>> {
        let mut last = None;
        for address in resolve(at).await? {
            match listen(address) {
                Ok(listener) => {
                    let local = Address::new(at.host(), listener.local_addr()?.port());
                    return Ok(Box::new(TcpNodeListener { listener, local }));
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| unknown_host(at)))
    }
}

async fn resolve(address: &Address) -> io::Result<Vec<SocketAddr>> {
    let found = lookup_host((address.host(), address.port())).await?;
    Ok(found.collect())
}

fn unknown_host(address: &Address) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("{} has no address", address.host()),
    )
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A node that restarts takes its address back at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10));
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

#[derive(Debug)]
struct TcpNodeListener {
    listener: TcpListener,
    local: Address,
}

#[async_trait]
impl Listener for TcpNodeListener {
    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, Address)> {
        let (stream, from) = self.listener.accept().await?;
        prepare(&stream)?;
        let from = Address::new(from.ip().to_string(), from.port());
        Ok((Box::new(stream), from))
    }

    fn local_address(&self) -> Address {
        self.local.clone()
    }
}
