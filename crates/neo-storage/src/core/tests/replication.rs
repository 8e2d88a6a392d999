//! A node that catches up, and one that it copies from, each with its backend; the primary is
//! written down.

use neo_api::{PageLimit, WriteBatch};

use super::*;

/// The connection of the replica to the source, at either end.
pub(super) const LINK: ConnId = ConnId(500);

/// S1 catches up with partition 1 of S2; partition 0 it has.
pub(super) struct Pair {
    pub(super) replica: World,
    pub(super) source: World,
    /// Requests of the replica to its source.
    pub(super) asked: Vec<Packet>,
    /// Answers of the source wait.
    pub(super) hold: bool,
    pub(super) held: Vec<Message>,
    links: u64,
    link: Option<ConnId>,
}

/// S1 and S2; the state of partition 1 on S1, and the table that assigned it.
pub(super) fn table_of(ptid: u64, state: CellState, assigned: u64) -> PartitionTable {
    let mut cells = table(2, ptid, CellState::UpToDate);
    cells.rows[1][0].state = state;
    cells.rows[1][0].assigned = version(assigned);
    cells
}

pub(super) fn cell(assigned: u64) -> AssignedPartition {
    AssignedPartition {
        partition: Partition(1),
        assigned: version(assigned),
    }
}

/// What a backend has of partition 1.
pub(super) fn rows(world: &World) -> (Vec<neo_api::FetchedRevision>, Vec<Tid>) {
    let limit = PageLimit::entries(100_000);
    let min = (Tid::ZERO, Oid::ZERO).into();
    let fetched = world.backend.fetch(Partition(1), min, Tid::MAX, limit);
    let all = world.backend.transactions(
        Partition(1),
        Tid::ZERO,
        Tid::MAX,
        neo_api::Order::Ascending,
        limit,
    );
    let tids = now_or_never(all).unwrap().into_iter().map(|t| t.tid);
    (now_or_never(fetched).unwrap(), tids.collect())
}

impl Pair {
    /// The source has these commits: (ttid, oid, tid).
    pub(super) fn with(source: &[(u64, u64, u64)], replica: Backend) -> Self {
        Self::start(source, replica, |_| {})
    }

    pub(super) fn start(
        commits: &[(u64, u64, u64)],
        replica: Backend,
        tune: fn(&mut StorageSettings),
    ) -> Self {
        let mut settings = settings();
        tune(&mut settings);
        let mut source = World::of(2, settings.clone(), memory());
        source.join();
        let cells = table_of(2, CellState::OutOfDate, 1);
        source.tell_table(cells.clone());
        source.serve();
        let c = source.client(1);
        let mut serials = BTreeMap::new();
        for (ttid, oid, tid) in commits {
            let serial = serials.insert(*oid, *tid).unwrap_or(0);
            source.commit(c, *ttid, *oid, serial, *tid);
        }
        let mut replica = World::of(1, settings, replica);
        replica.join();
        replica.tell_table(cells);
        replica.serve();
        Self {
            replica,
            source,
            asked: Vec::new(),
            hold: false,
            held: Vec::new(),
            links: 0,
            link: None,
        }
    }

    /// The primary registers what it was asked to.
    pub(super) fn register(&mut self, last_tid: u64, pending: &[u64]) {
        assert_eq!(self.replica.registrations.len(), 1);
        let (id, _) = self.replica.registrations.remove(0);
        let answer = Packet::AnswerUnfinishedTransactions {
            last_tid: Tid(last_tid),
            pending: pending.iter().map(|ttid| txn(*ttid)).collect(),
            committed_in: Reign(3),
        };
        self.replica.answer(MASTER, id, answer);
    }

    /// Carries messages until there are none.
    pub(super) fn run(&mut self) {
        loop {
            if let Some((token, to)) = self.replica.connects.pop() {
                assert_eq!(to, World::address(2));
                self.links += 1;
                let conn = ConnId(LINK.0 + self.links);
                self.link = Some(conn);
                let from = Address::new("s1", 1);
                self.source.give(Input::Accepted { conn, from });
                self.replica.give(Input::Connected { token, conn });
            }
            let Some(conn) = self.link else {
                return;
            };
            let to_source = self.replica.take(conn);
            let mut quiet = to_source.is_empty();
            for message in to_source {
                self.asked.push(message.packet.clone());
                self.source.give(Input::Message { conn, message });
            }
            self.held.extend(self.source.take(conn));
            if !self.hold {
                for message in std::mem::take(&mut self.held) {
                    quiet = false;
                    self.replica.give(Input::Message { conn, message });
                }
            }
            if self.replica.closed.remove(&conn).is_some() {
                self.link = None;
                self.source.lose(conn);
            } else if self.source.closed.remove(&conn).is_some() {
                self.link = None;
                self.replica.lose(conn);
            }
            if quiet && self.replica.connects.is_empty() {
                return;
            }
        }
    }

    /// Hands over the answers that wait; the next ones wait.
    pub(super) fn step(&mut self) {
        let conn = self.link.expect("they are connected");
        for message in std::mem::take(&mut self.held) {
            self.replica.give(Input::Message { conn, message });
        }
        self.hold = true;
        self.run();
    }

    pub(super) fn break_link(&mut self) {
        let conn = self.link.take().expect("they are connected");
        self.source.lose(conn);
        self.replica.lose(conn);
        self.held.clear();
    }

    /// What the primary was told.
    pub(super) fn done(&mut self) -> Vec<Packet> {
        self.replica.packets(MASTER)
    }

    #[track_caller]
    pub(super) fn assert_equal(&self) {
        assert_eq!(rows(&self.replica), rows(&self.source));
    }
}

pub(super) fn caught_up(tid: u64) -> Packet {
    let tid = Tid(tid);
    Packet::NotifyReplicationDone { cell: cell(1), tid }
}

/// Transactions of one odd oid each.
pub(super) fn commits(n: u64) -> Vec<(u64, u64, u64)> {
    let all = (0..n).map(|n| (11 + 2 * n, 5 + 2 * (n % 7), 10_001 + 2 * n));
    all.collect()
}

#[test]
fn a_new_cell_fetches_all_that_there_is() {
    let mut pair = Pair::with(&commits(30), memory());
    assert_eq!(pair.replica.registrations[0].1, [cell(1)]);
    pair.register(10_059, &[]);
    pair.run();
    pair.assert_equal();
    assert_eq!(rows(&pair.replica).0.len(), 30);
    assert_eq!(pair.done(), [caught_up(10_059)]);
    // Where nothing is here, nothing is compared.
    let is_ids = |packet: &Packet| matches!(packet, Packet::AskRevisionIds { .. });
    assert!(!pair.asked.iter().any(is_ids));
    // All of it is durable, and what is remembered says so.
    assert_eq!(pair.replica.synced(), pair.replica.applied.len());
    let remembered = pair.replica.config("replicated/1").unwrap();
    assert_eq!(remembered, format!("3 1 {}", Tid(10_059)));
    // The connection is not kept without need.
    assert_eq!(pair.link, None);
    // It is promoted, and read.
    let promoted = table_of(3, CellState::UpToDate, 1);
    pair.replica.tell_table(promoted);
    assert_eq!(pair.replica.config("replicated/1"), None);
    let c = pair.replica.client(1);
    assert!(pair.replica.loaded(c, 5, At::Latest).is_some());
}

#[test]
fn a_short_absence_costs_what_was_missed() {
    // The node had all up to the 20th transaction when it was lost.
    let all = commits(30);
    let mut before = Pair::with(&all[..20], memory());
    before.register(10_039, &[]);
    before.run();
    assert_eq!(before.done(), [caught_up(10_039)]);
    before
        .replica
        .tell_table(table_of(3, CellState::UpToDate, 1));
    let backend = before.replica.after_crash(before.replica.applied.len());

    let mut pair = Pair::with(&all, memory());
    let mut replica = World::of(1, settings(), backend);
    replica.join();
    replica.tell_table(table_of(4, CellState::OutOfDate, 1));
    let remembered = replica.config("replicated/1").unwrap();
    assert_eq!(
        remembered,
        format!("3 1 {}", Tid(10_038)),
        "the last one is compared again"
    );
    replica.serve();
    pair.replica = replica;
    pair.register(10_059, &[]);
    pair.run();
    pair.assert_equal();
    assert_eq!(pair.done(), [caught_up(10_059)]);
    for packet in &pair.asked {
        match packet {
            Packet::AskTransactions { min, .. } => assert_eq!(*min, Tid(10_039)),
            Packet::AskRevisionIds { min, .. } | Packet::AskRevisions { min, .. } => {
                assert!(min.tid >= Tid(10_039), "{min:?}");
            }
            _ => {}
        }
    }
}

/// Writes and deletes rows of partition 1 behind a node's back.
fn disturb(world: &World, delete: &[u64], put: &[u64]) {
    let partition = Partition(1);
    let mut batch = WriteBatch::new();
    let (revisions, _) = rows(world);
    for tid in delete {
        let tid = Tid(*tid);
        for revision in revisions.iter().filter(|revision| revision.id.tid == tid) {
            let id = revision.id;
            batch.push(WriteOp::DeleteObject { partition, id });
        }
        batch.push(WriteOp::DeleteTransaction { partition, tid });
    }
    for tid in put {
        batch.push(WriteOp::PutObject {
            partition,
            id: (Tid(*tid), Oid(5)).into(),
            data: neo_api::ObjectData::Deleted,
        });
        let record = neo_api::TransactionRecord {
            tid: Tid(*tid),
            txn: None,
            meta: TransactionMeta::default(),
            oids: vec![Oid(5)],
            packed: false,
            pack: None,
        };
        batch.push(WriteOp::PutTransaction { partition, record });
    }
    now_or_never(world.backend.apply(batch, Durability::Synced)).unwrap();
}

#[test]
fn holes_are_filled_and_what_should_not_be_there_is_deleted() {
    let all = commits(40);
    let mut first = Pair::with(&all[..30], memory());
    first.register(10_059, &[]);
    first.run();
    // Holes at both ends and in the middle; leftovers before, between, and after all that there is.
    disturb(
        &first.replica,
        &[10_001, 10_021, 10_023, 10_059],
        &[7, 10_022, 10_061, 90_001],
    );
    let backend = std::mem::replace(&mut first.replica.backend, memory());
    // Another assignment: nothing is known of it.
    let mut pair = Pair::with(&all, memory());
    let mut replica = World::of(1, settings(), backend);
    replica.join();
    replica.tell_table(table_of(5, CellState::OutOfDate, 5));
    replica.serve();
    pair.source.tell_table(table_of(5, CellState::OutOfDate, 5));
    pair.replica = replica;
    pair.register(10_079, &[]);
    pair.run();
    pair.assert_equal();
    assert_eq!(rows(&pair.replica).0.len(), 40);
    // What was there was not fetched again.
    let fetched: Vec<_> = pair
        .asked
        .iter()
        .filter_map(|packet| match packet {
            Packet::AskRevisions { min, .. } => Some(min.tid.0),
            _ => None,
        })
        .collect();
    assert_eq!(fetched, [10_001, 10_021, 10_059]);
    let tid = Tid(10_079);
    let cell = cell(5);
    assert_eq!(pair.done(), [Packet::NotifyReplicationDone { cell, tid }]);
}

#[test]
fn what_repeats_a_value_is_fetched_as_such() {
    let mut pair = Pair::with(&commits(1), memory());
    let c = pair.source.client(2);
    let (oid, serial) = (Oid(5), Tid(10_001));
    for (ttid, tid, kind) in [
        (101, 10_101, StoreKind::Deletion),
        (103, 10_103, StoreKind::SameAs(Tid(10_001))),
    ] {
        let serial = if ttid == 101 { serial } else { Tid(10_101) };
        let packet = Packet::AskStoreObject {
            txn: txn(ttid),
            oid,
            serial,
            kind,
        };
        pair.source.ask(c, packet);
        assert_eq!(pair.source.one(c), LOCKED);
        pair.source.voted(c, ttid, &[5]);
        pair.source.locked(ttid, tid);
        pair.source.unlock(ttid);
    }
    pair.register(10_103, &[]);
    pair.run();
    pair.assert_equal();
    let (revisions, _) = rows(&pair.replica);
    assert_eq!(revisions[2].data_serial, Some(serial));
    assert_eq!(pair.done().len(), 1);
}

#[test]
fn transactions_that_were_pending_are_waited_for_and_fetched() {
    // Each of the two is aborted or finished, in each order.
    for (first, second) in [(31, 33), (33, 31)] {
        for outcome in 0..4u64 {
            let mut pair = Pair::with(&commits(3), memory());
            let c = pair.source.client(2);
            for ttid in [31, 33] {
                pair.source.stored(c, ttid, ttid, 0, "pending");
            }
            pair.register(10_005, &[31, 33]);
            pair.run();
            assert_eq!(pair.done(), []);
            let mut last = 10_005;
            for (n, ttid) in [first, second].into_iter().enumerate() {
                let tid = if outcome & (1 << n) == 0 {
                    pair.source.abort(c, ttid);
                    None
                } else {
                    last += 2;
                    pair.source.voted(c, ttid, &[ttid]);
                    pair.source.locked(ttid, last);
                    pair.source.unlock(ttid);
                    Some(Tid(last))
                };
                assert_eq!(pair.done(), []);
                let txn = txn(ttid);
                let ended = Packet::NotifyTransactionFinished { txn, tid };
                pair.replica.notify(MASTER, ended);
                pair.run();
            }
            assert_eq!(pair.done(), [caught_up(last)]);
            pair.assert_equal();
        }
    }
}

#[test]
fn new_transactions_are_taken_while_the_cell_catches_up() {
    let mut pair = Pair::with(&commits(5), memory());
    pair.register(10_009, &[]);
    // Before the fetch: the node takes part.
    for world in [&mut pair.replica, &mut pair.source] {
        let c = world.client(2);
        world.store(c, 51, 51, 0, "both");
        world.take(c);
        world.voted(c, 51, &[51]);
        world.locked(51, 10_011);
    }
    pair.run();
    assert_eq!(pair.done(), [caught_up(10_009)]);
    for world in [&mut pair.replica, &mut pair.source] {
        world.unlock(51);
    }
    pair.assert_equal();
    assert_eq!(rows(&pair.replica).0.len(), 6);
}

#[test]
fn what_is_locked_at_the_end_is_compared() {
    let mut pair = Pair::with(&commits(7), memory());
    let (c, d, e) = (
        pair.replica.client(2),
        pair.replica.client(3),
        pair.replica.client(4),
    );
    let newest = |oid: u64| 10_001 + oid - 5;
    let world = &mut pair.replica;
    // One that is current, one that is not, and one that is not and has voted.
    world.store(c, 51, 5, newest(5), "current");
    world.store(d, 53, 7, 9_000, "late");
    world.store(e, 55, 9, 9_000, "late and voted");
    for conn in [c, d, e] {
        world.take(conn);
    }
    world.voted(e, 55, &[9]);
    pair.register(10_013, &[]);
    pair.run();
    // The one that has voted has to end.
    assert_eq!(pair.done(), []);
    let world = &mut pair.replica;
    // The one that was not current is dropped: others may have the lock, and its vote is refused.
    world.store(c, 51, 7, newest(7), "it has the lock");
    assert_eq!(world.one(c), LOCKED);
    world.vote(d, 53, &[7], 1);
    assert_error(&world.one(d), ErrorCode::UnknownTransaction);
    // From now on the cell compares.
    world.store(c, 51, 11, 9_000, "late");
    assert_eq!(world.one(c), conflict(newest(11)));
    // And it knows what was locked before.
    world.store(c, 51, 5, 9_000, "again");
    assert_eq!(world.one(c), conflict(newest(5)));
    world.store(c, 51, 5, newest(5), "again");
    assert_eq!(world.one(c), LOCKED);
    world.abort(MASTER, 55);
    pair.run();
    assert_eq!(pair.done(), [caught_up(10_013)]);
}

#[test]
fn a_lock_that_was_given_away_is_compared_when_it_is_back() {
    let mut pair = Pair::with(&commits(1), memory());
    let (c, d) = (pair.replica.client(2), pair.replica.client(3));
    let world = &mut pair.replica;
    world.store(c, 53, 5, 10_001, "younger");
    world.store(d, 51, 5, 10_001, "older");
    world.take(c);
    world.take(d);
    world.relock(c, 53, 5);
    world.take(c);
    assert_eq!(
        world.one(d),
        Packet::AnswerStoreObject {
            outcome: StoreOutcome::Unchecked
        }
    );
    pair.register(10_001, &[]);
    pair.run();
    assert_eq!(pair.done(), [caught_up(10_001)]);
    // The older one commits.
    let world = &mut pair.replica;
    world.voted(d, 51, &[5]);
    world.locked(51, 10_003);
    world.unlock(51);
    assert_eq!(world.one(c), relock_conflict(10_003));
}

#[test]
fn a_registration_that_is_refused_is_tried_again_with_another_table() {
    let mut world = World::with(settings(), memory());
    world.join();
    world.tell_table(table_of(2, CellState::OutOfDate, 1));
    world.serve();
    let (id, cells) = world.registrations.pop().unwrap();
    assert_eq!(cells, [cell(1)]);
    let (code, message) = (ErrorCode::Replication, "another table".to_owned());
    world.answer(MASTER, id, Packet::Error { code, message });
    world.sleep(Duration::from_secs(20));
    assert_eq!(world.registrations, []);
    world.tell_table(table_of(3, CellState::OutOfDate, 3));
    let (id, cells) = world.registrations.pop().unwrap();
    assert_eq!(cells, [cell(3)]);
    // Anything else may be better a little later.
    let (code, message) = (ErrorCode::NotReady, "an import".to_owned());
    world.answer(MASTER, id, Packet::Error { code, message });
    assert_eq!(world.registrations, []);
    world.sleep(Duration::from_secs(1));
    assert_eq!(world.registrations.pop().unwrap().1, [cell(3)]);
    assert_eq!((world.stopped, world.closed.len()), (None, 0));
}

#[test]
fn the_end_of_an_earlier_assignment_is_not_told_of_a_later_one() {
    let mut pair = Pair::with(&commits(9), memory());
    pair.register(10_017, &[]);
    pair.hold = true;
    pair.run();
    // Discarded and assigned again, while answers are under way.
    pair.replica
        .tell_table(table_of(3, CellState::OutOfDate, 3));
    pair.source.tell_table(table_of(3, CellState::OutOfDate, 3));
    pair.hold = false;
    pair.run();
    assert_eq!(pair.done(), []);
    assert_eq!(pair.replica.registrations[0].1, [cell(3)]);
    pair.register(10_017, &[]);
    pair.run();
    let (cell, tid) = (cell(3), Tid(10_017));
    assert_eq!(pair.done(), [Packet::NotifyReplicationDone { cell, tid }]);
    pair.assert_equal();
}

#[test]
fn a_promotion_that_is_void_begins_again_near_its_end() {
    let mut pair = Pair::with(&commits(2), memory());
    pair.register(10_003, &[]);
    pair.run();
    assert_eq!(pair.done(), [caught_up(10_003)]);
    // The node has stored the promotion; it does not count.
    pair.replica.tell_table(table_of(3, CellState::UpToDate, 1));
    pair.replica
        .tell_table(table_of(4, CellState::OutOfDate, 1));
    let remembered = pair.replica.config("replicated/1").unwrap();
    assert_eq!(remembered, format!("3 1 {}", Tid(10_002)));
    pair.register(10_003, &[]);
    pair.run();
    assert_eq!(pair.done(), [caught_up(10_003)]);
}

#[test]
fn a_copied_database_gets_an_id_of_its_own_and_goes_on_from_what_it_has() {
    // A copy of S2, taken after 20 transactions.
    let all = commits(30);
    let original = Pair::with(&all[..20], memory());
    let backend = original.source.after_crash(original.source.applied.len());
    let mut settings = settings();
    settings.new_nid = true;
    let mut copy = World::with(settings, backend);
    let (token, _) = copy.connects.remove(0);
    copy.give(Input::Connected {
        token,
        conn: MASTER,
    });
    let asked = copy.take(MASTER).remove(0);
    let Packet::RequestIdentification { identification } = asked.packet else {
        panic!("{asked:?}");
    };
    assert_eq!(identification.nid, Some(storage(2)));
    assert!(identification.new_nid);
    let accept = Packet::AcceptIdentification {
        node_type: NodeType::Master,
        nid: None,
        your_nid: storage(1),
        reign: REIGN,
        session: SessionId(9),
        identity: None,
    };
    copy.answer(MASTER, asked.id, accept);
    copy.tell_table(table_of(3, CellState::OutOfDate, 3));
    // It ends by itself, and remembers who it is.
    assert_eq!(copy.stopped, Some(None));
    let backend = std::mem::replace(&mut copy.backend, memory());
    let mut pair = Pair::with(&all, memory());
    let mut replica = World::of(1, super::settings(), backend);
    assert_eq!(replica.config("nid").unwrap(), "S1");
    let remembered = replica.config("replicated/1").unwrap();
    assert_eq!(remembered, format!("3 3 {}", Tid(10_038)));
    replica.join();
    let cells = table_of(4, CellState::OutOfDate, 3);
    replica.tell_table(cells.clone());
    replica.serve();
    pair.source.tell_table(cells);
    pair.replica = replica;
    pair.register(10_059, &[]);
    pair.run();
    pair.assert_equal();
    let (cell, tid) = (cell(3), Tid(10_059));
    assert_eq!(pair.done(), [Packet::NotifyReplicationDone { cell, tid }]);
    assert!(!pair.asked.iter().any(|packet| {
        matches!(packet, Packet::AskTransactions { min, .. } if *min < Tid(10_039))
    }));
}

#[test]
fn an_empty_database_is_no_copy() {
    let mut settings = settings();
    settings.new_nid = true;
    let world = World::with(settings, memory());
    let why = world.stopped.unwrap().unwrap();
    assert!(why.contains("this one is empty"), "{why}");
}
