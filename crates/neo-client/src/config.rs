//! The builder of a client.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use neo_api::{Address, ConflictResolver, Env, SystemEnv, Transport};
use neo_proto::SessionSettings;
use neo_proto::net::{MasterListFile, TcpTransport};

use crate::client::Client;
use crate::codec::CompressionSetting;
use crate::error::{Error, Result};
use crate::invalidation::InvalidationListener;

/// How to reach a cluster, and how to work with it. Made by [`Client::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientBuilder {
    pub(crate) cluster: String,
    masters: Vec<String>,
    dynamic_master_list: Option<PathBuf>,
    pub(crate) cache_bytes: usize,
    pub(crate) compression: CompressionSetting,
    pub(crate) read_only: bool,
    pub(crate) ignore_wrong_checksum: bool,
    pub(crate) resolver: Option<Arc<dyn ConflictResolver>>,
    pub(crate) listener: Option<Arc<dyn InvalidationListener>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) operation_timeout: Duration,
    pub(crate) in_flight_bytes_max: usize,
    pub(crate) transaction_bytes_max: usize,
    pub(crate) attempts_max: u32,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) session: SessionSettings,
    pub(crate) own_thread: bool,
    /// Whether threads that block read from storage nodes by themselves.
    pub(crate) direct: bool,
}

impl ClientBuilder {
    pub(crate) fn new(cluster: impl Into<String>) -> Self {
        Self {
            cluster: cluster.into(),
            masters: Vec::new(),
            dynamic_master_list: None,
            cache_bytes: 64 << 20,
            compression: CompressionSetting::default(),
            read_only: false,
            ignore_wrong_checksum: false,
            resolver: None,
            listener: None,
            connect_timeout: Duration::from_secs(10),
            operation_timeout: Duration::from_secs(60),
            in_flight_bytes_max: 16 << 20,
            transaction_bytes_max: 1 << 30,
            attempts_max: 20,
            transport: Arc::new(TcpTransport::new()),
            env: Arc::new(SystemEnv::new()),
            session: SessionSettings::default(),
            own_thread: false,
            direct: false,
        }
    }

    /// Adds a master: `HOST:PORT` or `[IPV6]:PORT`. One that is reachable is enough; the others are
    /// learnt.
    pub fn master(mut self, address: impl Into<String>) -> Self {
        self.masters.push(address.into());
        self
    }

    /// Adds masters.
    pub fn masters<A: Into<String>>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        self.masters.extend(addresses.into_iter().map(Into::into));
        self
    }

    /// A file that keeps the masters that the client learns of: a JSON list of `"HOST:PORT"`, read
    /// beside the masters that are given here, of which there may be none then, and replaced when
    /// there is another one. With it, a client finds its cluster when all the masters that it was
    /// told of at first are gone. Each client has a file of its own.
    pub fn dynamic_master_list(mut self, path: impl Into<PathBuf>) -> Self {
        self.dynamic_master_list = Some(path.into());
        self
    }

    /// Size of the cache of objects, in bytes, overhead included: 64 MiB by default, 0 for none.
    pub const fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// How values are compressed: zlib, where it helps, by default.
    pub const fn compression(mut self, setting: CompressionSetting) -> Self {
        self.compression = setting;
        self
    }

    /// Promises not to write: transactions can't begin. Off by default.
    pub const fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Gives out data that does not match its checksum on any replica, instead of
    /// [`Error::Checksum`], and logs a warning each time it is read from a storage node; where it
    /// can't be decompressed, nothing: 0 bytes. Off by default. To save what is left of a damaged
    /// database, not to work with it.
    pub const fn ignore_wrong_checksum(mut self, ignore: bool) -> Self {
        self.ignore_wrong_checksum = ignore;
        self
    }

    /// Merges concurrent changes of an object. Without one, each conflict is an error.
    pub fn resolver(mut self, resolver: Arc<dyn ConflictResolver>) -> Self {
        self.resolver = Some(resolver);
        self
    }

    /// Who hears what changes as it happens, in order, before
    /// [`Client::last_tid`](crate::Client::last_tid) shows it.
    pub fn invalidation_listener(mut self, listener: Arc<dyn InvalidationListener>) -> Self {
        self.listener = Some(listener);
        self
    }

    /// How long [`connect`](Self::connect) waits for the cluster to be ready: 10 s by default.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long an operation waits without any progress before it fails: 60 s by default. So long,
    /// too, it waits while the cluster has no primary master, or is not ready; the error repeats
    /// what each master says then ("the cluster is RECOVERING, waiting for S2"). To wait shorter,
    /// see [`Client::wait_ready`].
    ///
    /// What a node is silent about for 10 s is given up sooner (see [`session`](Self::session)):
    /// its connection is closed, reads go elsewhere, and transactions go on without it if they can.
    pub const fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = timeout;
        self
    }

    /// Bytes that a transaction has on their way to storage nodes before a store waits: 16 MiB by
    /// default.
    pub const fn in_flight_bytes_max(mut self, bytes: usize) -> Self {
        self.in_flight_bytes_max = bytes;
        self
    }

    /// Bytes of values that a transaction may store, as they are sent: 1 GiB by default. They are
    /// in memory until it ends.
    pub const fn transaction_bytes_max(mut self, bytes: usize) -> Self {
        self.transaction_bytes_max = bytes;
        self
    }

    /// Attempts of [`Client::transact`] before its last error is returned: 20 by default.
    pub const fn attempts_max(mut self, attempts: u32) -> Self {
        self.attempts_max = attempts;
        self
    }

    /// How to reach nodes: TCP by default.
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = transport;
        self
    }

    /// Time and randomness: the machine's by default.
    pub fn env(mut self, env: Arc<dyn Env>) -> Self {
        self.env = env;
        self
    }

    /// Times and bounds of connections.
    pub fn session(mut self, session: SessionSettings) -> Self {
        self.session = session;
        self
    }

    /// Threads that block read by themselves, where they can reach the nodes.
    pub(crate) fn direct(mut self) -> Self {
        self.direct = self.transport.is_plain_tcp();
        self
    }

    /// Runs the client's driver on a thread of its own, so that it needs no runtime of the
    /// caller's. Without it, the driver is a task on the runtime that [`connect`](Self::connect)
    /// is called on, and ends with it.
    pub const fn own_thread(mut self) -> Self {
        self.own_thread = true;
        self
    }

    /// Connects, and waits until the cluster serves.
    ///
    /// # Errors
    /// As [`start`](Self::start); [`Error::NotReady`] or [`Error::Timeout`] when the cluster does not
    /// serve within the connect timeout; [`Error::OtherCluster`] when the masters are another
    /// cluster's.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time, unless [`own_thread`](Self::own_thread) was
    /// called.
    ///
    /// Cancel safe: dropping the future closes what it opened.
    pub async fn connect(self) -> Result<Client> {
        let timeout = self.connect_timeout;
        let client = self.start()?;
        client.wait_ready(timeout).await?;
        Ok(client)
    }

    /// Starts to connect, and does not wait: operations wait, each up to its timeout.
    ///
    /// # Errors
    /// [`Error::Misuse`] for an address that is none, and for a
    /// [list of masters](Self::dynamic_master_list) that is none, or can't be written; with [`own_thread`](Self::own_thread),
    /// [`Error::Node`] when the system gives no thread or runtime.
    ///
    /// # Panics
    /// As [`connect`](Self::connect).
    pub fn start(self) -> Result<Client> {
        let mut masters = self.addresses()?;
        let list = match &self.dynamic_master_list {
            None => None,
            Some(path) => {
                let list = MasterListFile::open(path, &masters)
                    .map_err(|error| Error::Misuse(error.with_reasons()))?;
                masters = list.masters().to_vec();
                Some(list)
            }
        };
        if masters.is_empty() {
            return Err(Error::Misuse(
                "a client needs the address of a master".into(),
            ));
        }
        Client::start(self, masters, list)
    }

    fn addresses(&self) -> Result<Vec<Address>> {
        let mut addresses = Vec::new();
        for text in &self.masters {
            // Lists are often written as one string.
            for text in text.split([' ', ',']).filter(|text| !text.is_empty()) {
                let address = text
                    .parse()
                    .map_err(|error| Error::Misuse(format!("{error}")))?;
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        Ok(addresses)
    }
}
