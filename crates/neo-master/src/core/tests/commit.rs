//! Begin, finish, lock, commit, abort, and the final tid.

use neo_api::{Oid, Tid};
use neo_proto::{FinalTid, Packet};

use super::harness::*;

#[test]
fn a_transaction_is_committed_everywhere_and_told_to_the_others() {
    let mut world = World::running(2, 1, 4);
    let (a, b) = (world.client(), world.client());
    world.received(b);
    let txn = world.begin(a);
    world.vote(txn, &[1, 2]);
    world.received(a);
    let id = world.finish(a, txn, &[]);
    let Some(Packet::AnswerTransactionFinished { tid, .. }) = world.answer(a, id) else {
        panic!("it is committed")
    };
    assert_eq!(tid.0 % 4, txn.ttid.0 % 4);
    assert_eq!(world.received(a), [], "the answer is its invalidation");
    let oids = Vec::<Oid>::new().into();
    assert_eq!(world.received(b), [Packet::InvalidateObjects { tid, oids }]);
    for n in 1..=2 {
        assert_eq!(world.storages[&n].committed[&txn], tid);
    }
    assert_eq!(world.last_tid(b), tid);
}

#[test]
fn the_remainder_holds_for_any_number_of_partitions() {
    for np in [1, 2, 7, 13, 100] {
        let mut world = World::running(1, 0, np);
        let client = world.client();
        let mut last = Tid::ZERO;
        for _ in 0..5 {
            let txn = world.begin(client);
            world.vote(txn, &[1]);
            let id = world.finish(client, txn, &[]);
            let Some(Packet::AnswerTransactionFinished { tid, .. }) = world.answer(client, id)
            else {
                panic!("it is committed")
            };
            assert_eq!(tid.0 % u64::from(np), txn.ttid.0 % u64::from(np));
            assert!(tid > last && tid >= txn.ttid);
            last = tid;
        }
    }
}

#[test]
fn final_tid_of_what_never_was() {
    let mut world = World::running(1, 0, 1);
    let client = world.client();
    let mut txn = world.begin(client);
    txn.ttid = Tid(txn.ttid.0 + 1);
    let answer = world.ask(client, Packet::AskFinalTid { txn });
    let tid = FinalTid::NotCommitted;
    assert_eq!(answer, Some(Packet::AnswerFinalTid { tid }));
}
