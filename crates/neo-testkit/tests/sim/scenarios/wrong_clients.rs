//! Clients that do not keep to the protocol: what they do wrong harms their own transactions and
//! nobody else's, and no storage node has to go for it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use neo_api::{
    CellState, Checksum, ClusterState, Compression, NodeId, NodeType, Oid, Partition, Reign,
    SessionId, Tid, TransactionMeta, TxnId,
};
use neo_client::Error;
use neo_proto::{ConnId, Identification, Message, MsgId, Oids, Packet, StoreKind};
use neo_testkit::oracle::{Oracle, Told};
use neo_testkit::sim::{
    Fault, Name, PATIENCE, Pattern, Say, SimClient, When, World, WorldSettings, c, m, p, s,
};

use super::{add, check_and_crash, count, counters, increment, settle, wait};

/// Three nodes, of which each partition misses another one.
fn cluster() -> WorldSettings {
    WorldSettings {
        storages: 3,
        replicas: 1,
        partitions: 3,
        clients: 2,
        puppets: 1,
        ..WorldSettings::default()
    }
}

/// A client that a test speaks for.
struct Liar {
    nid: NodeId,
    session: (Reign, SessionId),
    conns: BTreeMap<Name, ConnId>,
    last_id: u64,
    /// Of the transaction, as the oracle calls it.
    number: u64,
}

impl Liar {
    /// Connects to everybody, as a client does.
    fn new(world: &mut World) -> Self {
        let mut liar = Self {
            nid: NodeId::new(NodeType::Client, 1).unwrap(),
            session: (Reign(0), SessionId(0)),
            conns: BTreeMap::new(),
            last_id: 0,
            number: world.oracle().borrow_mut().begin(p(1)),
        };
        let accepted = liar.identify(world, m(1), None);
        let Packet::AcceptIdentification {
            your_nid,
            reign,
            session,
            ..
        } = accepted
        else {
            panic!("{accepted:?}")
        };
        (liar.nid, liar.session) = (your_nid, (reign, session));
        for n in 1..=3 {
            liar.identify(world, s(n), Some(your_nid));
        }
        liar
    }

    fn identify(&mut self, world: &mut World, to: Name, nid: Option<NodeId>) -> Packet {
        world.say(p(1), Say::Connect(to.address()));
        let conn = |world: &World| world.puppet(p(1)).unwrap().conn(&to.address());
        world
            .run_until("connected", PATIENCE, |world| conn(world).is_some())
            .unwrap();
        self.conns.insert(to, conn(world).unwrap());
        let identification = Box::new(Identification {
            node_type: NodeType::Client,
            nid,
            address: None,
            cluster: "simulated".to_owned(),
            identity: None,
            session: nid.map(|_| self.session),
            read_only: false,
            topology: Vec::new(),
            masters: Vec::new(),
            new_nid: false,
            noted: None,
            is_full: false,
        });
        self.ask(world, to, Packet::RequestIdentification { identification })
    }

    fn send(&mut self, world: &mut World, to: Name, packet: Packet, payload: &str) -> MsgId {
        self.last_id += 1;
        let id = MsgId(self.last_id);
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let message = Message::with_payload(id, packet, payload);
        world.say(p(1), Say::Message(self.conns[&to], message));
        id
    }

    fn answer(&self, world: &mut World, to: Name, id: MsgId) -> Packet {
        let conn = self.conns[&to];
        let answer = |world: &World| world.puppet(p(1)).unwrap().answer(conn, id).cloned();
        let answered = world.run_until("an answer", PATIENCE, |world| answer(world).is_some());
        answered.unwrap_or_else(|stuck| panic!("{stuck}\n{}", world.trace().tail(100)));
        answer(world).unwrap()
    }

    fn ask(&mut self, world: &mut World, to: Name, packet: Packet) -> Packet {
        let id = self.send(world, to, packet, "");
        self.answer(world, to, id)
    }

    fn notify(&self, world: &mut World, to: Name, packet: Packet) {
        world.say(p(1), Say::Message(self.conns[&to], Message::notify(packet)));
    }

    /// A transaction whose metadata belongs to partition 0.
    fn begin(&mut self, world: &mut World) -> TxnId {
        loop {
            let answer = self.ask(world, m(1), Packet::AskBeginTransaction { tid: None });
            let Packet::AnswerBeginTransaction { txn } = answer else {
                panic!("{answer:?}")
            };
            if txn.ttid.0.is_multiple_of(3) {
                return txn;
            }
            let nodes = Vec::new();
            self.notify(world, m(1), Packet::AbortTransaction { txn, nodes });
        }
    }

    /// A new object of a partition.
    fn oid(&mut self, world: &mut World, partition: u64) -> Oid {
        let answer = self.ask(world, m(1), Packet::AskNewOids { count: 3 });
        let Packet::AnswerNewOids { first, .. } = answer else {
            panic!("{answer:?}")
        };
        let oid = (first.0..first.0 + 3).find(|oid| oid % 3 == partition);
        oid.map(Oid).unwrap()
    }

    fn store(&mut self, world: &mut World, to: Name, txn: TxnId, oid: Oid) {
        let value = "what a liar stores";
        let packet = Packet::AskStoreObject {
            txn,
            oid,
            serial: Tid::ZERO,
            kind: StoreKind::Value {
                compression: Compression::None,
                checksum: Checksum::of(value.as_bytes()),
            },
        };
        let id = self.send(world, to, packet, value);
        let answer = self.answer(world, to, id);
        assert!(
            matches!(answer, Packet::AnswerStoreObject { .. }),
            "{answer:?}"
        );
        let value = Some(Bytes::from_static(b"what a liar stores"));
        let mut oracle = world.oracle().borrow_mut();
        oracle.store(self.number, oid, Tid::ZERO, value);
    }

    /// A vote with metadata.
    fn vote(&mut self, world: &mut World, to: Name, txn: TxnId, oids: &[Oid], objects: u32) {
        let packet = self.vote_of(txn, oids, objects);
        let answer = self.ask(world, to, packet);
        assert_eq!(answer, Packet::AnswerStoreTransaction {}, "{to}");
    }

    fn vote_of(&self, txn: TxnId, oids: &[Oid], objects: u32) -> Packet {
        let meta = TransactionMeta {
            description: Oracle::label(self.number),
            ..TransactionMeta::default()
        };
        let oids = Oids(oids.to_vec());
        Packet::AskStoreTransaction {
            txn,
            meta,
            oids,
            objects,
            pack: None,
            packed: false,
        }
    }

    fn vote_without(&mut self, world: &mut World, to: Name, txn: TxnId, objects: u32) {
        let answer = self.ask(world, to, Packet::AskVoteTransaction { txn, objects });
        assert_eq!(answer, Packet::AnswerVoteTransaction {}, "{to}");
    }

    fn finish(&mut self, world: &mut World, txn: TxnId, oids: &[Oid], parts: &[u32]) -> MsgId {
        let packet = Packet::AskFinishTransaction {
            txn,
            oids: Oids(oids.to_vec()),
            partitions: parts.iter().map(|n| Partition(*n)).collect(),
        };
        self.send(world, m(1), packet, "")
    }
}

/// The nodes that have a cell of a partition.
fn cells(world: &World, partition: u32) -> Vec<Name> {
    let table = world.partition_table().unwrap();
    let cells = table.cells(Partition(partition)).iter();
    let name = |nid| (1..=3).map(s).find(|name| world.nid(*name) == Some(nid));
    cells.map(|cell| name(cell.nid).unwrap()).collect()
}

/// What a wrong client does until it asks for the end.
type Lie = fn(&mut World, &mut Liar, TxnId) -> MsgId;

const LIES: [(&str, Lie); 7] = [
    ("it finishes what it never voted", |world, liar, txn| {
        liar.finish(world, txn, &[], &[])
    }),
    (
        "it names a partition that it did not vote on",
        |world, liar, txn| {
            for node in cells(world, 0) {
                liar.vote(world, node, txn, &[], 0);
            }
            liar.finish(world, txn, &[], &[1, 2])
        },
    ),
    (
        "it names an object that it did not store",
        |world, liar, txn| {
            let oid = liar.oid(world, 2);
            for node in cells(world, 0) {
                liar.vote(world, node, txn, &[oid], 0);
            }
            liar.finish(world, txn, &[oid], &[2])
        },
    ),
    ("it votes on one replica of two", |world, liar, txn| {
        let oid = liar.oid(world, 2);
        let one = cells(world, 2)[1];
        liar.store(world, one, txn, oid);
        for node in cells(world, 0) {
            liar.vote(world, node, txn, &[oid], 0);
        }
        liar.vote_without(world, one, txn, 1);
        liar.finish(world, txn, &[oid], &[2])
    }),
    (
        "it gives the metadata to one replica of two",
        |world, liar, txn| {
            let one = cells(world, 0)[0];
            liar.vote(world, one, txn, &[], 0);
            liar.finish(world, txn, &[], &[])
        },
    ),
    (
        "it votes without metadata where it belongs",
        |world, liar, txn| {
            let oid = liar.oid(world, 0);
            for node in cells(world, 0) {
                liar.store(world, node, txn, oid);
                liar.vote_without(world, node, txn, 1);
            }
            liar.finish(world, txn, &[oid], &[])
        },
    ),
    (
        "it finishes before the votes are answered",
        |world, liar, txn| {
            let oid = liar.oid(world, 0);
            let nodes = cells(world, 0);
            for node in &nodes {
                liar.store(world, *node, txn, oid);
            }
            let finish = liar.finish(world, txn, &[oid], &[]);
            // Later than the question for it.
            world.run_for(Duration::from_millis(2));
            for node in nodes {
                let vote = liar.vote_of(txn, &[oid], 1);
                liar.send(world, node, vote, "");
            }
            finish
        },
    ),
];

/// Increments, without an end; whatever goes wrong, but conflicts, is an error.
async fn work(client: SimClient, oid: Oid, rounds: u32) -> Result<(), Error> {
    for _ in 0..rounds {
        let mut txn = client.begin().await?;
        super::store_next(&client, &txn, oid).await?;
        txn.vote_with(add).await?;
        txn.finish().await?;
    }
    Ok(())
}

/// A cluster in which honest clients work while a liar lies; the answer to its request to finish.
fn tell(lie: Lie, tune: fn(&mut WorldSettings)) -> (World, Liar, Packet) {
    let mut settings = cluster();
    tune(&mut settings);
    let mut world = World::booted(settings);
    let oids = counters(&mut world, c(1), 2);
    let mut liar = Liar::new(&mut world);
    let works: Vec<_> = [c(1), c(2)]
        .into_iter()
        .map(|name| {
            let oid = oids[0];
            world.run_script(name, move |client| work(client, oid, 20))
        })
        .collect();
    let txn = liar.begin(&mut world);
    let id = lie(&mut world, &mut liar, txn);
    let answer = liar.answer(&mut world, m(1), id);
    for script in &works {
        wait(&mut world, "the honest clients", script)
            .unwrap_or_else(|error| panic!("{error}\n{}", world.trace().tail(200)));
    }
    assert_eq!(count(&mut world, c(1), oids[0]), 40);
    (world, liar, answer)
}

/// Nothing has become of anybody.
fn is_whole(world: &World) -> bool {
    let table = world.partition_table().expect("a table");
    let mut cells = table.rows.iter().flatten();
    world.cluster_state() == Some(ClusterState::Running)
        && cells.all(|cell| cell.state == CellState::UpToDate)
        && (1..=3).all(|n| world.is_serving(s(n)))
}

#[test]
fn a_client_that_lies_about_its_votes_is_disconnected_and_nobody_else() {
    for (what, lie) in LIES {
        let (mut world, liar, answer) = tell(lie, |_| {});
        let Packet::Error { message, .. } = &answer else {
            panic!("{what}: {answer:?}")
        };
        assert!(message.contains("has not voted on S"), "{what}: {message}");
        let told = world.run_until("disconnected", PATIENCE, |world| {
            let puppet = world.puppet(p(1)).unwrap();
            liar.conns
                .values()
                .all(|conn| puppet.closed(*conn).is_some())
        });
        told.unwrap_or_else(|stuck| panic!("{what}: {stuck}"));
        assert!(is_whole(&world), "{what}\n{}", world.trace().tail(200));
        let number = liar.number;
        world.oracle().borrow_mut().tell(number, Told::NotCommitted);
        check_and_crash(&mut world);
    }
}

/// What it would be without the look at the votes: nodes that must go, or replicas that differ.
#[test]
fn believing_clients_would_do_harm() {
    let believe: fn(&mut WorldSettings) = |settings| {
        settings.tune_master = |master| master.mutations.believe_finish = true;
    };
    for (what, lie) in [LIES[1], LIES[3]] {
        // That the honest clients fail is harm too.
        let told = std::panic::catch_unwind(|| tell(lie, believe));
        let is_harmless = told.is_ok_and(|(mut world, ..)| {
            settle(&mut world);
            is_whole(&world) && world.check().is_ok()
        });
        assert!(!is_harmless, "{what}");
    }
}

#[test]
fn a_vote_that_a_client_takes_back_behind_the_primary_counts() {
    let (mut world, liar, answer) = tell(
        |world, liar, txn| {
            let oid = liar.oid(world, 2);
            for node in cells(world, 2) {
                liar.store(world, node, txn, oid);
            }
            for node in (1..=3).map(s) {
                let objects = u32::from(cells(world, 2).contains(&node));
                if cells(world, 0).contains(&node) {
                    liar.vote(world, node, txn, &[oid], objects);
                } else {
                    liar.vote_without(world, node, txn, objects);
                }
            }
            for node in (1..=3).map(s) {
                let nodes = Vec::new();
                liar.notify(world, node, Packet::AbortTransaction { txn, nodes });
            }
            world.run_for(Duration::from_millis(10));
            liar.finish(world, txn, &[oid], &[2])
        },
        |_| {},
    );
    let Packet::AnswerTransactionFinished { tid, .. } = answer else {
        panic!("{answer:?}")
    };
    let number = liar.number;
    world
        .oracle()
        .borrow_mut()
        .tell(number, Told::Committed(tid));
    assert!(is_whole(&world));
    check_and_crash(&mut world);
}

#[test]
fn a_word_of_a_vote_that_is_late_is_waited_for() {
    let mut world = World::booted(cluster());
    let oids = counters(&mut world, c(1), 1);
    // The storage's word comes later than the client's.
    for n in 1..=3 {
        let word = Pattern::arrival(s(n), m(1), "NotifyVoted");
        world.plan_at(word, When::Before, Fault::Delay(Duration::from_millis(5)));
    }
    let oid = oids[0];
    let done = super::run(&mut world, c(1), move |client: SimClient| async move {
        increment(&client, oid).await
    });
    done.unwrap_or_else(|error| panic!("{error}\n{}", world.trace().tail(100)));
    assert!(is_whole(&world));
}
