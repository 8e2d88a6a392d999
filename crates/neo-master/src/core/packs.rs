//! Packs: which orders are not done everywhere, who is told of them, and who waits.
//!
//! An order is a part of a committed transaction, and kept with it; this master holds nothing that it
//! could not ask for. Each storage node tells how far its readable cells are packed. From the one
//! that is the furthest behind on, the orders are gathered from a readable cell of every partition,
//! a few at a time, in the order of their ids, which are the tids of their transactions; and told to
//! all storage nodes. An order is done when every readable cell has applied it.
//!
//! What a storage node tells of orders is complete up to some tid: what is locked below may order
//! something that has no place yet. So a later order is never known before an earlier one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use neo_api::{CellChange, NodeId, PackOrder, Partition, Tid};
use neo_proto::{ConnId, ErrorCode, MsgId, PackProgress, PackedCell, Packet};

use super::effect::Out;
use super::partition_table::Table;
use super::requests::Ask;
use super::transaction_manager::Asker;
use super::{MasterCore, Phase};

/// Most orders that are known at once; the next ones are gathered when these are done.
const ORDERS_MAX: usize = 16;
/// Most clients' requests that wait for packs.
const WAITING_MAX: usize = 1_000;

/// The packs of a period of service.
#[derive(Debug)]
pub(crate) struct Packs {
    /// How far cells are packed, as their nodes told.
    cells: BTreeMap<(NodeId, Partition), PackedCell>,
    /// All orders with `after < id <= up_to` are known; those that are done are forgotten.
    after: Tid,
    up_to: Tid,
    orders: BTreeMap<Tid, PackOrder>,
    /// Orders up to here are wanted.
    target: Tid,
    gathering: Option<Gathering>,
    last_gathering: u64,
    /// The last gathering found nothing new: the next one waits a little.
    rests: bool,
    /// Counts what becomes known, and what of it nodes were told.
    version: u64,
    told: BTreeMap<NodeId, u64>,
    waiting: Vec<(Asker, Tid)>,
}

/// Storage nodes are asked for orders.
#[derive(Debug)]
struct Gathering {
    number: u64,
    owed: BTreeSet<NodeId>,
    found: BTreeMap<Tid, PackOrder>,
    /// What was found is all up to here.
    complete: Tid,
}

impl Packs {
    /// What was ordered up to the last tid is not known yet.
    pub(crate) const fn new(last_tid: Tid) -> Self {
        Self {
            cells: BTreeMap::new(),
            after: Tid::ZERO,
            up_to: Tid::ZERO,
            orders: BTreeMap::new(),
            target: last_tid,
            gathering: None,
            last_gathering: 0,
            rests: false,
            version: 0,
            told: BTreeMap::new(),
            waiting: Vec::new(),
        }
    }

    /// A storage node is lost: its cells are not readable any more.
    pub(crate) fn node_lost(&mut self, nid: NodeId) {
        self.cells.retain(|(of, _), _| *of != nid);
        self.told.remove(&nid);
        if self
            .gathering
            .as_ref()
            .is_some_and(|g| g.owed.contains(&nid))
        {
            self.gathering = None;
        }
    }

    pub(crate) fn client_gone(&mut self, nid: NodeId) {
        self.waiting.retain(|(asker, _)| asker.nid != nid);
    }

    /// Cells changed: what was told of those that are not readable does not count.
    pub(crate) fn changed(&mut self, changes: &[CellChange]) {
        for CellChange { partition, cell } in changes {
            if !cell.state.is_readable() {
                self.cells.remove(&(cell.nid, *partition));
            }
        }
    }

    /// A change was void: the same of every cell that may have told too early.
    pub(crate) fn forget_unreadable(&mut self, table: &Table) {
        self.cells.retain(|(nid, partition), _| {
            let cell = table.get().cell(*partition, *nid);
            cell.is_some_and(|cell| cell.state.is_readable())
        });
    }

    /// The last order that every readable cell has done; `None` while one has not told.
    fn least(&self, table: &Table) -> Option<Tid> {
        let mut least = None;
        for done in self.told_of(table) {
            let done = done?;
            least = Some(least.map_or(done, |least: Tid| least.min(done)));
        }
        least
    }

    /// What each readable cell has done.
    fn told_of(&self, table: &Table) -> impl Iterator<Item = Option<Tid>> {
        let rows = table.get().iter();
        let cells = rows.flat_map(|(partition, row)| row.iter().map(move |cell| (partition, cell)));
        let readable = cells.filter(|(_, cell)| cell.state.is_readable());
        readable.map(|(partition, cell)| {
            let told = self.cells.get(&(cell.nid, partition));
            told.map(|told| told.done)
        })
    }

    /// Takes what all have done into account.
    fn settle(&mut self, least: Tid) {
        if least < self.after {
            // A cell that came later is behind all that is known: it is all asked for again.
            self.target = self.target.max(self.up_to);
            self.orders.clear();
            self.gathering = None;
            self.up_to = least;
            self.version += 1;
        }
        self.after = least;
        self.up_to = self.up_to.max(least);
        self.orders = self.orders.split_off(&Tid(least.0.saturating_add(1)));
    }

    /// Whether an order, and all before it, is done by all.
    fn is_done(&self, id: Tid) -> bool {
        let left = self.orders.range((Bound::Unbounded, Bound::Included(id)));
        id <= self.up_to && left.count() == 0
    }

    /// Who waited for what is done.
    fn take_done(&mut self) -> Vec<(Asker, Tid)> {
        let waiting = std::mem::take(&mut self.waiting);
        let (done, waiting) = waiting.into_iter().partition(|(_, id)| self.is_done(*id));
        self.waiting = waiting;
        done
    }

    /// The greatest `at` of the packs that were begun: what was before it may be incomplete.
    fn packed_at(&self) -> Tid {
        let begun = self.cells.values().map(|cell| cell.at);
        // What is known is about to be begun.
        let known = self.orders.values().map(|order| order.at);
        begun.chain(known).max().unwrap_or_default()
    }

    /// The greatest `at` of those that concern every object.
    fn whole_packed_at(&self) -> Tid {
        let begun = self.cells.values().map(|cell| cell.whole_at);
        let known = self.orders.values().filter(|order| order.oids.is_none());
        begun
            .chain(known.map(|order| order.at))
            .max()
            .unwrap_or_default()
    }

    fn wants_more(&self) -> bool {
        self.gathering.is_none()
            && !self.rests
            && self.up_to < self.target
            && self.orders.len() < ORDERS_MAX
    }
}

impl MasterCore {
    /// A storage node tells how far cells are packed.
    pub(super) fn packed(&mut self, nid: NodeId, cells: Vec<PackedCell>, out: &mut Out) {
        let Some(running) = self.running() else {
            return;
        };
        for cell in cells {
            running.packs.cells.insert((nid, cell.partition), cell);
        }
        self.packs_step(out);
    }

    /// A transaction that orders a pack is at its place in a storage node.
    pub(super) fn pack_ordered(&mut self, out: &mut Out) {
        let last = self.tids.last();
        if let Some(running) = self.running() {
            running.packs.target = running.packs.target.max(last);
            running.packs.rests = false;
            self.packs_step(out);
        }
    }

    /// A client waits for a pack.
    pub(super) fn wait_pack(&mut self, asker: Asker, id: Tid, out: &mut Out) {
        let last = self.tids.last();
        let refusal = match self.running() {
            None => Some((ErrorCode::NotReady, "the cluster does not run".to_owned())),
            Some(_) if id > last => {
                let words = format!("{id} is no transaction's: the last one is {last}");
                Some((ErrorCode::Denied, words))
            }
            Some(running) if running.packs.waiting.len() >= WAITING_MAX => {
                let words = format!("{WAITING_MAX} requests wait for packs already");
                Some((ErrorCode::NotReady, words))
            }
            Some(running) => {
                running.packs.waiting.push((asker, id));
                running.packs.target = running.packs.target.max(id);
                running.packs.rests = false;
                None
            }
        };
        match refusal {
            Some((code, words)) => self.refuse(asker, code, words, out),
            None => self.packs_step(out),
        }
    }

    /// Somebody asks how far the packs are.
    pub(super) fn pack_progress(&self, conn: ConnId, id: MsgId, out: &mut Out) {
        let (Phase::Running(running), Some(table)) = (&self.phase, &self.table) else {
            let message = self.not_ready();
            let code = ErrorCode::NotReady;
            out.send(conn, id, Packet::Error { code, message });
            return;
        };
        let packs = &running.packs;
        let order = packs.orders.keys().next_back().copied();
        let (mut cells, mut cells_done) = (0, 0);
        for done in packs.told_of(table) {
            cells += 1;
            let is_done = order.is_none() || done >= order;
            cells_done += u32::from(is_done);
        }
        let progress = PackProgress {
            order,
            cells_done,
            cells,
            packed_at: packs.packed_at(),
            whole_packed_at: packs.whole_packed_at(),
        };
        out.send(conn, id, Packet::AnswerPackProgress { progress });
    }

    /// A little later: what was not complete is asked for again.
    pub(super) fn packs_timer(&mut self, out: &mut Out) {
        if let Some(running) = self.running() {
            running.packs.rests = false;
            self.packs_step(out);
        }
    }

    /// A storage node told orders.
    pub(super) fn pack_orders_told(
        &mut self,
        nid: NodeId,
        number: u64,
        (orders, complete): (Vec<(Tid, PackOrder)>, Tid),
        out: &mut Out,
    ) {
        let Some(running) = self.running() else {
            return;
        };
        let packs = &mut running.packs;
        let Some(gathering) = packs.gathering.as_mut().filter(|g| g.number == number) else {
            return;
        };
        gathering.found.extend(orders);
        gathering.complete = gathering.complete.min(complete);
        gathering.owed.remove(&nid);
        if !gathering.owed.is_empty() {
            return;
        }
        let Some(gathering) = packs.gathering.take() else {
            return;
        };
        packs.rests = gathering.complete <= packs.up_to;
        let (before, up_to) = (packs.up_to, gathering.complete.max(packs.up_to));
        packs.up_to = up_to;
        let mut found = gathering.found;
        found.retain(|id, _| *id > before && *id <= up_to);
        if !found.is_empty() {
            tracing::info!(orders = found.len(), "packs are to be applied");
            packs.orders.extend(found);
            packs.version += 1;
        }
        self.packs_step(out);
    }

    /// A storage node can't tell orders: its table may be another one, for a moment.
    pub(super) fn pack_orders_refused(&mut self, number: u64) {
        if let Some(running) = self.running()
            && let Some(gathering) = &running.packs.gathering
            && gathering.number == number
        {
            running.packs.gathering = None;
            running.packs.rests = true;
        }
    }

    /// Does what follows from any change: who waits is answered, orders are gathered and told.
    pub(super) fn packs_step(&mut self, out: &mut Out) {
        let (Phase::Running(running), Some(table)) = (&mut self.phase, &self.table) else {
            return;
        };
        let Some(least) = running.packs.least(table) else {
            return;
        };
        running.packs.settle(least);
        for (asker, id) in running.packs.take_done() {
            out.send(asker.conn, asker.id, Packet::AnswerWaitPack { id });
        }
        self.tell_orders(out);
        self.gather_orders(out);
    }

    /// Tells the orders to every storage node that does not know them.
    fn tell_orders(&mut self, out: &mut Out) {
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        let nodes: Vec<NodeId> = running.participants(running.readiness).collect();
        let packs = &mut running.packs;
        if packs.orders.is_empty() {
            return;
        }
        for nid in nodes {
            let (Some(conn), true) = (
                self.nodes.conn(nid),
                packs.told.get(&nid) != Some(&packs.version),
            ) else {
                continue;
            };
            packs.told.insert(nid, packs.version);
            let orders = packs.orders.iter();
            let orders = orders.map(|(id, order)| (*id, order.clone())).collect();
            let after = packs.after;
            out.notify(conn, Packet::NotifyPackOrders { after, orders });
        }
    }

    /// Asks for the orders that are not known, a readable cell of each partition.
    fn gather_orders(&mut self, out: &mut Out) {
        let max = self.tids.last();
        let (Phase::Running(running), Some(table)) = (&mut self.phase, &self.table) else {
            return;
        };
        if !running.packs.wants_more() {
            return;
        }
        let mut asked: BTreeMap<NodeId, Vec<Partition>> = BTreeMap::new();
        for (partition, row) in table.get().iter() {
            let ready = |nid| running.takes_part(nid, running.readiness);
            let mut readable = row.iter().filter(|cell| cell.state.is_readable());
            let Some(cell) = readable.find(|cell| ready(cell.nid)) else {
                // It is about to be.
                return;
            };
            asked.entry(cell.nid).or_default().push(partition);
        }
        let packs = &mut running.packs;
        packs.last_gathering += 1;
        let number = packs.last_gathering;
        packs.gathering = Some(Gathering {
            number,
            owed: asked.keys().copied().collect(),
            found: BTreeMap::new(),
            complete: max,
        });
        let after = packs.up_to;
        for (nid, partitions) in asked {
            if let Some(conn) = self.nodes.conn(nid) {
                let packet = Packet::AskPackOrders {
                    partitions,
                    after,
                    max,
                };
                self.requests
                    .send(conn, Ask::PackOrders(number), packet, out);
            }
        }
    }
}
