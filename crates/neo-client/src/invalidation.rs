//! What changed, told to the application in order.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use neo_api::{Oid, Tid};
use tokio::sync::Notify;

/// A committed transaction, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invalidation {
    /// This transaction changed these objects.
    Objects {
        /// Its tid: greater than that of any told before.
        tid: Tid,
        /// What it stored or deleted; may be empty.
        oids: Arc<[Oid]>,
        /// Whether this client committed it.
        own: bool,
    },
    /// Some transactions, up to this tid, are not known one by one: after a reconnection, or when
    /// the subscriber was too slow. Anything may have changed.
    All {
        /// The last tid. Less than one told before only when the database was truncated.
        tid: Tid,
    },
}

/// Hears what changes as it happens, for those who keep caches that must never be behind
/// [`Client::last_tid`](crate::Client::last_tid). Set by
/// [`ClientBuilder::invalidation_listener`](crate::ClientBuilder::invalidation_listener).
///
/// Invalidations come in order, each before `last_tid` shows its tid, and those of this client's own
/// commits right after the callback of [`Transaction::finish_with`](crate::Transaction::finish_with).
///
/// # To ensure correctness
/// `invalidated` runs on the driver's task: it **must not** block for long, and **must not** wait
/// for the client.
pub trait InvalidationListener: Debug + Send + Sync + 'static {
    /// Something changed. A panic is logged, and is the listener's loss.
    fn invalidated(&self, invalidation: &Invalidation);

    /// `last_tid` shows now what the last invalidation told. Who hands out caches that begin at
    /// `last_tid` holds them back from the invalidation to here: one that begins between has not
    /// heard of the invalidation, and never will.
    fn shown(&self) {}
}

/// Oids that wait for a subscriber, at most; beyond, it is told [`Invalidation::All`].
const OIDS_MAX: usize = 1 << 20;
/// Transactions that wait for a subscriber, at most.
const TRANSACTIONS_MAX: usize = 1 << 16;

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Invalidation>,
    oids: usize,
    closed: bool,
}

#[derive(Debug, Default)]
struct Subscription {
    queue: Mutex<Queue>,
    news: Notify,
}

impl Subscription {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subscription to what changes. Dropping it ends it.
///
/// When [`Client::last_tid`](crate::Client::last_tid) shows a tid, everything up to it is in the
/// queue already.
///
/// [Example](crate::Client::invalidations).
#[derive(Debug)]
pub struct Invalidations(Arc<Subscription>);

impl Invalidations {
    /// The next invalidation; `None` when the client is closed and all were told.
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn recv(&mut self) -> Option<Invalidation> {
        loop {
            let mut news = pin!(self.0.news.notified());
            news.as_mut().enable();
            {
                let mut queue = self.0.queue();
                if let Some(next) = pop(&mut queue) {
                    return Some(next);
                }
                if queue.closed {
                    return None;
                }
            }
            news.await;
        }
    }

    /// The next invalidation, if one is there.
    pub fn try_recv(&mut self) -> Option<Invalidation> {
        pop(&mut self.0.queue())
    }
}

fn pop(queue: &mut Queue) -> Option<Invalidation> {
    let next = queue.waiting.pop_front()?;
    if let Invalidation::Objects { oids, .. } = &next {
        queue.oids -= oids.len();
    }
    Some(next)
}

/// Everybody who wants to hear.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    list: Mutex<Vec<Weak<Subscription>>>,
    listener: Option<Arc<dyn InvalidationListener>>,
}

impl Subscribers {
    pub(crate) fn new(listener: Option<Arc<dyn InvalidationListener>>) -> Self {
        Self {
            list: Mutex::default(),
            listener,
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<Weak<Subscription>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe(&self) -> Invalidations {
        let subscription = Arc::new(Subscription::default());
        self.list().push(Arc::downgrade(&subscription));
        Invalidations(subscription)
    }

    /// The last tid shows what was told last.
    pub(crate) fn shown(&self) {
        if let Some(listener) = &self.listener
            && catch_unwind(AssertUnwindSafe(|| listener.shown())).is_err()
        {
            tracing::error!("the listener to invalidations panicked");
        }
    }

    pub(crate) fn tell(&self, invalidation: &Invalidation) {
        if let Some(listener) = &self.listener {
            let told = catch_unwind(AssertUnwindSafe(|| listener.invalidated(invalidation)));
            if told.is_err() {
                tracing::error!(?invalidation, "the listener to invalidations panicked");
            }
        }
        self.list().retain(|subscription| {
            let Some(subscription) = subscription.upgrade() else {
                return false;
            };
            push(&mut subscription.queue(), invalidation.clone());
            subscription.news.notify_waiters();
            true
        });
    }

    pub(crate) fn close(&self) {
        for subscription in self.list().drain(..).filter_map(|s| s.upgrade()) {
            subscription.queue().closed = true;
            subscription.news.notify_waiters();
        }
    }
}

fn push(queue: &mut Queue, invalidation: Invalidation) {
    let tid = match &invalidation {
        Invalidation::All { tid } => *tid,
        Invalidation::Objects { tid, oids, .. } => {
            let fits =
                queue.waiting.len() < TRANSACTIONS_MAX && queue.oids + oids.len() <= OIDS_MAX;
            if fits {
                queue.oids += oids.len();
                queue.waiting.push_back(invalidation);
                return;
            }
            *tid
        }
    };
    // What waits is part of "all".
    queue.waiting.clear();
    queue.oids = 0;
    queue.waiting.push_back(Invalidation::All { tid });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(tid: u64, oids: usize) -> Invalidation {
        Invalidation::Objects {
            tid: Tid(tid),
            oids: vec![Oid(1); oids].into(),
            own: false,
        }
    }

    #[test]
    fn a_slow_subscriber_is_told_all() {
        let subscribers = Subscribers::default();
        let mut slow = subscribers.subscribe();
        subscribers.tell(&objects(1, OIDS_MAX));
        subscribers.tell(&objects(2, 1));
        subscribers.tell(&objects(3, 1));
        assert_eq!(slow.try_recv(), Some(Invalidation::All { tid: Tid(2) }));
        assert_eq!(slow.try_recv(), Some(objects(3, 1)));
        assert_eq!(slow.try_recv(), None);
    }

    #[tokio::test]
    async fn a_closed_client_ends_the_subscription() {
        let subscribers = Subscribers::default();
        let mut subscription = subscribers.subscribe();
        drop(subscribers.subscribe());
        subscribers.tell(&objects(1, 0));
        subscribers.close();
        assert_eq!(subscription.recv().await, Some(objects(1, 0)));
        assert_eq!(subscription.recv().await, None);
    }
}
