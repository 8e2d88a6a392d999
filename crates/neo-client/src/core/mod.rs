//! The client's pure core: links to the cluster, reads, transactions, imports.
//!
//! For those who run it otherwise than [`Client`](crate::Client) does: a simulator, a proxy.

mod answer;
mod call;
mod closing;
mod command;
mod conflict;
mod effect;
mod failing;
mod import;
mod master;
mod outcome;
mod page;
mod read;
mod routes;
mod routing;
mod storage;
mod store;
mod timer;
mod transaction;
mod undo;
mod vote;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use neo_api::{Address, Instant, NodeId, NodeState, Now, Oid, Partition, PartitionTable, Tid};
use neo_proto::{ConnId, ConnectToken, Core, Effects, ErrorCode, Input, MsgId, NodeInfo};

pub use effect::{Change, Command, Conflict, Event, ImportKey, Reply, ReplyId, TxnKey, Validity};
pub use page::Page;
pub(crate) use read::check_loaded;
pub use routes::Routes;
pub use undo::{Current, Undoing};

use crate::error::Error;
use call::{Call, CallId};
use command::replies_of;
use import::Import;
use master::MasterLink;
use read::{AtKey, Batch, Budget, Patience, Read, ReadId};
use routing::Rng;
use storage::StorageLink;
use timer::{TimerId, Timers};
use transaction::Txn;

/// Settings of a core.
#[derive(Debug, Clone)]
pub struct CoreSettings {
    /// Name of the cluster.
    pub cluster: String,
    /// Masters, at least one; others are learnt.
    pub masters: Vec<Address>,
    /// Whether the client promises not to write.
    pub read_only: bool,
    /// Whether data is given out that does not match its checksum on any replica.
    pub ignore_wrong_checksum: bool,
    /// How long an operation waits without any progress.
    pub operation_timeout: Duration,
    /// For the choice of replicas.
    pub seed: u64,
    /// Whether somebody reads from storage nodes by themselves, and wants to be told where.
    pub routes: bool,
    /// Rules to break, for tests that prove that the checkers see it.
    #[doc(hidden)]
    pub mutations: Mutations,
}

/// Rules that a test can switch off; no configuration reaches them.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mutations {
    /// What others have changed is not invalidated.
    pub no_invalidation: bool,
}

/// Shortest pause before another attempt.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
/// Longest.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The pause before attempt `n`, from 0.
fn backoff(n: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << n.min(16)).min(BACKOFF_MAX)
}

/// What a request in flight is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Req {
    MasterIdentification,
    FirstSync,
    Call(CallId),
    FailedVote(TxnKey),
    Finish(TxnKey),
    StorageIdentification,
    Read(ReadId),
    /// A batch of them.
    Loads,
    Store {
        txn: TxnKey,
        oid: Oid,
        version: u32,
    },
    Relock {
        txn: TxnKey,
        oid: Oid,
        version: u32,
    },
    Vote {
        txn: TxnKey,
        metadata: bool,
    },
    FinalTid(TxnKey),
    ImportBatch {
        import: ImportKey,
        batch: u64,
    },
    Checkpoint(ImportKey),
    EndImport(ImportKey),
}

/// A request in flight.
#[derive(Debug, Clone, Copy)]
struct Sent {
    /// To a storage; `None`: to the primary.
    nid: Option<NodeId>,
    /// `None` while the connection is being made.
    conn: Option<ConnId>,
    req: Req,
}

/// Why a request has no answer but an error.
#[derive(Debug, Clone)]
struct Failure {
    /// What the peer answered; `None`: it could not be asked.
    code: Option<ErrorCode>,
    message: String,
}

impl Failure {
    fn lost(message: impl Into<String>) -> Self {
        Self {
            code: None,
            message: message.into(),
        }
    }

    fn error(&self, nid: NodeId) -> Error {
        let who = nid.to_string();
        Error::refused(
            &who,
            self.code.unwrap_or(ErrorCode::NotReady),
            &self.message,
        )
    }
}

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timer {
    MasterRetry,
    MasterStart,
    StorageRetry(NodeId),
    StorageConnect(ConnectToken),
    Call(CallId),
    Read(ReadId),
    ReadRetry(ReadId),
    Txn(TxnKey),
    OutcomeRetry(TxnKey),
    OutcomeSlow(TxnKey),
    Import(ImportKey),
    Sleep(ReplyId),
    Close,
}

/// Work that is put off to the end of an input, so that no handler runs inside another.
#[derive(Debug)]
enum Todo {
    Failed(Sent, MsgId, Failure),
    Read(ReadId),
    Txn(TxnKey),
    Outcome(TxnKey),
}

/// The client's core.
#[derive(Debug)]
pub struct ClientCore {
    settings: CoreSettings,
    now: Now,
    started: bool,
    closing: bool,
    stopped: bool,
    next_msg: u64,
    next_token: u64,
    next_id: u64,
    rng: Rng,
    timers: Timers<Timer>,
    todo: VecDeque<Todo>,
    out: Effects<Self>,
    master: MasterLink,
    calls: BTreeMap<CallId, Call>,
    nodes: BTreeMap<NodeId, NodeInfo>,
    table: Option<PartitionTable>,
    storages: BTreeMap<NodeId, StorageLink>,
    storage_conns: BTreeMap<ConnId, NodeId>,
    requests: BTreeMap<MsgId, Sent>,
    last_tid: Tid,
    reads: BTreeMap<ReadId, Read>,
    /// Loads in flight by object, to merge them and to note invalidations.
    loads: BTreeMap<(Oid, AtKey), ReadId>,
    /// Loads that are about to be asked of a node.
    loads_to_ask: BTreeMap<NodeId, Vec<ReadId>>,
    /// Loads that were asked together.
    batches: BTreeMap<MsgId, Batch>,
    /// How long to wait for loads, for pages, and for loads that were asked together.
    patience: [Patience; 3],
    hedges: Budget,
    /// They may be, since they were last told.
    are_routes_new: bool,
    txns: BTreeMap<TxnKey, Txn>,
    imports: BTreeMap<ImportKey, Import>,
}

impl ClientCore {
    /// A client that starts to connect with its first input.
    #[must_use]
    pub fn new(settings: CoreSettings) -> Self {
        Self {
            now: Now {
                mono: Instant::default(),
                wall: neo_api::UnixMicros(0),
            },
            started: false,
            closing: false,
            stopped: false,
            next_msg: 1,
            next_token: 1,
            next_id: 1,
            rng: Rng::new(settings.seed),
            timers: Timers::default(),
            todo: VecDeque::new(),
            out: Effects::new(),
            master: MasterLink::new(settings.masters.clone()),
            calls: BTreeMap::new(),
            nodes: BTreeMap::new(),
            table: None,
            storages: BTreeMap::new(),
            storage_conns: BTreeMap::new(),
            requests: BTreeMap::new(),
            last_tid: Tid::ZERO,
            reads: BTreeMap::new(),
            loads: BTreeMap::new(),
            loads_to_ask: BTreeMap::new(),
            batches: BTreeMap::new(),
            patience: [Patience::new(), Patience::new(), Patience::new()],
            hedges: Budget::new(),
            are_routes_new: false,
            txns: BTreeMap::new(),
            imports: BTreeMap::new(),
            settings,
        }
    }

    /// The last tid whose invalidations were told.
    #[must_use]
    pub const fn last_tid(&self) -> Tid {
        self.last_tid
    }

    /// Whether the client can work.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.master.is_ready()
    }

    fn msg_id(&mut self) -> MsgId {
        let id = MsgId(self.next_msg);
        self.next_msg += 1;
        id
    }

    fn token(&mut self) -> ConnectToken {
        let token = ConnectToken(self.next_token);
        self.next_token += 1;
        token
    }

    fn id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn set_timer(&mut self, after: Duration, timer: Timer) -> TimerId {
        self.timers.set(self.now.mono + after, timer)
    }

    fn reply(&mut self, id: ReplyId, result: Result<Reply, Error>) {
        self.out.event(Event::Reply { id, result });
    }

    fn is_running(&self, nid: NodeId) -> bool {
        self.nodes
            .get(&nid)
            .is_some_and(|node| node.state == NodeState::Running)
    }

    /// The nodes that a change of this partition is written to.
    fn writable(&self, partition: Partition) -> Vec<NodeId> {
        let cells = self
            .table
            .iter()
            .flat_map(|table| table.writable(partition));
        cells.map(|cell| cell.nid).collect()
    }

    fn partition_of_oid(&self, oid: Oid) -> Partition {
        // Without a table nothing is written or read, so any partition will do.
        self.table
            .as_ref()
            .map_or(Partition(0), |table| table.partitioning().of_oid(oid))
    }

    fn partition_of_tid(&self, tid: Tid) -> Partition {
        self.table
            .as_ref()
            .map_or(Partition(0), |table| table.partitioning().of_tid(tid))
    }

    /// The peer sent nonsense: it is disconnected, and what waited for it goes elsewhere.
    fn protocol_violation(&mut self, conn: ConnId, reason: String) {
        tracing::warn!(%reason, "a peer broke the protocol");
        self.out.close(conn, reason.clone());
        self.connection_lost(conn, &reason);
    }

    fn connection_lost(&mut self, conn: ConnId, reason: &str) {
        if self.master.conn() == Some(conn) {
            self.master_lost(reason);
        } else if let Some(nid) = self.storage_conns.remove(&conn) {
            self.storage_lost(nid, conn, reason);
        }
    }

    fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::MasterRetry => self.master_connect(),
            Timer::MasterStart => self.master_start_ended(),
            Timer::StorageRetry(nid) => self.storage_retry(nid),
            Timer::StorageConnect(token) => self.storage_connect_slow(token),
            Timer::Call(call) => self.call_timed_out(call),
            Timer::Read(read) => self.read_timer(read),
            Timer::ReadRetry(read) => self.todo.push_back(Todo::Read(read)),
            Timer::Txn(txn) => self.txn_timer(txn),
            Timer::OutcomeRetry(txn) => self.todo.push_back(Todo::Outcome(txn)),
            Timer::OutcomeSlow(txn) => self.outcome_slow(txn),
            Timer::Import(import) => self.import_timer(import),
            Timer::Sleep(reply) => self.reply(reply, Ok(Reply::Done)),
            Timer::Close => self.stop(),
        }
    }

    fn settle(&mut self) {
        while let Some(todo) = self.todo.pop_front() {
            match todo {
                Todo::Failed(sent, id, failure) => self.failed(sent, id, failure),
                Todo::Read(read) => self.read_step(read),
                Todo::Txn(txn) => self.txn_step(txn),
                Todo::Outcome(txn) => self.outcome_step(txn),
            }
        }
    }
}

/// An error of the primary, for the application.
fn refused_by_primary(failure: &Failure) -> Error {
    Error::refused(
        "the primary master",
        failure.code.unwrap_or(ErrorCode::NotReady),
        &failure.message,
    )
}

impl Core for ClientCore {
    type Command = Command;
    type Event = Event;
    type Job = Infallible;
    type Done = Infallible;

    fn handle(&mut self, now: Now, input: Input<Self>, out: &mut Effects<Self>) {
        self.now = now;
        self.out = std::mem::take(out);
        if !self.stopped {
            if !std::mem::replace(&mut self.started, true) {
                self.master_connect();
            }
            match input {
                Input::Connected { token, conn } => self.connected(token, conn),
                Input::ConnectFailed { token, error } => self.connect_failed(token, &error),
                // A client does not listen.
                Input::Accepted { conn, .. } => self.out.close(conn, "this is a client"),
                Input::Closed { conn, reason } => self.connection_lost(conn, &reason),
                Input::Message { conn, message } => self.message(conn, message),
                Input::Command(command) => self.command(command),
                Input::Done(never) => match never {},
                Input::Timer => {}
            }
            self.settle();
            // Timers are looked at with every input: a busy client does not miss a deadline.
            while let Some(timer) = self.timers.pop_due(now.mono) {
                self.timer(timer);
                self.settle();
            }
            // A node that can't be asked is told of at once.
            while self.send_loads() {
                self.settle();
            }
            if std::mem::take(&mut self.are_routes_new) && self.settings.routes {
                let routes = self.routes();
                self.out.event(Event::Routes(routes.map(Box::new)));
            }
        } else if let Input::Command(command) = input {
            for reply in replies_of(&command) {
                self.reply(reply, Err(Error::Closed));
            }
        }
        *out = std::mem::take(&mut self.out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.stopped {
            return None;
        }
        if !self.started {
            return Some(Instant::default());
        }
        self.timers.next()
    }
}
