//! What reads give, and reads as of one tid.

use bytes::Bytes;
use neo_api::{Oid, Tid};

use crate::client::Client;
use crate::error::Result;

/// An object as it was at some tid.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Object {
    /// Its value.
    pub data: Bytes,
    /// The transaction that wrote it.
    pub serial: Tid,
}

/// What a read before a tid, or of a certain revision, finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// A value.
    Found {
        /// The value.
        data: Bytes,
        /// The transaction that wrote it.
        serial: Tid,
        /// The transaction that replaced it; `None`: it is the newest.
        next_serial: Option<Tid>,
    },
    /// The object was deleted.
    Deleted {
        /// The transaction that deleted it.
        serial: Tid,
        /// The transaction that wrote it again; `None`: it still is deleted.
        next_serial: Option<Tid>,
    },
    /// The object exists, but has no revision as asked: none that early, or none with this serial.
    NotYet,
    /// No object has this oid.
    Unknown,
}

impl Lookup {
    /// The object, where there is a value.
    #[must_use]
    pub fn object(self) -> Option<Object> {
        match self {
            Self::Found { data, serial, .. } => Some(Object { data, serial }),
            Self::Deleted { .. } | Self::NotYet | Self::Unknown => None,
        }
    }
}

/// The database as of one tid: every read sees exactly the transactions up to it.
///
/// Cheap to make and to clone. It holds no resource of the cluster.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
/// let (a, b) = (client.new_oid().await?, client.new_oid().await?);
/// client
///     .transact(|txn| async move {
///         txn.store(a, "1").await?;
///         txn.store(b, "1").await
///     })
///     .await?;
/// let snapshot = client.snapshot();
/// let first = snapshot.load(a).await?.expect("it is there");
/// // Whatever others do meanwhile, both are of one moment.
/// client
///     .transact(|txn| async move {
///         txn.store(a, "2").await?;
///         txn.store(b, "2").await
///     })
///     .await?;
/// let second = snapshot.load(b).await?.expect("it is there");
/// assert_eq!((&first.data[..], &second.data[..]), (&b"1"[..], &b"1"[..]));
/// assert!(first.serial <= snapshot.tid());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Snapshot {
    client: Client,
    tid: Tid,
}

impl Snapshot {
    pub(crate) const fn new(client: Client, tid: Tid) -> Self {
        Self { client, tid }
    }

    /// The tid that it shows the database at.
    ///
    /// [Example](Self).
    #[must_use]
    pub const fn tid(&self) -> Tid {
        self.tid
    }

    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// An object; `None` when it is not there: never created, created later, or deleted.
    ///
    /// [Example](Self).
    ///
    /// # Errors
    /// As [`Client::load`].
    ///
    /// Cancel safe.
    pub async fn load(&self, oid: Oid) -> Result<Option<Object>> {
        self.client.load_at(oid, self.tid).await
    }

    /// What there is of an object, with all that is known.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use neo_client::Lookup;
    ///
    /// let (deleted, never) = (client.new_oid().await?, client.new_oid().await?);
    /// client.transact(|txn| async move { txn.store(deleted, "x").await }).await?;
    /// client.transact(|txn| async move { txn.delete(deleted).await }).await?;
    /// // To `load` it is the same: `None`.
    /// let snapshot = client.snapshot();
    /// assert!(matches!(snapshot.look_up(deleted).await?, Lookup::Deleted { .. }));
    /// assert_eq!(snapshot.look_up(never).await?, Lookup::Unknown);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Client::load`].
    ///
    /// Cancel safe.
    pub async fn look_up(&self, oid: Oid) -> Result<Lookup> {
        self.client
            .load_before(oid, Tid(self.tid.0.saturating_add(1)))
            .await
    }
}
