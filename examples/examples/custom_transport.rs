//! A transport of your own: Unix sockets in a directory, for a cluster on one machine.
//!
//! An address is a name and a number, as with TCP; here it becomes the name of a file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use neo_api::{Address, Listener, Stream, Transport};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

#[derive(Debug)]
struct UnixTransport {
    directory: PathBuf,
}

impl UnixTransport {
    fn path(&self, address: &Address) -> PathBuf {
        let name = format!("{}-{}.sock", address.host(), address.port());
        self.directory.join(name)
    }
}

#[async_trait]
impl Transport for UnixTransport {
    async fn connect(&self, to: &Address) -> io::Result<Box<dyn Stream>> {
        let stream = UnixStream::connect(self.path(to)).await?;
        Ok(Box::new(stream))
    }

    async fn bind(&self, at: &Address) -> io::Result<Box<dyn Listener>> {
        let ports = match at.port() {
            0 => 1..=u16::MAX,
            port => port..=port,
        };
        for port in ports {
            let local = at.with_port(port);
            let path = self.path(&local);
            // A lock ends with its process, the socket's file does not.
            let lock = File::create(path.with_extension("lock"))?;
            if lock.try_lock().is_err() {
                continue;
            }
            let _ = std::fs::remove_file(&path);
            let listener = UnixListener::bind(&path)?;
            return Ok(Box::new(UnixNodeListener {
                listener,
                local,
                _lock: lock,
            }));
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

#[derive(Debug)]
struct UnixNodeListener {
    listener: UnixListener,
    local: Address,
    _lock: File,
}

#[async_trait]
impl Listener for UnixNodeListener {
    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, Address)> {
        let (stream, _) = self.listener.accept().await?;
        // The other end has no name of its own; this is for logs only.
        Ok((Box::new(stream), self.local.with_port(0)))
    }

    fn local_address(&self) -> Address {
        self.local.clone()
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    check(directory.path()).await
}

async fn check(directory: &Path) -> anyhow::Result<()> {
    let transport = UnixTransport {
        directory: directory.to_owned(),
    };
    let any = Address::new("node", 0);
    let mut listener = transport.bind(&any).await?;
    let address = listener.local_address();
    let taken = transport.bind(&address).await.map_err(|error| error.kind());
    assert_eq!(taken.err(), Some(io::ErrorKind::AddrInUse));
    let (client, server) = tokio::join!(transport.connect(&address), listener.accept());
    let (mut client, (mut server, _)) = (client?, server?);
    client.write_all(b"hello").await?;
    drop(client);
    let mut heard = String::new();
    server.read_to_string(&mut heard).await?;
    assert_eq!(heard, "hello");
    drop(listener);
    assert!(transport.connect(&address).await.is_err());
    println!("{address} was reached through {}", directory.display());
    Ok(())
}
