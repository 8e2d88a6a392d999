//! A storage node's simulated disk: a real backend whose power can go at any moment.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use neo_api::{BackendInfo, BackendResult, Durability, StorageBackend, WriteBatch};
use neo_backends::{KvBackend, MemoryEngine};
use neo_storage::{Done, Persister, Query, QueryResult, Token, execute_query};

use super::fault::Keep;
use super::name::Name;
use super::world::{Happening, run_ready};
use crate::crash_engine::CrashEngine;

/// The engine, which outlives the backend over it.
type Engine = Arc<CrashEngine<MemoryEngine>>;

fn backend(engine: &Engine) -> Arc<dyn StorageBackend> {
    let info = BackendInfo::new("Memory", true);
    Arc::new(KvBackend::inline(Arc::clone(engine), info))
}

/// Gives the backend of a storage node that starts.
pub(super) struct Backends(Box<dyn FnMut(Name) -> Arc<dyn StorageBackend>>);

impl Backends {
    pub(super) fn new(open: impl FnMut(Name) -> Arc<dyn StorageBackend> + 'static) -> Self {
        Self(Box::new(open))
    }

    pub(super) fn open(&mut self, name: Name) -> Arc<dyn StorageBackend> {
        (self.0)(name)
    }
}

/// A read on its way.
#[derive(Debug)]
enum Reading {
    Waits(Token, Query),
    Took(Token, BackendResult<QueryResult>),
}

/// A write that takes its time.
#[derive(Debug)]
struct Writing {
    batch: WriteBatch,
    durability: Durability,
    result: BackendResult<()>,
}

/// A disk, with what the storage node has under way on it.
#[derive(Debug)]
pub struct Disk {
    engine: Engine,
    backend: Arc<dyn StorageBackend>,
    /// The backend is somebody else's: what a crash leaves is not this disk's affair.
    is_foreign: bool,
    /// How many times as long as it should everything takes at most.
    pub(super) slowness: u32,
    /// While it stands still: what waits for it.
    pub(super) frozen: Option<Vec<Happening>>,
    persister: Persister,
    writing: Option<Writing>,
    reads: BTreeMap<u64, Reading>,
    last_read: u64,
}

impl Disk {
    pub(super) fn new() -> Self {
        let engine = Arc::new(CrashEngine::new(MemoryEngine::default()));
        Self {
            backend: backend(&engine),
            engine,
            is_foreign: false,
            slowness: 1,
            frozen: None,
            persister: Persister::new(),
            writing: None,
            reads: BTreeMap::new(),
            last_read: 0,
        }
    }

    /// What is on it, to look at.
    #[must_use]
    pub fn backend(&self) -> &dyn StorageBackend {
        &*self.backend
    }

    /// How many batches a crash may lose.
    #[must_use]
    pub fn buffered(&self) -> usize {
        let survivors = self.engine.survivors();
        survivors.end() - survivors.start()
    }

    pub(super) const fn is_slow(&self) -> bool {
        self.slowness > 1
    }

    /// The node opens it, or a backend of somebody else.
    pub(super) fn open(&mut self, foreign: Option<Arc<dyn StorageBackend>>) {
        self.is_foreign = foreign.is_some();
        self.backend = foreign.unwrap_or_else(|| backend(&self.engine));
    }

    /// The node is gone; `keep`: the machine's power too, else everything is kept.
    pub(super) fn close(&mut self, keep: Option<Keep>) {
        self.persister = Persister::new();
        self.writing = None;
        self.reads.clear();
        let survivors = self.engine.survivors();
        let (sure, all) = (*survivors.start(), *survivors.end());
        let kept = match keep {
            None | Some(Keep::All) => all,
            Some(Keep::None) => sure,
            Some(Keep::First(n)) => all.min(sure + n),
        };
        if !self.is_foreign {
            let restarted = self.engine.restart(kept);
            restarted.expect("memory takes what it has had before");
            self.backend = backend(&self.engine);
        }
    }

    /// Makes a copy of what is durable on it.
    pub(super) fn copy(&self) {
        self.engine.copy();
    }

    /// The last copy takes the place of what is there; whether there is one.
    pub(super) fn put_copy_back(&mut self) -> bool {
        let back = self.engine.put_copy_back();
        self.backend = backend(&self.engine);
        back.expect("memory takes what it has had before")
    }

    // --- writes ---

    pub(super) fn persist(&mut self, token: Token, batch: WriteBatch, durability: Durability) {
        self.persister.push(token, batch, durability);
    }

    /// Starts to write what waits; whether it is to be durable; `None` when there is nothing.
    ///
    /// Readers see it at once, but a crash may lose it until the end of the write.
    pub(super) fn start_write(&mut self) -> Option<bool> {
        if self.writing.is_some() {
            return None;
        }
        let (batch, durability) = self.persister.next_group()?;
        let result = run_ready(self.backend.apply(batch.clone(), Durability::Buffered));
        self.writing = Some(Writing {
            batch,
            durability,
            result,
        });
        Some(durability == Durability::Synced)
    }

    pub(super) fn is_writing_synced(&self) -> bool {
        let durability = self.writing.as_ref().map(|writing| writing.durability);
        durability == Some(Durability::Synced)
    }

    /// What is written, in words.
    pub(super) fn writing(&self) -> String {
        let mut words = String::from("wrote");
        if let Some(writing) = &self.writing {
            let Writing {
                batch,
                durability,
                result,
            } = writing;
            let _ = write!(words, " {durability:?}:");
            for op in &batch.ops {
                let op = format!("{op:?}");
                let end = op.char_indices().nth(100).map_or(op.len(), |(at, _)| at);
                let _ = write!(words, " {};", &op[..end]);
            }
            if let Err(error) = result {
                let _ = write!(words, " FAILED: {error}");
            }
        }
        words
    }

    /// The write ends: what the node hears.
    pub(super) fn end_write(&mut self) -> Vec<Done> {
        let Some(writing) = self.writing.take() else {
            return Vec::new();
        };
        let result = match (writing.result, writing.durability) {
            (Ok(()), Durability::Synced) => {
                run_ready(self.backend.apply(WriteBatch::new(), Durability::Synced))
            }
            (result, _) => result,
        };
        let done = self.persister.done(result).into_iter();
        done.map(|(token, result)| Done::Persisted { token, result })
            .collect()
    }

    // --- reads ---

    pub(super) fn queue_read(&mut self, token: Token, query: Query) -> u64 {
        self.last_read += 1;
        self.reads
            .insert(self.last_read, Reading::Waits(token, query));
        self.last_read
    }

    /// The read takes place.
    pub(super) fn read(&mut self, job: u64) {
        if let Some(Reading::Waits(token, query)) = self.reads.remove(&job) {
            let result = run_ready(execute_query(&*self.backend, query));
            self.reads.insert(job, Reading::Took(token, result));
        }
    }

    /// Its result is there.
    pub(super) fn read_done(&mut self, job: u64) -> Option<Done> {
        match self.reads.remove(&job)? {
            Reading::Took(token, result) => Some(Done::Read { token, result }),
            waits @ Reading::Waits(..) => {
                self.reads.insert(job, waits);
                None
            }
        }
    }
}
