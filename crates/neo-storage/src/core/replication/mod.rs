//! Catching up: a cell that is out of date fetches what it lacks from a readable one, until nothing
//! can be missing.
//!
//! The primary registers the cell first: from then on the node gets every new transaction, and it
//! is told what was committed last and which transactions are pending. The cell fetches what was
//! committed, waits for the end of those that were pending, and fetches what they wrote. Then it
//! compares what was locked in the meantime (`finish`), makes all durable and tells the primary, which
//! makes it readable by a change of the partition table.
//!
//! `register` talks to the primary; `pass` has one partition compared with a source by `fetch` and
//! `page`; `source` is the node that is asked; `progress` is what the database remembers: whatever
//! interrupts it, it goes on from there. `step` writes pages in parts that keep no client waiting
//! for long. Everything here is of one period of service.
//!
//! A source may be packed while it is asked, and a replica was packed before it went away, or was not.
//! So the replica notes how far both are packed, the less of the two, with the first page of a pass
//! and again with its last one; what is left to pack it does when it is readable. What it fetches from
//! the start is as the source's.
//!
//! **Invariant:** at most one step of a page is being written, and the next one not before it is: what
//! the database remembers as complete is.

mod fetch;
mod finish;
mod page;
mod pass;
mod progress;
mod register;
mod source;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use neo_api::{Address, Instant, NodeId, Partition, Reign, TableVersion, Tid, TxnId};
use neo_proto::{AssignedPartition, Backoff, ConnId, MsgId};

pub(crate) use progress::{drop_progress, set_progress};
pub(crate) use source::is_source;

use self::finish::Comparing;
use self::pass::{Current, Writing};
use self::source::Source;
use self::step::StepCost;
use super::cells::Cells;
use super::clients::Conns;
use super::io::Io;
use super::master_link::MasterLink;
use super::pace::{Clients, Pace};
use super::transaction::Transactions;
use crate::config::{Mutations, StorageLimits};

/// The first pause after the disk, or the primary, refused something; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest one.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What the replication is handed with each input.
#[derive(Debug)]
pub(crate) struct Around<'a, 'b> {
    pub(crate) cells: &'a mut Cells,
    pub(crate) transactions: &'a mut Transactions,
    pub(crate) conns: &'a Conns,
    pub(crate) link: &'a mut MasterLink,
    pub(crate) io: &'a mut Io<'b>,
    pub(crate) nid: NodeId,
    pub(crate) clients: Clients,
    /// An import goes on.
    pub(crate) is_importing: bool,
    /// Rows of this discarded cell are being deleted.
    pub(crate) dropping: Option<Partition>,
    pub(crate) object_bytes_max: usize,
}

/// Where a cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is not known yet how far it was replicated.
    Unknown,
    /// The primary does not know that it catches up.
    Unregistered,
    /// It fetches, or waits for transactions that were pending.
    Fetching,
    /// Nothing is missing: what is locked is compared.
    Comparing,
    /// All is being made durable.
    Syncing,
    /// The primary was told.
    Done,
}

/// A cell that catches up.
#[derive(Debug)]
struct Catching {
    assigned: TableVersion,
    stage: Stage,
    /// Complete up to here.
    progress: Option<Tid>,
    /// What is to be fetched, as far as it is known.
    goal: Tid,
    /// The latest reign in which something of it was committed, at most.
    committed_in: Reign,
    /// Whether what the source does not have beyond that was removed.
    swept: bool,
    /// Transactions that were pending when it was registered, and have not ended.
    pending: BTreeSet<TxnId>,
    /// Attempts that failed: other cells come first.
    failures: u32,
}

impl Catching {
    const fn new(assigned: TableVersion) -> Self {
        Self {
            assigned,
            stage: Stage::Unknown,
            progress: None,
            goal: Tid::ZERO,
            committed_in: Reign(0),
            swept: false,
            pending: BTreeSet::new(),
            failures: 0,
        }
    }

    fn wants_fetch(&self) -> bool {
        let has_all = self.progress.is_some_and(|tid| tid >= self.goal);
        self.stage == Stage::Fetching && (!self.swept || !has_all)
    }
}

/// A registration that was asked for.
#[derive(Debug)]
struct Registering {
    id: MsgId,
    /// The table that says that these cells are here.
    table: Option<TableVersion>,
    cells: Vec<AssignedPartition>,
}

/// The cells that catch up.
#[derive(Debug)]
pub(crate) struct Replication {
    mutations: Mutations,
    identification_timeout: Duration,
    cells: BTreeMap<Partition, Catching>,
    /// Cells whose progress is being read.
    looking: Vec<Partition>,
    /// The registration that waits for its answer.
    registering: Option<Registering>,
    /// The table by which one was asked for, and refused by the primary.
    refused: Option<TableVersion>,
    source: Source,
    current: Option<Current>,
    writing: Option<Writing>,
    comparing: Option<Comparing>,
    last_number: u64,
    pace: Pace,
    step_cost: StepCost,
    backoff: Backoff,
    /// No cell is registered before.
    register_at: Option<Instant>,
    /// No pass begins before.
    fetch_at: Option<Instant>,
    /// Nothing is compared before.
    compare_at: Option<Instant>,
    /// Something changed: every cell is looked at.
    look: bool,
    /// The end of transactions is waited for.
    waits: bool,
    /// How many had ended when the cells were looked at.
    ends: u64,
}

impl Replication {
    pub(crate) fn new(seed: u64, limits: &StorageLimits, mutations: Mutations) -> Self {
        Self {
            mutations,
            identification_timeout: limits.identification_timeout(),
            cells: BTreeMap::new(),
            looking: Vec::new(),
            registering: None,
            refused: None,
            source: Source::new(seed),
            current: None,
            writing: None,
            comparing: None,
            last_number: 0,
            pace: Pace::new(limits.replication_bytes_per_s_min),
            step_cost: StepCost::new(),
            backoff: Backoff::new(PAUSE_MIN, PAUSE_MAX),
            register_at: None,
            fetch_at: None,
            compare_at: None,
            look: false,
            waits: false,
            ends: 0,
        }
    }

    /// The partition table is another one.
    pub(crate) fn table_changed(&mut self, cells: &Cells) {
        let outdated: BTreeMap<_, _> = cells.outdated().collect();
        self.cells
            .retain(|partition, cell| outdated.get(partition) == Some(&cell.assigned));
        for (partition, assigned) in outdated {
            let new = || Catching::new(assigned);
            self.cells.entry(partition).or_insert_with(new);
        }
        self.look = true;
    }

    /// Something changed that may let it go on: the nodes that are there, for example.
    pub(crate) const fn look(&mut self) {
        self.look = true;
    }

    /// An import made everything up to this tid count. What came of it to a cell that catches up
    /// was left to be fetched.
    pub(crate) fn imported(&mut self, reign: Reign, tid: Tid) {
        for cell in self.cells.values_mut() {
            if cell.stage == Stage::Fetching {
                cell.goal = cell.goal.max(tid);
                cell.committed_in = cell.committed_in.max(reign);
            }
        }
        self.look = true;
    }

    /// Whether there is nothing to catch up with, nor anything left of what was.
    fn is_at_rest(&self) -> bool {
        self.cells.is_empty() && self.current.is_none() && self.source.nid().is_none()
    }

    /// Whether nothing is under way that goes on by itself.
    pub(crate) fn is_idle(&self) -> bool {
        self.current.is_none() && self.writing.is_none() && self.comparing.is_none()
    }

    /// The connection to the source.
    pub(crate) const fn conn(&self) -> Option<ConnId> {
        self.source.conn()
    }

    /// When something is due.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        let page = self.current.as_ref().map(Current::has_page);
        let page = page.unwrap_or(false) && self.writing.is_none();
        let all = [
            self.pace.timeout().filter(|_| page),
            self.source.deadline(),
            self.register_at,
            self.fetch_at,
            self.compare_at,
        ];
        all.into_iter().flatten().min()
    }

    /// Goes on wherever it can.
    pub(crate) fn pump(&mut self, around: &mut Around<'_, '_>) {
        for (partition, tid) in around.transactions.take_holes() {
            if let Some(cell) = self.cells.get_mut(&partition) {
                cell.goal = cell.goal.max(tid);
                self.look = true;
            }
        }
        self.expire(around);
        if self.is_at_rest() {
            self.look = false;
            return;
        }
        let ends = around.transactions.ends();
        let look = std::mem::take(&mut self.look);
        if look {
            self.check_source(around);
            self.read_progress(around.io);
            self.register(around);
        }
        self.write(around);
        self.fetch(around, look);
        let may_go_on = self.waits && self.ends != ends;
        if std::mem::take(&mut self.look) || look || may_go_on {
            self.ends = ends;
            self.finish(around);
        }
        let is_connected = self.current.is_none() && self.source.nid().is_some();
        if is_connected && !self.cells.values().any(Catching::wants_fetch) {
            self.leave_source(around.io);
        }
    }

    /// What was waited for is due, or has taken too long.
    fn expire(&mut self, around: &mut Around<'_, '_>) {
        let now = around.io.now.mono;
        if self
            .source
            .deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            self.source_failed(around.io, "it does not answer");
        }
        for at in [
            &mut self.register_at,
            &mut self.fetch_at,
            &mut self.compare_at,
        ] {
            if at.is_some_and(|at| at <= now) {
                *at = None;
                self.look = true;
            }
        }
    }

    /// The nodes that a partition can be fetched from.
    fn sources(&self, around: &Around<'_, '_>, partition: Partition) -> Vec<NodeId> {
        let cells = around.cells.table().into_iter();
        let cells = cells.flat_map(|table| table.readable(partition));
        let others = cells.map(|cell| cell.nid).filter(|nid| *nid != around.nid);
        let running = |nid: &NodeId| around.conns.running_at(*nid).is_some();
        others.filter(running).collect()
    }

    /// Where the source is to be reached.
    fn address(around: &Around<'_, '_>, nid: NodeId) -> Option<Address> {
        around.conns.running_at(nid).cloned()
    }
}
