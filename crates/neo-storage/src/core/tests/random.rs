//! Clients that do as clients do, in any order, with a disk that does as disks do, and a primary
//! that commits what has voted: whatever happens, no update is lost and nothing is left over.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::config::Mutations;

#[derive(Debug, Default)]
struct Txn {
    conn: u64,
    /// Serial that each object was stored or checked with, once it is answered.
    has: BTreeMap<u64, u64>,
    stores: BTreeSet<u64>,
    /// What is asked and not answered.
    asked: BTreeMap<MsgId, Asked>,
    /// It must not vote: it is in conflict, or failed.
    spoilt: bool,
    stage: u8,
    tid: u64,
}

#[derive(Debug, Clone, Copy)]
enum Asked {
    Store(u64, u64),
    Check(u64, u64),
    Relock(u64),
    Vote,
}

const OPEN: u8 = 0;
const VOTING: u8 = 1;
const VOTED: u8 = 2;
const LOCKING: u8 = 3;
const UNLOCKED: u8 = 4;
const ENDED: u8 = 5;

struct Play {
    world: World,
    conns: Vec<ConnId>,
    txns: BTreeMap<u64, Txn>,
    /// Newest serial of each object, as committed.
    serials: BTreeMap<u64, u64>,
    last_ttid: u64,
    last_tid: u64,
    last_conn: u64,
}

impl Play {
    fn new(buffered: usize, mutations: Mutations) -> Self {
        let mut settings = settings();
        settings.limits.transaction_buffered_bytes_max = buffered;
        settings.mutations = mutations;
        let mut world = World::serving_with(settings);
        let conns = (1..=3).map(|n| world.client(n)).collect();
        Self {
            world,
            conns,
            txns: BTreeMap::new(),
            serials: BTreeMap::new(),
            last_ttid: 10,
            last_tid: 100_000,
            last_conn: 1_000,
        }
    }

    fn step(&mut self, (what, who, oid): (u8, u8, u8)) {
        let oid = u64::from(oid % 4) * 2;
        let open: Vec<u64> = self.txns.keys().copied().collect();
        let ttid = open.get(usize::from(who) % open.len().max(1)).copied();
        let (what, ttid) = match ttid {
            Some(ttid) if open.len() < 6 || what > 1 => (what, ttid),
            Some(_) => return,
            None => (0, 0),
        };
        let serial = self.serials.get(&oid).copied().unwrap_or(0);
        let stage = self.txns.get(&ttid).map_or(ENDED, |t| t.stage);
        match what {
            0 | 1 => {
                self.last_ttid += 2;
                let conn = self.conns[usize::from(who) % self.conns.len()].0;
                let txn = Txn {
                    conn,
                    ..Txn::default()
                };
                self.txns.insert(self.last_ttid, txn);
            }
            2..=6 if stage == OPEN => {
                let conn = ConnId(self.txns[&ttid].conn);
                let value = format!("{ttid}:{oid}");
                let id = self.world.store(conn, ttid, oid, serial, &value);
                self.asked(ttid, id, Asked::Store(oid, serial));
            }
            7 if stage == OPEN => {
                let conn = ConnId(self.txns[&ttid].conn);
                let id = self.world.check(conn, ttid, oid, serial);
                self.asked(ttid, id, Asked::Check(oid, serial));
            }
            8..=10 if stage == OPEN => self.vote(ttid),
            11 if stage == VOTED => {
                self.last_tid += 2;
                self.world.lock(ttid, self.last_tid);
                let txn = self.txns.get_mut(&ttid).unwrap();
                (txn.stage, txn.tid) = (LOCKING, self.last_tid);
            }
            12 => {
                let own = self.txns.get(&ttid).map(|txn| ConnId(txn.conn));
                let own = own.filter(|conn| who % 2 == 1 && self.conns.contains(conn));
                if stage < LOCKING {
                    let by = own.unwrap_or(MASTER);
                    self.world.abort(by, ttid);
                    // The primary passes it on, and only it can abort what has voted.
                    self.world.abort(MASTER, ttid);
                    self.txns.get_mut(&ttid).unwrap().stage = ENDED;
                }
            }
            13 => self.world.hold_reads = true,
            14 => self.world.hold_writes = true,
            15 => self.world.release_reads(),
            16 => self.world.release_writes(),
            17 if !self.world.reads.is_empty() => {
                let at = usize::from(who) % self.world.reads.len();
                self.world.read_one(at);
            }
            18 => {
                self.world.write_one();
            }
            19 if who < 40 => {
                self.world.fails = Some((
                    |op| matches!(op, WriteOp::PutData { .. }),
                    || BackendError::Full,
                ));
            }
            20 => self.world.fails = None,
            21 if who < 60 => self.reconnect(usize::from(who) % self.conns.len()),
            _ => {}
        }
        self.listen();
    }

    fn asked(&mut self, ttid: u64, id: MsgId, what: Asked) {
        self.txns.get_mut(&ttid).unwrap().asked.insert(id, what);
    }

    fn vote(&mut self, ttid: u64) {
        let txn = self.txns.get_mut(&ttid).unwrap();
        if txn.asked.is_empty() && !txn.spoilt && !txn.has.is_empty() {
            txn.stage = VOTING;
            let (conn, oids) = (
                ConnId(txn.conn),
                txn.has.keys().copied().collect::<Vec<_>>(),
            );
            let id = self.world.vote(conn, ttid, &oids, oids.len() as u32);
            self.asked(ttid, id, Asked::Vote);
        }
    }

    fn reconnect(&mut self, n: usize) {
        let old = self.conns[n];
        self.listen();
        self.world.lose(old);
        self.world.take(old);
        for txn in self.txns.values_mut().filter(|txn| txn.conn == old.0) {
            if txn.stage < VOTED {
                txn.stage = ENDED;
            }
        }
        self.last_conn += 1;
        self.conns[n] = ConnId(self.last_conn);
        let who = n as u32 + 1;
        self.world.connect(self.conns[n], who, u64::from(who) * 10);
        self.world.packets(self.conns[n]);
    }

    /// Reads what the node said, and does what a client or the primary does about it.
    fn listen(&mut self) {
        loop {
            let mut heard = false;
            for message in self.world.take(MASTER) {
                if let Packet::NotifySpace { .. } = message.packet {
                    continue;
                }
                let Packet::AnswerInformationLocked { txn } = message.packet else {
                    panic!("{message:?}");
                };
                heard = true;
                self.committed(txn.ttid.0);
            }
            for conn in self.conns.clone() {
                for message in self.world.take(conn) {
                    heard = true;
                    self.told(conn, message);
                }
            }
            self.txns.retain(|_, txn| txn.stage < UNLOCKED);
            if !heard {
                return;
            }
        }
    }

    fn committed(&mut self, ttid: u64) {
        let txn = self.txns.get_mut(&ttid).unwrap();
        // No lost update: what it started from is what is committed.
        for (oid, serial) in &txn.has {
            let committed = self.serials.get(oid).copied().unwrap_or(0);
            assert_eq!(*serial, committed, "{ttid} on {oid}");
        }
        for oid in &txn.stores {
            self.serials.insert(*oid, txn.tid);
        }
        txn.stage = UNLOCKED;
        self.world.unlock(ttid);
    }

    fn told(&mut self, conn: ConnId, message: Message) {
        if let Packet::NotifyDeadlock { txn, oid } = message.packet {
            let ttid = txn.ttid.0;
            if self.txns.get(&ttid).is_some_and(|t| t.stage == OPEN) {
                let id = self.world.relock(conn, ttid, oid.0);
                self.asked(ttid, id, Asked::Relock(oid.0));
            }
            return;
        }
        if message.packet.is_answer() {
            let asker = |(ttid, txn): (&u64, &mut Txn)| {
                txn.asked.remove(&message.id).map(|asked| (*ttid, asked))
            };
            let Some((ttid, asked)) = self.txns.iter_mut().find_map(asker) else {
                return;
            };
            let txn = self.txns.get_mut(&ttid).unwrap();
            txn.hears(asked, &message.packet);
        }
    }

    /// Everything heals; what can end does.
    fn finish(mut self) {
        self.world.fails = None;
        for _ in 0..200 {
            self.world.release_reads();
            self.world.release_writes();
            self.listen();
            let ttids: Vec<u64> = self.txns.keys().copied().collect();
            for ttid in ttids {
                let Some(txn) = self.txns.get(&ttid) else {
                    continue;
                };
                let stuck = txn.asked.is_empty() && (txn.spoilt || txn.has.is_empty());
                match txn.stage {
                    OPEN if stuck => {
                        self.world.abort(MASTER, ttid);
                        self.txns.remove(&ttid);
                    }
                    OPEN => self.vote(ttid),
                    VOTED => self.step((11, 0, 0)),
                    _ => {}
                }
                self.listen();
            }
            // The rest of the picks above is by position: try each.
            for who in 0..self.txns.len() as u8 {
                self.step((11, who, 0));
            }
        }
        let left: Vec<_> = self.txns.iter().collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(self.world.core.is_idle() && self.world.persister.is_idle());
        assert_eq!(self.world.core.buffered_bytes(), 0);
        assert!(self.world.unfinished().is_empty());
        assert_eq!(self.world.loose(), 0);
        assert_eq!(self.world.stopped, None);
        assert!(self.world.closed.is_empty(), "{:?}", self.world.closed);
        for (oid, serial) in &self.serials {
            let conn = self.conns[0];
            let (found, _, _) = self.world.loaded(conn, *oid, At::Latest).unwrap();
            assert_eq!(found, *serial);
        }
    }
}

impl Txn {
    fn hears(&mut self, asked: Asked, answer: &Packet) {
        match (asked, answer) {
            (Asked::Store(oid, serial), p) if *p == LOCKED => {
                self.has.insert(oid, serial);
                self.stores.insert(oid);
            }
            (Asked::Check(oid, serial), p) if *p == CHECKED => {
                self.has.insert(oid, serial);
            }
            (Asked::Relock(oid), p) if *p == RELOCKED => {
                assert!(self.has.contains_key(&oid), "relocked, but not stored");
            }
            (Asked::Vote, Packet::AnswerStoreTransaction {}) => self.stage = VOTED,
            (Asked::Vote, Packet::Error { .. }) => {
                self.stage = OPEN;
                self.spoilt = true;
            }
            // A conflict is not resolved here: the transaction is aborted later.
            _ => self.spoilt = true,
        }
    }
}

type Step = (u8, u8, u8);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0u8..22, any::<u8>(), any::<u8>()), 0..120)
}

fn play(buffered: usize, mutations: Mutations, steps: Vec<Step>) {
    let mut play = Play::new(buffered, mutations);
    for step in steps {
        play.step(step);
    }
    play.finish();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_update_is_lost_and_nothing_is_left(
        buffered in prop::sample::select(vec![0, 5, 1 << 20]),
        steps in steps(),
    ) {
        play(buffered, Mutations::default(), steps);
    }
}

#[test]
fn a_node_that_sees_no_conflicts_is_found_out() {
    let mutations = Mutations {
        no_conflicts: true,
        ..Mutations::default()
    };
    let config = ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::with_cases(2_000)
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let found = runner.run(&steps(), |steps| {
        let played = std::panic::catch_unwind(|| play(0, mutations, steps));
        prop_assert!(played.is_ok());
        Ok(())
    });
    assert!(found.is_err(), "a lost update went unseen");
}
