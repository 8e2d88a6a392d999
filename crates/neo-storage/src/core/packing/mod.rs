//! Packs: revisions that were replaced up to some time are removed, in small steps that give way to
//! clients.
//!
//! The primary tells which orders there are; each readable cell applies them one after the other,
//! and its database remembers how far it is. Within an object the oldest revision goes first, so that
//! at every moment, and after any crash, what is newest at the order's tid is there. What was begun is
//! noted with the first revision that goes: a reader of what is older learns that it may be gone.
//!
//! A revision that an open transaction repeats must stay until that ends: its object is left for
//! later.
//!
//! When all objects of a cell are done, so are its transactions: see `emptied`.

mod emptied;
mod orders;
mod state;

use std::collections::BTreeMap;
use std::time::Duration;

use neo_api::{
    BackendResult, Durability, Instant, Oid, PackOrder, Partition, RevisionId, Tid, WriteBatch,
    WriteOp,
};
use neo_proto::{PackedCell, Packet};

use self::emptied::Emptied;
use self::orders::{Orders, first_concerned};
use super::cells::Cells;
use super::effect::{Query, QueryResult};
use super::io::{AfterPersist, AfterRead, Io, words};
use super::pace::{Clients, Pace};
use super::transaction::Transactions;

pub(crate) use state::{OBJECTS_MAX, Packed, objects_key, state_key};

/// Revisions that a step looks at, at least and at most.
const ROWS: (usize, usize) = (50, 5_000);
/// A step should take about as long: while clients are at work, as one may have to wait for its end,
/// and otherwise.
const STEP: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(10));
/// What looking at a revision costs, of the rate that is kept although clients wait.
const ROW_BYTES: usize = 1 << 10;
/// The pause after a step that failed.
const PAUSE: Duration = Duration::from_secs(5);
/// The pause before objects that were left for later are looked at again.
const LATER: Duration = Duration::from_millis(100);

/// A readable cell.
#[derive(Debug)]
struct Cell {
    /// The period since which it is readable.
    period: u64,
    packed: Packed,
    /// The primary does not know it yet.
    is_untold: bool,
}

/// Where a pass is: the next page begins there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Object(Oid),
    Transaction(Tid),
    End,
}

/// The order that is being applied to a cell.
#[derive(Debug, Clone, Copy)]
struct Pass {
    partition: Partition,
    period: u64,
    order: Tid,
    place: Place,
    /// The first object that was left for later.
    later: Option<Oid>,
    removed: u64,
}

/// The page that is being looked at, or removed.
#[derive(Debug)]
struct Step {
    since: Instant,
    /// What follows when it is removed.
    next: Place,
    packed: Packed,
    ids: Vec<RevisionId>,
    /// What is being found out of a page of transactions.
    emptied: Option<Emptied>,
}

impl Step {
    fn new(since: Instant) -> Self {
        Self {
            since,
            next: Place::End,
            packed: Packed::default(),
            ids: Vec::new(),
            emptied: None,
        }
    }
}

/// What is packed here.
#[derive(Debug)]
pub(crate) struct Packing {
    orders: Orders,
    cells: BTreeMap<Partition, Cell>,
    /// Cells whose state is being read, each with its period.
    looking: Vec<(Partition, u64)>,
    pass: Option<Pass>,
    step: Option<Step>,
    /// Names the step.
    number: u64,
    step_time: Duration,
    rows: usize,
    pace: Pace,
    not_before: Option<Instant>,
    /// It waits for something that is no matter of time: it is looked at again with whatever happens.
    is_held_up: bool,
}

impl Packing {
    pub(crate) fn new(rows_per_s_bytes_min: u64) -> Self {
        Self {
            orders: Orders::default(),
            cells: BTreeMap::new(),
            looking: Vec::new(),
            pass: None,
            step: None,
            number: 0,
            step_time: STEP.0,
            rows: ROWS.0,
            pace: Pace::new(rows_per_s_bytes_min),
            not_before: None,
            is_held_up: false,
        }
    }

    /// The primary told orders: all above `after`, up to the last of them.
    pub(crate) fn ordered(&mut self, after: Tid, orders: Vec<(Tid, PackOrder)>) {
        self.orders = Orders::new(after, orders);
        if self.step.is_none() {
            self.pass = None;
        }
    }

    /// Whether there is something to do.
    fn has_work(&self) -> bool {
        let next = |cell: &Cell| self.orders.next(cell.packed.state.done);
        self.pass.is_some() || self.cells.values().any(|cell| next(cell).is_some())
    }

    /// When something is due.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        if self.step.is_some() || !self.looking.is_empty() {
            return None;
        }
        let is_due = self.has_work() && !self.is_held_up;
        let pace = self.pace.timeout().filter(|_| is_due);
        self.not_before.or(pace)
    }

    /// Whether nothing is under way, and nothing left to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.step.is_none() && self.looking.is_empty() && !self.has_work()
    }

    /// How far cells are packed that the primary does not know of yet.
    pub(crate) fn take_untold(&mut self) -> Option<Packet> {
        let untold = self.cells.iter_mut().filter(|(_, cell)| cell.is_untold);
        let cells = untold.map(|(partition, cell)| {
            let state = cell.packed.state;
            cell.is_untold = false;
            PackedCell {
                partition: *partition,
                done: state.done,
                at: state.at,
                whole_at: state.whole_at,
            }
        });
        let cells: Vec<PackedCell> = cells.collect();
        (!cells.is_empty()).then_some(Packet::NotifyPacked { cells })
    }

    /// Reads how far cells are packed that have become readable; forgets those that are not any more.
    fn look(&mut self, cells: &Cells, io: &mut Io<'_>) {
        let is_readable =
            |partition: &Partition, cell: &Cell| cells.readable(*partition) == Some(cell.period);
        self.cells
            .retain(|partition, cell| is_readable(partition, cell));
        if !self.looking.is_empty() {
            return;
        }
        for partition in cells.all_readable() {
            let (false, Some(period)) = (
                self.cells.contains_key(&partition),
                cells.readable(partition),
            ) else {
                continue;
            };
            self.looking.push((partition, period));
        }
        if !self.looking.is_empty() {
            let partitions = self.looking.iter().map(|(partition, _)| *partition);
            let partitions = partitions.collect();
            io.read(Query::PackStates { partitions }, AfterRead::PackStates);
        }
    }

    /// They were read.
    pub(crate) fn states_read(
        &mut self,
        cells: &Cells,
        io: &Io<'_>,
        result: BackendResult<QueryResult>,
    ) {
        let looked = std::mem::take(&mut self.looking);
        match result {
            Ok(QueryResult::PackStates(values)) => {
                for ((partition, period), value) in looked.into_iter().zip(&values) {
                    let own = cells.own().find(|(own, _)| *own == partition);
                    let Some((_, own)) = own else {
                        continue;
                    };
                    let cell = Cell {
                        period,
                        packed: Packed::of(value, own.assigned),
                        is_untold: true,
                    };
                    self.cells.insert(partition, cell);
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(error = %words(&error), "cannot read how far cells are packed");
                self.not_before = Some(io.now.mono + PAUSE);
            }
        }
    }

    /// Begins the next step, if there is one and its turn has come.
    pub(crate) fn pump(
        &mut self,
        cells: &Cells,
        transactions: &Transactions,
        io: &mut Io<'_>,
        clients: Clients,
        is_importing: bool,
    ) {
        let now = io.now.mono;
        self.not_before.take_if(|at| *at <= now);
        if self.step.is_some() || self.not_before.is_some() {
            return;
        }
        self.look(cells, io);
        self.is_held_up = is_importing;
        if is_importing || !self.has_work() || !self.pace.allows(now, clients) {
            return;
        }
        self.step_time = match clients {
            Clients::Away => STEP.1,
            Clients::About | Clients::Waiting => STEP.0,
        };
        let (Some(pass), Some(partitioning)) = (self.next_pass(cells), cells.partitioning()) else {
            return;
        };
        let Some(order) = self.orders.get(pass.order) else {
            self.pass = None;
            return;
        };
        // What is locked up to there has no place yet.
        self.is_held_up = transactions.greatest_locked(order.at).is_some();
        if self.is_held_up {
            return;
        }
        let partition = pass.partition;
        let min = match pass.place {
            Place::Object(min) => min,
            Place::Transaction(min) => return self.look_at_transactions(io, pass, min),
            Place::End => return self.end_pass(cells, io),
        };
        let Some(min) = first_concerned(order, (partitioning, partition), min) else {
            return self.objects_done(now);
        };
        // Of listed objects, one is looked at; what comes after it is of no interest.
        let limit = match order.oids {
            None => self.rows,
            Some(_) => ROWS.0,
        };
        self.number += 1;
        self.step = Some(Step::new(now));
        let at = order.at;
        let query = Query::Obsolete {
            partition,
            min,
            at,
            limit,
        };
        io.read(query, AfterRead::Obsolete(self.number));
    }

    /// The pass that goes on, if its cell is what it was.
    fn valid_pass(&self, cells: &Cells) -> Option<Pass> {
        self.pass.filter(|pass| {
            let cell = self.cells.get(&pass.partition);
            cells.readable(pass.partition) == Some(pass.period)
                && cell.is_some_and(|cell| cell.period == pass.period)
        })
    }

    /// The pass that goes on, or a new one.
    fn next_pass(&mut self, cells: &Cells) -> Option<Pass> {
        self.pass = self.valid_pass(cells);
        if self.pass.is_none() {
            self.pass = self.cells.iter().find_map(|(partition, cell)| {
                let order = self.orders.next(cell.packed.state.done)?;
                Some(Pass {
                    partition: *partition,
                    period: cell.period,
                    order,
                    place: Place::Object(Oid::ZERO),
                    later: None,
                    removed: 0,
                })
            });
        }
        self.pass
    }

    /// A page of what is obsolete was found.
    pub(crate) fn found(
        &mut self,
        cells: &Cells,
        transactions: &mut Transactions,
        io: &mut Io<'_>,
        number: u64,
        result: BackendResult<QueryResult>,
    ) {
        if number != self.number || self.step.is_none() {
            return;
        }
        let page = match result {
            Ok(QueryResult::Obsolete(page)) => page,
            Ok(_) => return self.give_up_step(io),
            Err(error) => {
                tracing::warn!(error = %words(&error), "cannot list what a pack removes");
                return self.give_up_step(io);
            }
        };
        let Some(pass) = self.valid_pass(cells) else {
            self.step = None;
            return;
        };
        let (Some(order), Some(cell), Some((_, own)), Some(partitioning)) = (
            self.orders.get(pass.order),
            self.cells.get(&pass.partition),
            cells.own().find(|(own, _)| *own == pass.partition),
            cells.partitioning(),
        ) else {
            self.step = None;
            return;
        };
        let mut later = pass.later;
        let mut ids = page.revisions;
        ids.retain(|id| {
            let stays = order.concerns(id.oid) && transactions.is_repeated(id.oid);
            if stays {
                later = Some(later.map_or(id.oid, |oid| oid.min(id.oid)));
            }
            order.concerns(id.oid) && !stays
        });
        let mut next = page.next;
        if let Some(oid) = next.filter(|oid| transactions.is_repeated(*oid)) {
            // The page ended with a part of it, all of which stays.
            later = Some(later.map_or(oid, |before| before.min(oid)));
            next = oid.checked_next();
        }
        let greatest = ids.iter().map(|id| id.tid).max();
        let mut packed = cell.packed.clone();
        let place = (partitioning, pass.partition);
        packed.begin((pass.order, order), place, ids.iter().map(|id| id.oid));
        packed.state.removed = packed.state.removed.max(greatest.unwrap_or_default());
        if let Some(pass) = &mut self.pass {
            pass.later = later;
        }
        if ids.is_empty() {
            self.step_done(io, ids.len());
            return self.objects_from(io.now.mono, next);
        }
        let partition = pass.partition;
        let delete = |id: &RevisionId| WriteOp::DeleteObject { partition, id: *id };
        let mut batch = WriteBatch::from(ids.iter().map(delete).collect::<Vec<_>>());
        packed.write(&mut batch, (partition, own.assigned), &cell.packed);
        transactions.pack_begins(ids.iter().map(|id| id.oid).collect());
        if let Some(step) = &mut self.step {
            let next = next.map_or(Place::End, Place::Object);
            (step.next, step.packed, step.ids) = (next, packed, ids);
        }
        let then = AfterPersist::Packed(number);
        io.persist(batch, Durability::Buffered, then);
    }

    /// It is removed, or the end of a pass is durable; or not.
    pub(crate) fn persisted(
        &mut self,
        cells: &Cells,
        transactions: &mut Transactions,
        io: &mut Io<'_>,
        number: u64,
        result: BackendResult<()>,
    ) {
        if number != self.number {
            return;
        }
        let Some(Step {
            next, packed, ids, ..
        }) = &mut self.step
        else {
            return;
        };
        let next = *next;
        let (packed, ids) = (std::mem::take(packed), std::mem::take(ids));
        transactions.packed(cells, io, &ids);
        if let Err(error) = result {
            tracing::warn!(error = %words(&error), "cannot remove what a pack removes");
            return self.give_up_step(io);
        }
        self.step_done(io, ids.len());
        let Some(pass) = &mut self.pass else {
            return;
        };
        pass.removed += ids.len() as u64;
        let pass = *pass;
        let cell = self.cells.get_mut(&pass.partition);
        if let Some(cell) = cell.filter(|cell| cell.period == pass.period) {
            let told = |packed: &Packed| {
                let state = packed.state;
                (state.done, state.at, state.whole_at)
            };
            // The primary knows what was begun, too.
            cell.is_untold |= told(&cell.packed) != told(&packed);
            cell.packed = packed;
            if cell.packed.state.done >= pass.order {
                let (partition, order) = (pass.partition, pass.order);
                let removed = pass.removed;
                tracing::info!(%partition, %order, removed, "packed");
                self.pass = None;
                return;
            }
        }
        match (pass.place, next) {
            (Place::Object(_), Place::Object(next)) => self.objects_from(io.now.mono, Some(next)),
            (Place::Object(_), _) => self.objects_from(io.now.mono, None),
            (_, next) => self.go_on(next),
        }
    }

    /// The next page begins there.
    const fn go_on(&mut self, place: Place) {
        if let Some(pass) = &mut self.pass {
            pass.place = place;
        }
    }

    /// Goes on with the next page of objects, if there is one.
    fn objects_from(&mut self, now: Instant, next: Option<Oid>) {
        match next {
            Some(next) => self.go_on(Place::Object(next)),
            None => self.objects_done(now),
        }
    }

    /// All objects were looked at: what was left for later is looked at again, and then the
    /// transactions are.
    fn objects_done(&mut self, now: Instant) {
        let later = self.pass.as_mut().and_then(|pass| pass.later.take());
        if later.is_some() {
            self.not_before = Some(now + LATER);
        }
        self.go_on(later.map_or(Place::Transaction(Tid::ZERO), Place::Object));
    }

    /// Everything was looked at: the end is made durable.
    fn end_pass(&mut self, cells: &Cells, io: &mut Io<'_>) {
        self.pass = self.valid_pass(cells);
        let Some(pass) = &self.pass else {
            return;
        };
        let (Some(order), Some(cell), Some((_, own))) = (
            self.orders.get(pass.order),
            self.cells.get(&pass.partition),
            cells.own().find(|(own, _)| *own == pass.partition),
        ) else {
            self.pass = None;
            return;
        };
        let mut packed = cell.packed.clone();
        packed.end(pass.order, order);
        let mut batch = WriteBatch::new();
        packed.write(&mut batch, (pass.partition, own.assigned), &cell.packed);
        self.number += 1;
        self.step = Some(Step {
            packed,
            ..Step::new(io.now.mono)
        });
        let then = AfterPersist::Packed(self.number);
        io.persist(batch, Durability::Synced, then);
    }

    /// A step is over: the next one may be larger, or must be smaller.
    fn step_done(&mut self, io: &Io<'_>, removed: usize) {
        let Some(step) = self.step.take() else {
            return;
        };
        let now = io.now.mono;
        let took = now.since(step.since);
        let rows = if took < self.step_time {
            self.rows * 2
        } else {
            self.rows / 2
        };
        self.rows = rows.clamp(ROWS.0, ROWS.1);
        self.pace.spent(now, (removed + 1) * ROW_BYTES);
        self.pace.rest(now, took);
    }

    /// A step failed: it is tried again later.
    fn give_up_step(&mut self, io: &Io<'_>) {
        self.step = None;
        self.not_before = Some(io.now.mono + PAUSE);
    }
}
