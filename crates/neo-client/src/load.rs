//! Reads of single objects: from the cache, or from a storage node.

use bytes::Bytes;
use neo_api::{At, Loaded, Oid, Record, Tid};

use crate::cache::{Hit, Value};
use crate::client::Client;
use crate::codec;
use crate::core::Command;
use crate::error::{Error, Result};
use crate::object::{Lookup, Object, Snapshot};
use crate::shell::Answer;

impl Client {
    /// The object as of [`last_tid`](Self::last_tid); `None` when it does not exist, or is deleted.
    /// Without a round trip when it is cached. Reads that belong together are better done with one
    /// [`snapshot`](Self::snapshot).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// let oid = client.new_oid().await?;
    /// assert_eq!(client.load(oid).await?, None);
    /// client.transact(|txn| async move { txn.store(oid, "there").await }).await?;
    /// let object = client.load(oid).await?.expect("it is there");
    /// println!("{:?}, written by transaction {}", object.data, object.serial);
    /// # assert_eq!(object.data, "there");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotReady`] or [`Error::Timeout`] when no replica answers in time;
    /// [`Error::Checksum`] when no replica has it intact.
    ///
    /// Cancel safe.
    pub async fn load(&self, oid: Oid) -> Result<Option<Object>> {
        self.load_at(oid, self.last_tid()).await
    }

    pub(crate) async fn load_at(&self, oid: Oid, tid: Tid) -> Result<Option<Object>> {
        let before = Tid(tid.0.saturating_add(1));
        match self.cached_object(oid, before)? {
            Some(object) => Ok(object),
            None => Ok(self.fetch(oid, At::Before(before)).await?.object()),
        }
    }

    /// What the cache knows of an object as it is before a tid; `Some(None)`: that there is none.
    pub(crate) fn cached_object(&self, oid: Oid, before: Tid) -> Result<Option<Option<Object>>> {
        self.inner.shared.check_open()?;
        let hit = self.cached(oid, before);
        Ok(hit.and_then(|hit| self.open_hit(oid, hit)))
    }

    /// The newest revision of an object with a serial *below* `tid`. What the client has not heard
    /// of yet is asked of the master first; for a tid in the future that is everything committed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use neo_client::{Lookup, Tid};
    ///
    /// let oid = client.new_oid().await?;
    /// let mut serials = vec![Tid::ZERO];
    /// for value in ["first", "second"] {
    ///     let txn = client.begin(Default::default()).await?;
    ///     txn.store(oid, serials[serials.len() - 1], value).await?;
    ///     serials.push(txn.commit().await?);
    /// }
    /// // With the range of tids in which it is what the object was.
    /// let Lookup::Found { data, serial, next_serial } = client.load_before(oid, serials[2]).await? else {
    ///     panic!("it was there");
    /// };
    /// assert_eq!(data, "first");
    /// assert_eq!((serial, next_serial), (serials[1], Some(serials[2])));
    /// assert_eq!(client.load_before(oid, serials[1]).await?, Lookup::NotYet);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`load`](Self::load).
    ///
    /// Cancel safe.
    pub async fn load_before(&self, oid: Oid, tid: Tid) -> Result<Lookup> {
        match self.cached_look_up(oid, At::Before(tid))? {
            Some(lookup) => Ok(lookup),
            None => self.fetch(oid, At::Before(tid)).await,
        }
    }

    /// What the cache knows of an object, if it knows when that ends.
    pub(crate) fn cached_look_up(&self, oid: Oid, at: At) -> Result<Option<Lookup>> {
        self.inner.shared.check_open()?;
        let hit = match at {
            At::Before(tid) => self.cached(oid, tid),
            At::Exact(serial) => self.inner.shared.cache.get_exact(oid, serial),
            At::Latest => None,
        };
        let hit = hit.filter(|hit| hit.next_is_known);
        Ok(hit.and_then(|hit| self.look_up_hit(oid, hit)))
    }

    /// The revision of an object with exactly this serial; [`Lookup::NotYet`] when the object has
    /// others only.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use neo_client::{Lookup, Tid};
    ///
    /// let oid = client.new_oid().await?;
    /// let txn = client.begin(Default::default()).await?;
    /// txn.store(oid, Tid::ZERO, "exactly this").await?;
    /// let tid = txn.commit().await?;
    /// let object = client.load_serial(oid, tid).await?.object().expect("it is there");
    /// assert_eq!(object.data, "exactly this");
    /// assert_eq!(client.load_serial(oid, Tid(tid.0 - 1)).await?, Lookup::NotYet);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`load`](Self::load).
    ///
    /// Cancel safe.
    pub async fn load_serial(&self, oid: Oid, serial: Tid) -> Result<Lookup> {
        match self.cached_look_up(oid, At::Exact(serial))? {
            Some(lookup) => Ok(lookup),
            None => self.fetch(oid, At::Exact(serial)).await,
        }
    }

    /// The database as of [`last_tid`](Self::last_tid).
    ///
    /// [Example](Snapshot).
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.clone(), self.last_tid())
    }

    /// The database as of a tid. One that the client has not heard of is asked of the master.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use neo_client::{Error, Tid};
    ///
    /// let oid = client.new_oid().await?;
    /// let txn = client.begin(Default::default()).await?;
    /// txn.store(oid, Tid::ZERO, "then").await?;
    /// let then = txn.commit().await?;
    /// client.transact(|txn| async move { txn.store(oid, "now").await }).await?;
    ///
    /// let past = client.snapshot_at(then).await?;
    /// assert_eq!(past.load(oid).await?.unwrap().data, "then");
    /// // What will be, nobody knows.
    /// let future = Tid(client.last_tid().0 + 1_000_000);
    /// assert!(matches!(client.snapshot_at(future).await, Err(Error::Misuse(_))));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Misuse`] for a tid in the future, at which more may be committed; as
    /// [`sync`](Self::sync).
    ///
    /// Cancel safe.
    pub async fn snapshot_at(&self, tid: Tid) -> Result<Snapshot> {
        self.inner.shared.check_open()?;
        if tid > self.last_tid() {
            let last_tid = self.sync().await?;
            if tid > last_tid {
                let words = format!("{tid} is in the future: the last transaction is {last_tid}");
                return Err(Error::Misuse(words));
            }
        }
        Ok(Snapshot::new(self.clone(), tid))
    }

    /// Only reads up to the last tid may be answered by what is known up to the last tid.
    fn cached(&self, oid: Oid, before: Tid) -> Option<Hit> {
        let shared = &self.inner.shared;
        if before.0 > shared.last_tid().0.saturating_add(1) {
            return None;
        }
        shared.cache.get(oid, before)
    }

    /// `Some(None)`: it is known that there is no value.
    fn open_hit(&self, oid: Oid, hit: Hit) -> Option<Option<Object>> {
        let serial = hit.serial;
        match hit.value {
            Value::Plain(data) => Some(Some(Object { data, serial })),
            Value::Deleted => Some(None),
            Value::Stored(record) => {
                let data = self.unpack(oid, serial, &record)?;
                Some(Some(Object { data, serial }))
            }
        }
    }

    fn look_up_hit(&self, oid: Oid, hit: Hit) -> Option<Lookup> {
        let (serial, next_serial) = (hit.serial, hit.next_serial);
        let data = match hit.value {
            Value::Plain(data) => data,
            Value::Deleted => {
                return Some(Lookup::Deleted {
                    serial,
                    next_serial,
                });
            }
            Value::Stored(record) => self.unpack(oid, serial, &record)?,
        };
        Some(Lookup::Found {
            data,
            serial,
            next_serial,
        })
    }

    fn unpack(&self, oid: Oid, serial: Tid, record: &Record) -> Option<Bytes> {
        let data = codec::decode(record)?;
        self.inner.shared.cache.unpack(oid, serial, record, &data);
        Some(data)
    }

    /// What a thread finds by itself, which can wait; `None`: the driver is to be asked.
    pub(crate) fn load_direct(&self, oid: Oid, at: At) -> Option<Result<Lookup>> {
        let loaded = self.inner.direct.as_ref()?.load(oid, at)?;
        Some(self.loaded(oid, Answer::Loaded(loaded)))
    }

    pub(crate) async fn fetch(&self, oid: Oid, at: At) -> Result<Lookup> {
        let pending = self.inner.shared.wait()?;
        let reply = pending.id;
        let command = Command::Load { reply, oid, at };
        self.inner.commands.send(command).await?;
        self.loaded(oid, pending.answer().await?)
    }

    /// What was found, the value unpacked.
    pub(crate) fn loaded(&self, oid: Oid, answer: Answer) -> Result<Lookup> {
        match answer {
            Answer::Loaded(Loaded::Found(found)) => {
                let data = self
                    .unpack(oid, found.serial, &found.record)
                    // The checksum is right: the client that stored it wrote nonsense.
                    .ok_or(Error::Checksum {
                        oid,
                        tid: found.serial,
                    })?;
                Ok(Lookup::Found {
                    data,
                    serial: found.serial,
                    next_serial: found.next_serial,
                })
            }
            Answer::Loaded(Loaded::Deleted {
                serial,
                next_serial,
            }) => Ok(Lookup::Deleted {
                serial,
                next_serial,
            }),
            Answer::Loaded(Loaded::NotYet) => Ok(Lookup::NotYet),
            Answer::Loaded(Loaded::Unknown) => Ok(Lookup::Unknown),
            other => Err(Error::Node(format!("{other:?} is no answer to a load"))),
        }
    }
}
