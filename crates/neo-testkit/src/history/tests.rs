//! Each anomaly in a history of its own, and histories without one.

use super::*;

const X: Key = 1;
const Y: Key = 2;

fn txn(session: u64, reads: &[(Key, &[Element])], appends: &[(Key, Element)]) -> Transaction {
    Transaction {
        session,
        isolation: Isolation::Serialisable,
        reads: reads
            .iter()
            .map(|(key, list)| (*key, list.to_vec()))
            .collect(),
        appends: appends.to_vec(),
        outcome: Outcome::Committed,
    }
}

fn snapshot(mut txn: Transaction) -> Transaction {
    txn.isolation = Isolation::Snapshot;
    txn
}

fn ended(mut txn: Transaction, outcome: Outcome) -> Transaction {
    txn.outcome = outcome;
    txn
}

/// Each in a session of its own, unless it says otherwise.
fn kinds(transactions: Vec<Transaction>, lists: &[(Key, &[Element])]) -> Vec<Kind> {
    let lists = lists.iter().map(|(key, list)| (*key, list.to_vec()));
    let history = History {
        transactions,
        lists: lists.collect(),
    };
    let anomalies = history.anomalies();
    anomalies.iter().map(|anomaly| anomaly.kind).collect()
}

#[test]
fn a_good_history_has_none() {
    let transactions = vec![
        txn(1, &[(X, &[]), (Y, &[])], &[(X, 1), (Y, 2)]),
        txn(2, &[(X, &[1])], &[(X, 3)]),
        snapshot(txn(3, &[(X, &[1]), (Y, &[2])], &[])),
        ended(txn(3, &[(X, &[1, 3])], &[(X, 4)]), Outcome::Aborted),
        ended(txn(4, &[(X, &[1, 3])], &[(X, 5)]), Outcome::Unknown),
        ended(txn(4, &[(Y, &[2])], &[(Y, 6)]), Outcome::Unknown),
        snapshot(txn(5, &[(X, &[1, 3, 5])], &[(Y, 7)])),
    ];
    let lists: &[(Key, &[Element])] = &[(X, &[1, 3, 5]), (Y, &[2, 7])];
    assert_eq!(kinds(transactions, lists), []);
}

#[test]
fn duplicates_and_elements_from_nowhere() {
    let transactions = vec![txn(1, &[], &[(X, 1)])];
    let lists: &[(Key, &[Element])] = &[(X, &[1, 9, 1])];
    assert_eq!(
        kinds(transactions, lists),
        [Kind::FromNowhere, Kind::Duplicate]
    );
}

#[test]
fn reads_that_agree_on_no_order() {
    let transactions = vec![
        txn(1, &[], &[(X, 1)]),
        txn(2, &[], &[(X, 2)]),
        snapshot(txn(3, &[(X, &[2])], &[])),
    ];
    let found = kinds(transactions, &[(X, &[1, 2])]);
    assert_eq!(found[0], Kind::IncompatibleOrder);
}

#[test]
fn a_committed_append_that_is_gone() {
    let transactions = vec![txn(1, &[], &[(X, 1)]), txn(2, &[], &[(X, 2)])];
    assert_eq!(kinds(transactions, &[(X, &[1])]), [Kind::LostAppend]);
    // Somebody saw it, so it was committed.
    let transactions = vec![
        ended(txn(1, &[], &[(X, 1)]), Outcome::Unknown),
        txn(2, &[(X, &[1])], &[]),
    ];
    let found = kinds(transactions, &[(X, &[])]);
    assert!(found.contains(&Kind::LostAppend), "{found:?}");
}

#[test]
fn g1a_aborted_read() {
    let transactions = vec![
        ended(txn(1, &[], &[(X, 1)]), Outcome::Aborted),
        snapshot(txn(2, &[(X, &[1])], &[])),
    ];
    let found = kinds(transactions, &[(X, &[])]);
    assert!(found.contains(&Kind::AbortedRead), "{found:?}");
}

#[test]
fn g1b_intermediate_read() {
    let transactions = vec![
        txn(1, &[], &[(X, 1), (X, 2)]),
        snapshot(txn(2, &[(X, &[1])], &[])),
    ];
    let found = kinds(transactions, &[(X, &[1, 2])]);
    assert!(found.contains(&Kind::IntermediateRead), "{found:?}");
}

#[test]
fn g0_write_cycle() {
    let transactions = vec![
        txn(1, &[], &[(X, 1), (Y, 1)]),
        txn(2, &[], &[(X, 2), (Y, 2)]),
    ];
    let lists: &[(Key, &[Element])] = &[(X, &[1, 2]), (Y, &[2, 1])];
    assert_eq!(kinds(transactions.clone(), lists), [Kind::WriteCycle]);
    let transactions = transactions.into_iter().map(snapshot).collect();
    assert_eq!(kinds(transactions, lists), [Kind::WriteCycle]);
}

#[test]
fn g1c_circular_information_flow() {
    let transactions = vec![
        txn(1, &[(Y, &[2])], &[(X, 1)]),
        txn(2, &[(X, &[1])], &[(Y, 2)]),
    ];
    let lists: &[(Key, &[Element])] = &[(X, &[1]), (Y, &[2])];
    assert_eq!(kinds(transactions, lists), [Kind::CircularInformation]);
}

#[test]
fn g_single_lost_update() {
    let both = vec![
        txn(1, &[(X, &[])], &[(X, 1)]),
        txn(2, &[(X, &[])], &[(X, 2)]),
    ];
    assert_eq!(kinds(both.clone(), &[(X, &[1, 2])]), [Kind::LostUpdate]);
    let both = both.into_iter().map(snapshot).collect();
    assert_eq!(kinds(both, &[(X, &[1, 2])]), [Kind::LostUpdate]);
}

#[test]
fn g_single_fractured_read() {
    let transactions = vec![
        txn(1, &[], &[(X, 1), (Y, 1)]),
        snapshot(txn(2, &[(X, &[1]), (Y, &[])], &[])),
    ];
    let lists: &[(Key, &[Element])] = &[(X, &[1]), (Y, &[1])];
    assert_eq!(kinds(transactions, lists), [Kind::FracturedRead]);
    // What a transaction that fails has read must be of one moment too.
    let transactions = vec![
        txn(1, &[], &[(X, 1), (Y, 1)]),
        ended(txn(2, &[(X, &[1]), (Y, &[])], &[(X, 2)]), Outcome::Aborted),
    ];
    assert_eq!(kinds(transactions, lists), [Kind::FracturedRead]);
}

#[test]
fn g_single_over_several() {
    let transactions = vec![
        txn(1, &[], &[(X, 1)]),
        txn(2, &[(X, &[1])], &[(Y, 2)]),
        snapshot(txn(3, &[(Y, &[2]), (X, &[])], &[])),
    ];
    let lists: &[(Key, &[Element])] = &[(X, &[1]), (Y, &[2])];
    assert_eq!(kinds(transactions, lists), [Kind::SingleAntiDependency]);
}

#[test]
fn g2_long_fork() {
    let transactions = vec![
        txn(1, &[], &[(X, 1)]),
        txn(2, &[], &[(Y, 2)]),
        snapshot(txn(3, &[(X, &[1]), (Y, &[])], &[])),
        snapshot(txn(4, &[(X, &[]), (Y, &[2])], &[])),
    ];
    let lists: &[(Key, &[Element])] = &[(X, &[1]), (Y, &[2])];
    assert_eq!(kinds(transactions, lists), [Kind::LongFork]);
}

#[test]
fn write_skew_is_for_those_who_do_not_check_what_they_read() {
    let skew = |check: fn(Transaction) -> Transaction| {
        vec![
            check(txn(1, &[(X, &[]), (Y, &[])], &[(X, 1)])),
            check(txn(2, &[(X, &[]), (Y, &[])], &[(Y, 2)])),
        ]
    };
    let lists: &[(Key, &[Element])] = &[(X, &[1]), (Y, &[2])];
    assert_eq!(kinds(skew(|txn| txn), lists), [Kind::AntiDependency]);
    assert_eq!(kinds(skew(snapshot), lists), []);
}

#[test]
fn a_session_does_not_go_back() {
    let transactions = vec![
        txn(1, &[], &[(X, 1)]),
        snapshot(txn(2, &[(X, &[1])], &[])),
        snapshot(txn(2, &[(X, &[])], &[])),
    ];
    let found = kinds(transactions, &[(X, &[1])]);
    assert_eq!(found, [Kind::SingleAntiDependency]);
    // Its own commits it sees.
    let transactions = vec![txn(1, &[], &[(X, 1)]), snapshot(txn(1, &[(X, &[])], &[]))];
    assert_eq!(
        kinds(transactions, &[(X, &[1])]),
        [Kind::SingleAntiDependency]
    );
}
