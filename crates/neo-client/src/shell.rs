//! Between the core, on the driver's task, and those who call: waiters, cache, last tid.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use neo_api::{Loaded, NodeId, Oid, Partitioning, Tid};
use neo_proto::net::{DoneSender, MasterListFile, Shell};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::cache::Cache;
use crate::core::{ClientCore, Command, Event, Reply, ReplyId, Routes, TxnKey};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::invalidation::{Invalidation, InvalidationListener, Subscribers};

/// Objects that are prefetched at the same time; beyond that it is forgotten which.
const EXPECTED_MAX: usize = 100_000;

/// What a waiter gets.
#[derive(Debug)]
pub(crate) enum Answer {
    Reply(Reply),
    Loaded(Loaded),
    Committed(Tid),
}

#[derive(Debug)]
enum Waiter {
    Call(oneshot::Sender<Result<Answer>>),
    /// Nobody, but the bytes of a store are free again.
    Bytes {
        _permit: OwnedSemaphorePermit,
        failure: Arc<OnceLock<Error>>,
    },
}

/// What the application runs when its transaction is committed.
pub(crate) type Callback = Box<dyn FnOnce(Tid) + Send>;

#[derive(Default)]
struct Waiters {
    ended: bool,
    waiters: HashMap<ReplyId, Waiter>,
    callbacks: HashMap<TxnKey, (ReplyId, Callback)>,
}

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiters")
            .field("ended", &self.ended)
            .field("waiters", &self.waiters.len())
            .finish_non_exhaustive()
    }
}

/// How the client is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Status {
    pub(crate) nid: Option<NodeId>,
    pub(crate) partitioning: Option<Partitioning>,
}

/// What the driver's task and the callers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) cache: Cache,
    pub(crate) subscribers: Subscribers,
    last_tid: AtomicU64,
    /// Once the client was told to close, or its driver has ended: what is cached is not kept up
    /// to date any more.
    closed: AtomicBool,
    next_id: AtomicU64,
    waiters: Mutex<Waiters>,
    status: Mutex<Status>,
    /// Where threads that read by themselves go.
    routes: Mutex<Option<Arc<Routes>>>,
    /// Objects that are prefetched, and have not come yet.
    expected: Mutex<HashSet<Oid>>,
    /// How often it happened that what is cached may not be current any more.
    changes: AtomicU64,
    /// Oids that were allocated and not given out.
    oids: Mutex<(u64, u64)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(cache_bytes: usize, listener: Option<Arc<dyn InvalidationListener>>) -> Self {
        Self {
            cache: Cache::new(cache_bytes),
            subscribers: Subscribers::new(listener),
            last_tid: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            next_id: AtomicU64::new(1),
            waiters: Mutex::default(),
            status: Mutex::default(),
            routes: Mutex::default(),
            expected: Mutex::default(),
            changes: AtomicU64::new(0),
            oids: Mutex::default(),
        }
    }

    pub(crate) fn last_tid(&self) -> Tid {
        Tid(self.last_tid.load(Ordering::Acquire))
    }

    /// The routes of a client that is ready.
    pub(crate) fn routes(&self) -> Option<Arc<Routes>> {
        lock(&self.routes).clone()
    }

    /// These are prefetched.
    pub(crate) fn expect(&self, oids: impl IntoIterator<Item = Oid>) {
        let mut expected = lock(&self.expected);
        // Those that can't be read stay there: nothing depends on it but speed.
        if expected.len() > EXPECTED_MAX {
            expected.clear();
        }
        expected.extend(oids);
    }

    /// Whether an object is prefetched, and has not come yet.
    pub(crate) fn is_expected(&self, oid: Oid) -> bool {
        lock(&self.expected).contains(&oid)
    }

    /// A number that is another one before anything in the cache becomes old.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    pub(crate) fn status(&self) -> Status {
        *lock(&self.status)
    }

    /// Whether the driver has ended.
    pub(crate) fn has_ended(&self) -> bool {
        lock(&self.waiters).ended
    }

    /// Nothing more is answered from what is at hand.
    pub(crate) fn set_closed(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Who called `close()`, or heard that it was called, sees it here: no order is needed for
    /// more than that.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        Ok(())
    }

    /// A number that no other reply, transaction or import has.
    pub(crate) fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// An oid of the block at hand.
    pub(crate) fn take_oid(&self) -> Option<Oid> {
        let mut oids = lock(&self.oids);
        let (next, end) = *oids;
        (next < end).then(|| {
            oids.0 += 1;
            Oid(next)
        })
    }

    /// A new block; one that is not used up yet is given up.
    pub(crate) fn put_oids(&self, first: Oid, count: u32) {
        *lock(&self.oids) = (first.0, first.0.saturating_add(u64::from(count)));
    }

    /// Somebody waits for the answer with this id, until the `Pending` is dropped.
    pub(crate) fn wait(self: &Arc<Self>) -> Result<Pending> {
        let (sender, receiver) = oneshot::channel();
        let id = self.register(Waiter::Call(sender))?;
        Ok(Pending {
            id,
            receiver,
            shared: Arc::clone(self),
        })
    }

    /// The permit is held until the answer comes; an error is noted.
    pub(crate) fn hold(
        &self,
        permit: OwnedSemaphorePermit,
        failure: &Arc<OnceLock<Error>>,
    ) -> Result<ReplyId> {
        self.register(Waiter::Bytes {
            _permit: permit,
            failure: Arc::clone(failure),
        })
    }

    fn register(&self, waiter: Waiter) -> Result<ReplyId> {
        let id = ReplyId(self.id());
        let mut waiters = lock(&self.waiters);
        if waiters.ended {
            return Err(Error::Closed);
        }
        waiters.waiters.insert(id, waiter);
        Ok(id)
    }

    /// What to run when the transaction is committed; dropped when it is not.
    pub(crate) fn set_callback(&self, txn: TxnKey, reply: ReplyId, callback: Callback) {
        lock(&self.waiters).callbacks.insert(txn, (reply, callback));
    }

    fn answer(&self, id: ReplyId, result: Result<Answer>) {
        let waiter = {
            let mut waiters = lock(&self.waiters);
            if result.is_err() && !waiters.callbacks.is_empty() {
                waiters.callbacks.retain(|_, (reply, _)| *reply != id);
            }
            waiters.waiters.remove(&id)
        };
        match (waiter, result) {
            (Some(Waiter::Call(sender)), result) => {
                // Who waited may have given up.
                let _ = sender.send(result);
            }
            (Some(Waiter::Bytes { failure, .. }), Err(error)) => {
                failure.get_or_init(|| error);
            }
            (Some(Waiter::Bytes { .. }) | None, _) => {}
        }
    }

    fn publish(&self, tid: Tid) {
        self.last_tid.store(tid.0, Ordering::Release);
    }

    fn raise(&self, tid: Tid) {
        self.last_tid.fetch_max(tid.0, Ordering::Release);
    }

    /// The driver has ended: nobody is answered any more.
    fn close(&self) {
        self.set_closed();
        let (waiters, callbacks) = {
            let mut waiters = lock(&self.waiters);
            waiters.ended = true;
            (
                std::mem::take(&mut waiters.waiters),
                std::mem::take(&mut waiters.callbacks),
            )
        };
        drop((waiters, callbacks));
        *lock(&self.status) = Status::default();
        *lock(&self.routes) = None;
        self.subscribers.close();
    }
}

/// An answer that is waited for.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) id: ReplyId,
    receiver: oneshot::Receiver<Result<Answer>>,
    shared: Arc<Shared>,
}

impl Pending {
    pub(crate) async fn answer(mut self) -> Result<Answer> {
        (&mut self.receiver).await.unwrap_or(Err(Error::Closed))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        lock(&self.shared.waiters).waiters.remove(&self.id);
    }
}

/// What the driver tells events to.
#[derive(Debug)]
pub(crate) struct ClientShell {
    pub(crate) shared: Arc<Shared>,
    /// The file that keeps the masters that are known, if there is one.
    pub(crate) masters: Option<MasterListFile>,
}

impl Shell<ClientCore> for ClientShell {
    fn job(&mut self, job: std::convert::Infallible, _done: &DoneSender<ClientCore>) {
        match job {}
    }

    fn event(&mut self, event: Event) {
        let shared = &self.shared;
        // The order in each of these is what readers rely on: the cache first, then who wants to
        // hear, then the last tid. Only what is cleared must not be found once the tid is back.
        let is_of_masters = matches!(event, Event::Masters(_));
        if !is_of_masters && !matches!(event, Event::Reply { .. } | Event::Loaded { .. }) {
            shared.changes.fetch_add(1, Ordering::AcqRel);
        }
        if !matches!(event, Event::Cleared { .. }) {
            shared.cache.learn(&event);
        }
        if let Event::Loaded { oid, .. } = &event {
            lock(&shared.expected).remove(oid);
        }
        match event {
            Event::Ready { nid, partitioning } => {
                *lock(&shared.status) = Status {
                    nid: Some(nid),
                    partitioning: Some(partitioning),
                };
            }
            Event::NotReady { .. } => lock(&shared.status).nid = None,
            Event::Routes(routes) => *lock(&shared.routes) = routes.map(|it| Arc::new(*it)),
            Event::Masters(masters) => {
                if let Some(list) = &mut self.masters {
                    list.update(&masters);
                }
            }
            Event::Reply { id, result } => shared.answer(id, result.map(Answer::Reply)),
            Event::Loaded {
                waiters, loaded, ..
            } => {
                for waiter in waiters {
                    shared.answer(waiter, Ok(Answer::Loaded(loaded.clone())));
                }
            }
            Event::Invalidated { tid, oids } => {
                let oids = oids.into();
                let own = false;
                shared
                    .subscribers
                    .tell(&Invalidation::Objects { tid, oids, own });
                shared.raise(tid);
                shared.subscribers.shown();
            }
            Event::Resynced { tid, .. } => {
                shared.subscribers.tell(&Invalidation::All { tid });
                shared.raise(tid);
                shared.subscribers.shown();
            }
            Event::Cleared { tid } => {
                shared.publish(tid);
                shared.cache.learn(&event);
                *lock(&shared.oids) = (0, 0);
                shared.subscribers.tell(&Invalidation::All { tid });
                shared.subscribers.shown();
            }
            Event::Committed {
                txn,
                reply,
                tid,
                changed,
                ..
            } => {
                let oids = changed.iter().map(|(oid, _)| *oid).collect();
                let callback = lock(&shared.waiters).callbacks.remove(&txn);
                if let Some((_, callback)) = callback
                    && catch_unwind(AssertUnwindSafe(|| callback(tid))).is_err()
                {
                    tracing::error!(%tid, "the callback of a committed transaction panicked");
                }
                let own = true;
                shared
                    .subscribers
                    .tell(&Invalidation::Objects { tid, oids, own });
                shared.raise(tid);
                shared.subscribers.shown();
                if let Some(reply) = reply {
                    shared.answer(reply, Ok(Answer::Committed(tid)));
                }
            }
        }
    }
}

impl Drop for ClientShell {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// The way to the core.
#[derive(Debug, Clone)]
pub(crate) struct Commands {
    pub(crate) sender: mpsc::Sender<Command>,
    pub(crate) runtime: tokio::runtime::Handle,
    /// Of a driver on a thread of its own, until it has ended.
    pub(crate) engine: Option<Weak<Engine>>,
}

impl Commands {
    pub(crate) async fn send(&self, command: Command) -> Result<()> {
        self.sender.send(command).await.map_err(|_| Error::Closed)?;
        self.queued();
        Ok(())
    }

    /// Sends from where nothing can be awaited: a destructor.
    pub(crate) fn send_later(&self, command: Command) {
        match self.sender.try_send(command) {
            // Without a driver there is nothing to let go of.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(command)) => {
                let sender = self.sender.clone();
                self.runtime.spawn(async move {
                    let _ = sender.send(command).await;
                });
            }
        }
        self.queued();
    }

    fn queued(&self) {
        if let Some(engine) = self.engine.as_ref().and_then(Weak::upgrade) {
            engine.queued();
        }
    }
}
