//! A transport of your own: Unix sockets in a directory, for a cluster on one machine.
//!
//! An address is a name and a number, as with TCP; here it becomes the name of a file.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use neo_api::{Address, Listener, Stream, Transport};
use tokio::net::{UnixListener, UnixStream};

/// The sockets of all nodes are in one directory, and so are their locks.
#[derive(Debug)]
pub struct UnixTransport {
    directory: PathBuf,
}

impl UnixTransport {
    /// Between all that use this directory, in any process.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Self { directory }
    }

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use neo_testkit::conformance::transport::TransportFactory;
    use tempfile::TempDir;

    use super::*;

    /// In a directory of its own.
    struct UnixSockets(TempDir);

    impl TransportFactory for UnixSockets {
        fn open(&self) -> Arc<dyn Transport> {
            Arc::new(UnixTransport::new(self.0.path()))
        }

        fn address(&self) -> Address {
            Address::new("node", 0)
        }
    }

    neo_testkit::transport_conformance!(UnixSockets(tempfile::tempdir().unwrap()));
}
