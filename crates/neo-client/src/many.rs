//! Several objects in one round trip.

use neo_api::{At, Oid, Tid};

use crate::client::Client;
use crate::core::{Command, ReplyId};
use crate::error::Result;
use crate::object::Lookup;
use crate::shell::Pending;

/// Objects that are asked for at once.
const OBJECTS: usize = 1_000;

impl Client {
    /// As [`load_before`](Self::load_before), for many objects: what is not cached takes one round
    /// trip to each storage node, more where the values are many MiB. In the order asked.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// use neo_client::{Oid, Tid};
    ///
    /// let oids: Vec<Oid> = vec![client.new_oid().await?, client.new_oid().await?];
    /// # let first = oids[0];
    /// # client.transact(|txn| async move { txn.store(first, "x").await }).await?;
    /// let before = Tid(client.last_tid().0 + 1);
    /// let wanted: Vec<(Oid, Tid)> = oids.into_iter().map(|oid| (oid, before)).collect();
    /// let found = client.load_many(&wanted).await?;
    /// for (lookup, (oid, _)) in found.into_iter().zip(&wanted) {
    ///     println!("{oid}: {:?} bytes", lookup.object().map(|object| object.data.len()));
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`load`](Self::load), of the first that fails.
    ///
    /// Cancel safe.
    pub async fn load_many(&self, objects: &[(Oid, Tid)]) -> Result<Vec<Lookup>> {
        self.inner.shared.check_open()?;
        let newest = objects.iter().map(|(_, before)| *before).max();
        let mut end = Tid(self.last_tid().0.saturating_add(1));
        if newest.is_some_and(|newest| newest > end) {
            // Once, and not for each of them.
            end = Tid(self.sync().await?.0.saturating_add(1));
        }
        let mut found = Vec::with_capacity(objects.len());
        for some in objects.chunks(OBJECTS) {
            let mut asked: Vec<(usize, Oid, Pending)> = Vec::new();
            let mut loads = Vec::new();
            for (oid, before) in some {
                let before = (*before).min(end);
                let cached = self.cached_look_up(*oid, At::Before(before))?;
                if cached.is_none() {
                    let pending = self.inner.shared.wait()?;
                    loads.push((pending.id, *oid, At::Before(before)));
                    asked.push((found.len(), *oid, pending));
                }
                found.push(cached.unwrap_or(Lookup::Unknown));
            }
            if loads.is_empty() {
                continue;
            }
            let command = Command::LoadMany { loads };
            self.inner.commands.send(command).await?;
            for (at, oid, pending) in asked {
                found[at] = self.loaded(oid, pending.answer().await?)?;
            }
        }
        Ok(found)
    }

    /// Brings objects into the cache, as they are before a tid: what is loaded soon is there then,
    /// or on its way. Returns at once. What does not succeed is not told, what does not exist is no
    /// error, and a client that has much else to do may leave it out.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = neo_testkit::Cluster::builder().start().await?.client().await?;
    /// # let oids = vec![client.new_oid().await?, client.new_oid().await?];
    /// use neo_client::Tid;
    ///
    /// client.prefetch(oids.iter().copied(), Tid::MAX);
    /// for oid in oids {
    ///     println!("{:?}", client.load(oid).await?);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn prefetch(&self, oids: impl IntoIterator<Item = Oid>, before: Tid) {
        let before = before.min(Tid(self.last_tid().0.saturating_add(1)));
        let shared = &self.inner.shared;
        let mut missing = oids
            .into_iter()
            .filter(|oid| shared.cache.get(*oid, before).is_none())
            // Nobody waits for these.
            .map(|oid| (ReplyId(shared.id()), oid, At::Before(before)));
        loop {
            let loads: Vec<_> = missing.by_ref().take(OBJECTS).collect();
            if loads.is_empty() {
                return;
            }
            shared.expect(loads.iter().map(|(_, oid, _)| *oid));
            let command = Command::LoadMany { loads };
            if self.inner.commands.sender.try_send(command).is_err() {
                return;
            }
        }
    }
}
