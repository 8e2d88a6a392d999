//! The storage node around its core: a listener, the driver, the queue of writes, and reads beside
//! it.

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use neo_api::{Address, BackendError, Durability, NodeId, StorageBackend, WriteBatch};
use neo_proto::net::{
    self, BindError, DoneSender, DriverOptions, Node, NodeBuilder, NodeFailure, RunningNode, Shell,
};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tracing::field::{Empty, display};
use tracing::{Instrument, Span, error_span};

use crate::config::StorageSettings;
use crate::core::{Done, Job, Query, StorageCommand, StorageCore, StorageEvent, Token};
use crate::persist::{Persister, Written};
use crate::query::execute_query;

/// A storage node.
#[derive(Debug)]
pub struct Storage {
    settings: StorageSettings,
    backend: Arc<dyn StorageBackend>,
}

/// How a storage node is to be run.
pub type StorageBuilder = NodeBuilder<Storage>;

impl Storage {
    /// A storage node of a cluster that keeps its data in `backend`. It listens at a free port of
    /// 127.0.0.1 and talks TCP, unless told otherwise.
    #[must_use]
    pub fn builder(settings: StorageSettings, backend: Arc<dyn StorageBackend>) -> StorageBuilder {
        NodeBuilder::new(Self { settings, backend })
    }
}

/// A node that could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Nothing can listen there.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Settings without a master.
    #[error("no master is given: a storage node would have nobody to ask for its cluster")]
    NoMaster,
}

impl Node for Storage {
    type Running = RunningStorage;
    type StartError = StartError;

    fn check(&self) -> Result<(), StartError> {
        if self.settings.masters.is_empty() {
            return Err(StartError::NoMaster);
        }
        Ok(())
    }

    fn span(address: &Address) -> Span {
        error_span!("storage", %address, nid = Empty)
    }

    fn run(self, address: Address, options: DriverOptions) -> RunningStorage {
        let Self { settings, backend } = self;
        let topology = backend.info().topology;
        let reads = settings.limits.backend_reads_max.max(1);
        let core = StorageCore::new(settings, address.clone(), topology, options.env.random());
        let (told, status) = watch::channel(StorageStatus::default());
        let writes = Arc::new(Writes::default());
        let shell = StorageShell {
            backend: Arc::clone(&backend),
            writes: Arc::clone(&writes),
            reads: Arc::new(Semaphore::new(reads)),
            told,
        };
        RunningStorage(RunningNode::spawn(address, status, async move |commands| {
            let _stop = StopWriter(Arc::clone(&writes));
            let ended = net::run(core, shell, options, commands).await;
            writes.finish().await;
            match (ended, backend.close().await) {
                (Ok(()), Err(error)) => Err(NodeFailure {
                    reason: format!("the database could not be closed: {error}"),
                }),
                (ended, _) => ended,
            }
        }))
    }
}

/// What a storage node tells about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorageStatus {
    /// Its id, once the primary master has accepted it.
    pub nid: Option<NodeId>,
    /// Whether it serves clients.
    pub operating: bool,
    /// The masters that it knows, once it has learnt of more than it was told.
    pub masters: Vec<Address>,
}

/// A storage node that runs; it goes on when this is dropped.
#[derive(Debug)]
pub struct RunningStorage(RunningNode<StorageCommand, StorageStatus>);

impl Deref for RunningStorage {
    type Target = RunningNode<StorageCommand, StorageStatus>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl RunningStorage {
    /// Its id, once the primary master has accepted it.
    #[must_use]
    pub fn nid(&self) -> Option<NodeId> {
        self.status().borrow().nid
    }

    /// Stops the node cleanly, and waits until its database is closed.
    ///
    /// # Errors
    /// When it failed.
    pub async fn stop(&self) -> Result<(), NodeFailure> {
        self.stop_by(StorageCommand::Stop).await
    }
}

/// The queue of writes, between the loop that fills it and the task that empties it.
#[derive(Debug, Default)]
struct Writes {
    state: Mutex<WriteState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct WriteState {
    queue: Persister,
    /// The node ends: what is queued is written, then the task ends.
    ending: bool,
    task: Option<JoinHandle<()>>,
}

impl Writes {
    fn state(&self) -> MutexGuard<'_, WriteState> {
        // Nothing that holds the lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is queued, until the node ends.
    async fn run(&self, backend: &dyn StorageBackend, done: &DoneSender<StorageCore>) {
        loop {
            let (next, ending) = {
                let mut state = self.state();
                (state.queue.next_group(), state.ending)
            };
            match next {
                Some((batch, durability)) => {
                    let result = backend.apply(batch, durability).await;
                    let answered = self.state().queue.done(result);
                    for (token, result) in answered {
                        done.send(Done::Persisted { token, result });
                    }
                }
                None if ending => return,
                None => self.changed.notified().await,
            }
        }
    }

    /// Waits until what was queued is written.
    async fn finish(&self) {
        let task = {
            let mut state = self.state();
            state.ending = true;
            state.task.take()
        };
        self.changed.notify_one();
        if let Some(task) = task {
            // A writer that panicked has nothing more to wait for; closing the backend tells.
            let _ = task.await;
        }
        let Written {
            synced_batches,
            synced_groups,
        } = self.state().queue.written();
        tracing::info!(synced_batches, synced_groups, "all is written");
    }
}

/// Stops the writer with the node: one that is dropped is a crash, after which nothing is written.
#[derive(Debug)]
struct StopWriter(Arc<Writes>);

impl Drop for StopWriter {
    fn drop(&mut self) {
        if let Some(task) = self.0.state().task.take() {
            task.abort();
        }
    }
}

/// The shell: writes go to one task, reads to a task each.
#[derive(Debug)]
struct StorageShell {
    backend: Arc<dyn StorageBackend>,
    writes: Arc<Writes>,
    reads: Arc<Semaphore>,
    told: watch::Sender<StorageStatus>,
}

impl StorageShell {
    fn write(&self, (token, batch, durability): Write, done: &DoneSender<StorageCore>) {
        let mut state = self.writes.state();
        state.queue.push(token, batch, durability);
        if state.task.is_none() && !state.ending {
            let (writes, backend) = (Arc::clone(&self.writes), Arc::clone(&self.backend));
            let guard = WriterPanics(Arc::clone(&self.writes), done.clone());
            let task = async move { writes.run(&*backend, &guard.1).await };
            state.task = Some(tokio::spawn(task.in_current_span()));
        }
        drop(state);
        self.writes.changed.notify_one();
    }

    fn read(&self, token: Token, query: Query, done: &DoneSender<StorageCore>) {
        let (backend, reads) = (Arc::clone(&self.backend), Arc::clone(&self.reads));
        let is_small = matches!(query, Query::Load { .. });
        let guard = ReadPanics(token, done.clone());
        let read = async move {
            // The semaphore is never closed.
            let _turn = reads.acquire().await;
            let result = execute_query(&*backend, query).await;
            guard.1.send(Done::Read { token, result });
        };
        if !is_small {
            tokio::spawn(read);
            return;
        }
        // What a backend can answer at once needs no task of its own.
        let mut read = Box::pin(read);
        let poll = || read.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        // One that panics has told so.
        if let Ok(Poll::Pending) = catch_unwind(AssertUnwindSafe(poll)) {
            tokio::spawn(read);
        }
    }
}

type Write = (Token, WriteBatch, Durability);

/// Tells the core when a backend panics: it would wait for the answer for ever.
#[derive(Debug)]
struct ReadPanics(Token, DoneSender<StorageCore>);

impl Drop for ReadPanics {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (token, result) = (self.0, Err(panicked()));
            self.1.send(Done::Read { token, result });
        }
    }
}

/// The same, of the task that writes.
#[derive(Debug)]
struct WriterPanics(Arc<Writes>, DoneSender<StorageCore>);

impl Drop for WriterPanics {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let mut state = self.0.state();
        let mut failed = state.queue.done(Err(panicked()));
        // Of a group, the first that would be tried singly.
        if failed.is_empty() && state.queue.next_group().is_some() {
            failed = state.queue.done(Err(panicked()));
        }
        drop(state);
        for (token, result) in failed {
            self.1.send(Done::Persisted { token, result });
        }
    }
}

fn panicked() -> BackendError {
    BackendError::Closed("it panicked; the log says where".to_owned())
}

impl Shell<StorageCore> for StorageShell {
    fn job(&mut self, job: Job, done: &DoneSender<StorageCore>) {
        match job {
            Job::Persist {
                token,
                batch,
                durability,
            } => self.write((token, batch, durability), done),
            Job::Read { token, query } => self.read(token, query, done),
        }
    }

    fn event(&mut self, event: StorageEvent) {
        self.told.send_modify(|status| match event {
            StorageEvent::Identified { nid } => {
                // A field that is recorded again is shown twice.
                if status.nid.replace(nid) != Some(nid) {
                    Span::current().record("nid", display(nid));
                }
            }
            StorageEvent::Operating => status.operating = true,
            StorageEvent::NotOperating => status.operating = false,
            StorageEvent::Masters(masters) => status.masters = masters,
        });
    }
}
