//! A transport of your own: Unix sockets in a directory, for a cluster on one machine.
//!
//! An address is a name and a number, as with TCP; here it becomes the name of a file.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use neo_api::{Address, Listener, Stream, Transport};
use neo_testkit::Cluster;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};

#[derive(Debug)]
struct UnixTransport {
    /// Its own, and removed with it; processes that talk to each other would share one.
    directory: TempDir,
}

impl UnixTransport {
    fn new() -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        Ok(Self { directory })
    }

    fn path(&self, address: &Address) -> PathBuf {
        let name = format!("{}-{}.sock", address.host(), address.port());
        self.directory.path().join(name)
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
    let transport = Arc::new(UnixTransport::new()?);
    let cluster = Cluster::builder().transport(transport, Address::new("node", 0));
    let mut cluster = cluster.storages(2).replicas(1).start().await?;
    let client = cluster.client().await?;
    let oid = client
        .transact(|txn| async move {
            let oid = txn.new_oid().await?;
            txn.store(oid, "no port was opened").await?;
            Ok(oid)
        })
        .await?;
    let object = client.load(oid).await?.expect("it was stored");
    assert_eq!(&object.data[..], b"no port was opened");
    println!("{oid} went through a Unix socket");
    client.close().await;
    Ok(cluster.stop().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct UnixSockets;

    impl neo_testkit::conformance::transport::TransportFactory for UnixSockets {
        fn open(&self) -> Arc<dyn Transport> {
            Arc::new(UnixTransport::new().unwrap())
        }

        fn address(&self) -> Address {
            Address::new("node", 0)
        }
    }

    neo_testkit::transport_conformance!(UnixSockets);
}
