//! Whatever happens, in whatever order: nothing panics, and the promises hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use neo_api::{ClusterState, NodeId, Oid, Reign, Tid, TxnId};
use neo_proto::{ConnId, ErrorCode, FinalTid, MsgId, Packet};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};

use super::harness::*;
use crate::core::Phase;
use crate::{MasterSettings, Mutations};

const STORAGES: u32 = 3;

/// Messages that a storage node may be slow to deal with.
const SLOW: [&str; 15] = [
    "SendPartitionTable",
    "NotifyPartitionChanges",
    "AskRecovery",
    "AskPartitionTable",
    "AskStartReign",
    "AskLockedTransactions",
    "AskFinalTid",
    "AskValidateTransaction",
    "AskTruncate",
    "AskImportMark",
    "AskLastIds",
    "AskStoreOidMark",
    "AskLockInformation",
    "AskSyncImport",
    "StartOperation",
];

/// What clients know.
#[derive(Debug, Default)]
struct Known {
    clients: Vec<ConnId>,
    /// Pending, as far as the client knows: with the nodes that failed.
    begun: Vec<(ConnId, TxnId, BTreeSet<u32>)>,
    finishing: BTreeMap<(ConnId, MsgId), TxnId>,
    asked: BTreeMap<(ConnId, MsgId), TxnId>,
    oids: BTreeMap<(ConnId, MsgId), ()>,
    import: Option<(ConnId, u64)>,
    committed: BTreeMap<TxnId, Tid>,
    not_committed: BTreeSet<TxnId>,
    handed_out: BTreeSet<Oid>,
}

#[derive(Debug)]
struct Play {
    world: World,
    known: Known,
}

impl Play {
    fn new(mutations: Mutations) -> Self {
        let mut world = World::new(MasterSettings {
            autostart: Some(STORAGES),
            replicas: 1,
            partitions: 4,
            oid_block: 20,
            mutations,
            ..MasterSettings::new("c")
        });
        for n in 1..=STORAGES {
            world.storages.insert(n, Storage::new(n));
            world.join(n);
        }
        let known = Known::default();
        Self { world, known }
    }

    fn client(&mut self, pick: u8) -> Option<ConnId> {
        let closed = &self.world.closed;
        self.known.clients.retain(|conn| !closed.contains_key(conn));
        let n = self.known.clients.len();
        (n > 0).then(|| self.known.clients[usize::from(pick) % n])
    }

    fn operating(&self) -> BTreeSet<NodeId> {
        match &self.world.core.phase {
            Phase::Running(running) => running.operating.keys().copied().collect(),
            _ => BTreeSet::new(),
        }
    }

    fn step(&mut self, (action, a, b): (u8, u8, u8)) {
        let n = u32::from(a) % STORAGES + 1;
        let connected = self.world.storages[&n].conn.is_some();
        match action % 24 {
            0 | 1 if !connected => {
                self.world.join(n);
            }
            2 if connected => self.world.lose(n),
            3 => {
                let name = SLOW[usize::from(b) % SLOW.len()];
                self.world.storages.get_mut(&n).unwrap().holds.insert(name);
            }
            4 | 5 => {
                self.world.storages.get_mut(&n).unwrap().holds.clear();
                self.world.settle();
            }
            6 | 7 => {
                let answer = self
                    .world
                    .identify(World::identification(neo_api::NodeType::Client));
                if let (conn, Packet::AcceptIdentification { .. }) = answer {
                    self.known.clients.push(conn);
                    self.world.settle();
                }
            }
            8..=10 => self.begin(a),
            11 | 12 => self.finish(a),
            13 => self.failed_vote(a, b),
            14 => self.abort(a),
            15 => {
                if let Some(conn) = self.client(a).filter(|_| b.is_multiple_of(3)) {
                    self.world.hang_up(conn);
                }
            }
            16 => self.final_tid(a, b),
            17 => {
                if let Some(conn) = self.client(a) {
                    let count = u32::from(b) % 30 + 1;
                    let id = self.world.request(conn, Packet::AskNewOids { count });
                    self.known.oids.insert((conn, id), ());
                }
            }
            18 => self.rare(a, b),
            19 => self.import(a, b),
            20 | 21 if connected => {
                self.world.register(n);
            }
            22 | 23 if connected => self.complete(n),
            _ => {}
        }
        self.look();
        self.check();
    }

    /// A storage node has fetched what its cells lack, if it can.
    fn complete(&mut self, n: u32) {
        let storages = &self.world.storages;
        let Some(catching_up) = &storages[&n].catching_up else {
            return;
        };
        if !catching_up.pending.is_empty() {
            return;
        }
        let table = storages[&n].table.as_ref().unwrap();
        let p = table.partitioning();
        let mut committed = storages[&n].committed.clone();
        for cell in &catching_up.cells {
            // A source answers when nothing is locked there that is not moved.
            let source = table.readable(cell.partition).find_map(|readable| {
                let source = &storages[&readable.nid.number()];
                let moved = source.unfinished.values().all(Option::is_none);
                (source.operating && moved).then_some(source)
            });
            let Some(source) = source else { return };
            let of_cell = |txn: &TxnId| p.of_tid(txn.ttid) == cell.partition;
            committed.retain(|txn, _| !of_cell(txn));
            let all = source.committed.iter().filter(|(txn, _)| of_cell(txn));
            committed.extend(all.map(|(txn, tid)| (*txn, *tid)));
        }
        self.world.storages.get_mut(&n).unwrap().committed = committed;
        self.world.complete(n);
    }

    fn begin(&mut self, a: u8) {
        if let Some(conn) = self.client(a)
            && let Some(Packet::AnswerBeginTransaction { txn }) = self
                .world
                .ask(conn, Packet::AskBeginTransaction { tid: None })
        {
            self.known.begun.push((conn, txn, BTreeSet::new()));
            let operating = self.operating();
            // Some clients are wrong, and finish what they have not voted everywhere.
            let unvoted = (a.is_multiple_of(5)).then(|| u32::from(a) % STORAGES + 1);
            let storages = self.world.storages.values();
            let voting = storages.filter(|storage| operating.contains(&storage.nid()));
            let voting: Vec<u32> = voting.map(|storage| storage.n).collect();
            let voting: Vec<u32> = voting.into_iter().filter(|n| Some(*n) != unvoted).collect();
            self.world.vote(txn, &voting);
        }
    }

    fn take_begun(&mut self, a: u8) -> Option<(ConnId, TxnId, BTreeSet<u32>)> {
        let closed = &self.world.closed;
        self.known
            .begun
            .retain(|(conn, _, _)| !closed.contains_key(conn));
        let n = self.known.begun.len();
        (n > 0).then(|| self.known.begun.swap_remove(usize::from(a) % n))
    }

    fn finish(&mut self, a: u8) {
        if let Some((conn, txn, _)) = self.take_begun(a) {
            let oids: &[u64] = if a.is_multiple_of(4) { &[1000] } else { &[] };
            let id = self.world.finish(conn, txn, oids);
            self.known.finishing.insert((conn, id), txn);
        }
    }

    fn failed_vote(&mut self, a: u8, b: u8) {
        let Some((conn, txn, mut failed)) = self.take_begun(a) else {
            return;
        };
        let n = u32::from(b) % STORAGES + 1;
        failed.insert(n);
        let nodes = vec![nid(&format!("S{n}"))];
        let answer = self.world.ask(conn, Packet::AskFailedVote { txn, nodes });
        if answer == Some(Packet::AnswerFailedVote {}) {
            let storage = self.world.storages.get_mut(&n).unwrap();
            if storage.unfinished.get(&txn) == Some(&None) {
                storage.unfinished.remove(&txn);
            }
            self.known.begun.push((conn, txn, failed));
        } else if !self.world.closed.contains_key(&conn) {
            self.world.notify(
                conn,
                Packet::AbortTransaction {
                    txn,
                    nodes: Vec::new(),
                },
            );
        }
    }

    fn abort(&mut self, a: u8) {
        if let Some((conn, txn, _)) = self.take_begun(a) {
            let nodes = (1..=STORAGES).map(|n| nid(&format!("S{n}"))).collect();
            self.world
                .notify(conn, Packet::AbortTransaction { txn, nodes });
            self.known.not_committed.insert(txn);
        }
    }

    fn final_tid(&mut self, a: u8, b: u8) {
        let mut txns: Vec<TxnId> = self.known.finishing.values().copied().collect();
        txns.extend(self.known.begun.iter().map(|(_, txn, _)| *txn));
        txns.extend(self.known.committed.keys());
        if let Some(conn) = self.client(a)
            && !txns.is_empty()
        {
            let txn = txns[usize::from(b) % txns.len()];
            let id = self.world.request(conn, Packet::AskFinalTid { txn });
            self.known.asked.insert((conn, id), txn);
        }
    }

    fn import(&mut self, a: u8, b: u8) {
        let open = self
            .known
            .import
            .filter(|(conn, _)| !self.world.closed.contains_key(conn));
        match open {
            None => {
                if let Some(conn) = self.client(a)
                    && let Some(Packet::AnswerBeginImport { import, .. }) =
                        self.world.ask(conn, Packet::AskBeginImport {})
                {
                    self.known.import = Some((conn, import));
                }
            }
            Some((conn, import)) if b.is_multiple_of(2) => {
                self.world.ask(conn, Packet::AskEndImport { import });
                self.known.import = None;
            }
            Some((conn, import)) => {
                let tid = Tid(self.world.core.tids.last().0 + u64::from(b));
                let last_oid = Oid(u64::from(b) * 10);
                let packet = Packet::AskCheckpointImport {
                    import,
                    tid,
                    last_oid,
                };
                self.world.ask(conn, packet);
            }
        }
    }

    fn rare(&mut self, a: u8, b: u8) {
        match b % 8 {
            0 => self.world.sleep(Duration::from_secs(u64::from(a) / 4)),
            // The process is stopped for a while.
            1 => {
                self.world.now.mono = self.world.now.mono + Duration::from_secs(u64::from(a));
                self.world.input(neo_proto::Input::Timer);
            }
            2 => self.world.now.wall.0 += i64::from(a) * 3_000_000_000 - 300_000_000_000,
            3 => {
                self.world.restart_master();
                self.known.clients.clear();
                self.known.begun.clear();
                self.known.finishing.clear();
                self.known.asked.clear();
                self.known.oids.clear();
                self.known.import = None;
            }
            4 => {
                let admin = self.world.admin();
                let nid = nid(&format!("S{}", u32::from(a) % STORAGES + 1));
                let state = neo_api::NodeState::Down;
                self.world.ask(admin, Packet::SetNodeState { nid, state });
            }
            _ => self.nonsense(a, b),
        }
    }

    /// A peer says what it should not.
    fn nonsense(&mut self, a: u8, b: u8) {
        let storage = self.world.storages[&(u32::from(a) % STORAGES + 1)].conn;
        let Some(conn) = (if b.is_multiple_of(2) {
            self.client(a)
        } else {
            storage
        }) else {
            return;
        };
        let txn = TxnId {
            reign: Reign(u64::from(a) << 56),
            ttid: Tid(u64::MAX),
        };
        let packets = [
            Packet::AskFinalTid { txn },
            Packet::AnswerInformationLocked { txn },
            Packet::AskFinishTransaction {
                txn,
                oids: Vec::new().into(),
                partitions: vec![neo_api::Partition(u32::MAX)],
            },
            Packet::AskBeginTransaction {
                tid: Some(Tid(u64::MAX)),
            },
            Packet::AskNewOids { count: u32::MAX },
            Packet::NotifyReady {
                operation: u64::from(a),
            },
            Packet::AskEndImport { import: u64::MAX },
            Packet::Error {
                code: ErrorCode::Internal,
                message: String::new(),
            },
            Packet::AskUnfinishedTransactions { cells: Vec::new() },
            Packet::SetClusterState {
                state: ClusterState::Stopping,
            },
        ];
        let packet = packets[usize::from(b / 8) % packets.len()].clone();
        self.world.send(conn, MsgId(u64::from(a)), packet);
        self.world.settle();
    }

    /// Takes what clients were told.
    fn look(&mut self) {
        let Self { world, known } = self;
        let finishing = std::mem::take(&mut known.finishing);
        for ((conn, id), txn) in finishing {
            match world.answer(conn, id) {
                Some(Packet::AnswerTransactionFinished { txn: of, tid }) => {
                    assert_eq!(of, txn);
                    known.commit(txn, tid);
                }
                Some(Packet::Error { .. }) => {
                    known.not_committed.insert(txn);
                }
                None if world.closed.contains_key(&conn) => {}
                None => {
                    known.finishing.insert((conn, id), txn);
                }
                other => panic!("{other:?}"),
            }
        }
        for ((conn, id), txn) in std::mem::take(&mut known.asked) {
            match world.answer(conn, id) {
                Some(Packet::AnswerFinalTid {
                    tid: FinalTid::Committed(tid),
                }) => {
                    known.commit(txn, tid);
                }
                Some(Packet::AnswerFinalTid {
                    tid: FinalTid::NotCommitted,
                }) => {
                    known.not_committed.insert(txn);
                }
                Some(_) => {}
                None if world.closed.contains_key(&conn) => {}
                None => {
                    known.asked.insert((conn, id), txn);
                }
            }
        }
        for ((conn, id), ()) in std::mem::take(&mut known.oids) {
            match world.answer(conn, id) {
                Some(Packet::AnswerNewOids { first, count }) => {
                    for oid in first.0..first.0 + u64::from(count) {
                        assert!(
                            known.handed_out.insert(Oid(oid)),
                            "oid {oid} is given twice"
                        );
                    }
                }
                Some(_) => {}
                None if world.closed.contains_key(&conn) => {}
                None => {
                    known.oids.insert((conn, id), ());
                }
            }
        }
    }

    fn check(&self) {
        let operating = self.operating();
        if let Phase::Running(running) = &self.world.core.phase {
            let table = self.world.table();
            table.check().unwrap();
            assert!(
                table.is_operational(|nid| operating.contains(&nid)),
                "or RECOVERING"
            );
            let clients = self
                .world
                .core
                .nodes
                .online(neo_api::NodeType::Client)
                .count();
            assert_eq!(running.clients, clients);
            for nid in table.readable_nodes() {
                assert!(operating.contains(&nid), "{nid} is readable and not there");
            }
            // Now: what a readable cell lacks at its end, the next start would find out.
            for (txn, tid) in &self.known.committed {
                for cell in table.readable_of_tid(txn.ttid) {
                    let storage = &self.world.storages[&cell.nid.number()];
                    let has = storage.committed.get(txn) == Some(tid);
                    let will_have = storage.unfinished.contains_key(txn);
                    assert!(has || will_have, "{txn} on {}", cell.nid);
                }
            }
        }
    }

    /// All faults end; then everything that was told must be true.
    fn heal(mut self) {
        for _ in 0..3 {
            for n in 1..=STORAGES {
                self.world.storages.get_mut(&n).unwrap().holds.clear();
                self.world.settle();
                if self.world.storages[&n].conn.is_none() {
                    self.world.join(n);
                }
            }
        }
        self.look();
        assert_eq!(
            self.world.state(),
            ClusterState::Running,
            "{}",
            self.world.status.waiting
        );
        // What is pending ends with its clients; then every cell can be filled.
        for conn in std::mem::take(&mut self.known.clients) {
            if !self.world.closed.contains_key(&conn) {
                self.world.hang_up(conn);
            }
        }
        for n in 1..=STORAGES {
            self.world.register(n);
            self.complete(n);
        }
        let states = self.world.table().rows.iter().flatten().map(|c| c.state);
        assert!(
            { states }.all(neo_api::CellState::is_readable),
            "{:?}",
            self.world.rows()
        );
        let table = self.world.table();
        for (txn, tid) in &self.known.committed {
            for cell in table.readable_of_tid(txn.ttid) {
                let storage = &self.world.storages[&cell.nid.number()];
                assert_eq!(
                    storage.committed.get(txn),
                    Some(tid),
                    "{txn} on {}",
                    cell.nid
                );
            }
        }
        for txn in &self.known.not_committed {
            assert!(!self.known.committed.contains_key(txn), "{txn}");
            for cell in table.readable_of_tid(txn.ttid) {
                let storage = &self.world.storages[&cell.nid.number()];
                assert_eq!(storage.committed.get(txn), None, "{txn} on {}", cell.nid);
            }
        }
        let mut tids = BTreeSet::new();
        assert!(
            self.known.committed.values().all(|tid| tids.insert(*tid)),
            "a tid twice"
        );
        let client = self.world.client();
        let last = self.world.last_tid(client);
        assert!(tids.last().is_none_or(|tid| *tid <= last));
    }
}

impl Known {
    fn commit(&mut self, txn: TxnId, tid: Tid) {
        let known = self.committed.insert(txn, tid);
        assert!(known.is_none_or(|known| known == tid), "{txn} has two tids");
    }
}

type Step = (u8, u8, u8);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..150)
}

fn play(mutations: Mutations, steps: Vec<Step>) {
    let mut play = Play::new(mutations);
    for step in steps {
        play.step(step);
    }
    play.heal();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold_whatever_happens(steps in steps()) {
        play(Mutations::default(), steps);
    }
}

/// Plays with a rule switched off, always in the same way; what is found.
fn broken(mutations: &Mutations) -> String {
    let config = ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, random);
    let run = runner.run(&steps(), |steps| {
        play(mutations.clone(), steps);
        Ok(())
    });
    match run {
        Ok(()) => String::new(),
        Err(TestError::Fail(reason, _)) => reason.message().to_owned(),
        Err(other) => other.to_string(),
    }
}

#[test]
fn a_missing_fence_is_seen() {
    let no_fence = true;
    let found = broken(&Mutations {
        no_fence,
        ..Mutations::default()
    });
    assert!(found.contains('/'), "{found:?}");
}

#[test]
fn a_finish_without_votes_is_seen() {
    let believe_finish = true;
    let found = broken(&Mutations {
        believe_finish,
        ..Mutations::default()
    });
    assert!(found.contains("what is locked was voted"), "{found:?}");
}

#[test]
fn pending_transactions_that_are_not_told_are_seen() {
    let no_pending = true;
    let found = broken(&Mutations {
        no_pending,
        ..Mutations::default()
    });
    assert!(found.contains(" on S"), "{found:?}");
}

#[test]
fn oids_without_a_mark_are_seen() {
    let no_oid_mark = true;
    let found = broken(&Mutations {
        no_oid_mark,
        ..Mutations::default()
    });
    assert!(found.contains("is given twice"), "{found:?}");
}
