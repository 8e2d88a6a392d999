//! Anything in any order: nothing panics, and everybody who waits is answered, once.

use std::collections::BTreeSet;

use neo_proto::{FinalTid, ObjectAnswer, Oids, RelockOutcome};
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Act {
    Command(u8, u8),
    /// A request that is in flight is answered: rightly, mostly.
    Answer(u8, u8),
    Lose(u8),
    Connect(u8),
    Wait(u16),
    Notify(u8, u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => any::<(u8, u8)>().prop_map(|(a, b)| Act::Command(a, b)),
        12 => any::<(u8, u8)>().prop_map(|(a, b)| Act::Answer(a, b)),
        1 => any::<u8>().prop_map(Act::Lose),
        4 => any::<u8>().prop_map(Act::Connect),
        2 => any::<u16>().prop_map(Act::Wait),
        2 => any::<(u8, u8)>().prop_map(|(a, b)| Act::Notify(a, b)),
    ]
}

/// A world with its requests in flight and who waits.
struct Chaos {
    w: World,
    in_flight: Vec<(ConnId, MsgId, Packet)>,
    waiting: BTreeSet<ReplyId>,
    next: u64,
    txns: Vec<TxnKey>,
    tid: u64,
}

impl Chaos {
    fn reply_id(&mut self) -> ReplyId {
        self.next += 1;
        let id = ReplyId(self.next);
        self.waiting.insert(id);
        id
    }

    fn answered(&mut self, id: ReplyId) {
        assert!(self.waiting.remove(&id), "{id:?} is answered twice");
    }

    /// Looks at what the core said.
    fn collect(&mut self) {
        for (conn, sent) in std::mem::take(&mut self.w.sent) {
            for message in sent {
                if message.id != MsgId(0) {
                    self.in_flight.push((conn, message.id, message.packet));
                }
            }
        }
        let open: BTreeSet<ConnId> = self.w.conns.values().copied().collect();
        self.in_flight.retain(|(conn, ..)| open.contains(conn));
        let mut last = Tid::ZERO;
        for event in std::mem::take(&mut self.w.events) {
            match event {
                Event::Reply { id, .. } => self.answered(id),
                Event::Loaded { waiters, .. } => {
                    waiters.into_iter().for_each(|id| self.answered(id));
                }
                Event::Committed { reply, .. } => {
                    reply.into_iter().for_each(|id| self.answered(id));
                }
                Event::Cleared { tid } => last = tid,
                Event::Invalidated { tid, .. } | Event::Resynced { tid, .. } => {
                    assert!(tid >= last);
                    last = tid;
                }
                Event::Ready { .. }
                | Event::NotReady { .. }
                | Event::Routes(_)
                | Event::Masters(_) => {}
            }
        }
    }

    fn command(&mut self, what: u8, n: u8) {
        let reply = self.reply_id();
        let key = self
            .txns
            .get(usize::from(n) % self.txns.len().max(1))
            .copied();
        let key = key.unwrap_or(TxnKey(9999));
        let oid = Oid(u64::from(n % 5));
        let command = match what % 14 {
            0 | 1 => {
                let txn = TxnKey(self.next);
                self.txns.push(txn);
                Command::Begin {
                    txn,
                    reply,
                    tid: None,
                }
            }
            2..=4 => {
                let serial = Tid(90);
                let change = match n % 4 {
                    0 => Change::Check,
                    1 => Change::Deletion,
                    _ => value("x"),
                };
                Command::Store {
                    txn: key,
                    reply,
                    oid,
                    serial,
                    change,
                }
            }
            5 => Command::Vote {
                txn: key,
                reply,
                record: neo_api::VotedRecord::default(),
            },
            6 => Command::Finish { txn: key, reply },
            7 => {
                self.waiting.remove(&reply);
                Command::Abort { txn: key }
            }
            8 => Command::Load {
                reply,
                oid,
                at: At::Latest,
            },
            9 => Command::Load {
                reply,
                oid,
                at: At::Exact(Tid(self.tid + u64::from(n))),
            },
            10 => Command::Sync { reply },
            11 => Command::NewOids { reply, count: 5 },
            12 => {
                self.waiting.remove(&reply);
                let (serial, record) = (Tid(95), record("merged"));
                Command::Resolve {
                    txn: key,
                    oid,
                    version: 1,
                    serial,
                    record,
                }
            }
            _ => Command::Page {
                reply,
                page: Page::TransactionInformation {
                    tid: Tid(u64::from(n)),
                },
            },
        };
        self.w.command(command);
    }

    fn answer(&mut self, which: u8, how: u8) {
        if self.in_flight.is_empty() {
            return;
        }
        let at = usize::from(which) % self.in_flight.len();
        let (conn, id, packet) = self.in_flight.remove(at);
        let outcome = match how % 8 {
            0 => StoreOutcome::Unchecked,
            1 => StoreOutcome::Conflict(Tid(95)),
            _ => StoreOutcome::Locked,
        };
        self.tid += 1;
        let tid = Tid(self.tid);
        let right = match packet {
            Packet::AskLastTransaction {} => Packet::AnswerLastTransaction { tid },
            Packet::AskNewOids { count } => Packet::AnswerNewOids {
                first: Oid(1),
                count,
            },
            Packet::AskBeginTransaction { .. } => {
                Packet::AnswerBeginTransaction { txn: txn(self.tid) }
            }
            Packet::AskStoreObject { .. } => Packet::AnswerStoreObject { outcome },
            Packet::AskCheckCurrentSerial { .. } => Packet::AnswerCheckCurrentSerial { outcome },
            Packet::AskRelockObject { .. } => Packet::AnswerRelockObject {
                outcome: match how % 2 {
                    0 => RelockOutcome::Relocked,
                    _ => RelockOutcome::Conflict(Tid(96)),
                },
            },
            Packet::AskStoreTransaction { .. } => Packet::AnswerStoreTransaction {},
            Packet::AskVoteTransaction { .. } => Packet::AnswerVoteTransaction {},
            Packet::AskFailedVote { .. } => Packet::AnswerFailedVote {},
            Packet::AskFinishTransaction { txn, .. } => {
                Packet::AnswerTransactionFinished { txn, tid }
            }
            Packet::AskFinalTid { .. } => Packet::AnswerFinalTid {
                tid: match how % 3 {
                    0 => FinalTid::AskStorages,
                    1 => FinalTid::Committed(tid),
                    _ => FinalTid::NotCommitted,
                },
            },
            Packet::AskObject { oid, .. } => {
                let answer = match how % 3 {
                    0 => ObjectAnswer::Unknown,
                    1 => ObjectAnswer::NotYet,
                    _ => ObjectAnswer::Deleted {
                        serial: Tid(50),
                        next_serial: None,
                    },
                };
                Packet::AnswerObject { oid, answer }
            }
            Packet::AskTransactionInformation { .. } => {
                Packet::AnswerTransactionInformation { transaction: None }
            }
            _ => Packet::AnswerDone {
                message: String::new(),
            },
        };
        let packet = match how {
            0..=7 => Packet::Error {
                code: [
                    ErrorCode::NonReadableCell,
                    ErrorCode::NotReady,
                    ErrorCode::UnknownTransaction,
                    ErrorCode::NoSpace,
                    ErrorCode::TooLarge,
                    ErrorCode::Checksum,
                    ErrorCode::IncompleteTransaction,
                    ErrorCode::Protocol,
                ][usize::from(how)],
                message: "no".into(),
            },
            8 => Packet::AnswerDone {
                message: String::new(),
            },
            _ => right,
        };
        let message = Message::new(id, packet);
        self.w.input(Input::Message { conn, message });
    }

    fn notify(&mut self, what: u8, n: u8) {
        let Some((nid, _)) = self
            .w
            .conns
            .iter()
            .nth(usize::from(n) % self.w.conns.len().max(1))
        else {
            return;
        };
        let nid = *nid;
        self.tid += 1;
        let (tid, oid) = (Tid(self.tid), Oid(u64::from(n % 5)));
        let name = txn(u64::from(n));
        if what % 9 == 8 && self.w.conns.contains_key(&m(1)) {
            let states = [
                CellState::UpToDate,
                CellState::OutOfDate,
                CellState::Feeding,
                CellState::Discarded,
            ];
            let state = states[usize::from(n) % 4];
            let cell = (u32::from(n / 4) % 2, u32::from(n / 8) % 3 + 1, state);
            self.w.change_cells(&[cell]);
            return;
        }
        let packet = match (what % 9, nid == m(1)) {
            (0, false) => Packet::NotifyDelayed {
                request: MsgId(u64::from(n)),
                holder: name,
            },
            (1..=6, false) => {
                let of = self.w.core.txns.values().find_map(|txn| txn.name);
                Packet::NotifyDeadlock {
                    txn: of.unwrap_or(name),
                    oid,
                }
            }
            (0..=4, true) => Packet::InvalidateObjects {
                tid,
                oids: Oids(vec![oid]),
            },
            (5, true) => Packet::InvalidateAll { tid },
            (6, true) => {
                let nid = s(u32::from(n) % 3 + 1);
                let state = match n % 4 {
                    0 => NodeState::Down,
                    _ => NodeState::Running,
                };
                self.w.states.insert(nid, state);
                let nodes = self.w.node_infos();
                Packet::NotifyNodeInformation {
                    full: n.is_multiple_of(2),
                    nodes,
                }
            }
            _ => Packet::AskRecovery {},
        };
        self.w.notify(nid, packet);
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Command(what, n) => self.command(what, n),
            Act::Answer(which, how) => self.answer(which, how),
            Act::Lose(n) => {
                let nid = self.w.conns.keys().nth(usize::from(n) % 4).copied();
                nid.into_iter().for_each(|nid| self.w.lose(nid));
            }
            Act::Connect(n) => self.connect(n % 5 != 0),
            Act::Wait(millis) => self.w.wait(Duration::from_millis(millis.into())),
            Act::Notify(what, n) => self.notify(what, n),
        }
        self.collect();
    }

    /// The master is reached, or not.
    fn connect(&mut self, reached: bool) {
        let Some((token, to)) = self.w.connecting.front().cloned() else {
            return;
        };
        if reached && to == address(m(1)) {
            self.w.sent.clear();
            self.w.last_tid = Tid(self.tid);
            self.w.try_accept_master();
        } else {
            self.w.connecting.pop_front();
            self.w.input(Input::ConnectFailed {
                token,
                error: "refused".into(),
            });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn everybody_is_answered_once(acts in proptest::collection::vec(act(), 1..150)) {
        let mut chaos = Chaos {
            w: World::new(3, 2),
            in_flight: Vec::new(),
            waiting: BTreeSet::new(),
            next: 10_000,
            txns: Vec::new(),
            tid: 1000,
        };
        for act in acts {
            chaos.act(act);
        }
        // Nobody says anything any more.
        for _ in 0..200 {
            chaos.w.wait(Duration::from_secs(1));
            chaos.collect();
        }
        prop_assert!(chaos.waiting.is_empty(), "{:?} wait for ever", chaos.waiting);
        chaos.w.command(Command::Close);
        chaos.w.wait(Duration::from_secs(61));
        prop_assert!(chaos.w.stopped);
    }
}
