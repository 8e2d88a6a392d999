//! What is between the scripts of a client and its core.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use neo_api::{Loaded, Oid, Partitioning, Tid};
use neo_client::Error;
use neo_client::cache::{Cache, Value};
use neo_client::core::{Command, Event, Reply, ReplyId, Validity};

use super::name::Name;
use crate::oracle::{Kept, Oracle};

/// The answer to a command.
#[derive(Debug)]
pub(super) enum Answer {
    Reply(Result<Reply, Error>),
    Loaded(Loaded),
    Committed(Tid),
}

/// What is between the scripts of a client and its core.
#[derive(Debug)]
pub(super) struct Mailbox {
    pub(super) commands: VecDeque<Command>,
    pub(super) answers: BTreeMap<ReplyId, Answer>,
    last_key: u64,
    pub(super) last_tid: Tid,
    pub(super) partitioning: Option<Partitioning>,
    /// Somebody may go on.
    pub(super) is_fresh: bool,
    /// The one that real clients have.
    cache: Cache,
    cache_bytes: usize,
}

impl Mailbox {
    pub(super) fn new(cache_bytes: usize) -> Self {
        Self {
            commands: VecDeque::new(),
            answers: BTreeMap::new(),
            last_key: 0,
            last_tid: Tid::ZERO,
            partitioning: None,
            is_fresh: false,
            cache: Cache::new(cache_bytes),
            cache_bytes,
        }
    }

    /// What is left when the client crashes: names that it must not use again.
    pub(super) fn after_crash(&self) -> Self {
        Self {
            last_key: self.last_key,
            ..Self::new(self.cache_bytes)
        }
    }

    /// A name that was never used.
    pub(super) const fn key(&mut self) -> u64 {
        self.last_key += 1;
        self.last_key
    }

    fn answer(&mut self, id: ReplyId, answer: Answer) {
        self.answers.insert(id, answer);
        self.is_fresh = true;
    }

    /// What the cache has of an object before a tid: serial and value, `Some(None)` when it knows
    /// that there is no value. Only reads up to the last tid may be answered by what is known up to
    /// it.
    pub(super) fn cached(&self, oid: Oid, before: Tid) -> Option<Option<(Tid, Bytes)>> {
        if before.0 > self.last_tid.0.saturating_add(1) {
            return None;
        }
        let hit = self.cache.get(oid, before)?;
        Some(match hit.value {
            Value::Plain(data) => Some((hit.serial, data)),
            Value::Stored(record) => Some((hit.serial, record.data)),
            Value::Deleted => None,
        })
    }

    /// Takes what the core tells; what can't be is said to the oracle.
    pub(super) fn event(&mut self, name: Name, event: Event, oracle: &mut Oracle) {
        self.cache.learn(&event);
        match event {
            Event::Ready { partitioning, .. } => self.partitioning = Some(partitioning),
            Event::NotReady { .. } | Event::Routes(_) | Event::Masters(_) => {}
            Event::Reply { id, result } => self.answer(id, Answer::Reply(result)),
            Event::Loaded {
                oid,
                waiters,
                loaded,
                validity,
            } => {
                if let Some(kept) = self.kept(oid, &loaded, validity) {
                    oracle.kept(name, kept);
                }
                for waiter in waiters {
                    self.answer(waiter, Answer::Loaded(loaded.clone()));
                }
            }
            Event::Invalidated { tid, .. }
            | Event::Resynced { tid, .. }
            | Event::Cleared { tid } => self.advance(name, tid, oracle),
            Event::Committed {
                reply, tid, newest, ..
            } => {
                if newest {
                    self.advance(name, tid, oracle);
                } else {
                    // Found out later: what came after it may have been heard of before.
                    self.last_tid = self.last_tid.max(tid);
                }
                if let Some(reply) = reply {
                    self.answer(reply, Answer::Committed(tid));
                }
            }
        }
    }

    /// What a cache would make of an answer.
    fn kept(&self, oid: Oid, loaded: &Loaded, validity: Validity) -> Option<Kept> {
        let serial = match loaded {
            Loaded::Found(revision) => revision.serial,
            Loaded::Deleted { serial, .. } => *serial,
            Loaded::NotYet | Loaded::Unknown => return None,
        };
        let (until, next) = match validity {
            // Of what comes later it will hear.
            Validity::Current => (Tid(self.last_tid.0 + 1), None),
            Validity::Until(tid) => (tid, Some(tid)),
            Validity::AtLeast(tid) => (tid, None),
        };
        Some(Kept {
            oid,
            serial,
            until,
            next,
        })
    }

    fn advance(&mut self, name: Name, tid: Tid, oracle: &mut Oracle) {
        let before = self.last_tid;
        self.last_tid = before.max(tid);
        if tid < before {
            oracle.complain(format!(
                "{name}: the last tid went back from {before} to {tid}"
            ));
        }
    }
}
