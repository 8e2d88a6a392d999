//! The pure core of a storage node.
//!
//! A node is in one of these states: it reads what it remembers; it looks for the primary; it is
//! connected to the primary, which asks (recovery, verification); it serves clients. Losing the
//! primary leads back to the search, whatever the state: what was not voted is forgotten, what was
//! is for the next verification to decide.
//!
//! **Invariant:** an answer that depends on the disk is sent when the disk has said so.
//! **Invariant:** a change of the partition table is durable before anything that came after it is
//! looked at.

mod background;
mod cells;
pub(crate) mod clients;
mod connections;
mod copied;
mod discarded;
mod effect;
mod finished;
mod import;
mod initialization;
mod io;
mod lock;
mod master_link;
mod pace;
mod packing;
mod peers;
mod primary;
mod read;
mod replication;
mod space;
mod tables;
mod task;
mod transaction;
mod wanted;

use std::collections::VecDeque;
use std::time::Duration;

use neo_api::{
    Address, Instant, NodeId, Now, Oid, Partition, PartitionTable, Reign, SessionId, TableVersion,
    Tid, WriteOp,
};
use neo_proto::{
    ClusterIdentity, ConnId, Core, Effect, Effects, ErrorCode, Input, Message, Packet,
};

pub(crate) use effect::progress_key;
pub use effect::{
    CONFIG_KEYS, Done, Extent, Job, PackedValues, Query, QueryResult, StartState, StorageCommand,
    StorageEvent, Token,
};
pub(crate) use packing::{Packed, objects_key, state_key};

use crate::config::StorageSettings;
use cells::Cells;
use clients::Conns;
use discarded::Drops;
use import::Import;
use initialization::Memory;
use io::{AfterRead, Io, Jobs};
use master_link::MasterLink;
use pace::{Pace, Presence};
use packing::Packing;
use read::Reads;
use replication::{Replication, is_source};
use space::Space;
use task::Tasks;
use transaction::Transactions;

/// A storage node without its disk, its sockets and its clock.
#[derive(Debug)]
pub struct StorageCore {
    settings: StorageSettings,
    address: Address,
    topology: Vec<String>,
    /// For what is left to chance.
    seed: u64,
    phase: Phase,
    nid: Option<NodeId>,
    /// Whether the id is in the database: with the first table in which it has cells, or with the
    /// draft of a cluster. Until then it is that of one connection.
    is_noted: bool,
    /// This node's identification at the primary.
    session: Option<SessionId>,
    /// The id that a copied database gets.
    renamed: Option<NodeId>,
    identity: Option<ClusterIdentity>,
    reign: Reign,
    /// Whether the node has been told to obey this reign before.
    served_before: bool,
    oid_mark: Oid,
    import_tid: Option<Tid>,
    object_bytes_max: usize,
    cells: Cells,
    jobs: Jobs,
    link: MasterLink,
    space: Space,
    conns: Conns,
    reads: Reads,
    presence: Presence,
    tasks: Tasks,
    import: Option<Import>,
    /// While the node serves.
    service: Option<Service>,
    /// A partition table that is being made durable.
    table: Option<NewTable>,
    /// Messages that came after it.
    held: VecDeque<(ConnId, Message)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// What the node remembers is not read yet.
    Starting,
    Up,
    Ended,
}

/// A period of service.
#[derive(Debug)]
struct Service {
    transactions: Transactions,
    replication: Replication,
    drops: Drops,
    packing: Packing,
    /// The operation that the primary waits for, until it is told that this node is ready.
    unready: Option<u64>,
}

#[derive(Debug)]
struct NewTable {
    table: PartitionTable,
    identity: Option<ClusterIdentity>,
    /// What is to be written.
    ops: Vec<WriteOp>,
    /// As which node it was sent.
    nid: Option<NodeId>,
    /// Whether that is written too.
    notes: bool,
    /// Cells that it makes out of date, and did not before: how far they go is looked up first.
    outdated: Vec<(Partition, TableVersion)>,
}

impl StorageCore {
    /// A node that listens at `own_address`. It reads its backend first, then looks for the
    /// primary among the masters of its settings.
    #[must_use]
    pub fn new(
        settings: StorageSettings,
        own_address: Address,
        topology: Vec<String>,
        seed: u64,
    ) -> Self {
        let limits = &settings.limits;
        let backoff = (
            Duration::from_millis(limits.backoff_min_ms.max(1)),
            Duration::from_millis(limits.backoff_max_ms.max(1)),
        );
        Self {
            link: MasterLink::new(settings.masters.clone(), backoff, seed),
            reads: Reads::new(
                limits.running_reads_max.max(1),
                limits.waiting_reads_max,
                Pace::new(limits.replication_bytes_per_s_min),
            ),
            address: own_address,
            topology,
            seed,
            phase: Phase::Starting,
            nid: None,
            is_noted: false,
            session: None,
            renamed: None,
            identity: None,
            reign: Reign(0),
            served_before: false,
            oid_mark: Oid::ZERO,
            import_tid: None,
            object_bytes_max: neo_api::OBJECT_BYTES_MAX,
            cells: Cells::default(),
            jobs: Jobs::default(),
            space: Space::default(),
            conns: Conns::default(),
            presence: Presence::default(),
            tasks: Tasks::default(),
            import: None,
            service: None,
            table: None,
            held: VecDeque::new(),
            settings,
        }
    }

    /// The node's id, once it has one.
    #[must_use]
    pub const fn nid(&self) -> Option<NodeId> {
        self.nid
    }

    /// Whether it serves clients.
    #[must_use]
    pub const fn is_operating(&self) -> bool {
        self.service.is_some()
    }

    /// Whether nothing is under way in its backend and no transaction is unfinished: what a test
    /// looks at to know that it came to rest.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let busy = |service: &Service| {
            !service.transactions.is_empty()
                || !service.replication.is_idle()
                || !service.packing.is_idle()
        };
        self.jobs.is_quiet() && !self.service.as_ref().is_some_and(busy)
    }

    /// Bytes of stored values that are in memory.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        let service = self.service.as_ref();
        service.map_or(0, |service| service.transactions.buffered())
    }

    fn message(&mut self, now: Now, out: &mut Effects<Self>, conn: ConnId, message: Message) {
        if self.table.is_some() && !self.settings.mutations.table_not_durable {
            if self.held.len() < self.settings.limits.held_messages_max {
                self.held.push_back((conn, message));
            } else {
                self.drop_conn(now, out, conn, "too many messages wait for the disk");
            }
            return;
        }
        if self.link.conn() == Some(conn) {
            self.master_says(now, out, conn, message);
        } else if self.source_conn() == Some(conn) {
            self.with_replication(now, out, |replication, around| {
                replication.source_says(around, message);
            });
        } else if self.conns.contains(conn) {
            self.peer_says(now, out, conn, message);
        }
    }

    fn started(&mut self, now: Now, out: &mut Effects<Self>, start: StartState) {
        let memory = match Memory::load(&start, &self.settings.cluster) {
            Ok(memory) => memory,
            Err(why) => return self.end(out, Some(why)),
        };
        if self.settings.new_nid && (memory.nid.is_none() || start.table.is_none()) {
            let why = "a new id is for a copy of a storage node's database: this one is empty";
            return self.end(out, Some(why.to_owned()));
        }
        self.is_noted = memory.nid.is_some() && start.table.is_some();
        self.nid = memory.nid.or(self.settings.nid);
        self.identity = memory.identity;
        self.reign = memory.reign;
        self.oid_mark = memory.oid_mark;
        self.import_tid = memory.import_tid;
        self.object_bytes_max = start.object_bytes_max;
        self.jobs.start_data_ids(start.next_data_id);
        self.jobs.start_commits(memory.committed_in);
        if let Some(table) = start.table {
            self.cells.set(self.noted(), table);
        }
        self.phase = Phase::Up;
        self.search(now, out);
    }

    /// Leaves the primary: the service ends, clients are sent away, who asked is not answered.
    fn leave(&mut self, out: &mut Effects<Self>) {
        self.stop_service(out);
        self.tasks.clear();
        let is_looking_up = self.jobs.has_read(&AfterRead::Extent);
        if self.jobs.abandon() || is_looking_up {
            self.table = None;
        }
        if !self.is_noted && !self.is_noting() {
            // The id is not durable, nor on its way to the disk: another primary may have given it
            // to another node. What a table says of it is not about this node then.
            self.nid = self.settings.nid;
        }
        if self.table.is_none()
            && let Some(table) = self.cells.table().cloned()
        {
            // A table that was given up had closed the gate of what it took away.
            self.cells.set(self.noted(), table);
        }
        self.held.clear();
        self.import = None;
        self.session = None;
        self.renamed = None;
    }

    fn stop_service(&mut self, out: &mut Effects<Self>) {
        for conn in self.conns.clear() {
            out.close(conn, "this node does not serve any more");
        }
        self.reads.clear();
        self.cells.forget_complete();
        if let Some(mut service) = self.service.take() {
            if let Some(conn) = service.replication.stop() {
                out.close(conn, "this node does not serve any more");
            }
            tracing::info!("not serving any more");
            out.event(StorageEvent::NotOperating);
        }
    }

    fn end(&mut self, out: &mut Effects<Self>, failure: Option<String>) {
        self.phase = Phase::Ended;
        self.service = None;
        out.push(Effect::Stop { failure });
    }

    fn timer(&mut self, now: Now, out: &mut Effects<Self>) {
        if self.phase == Phase::Starting {
            if self.jobs.has_read(&AfterRead::Start) {
                return;
            }
            let mut io = Io {
                now,
                out,
                jobs: &mut self.jobs,
            };
            return io.read(Query::Start, AfterRead::Start);
        }
        if let Some(conn) = self.link.overdue(now.mono) {
            self.drop_conn(now, out, conn, "the master does not answer");
        }
        for (conn, parked) in self.conns.expired(now.mono) {
            if let Some(asker) = parked {
                let message = "the primary master does not know you: identify there again";
                let message = message.to_owned();
                let code = ErrorCode::NotReady;
                out.send(conn, asker.id, Packet::Error { code, message });
            }
            out.close(conn, "not identified in time");
        }
        let mut io = Io {
            now,
            out,
            jobs: &mut self.jobs,
        };
        io.retry();
        if let Some(service) = &mut self.service {
            service.transactions.expire(&mut io);
        }
        self.search(now, out);
    }

    /// The primary gives a tid only to what has voted wherever it must, and has packs done that are
    /// ordered.
    fn tell_votes(&mut self, out: &mut Effects<Self>) {
        let (Some(service), Some(conn)) = (&mut self.service, self.link.up()) else {
            return;
        };
        for packet in service.transactions.take_voted(&self.cells) {
            out.notify(conn, packet);
        }
        if service.transactions.take_ordered() {
            out.notify(conn, Packet::NotifyPackOrdered {});
        }
    }

    /// What follows from any input: reads that waited, requests of the primary whose turn it is,
    /// messages that were held, and the node's own failure.
    fn settle(&mut self, now: Now, out: &mut Effects<Self>) {
        loop {
            if self.phase != Phase::Up {
                return;
            }
            if let Some(service) = &mut self.service
                && service.transactions.take_unlocked()
            {
                let mut io = Io {
                    now,
                    out,
                    jobs: &mut self.jobs,
                };
                self.reads
                    .unlocked(&self.cells, &service.transactions, &mut io);
            }
            self.tell_votes(out);
            self.tell_ready(out);
            self.next_task(now, out);
            self.background(now, out);
            if self.table.is_some() && !self.settings.mutations.table_not_durable {
                break;
            }
            let Some((conn, message)) = self.held.pop_front() else {
                break;
            };
            self.message(now, out, conn, message);
        }
        let timeout = self.settings.limits.persist_timeout();
        if let Some(since) = self.jobs.oldest_persist()
            && now.mono.since(since) >= timeout
        {
            let why = format!(
                "a write takes longer than {} s: the disk is stuck, or has been full for as long",
                timeout.as_secs_f32()
            );
            self.end(out, Some(why));
        }
    }
}

impl Core for StorageCore {
    type Command = StorageCommand;
    type Event = StorageEvent;
    type Job = Job;
    type Done = Done;

    fn handle(&mut self, now: Now, input: Input<Self>, out: &mut Effects<Self>) {
        if self.phase == Phase::Ended {
            return;
        }
        match input {
            Input::Timer => self.timer(now, out),
            Input::Connected { token, conn } => self.connected(now, out, token, conn),
            Input::ConnectFailed { token, error } if is_source(token) => {
                self.with_replication(now, out, |replication, around| {
                    replication.connect_failed(around.io, token, &error);
                });
            }
            Input::ConnectFailed { token, error } => {
                if self.link.is_long_alone() {
                    tracing::warn!(error, "no master can be reached; trying on");
                }
                tracing::debug!(error, "no master there");
                self.link.connect_failed(now.mono, token);
                self.search(now, out);
            }
            Input::Accepted { conn, from } => {
                if self.conns.unidentified() < self.settings.limits.unidentified_max {
                    let timeout = self.settings.limits.identification_timeout();
                    self.conns.accepted(conn, now.mono + timeout);
                } else {
                    tracing::warn!(%from, "too many connections that do not identify");
                    out.close(conn, "too many connections that do not identify");
                }
            }
            Input::Closed { conn, reason } => {
                if self.link.conn() == Some(conn) {
                    tracing::info!(reason, "lost the master");
                } else if let Some(client) = self.conns.client(conn) {
                    tracing::info!(nid = %client.peer.nid, reason, "lost a client");
                }
                self.closed(now, out, conn, &reason);
            }
            Input::Message { conn, message } => self.message(now, out, conn, message),
            Input::Command(StorageCommand::Stop) => self.end(out, None),
            Input::Done(Done::Persisted { token, result }) => {
                self.persisted(now, out, token, result);
            }
            Input::Done(Done::Read { token, result }) => self.read(now, out, token, result),
        }
        self.settle(now, out);
    }

    fn congested(&mut self, now: Now, conn: ConnId, is: bool, out: &mut Effects<Self>) {
        if self.conns.client(conn).is_some() {
            let mut io = Io {
                now,
                out,
                jobs: &mut self.jobs,
            };
            self.reads.congested(&self.cells, &mut io, conn, is);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.phase != Phase::Up {
            return None;
        }
        let timeout = self.settings.limits.persist_timeout();
        let stuck = self.jobs.oldest_persist().map(|since| since + timeout);
        let service = self.service.as_ref().filter(|_| self.may_work());
        let all = [
            stuck,
            self.jobs.next_retry(),
            self.conns.next_deadline(),
            self.link.timeout(),
            self.service.as_ref().and_then(|s| s.transactions.timeout()),
            service.and_then(|_| self.reads.timeout()),
            service.and_then(|service| service.replication.timeout()),
            service.and_then(|service| service.drops.timeout()),
            service.and_then(|service| service.packing.timeout()),
        ];
        all.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
