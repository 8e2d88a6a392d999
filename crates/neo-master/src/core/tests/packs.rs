//! Packs: which orders are found, who is told of them, and when they are done.

use neo_api::{Oid, PackOrder, Partition, Tid};
use neo_proto::{ConnId, ErrorCode, MsgId, PackProgress, PackedCell, Packet};

use super::harness::*;

const PARTITION: Partition = Partition(0);

fn order(at: Tid) -> PackOrder {
    PackOrder { at, oids: None }
}

/// Two replicas, or more, that leave alone what is about packs.
fn running(storages: u32) -> World {
    let mut world = World::running(storages, storages - 1, 1);
    for storage in world.storages.values_mut() {
        for name in [
            "AskPackOrders",
            "NotifyPackOrders",
            "AskRemaining",
            "AnswerRemaining",
            "Error",
        ] {
            storage.holds.insert(name);
        }
    }
    world
}

impl World {
    fn conn_of(&self, n: u32) -> ConnId {
        self.storages[&n].conn.expect("it is connected")
    }

    /// A storage node tells how far its cell is packed.
    fn packed(&mut self, n: u32, done: Tid, at: Tid) {
        let conn = self.conn_of(n);
        let partition = PARTITION;
        let cells = vec![PackedCell {
            partition,
            done,
            at,
            whole_at: at,
        }];
        self.notify(conn, Packet::NotifyPacked { cells });
    }

    /// Takes what was sent to a storage node under a name.
    fn sent(&mut self, n: u32, name: &str) -> Vec<(MsgId, Packet)> {
        let conn = self.conn_of(n);
        let inbox = self.inbox.entry(conn).or_default();
        let (found, rest) = inbox.drain(..).partition(|m| m.packet.name() == name);
        *inbox = rest;
        let found: std::collections::VecDeque<neo_proto::Message> = found;
        found.into_iter().map(|m| (m.id, m.packet)).collect()
    }

    /// A pack is ordered by a transaction: both nodes have it.
    fn orders(&mut self, client: ConnId) -> Tid {
        let tid = self.commit_on(client, &[1, 2]);
        for n in [1, 2] {
            let conn = self.conn_of(n);
            self.notify(conn, Packet::NotifyPackOrdered {});
        }
        tid
    }

    /// The question for orders, which goes to one of the nodes; it tells these.
    fn tell(&mut self, orders: &[(Tid, PackOrder)], complete: Tid) -> (Tid, Tid) {
        let mut asked = Vec::new();
        for n in [1, 2] {
            let all = self.sent(n, "AskPackOrders");
            asked.extend(all.into_iter().map(|(id, packet)| (n, id, packet)));
        }
        let [
            (
                n,
                id,
                Packet::AskPackOrders {
                    partitions,
                    after,
                    max,
                },
            ),
        ] = &asked[..]
        else {
            panic!("{asked:?}");
        };
        assert_eq!(partitions, &[PARTITION]);
        let orders = orders.to_vec();
        let conn = self.conn_of(*n);
        self.send(conn, *id, Packet::AnswerPackOrders { orders, complete });
        self.settle();
        (*after, *max)
    }

    fn told(&mut self, n: u32) -> Vec<Packet> {
        let all = self.sent(n, "NotifyPackOrders");
        all.into_iter().map(|(_, packet)| packet).collect()
    }

    fn progress(&mut self, client: ConnId) -> PackProgress {
        match self.ask(client, Packet::AskPackProgress {}) {
            Some(Packet::AnswerPackProgress { progress }) => progress,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_order_is_found_told_to_all_and_done_when_all_say_so() {
    let mut world = running(2);
    let client = world.client();
    let before = world.commit_on(client, &[1, 2]);
    let id = world.orders(client);
    let wait = world.request(client, Packet::AskWaitPack { id });
    // Nothing is asked before it is known where everybody is.
    world.packed(1, Tid::ZERO, Tid::ZERO);
    assert_eq!(world.sent(1, "AskPackOrders"), []);
    world.packed(2, Tid::ZERO, Tid::ZERO);
    let order = order(before);
    assert_eq!(world.tell(&[(id, order.clone())], id), (Tid::ZERO, id));
    let (after, orders) = (Tid::ZERO, vec![(id, order)]);
    for n in [1, 2] {
        let (after, orders) = (after, orders.clone());
        assert_eq!(world.told(n), [Packet::NotifyPackOrders { after, orders }]);
    }
    let progress = world.progress(client);
    assert_eq!((progress.order, progress.packed_at), (Some(id), before));
    assert_eq!((progress.cells_done, progress.cells), (0, 2));
    world.packed(2, id, before);
    assert_eq!(world.answer(client, wait), None);
    assert_eq!(world.progress(client).cells_done, 1);
    world.packed(1, id, before);
    assert_eq!(
        world.answer(client, wait),
        Some(Packet::AnswerWaitPack { id })
    );
    assert_eq!(world.progress(client).order, None);
    // What is done is answered at once, and what never was is refused.
    let done = world.ask(client, Packet::AskWaitPack { id });
    assert_eq!(done, Some(Packet::AnswerWaitPack { id }));
    let later = Tid(id.0 + 1);
    let refused = world.ask(client, Packet::AskWaitPack { id: later });
    assert!(matches!(
        refused,
        Some(Packet::Error {
            code: ErrorCode::Denied,
            ..
        })
    ));
}

#[test]
fn what_cannot_be_told_yet_is_asked_for_again() {
    let mut world = running(2);
    let client = world.client();
    let id = world.orders(client);
    for n in [1, 2] {
        world.packed(n, Tid::ZERO, Tid::ZERO);
    }
    // A transaction was locked below.
    let below = Tid(id.0 - 1);
    world.tell(&[], below);
    assert_eq!(world.told(1), []);
    assert_eq!(world.tell(&[], below), (below, id));
    world.sleep(std::time::Duration::from_secs(5));
    world.tell(&[(id, order(below))], id);
    assert_eq!(world.told(1).len(), 1);
}

#[test]
fn a_node_that_is_lost_is_not_waited_for_and_does_its_packs_when_it_is_back() {
    let mut world = running(2);
    let client = world.client();
    let id = world.orders(client);
    for n in [1, 2] {
        world.packed(n, Tid::ZERO, Tid::ZERO);
    }
    let at = Tid(id.0 - 1);
    world.tell(&[(id, order(at))], id);
    let wait = world.request(client, Packet::AskWaitPack { id });
    world.packed(1, id, at);
    world.lose(2);
    assert_eq!(
        world.answer(client, wait),
        Some(Packet::AnswerWaitPack { id })
    );
    world.join(2);
    // It is not readable: what it told before does not count.
    assert_eq!(world.progress(client).cells, 1);
}

#[test]
fn what_is_left_of_revisions_is_asked_where_they_are() {
    let mut world = running(3);
    let ids = vec![(Tid(4), Oid(6)).into()];
    let (partition, at) = (PARTITION, Some(Tid(9)));
    let question = Packet::AskRemaining { partition, at, ids };
    let (one, two) = (world.conn_of(1), world.conn_of(2));
    let ask = |world: &mut World| {
        let first = MsgId(77);
        world.send(two, first, question.clone());
        world.settle();
        let mut asked = world.sent(1, "AskRemaining");
        assert_eq!(asked.len(), 1, "the first of the readable cells");
        let (id, packet) = asked.remove(0);
        assert_eq!(packet, question);
        id
    };
    let id = ask(&mut world);
    let answer = Packet::AnswerRemaining {
        remaining: vec![true],
    };
    world.send(one, id, answer.clone());
    world.settle();
    assert_eq!(
        world.sent(2, "AnswerRemaining"),
        [(MsgId(77), answer.clone())]
    );
    // A refusal is one.
    let id = ask(&mut world);
    let (code, message) = (ErrorCode::NotReady, "later".to_owned());
    let refusal = Packet::Error { code, message };
    world.send(one, id, refusal.clone());
    world.settle();
    assert_eq!(world.sent(2, "Error"), [(MsgId(77), refusal)]);
    // An answer to who is lost goes nowhere; the loss of who is asked is a refusal.
    let id = ask(&mut world);
    world.lose(2);
    world.send(one, id, answer);
    let three = world.conn_of(3);
    world.send(three, MsgId(78), question);
    world.settle();
    world.lose(1);
    let told = world.sent(3, "Error");
    let [(MsgId(78), Packet::Error { code, .. })] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(*code, ErrorCode::NotReady);
}
