use neo_api::{Reign, Tid};
use proptest::prelude::*;

use super::*;

fn txn(n: u64) -> TxnId {
    TxnId {
        reign: Reign(1),
        ttid: Tid(n),
    }
}

const OID: Oid = Oid(7);

fn waits(holder: u64, deadlocks: &[u64]) -> Requested {
    Requested::Waits {
        holder: txn(holder),
        deadlocks: deadlocks.iter().copied().map(txn).collect(),
    }
}

#[test]
fn an_older_holder_is_waited_for_and_a_younger_one_is_told_once() {
    let mut locks = Locks::default();
    let granted = locks.request(txn(5), OID, Mode::Exclusive, Ticket(1));
    assert_eq!(granted, Requested::Granted);
    // Younger: plain wait. Older: the holder is told, once.
    let younger = locks.request(txn(6), OID, Mode::Exclusive, Ticket(2));
    assert_eq!(younger, waits(5, &[]));
    let older = locks.request(txn(4), OID, Mode::Exclusive, Ticket(3));
    assert_eq!(older, waits(5, &[5]));
    let older = locks.request(txn(3), OID, Mode::Shared, Ticket(4));
    assert_eq!(older, waits(5, &[]));
    // The oldest first, though it came last.
    assert_eq!(locks.end(txn(5)), [Ticket(4)]);
    assert_eq!(locks.end(txn(3)), [Ticket(3)]);
    assert_eq!(locks.end(txn(4)), [Ticket(2)]);
    assert!(locks.end(txn(6)).is_empty());
    assert!(locks.oids.is_empty() && locks.txns.is_empty());
}

#[test]
fn who_voted_is_not_told() {
    let mut locks = Locks::default();
    locks.request(txn(5), OID, Mode::Exclusive, Ticket(1));
    locks.vote(txn(5));
    let older = locks.request(txn(4), OID, Mode::Exclusive, Ticket(2));
    assert_eq!(older, waits(5, &[]));
}

#[test]
fn checks_share_but_do_not_starve_a_store() {
    let mut locks = Locks::default();
    for n in [5, 6] {
        let granted = locks.request(txn(n), OID, Mode::Shared, Ticket(n));
        assert_eq!(granted, Requested::Granted);
    }
    let store = locks.request(txn(7), OID, Mode::Exclusive, Ticket(7));
    assert_eq!(store, waits(5, &[]));
    // A younger check waits behind the store, an older one does not.
    assert_eq!(
        locks.request(txn(8), OID, Mode::Shared, Ticket(8)),
        waits(7, &[])
    );
    let older = locks.request(txn(4), OID, Mode::Shared, Ticket(9));
    assert_eq!(older, Requested::Granted);
    for n in [4, 5] {
        assert!(locks.end(txn(n)).is_empty());
    }
    assert_eq!(locks.end(txn(6)), [Ticket(7)]);
    assert_eq!(locks.end(txn(7)), [Ticket(8)]);
}

#[test]
fn a_check_becomes_a_store_when_it_is_alone() {
    let mut locks = Locks::default();
    locks.request(txn(5), OID, Mode::Shared, Ticket(1));
    locks.request(txn(6), OID, Mode::Shared, Ticket(2));
    // The older wants more: the younger is told, and relocks.
    let upgrade = locks.request(txn(5), OID, Mode::Exclusive, Ticket(3));
    assert_eq!(upgrade, waits(6, &[6]));
    let (relock, granted) = locks.relock(txn(6), OID, Ticket(4)).unwrap();
    assert_eq!(relock, waits(5, &[]));
    assert_eq!(granted, [Ticket(3)]);
    assert_eq!(locks.end(txn(5)), [Ticket(4)]);
    // Alone, at once, although an older one waits for it anyway.
    let older = locks.request(txn(4), OID, Mode::Exclusive, Ticket(5));
    assert_eq!(older, waits(6, &[6]));
    let upgrade = locks.request(txn(6), OID, Mode::Exclusive, Ticket(6));
    assert_eq!(upgrade, Requested::Granted);
}

#[test]
fn a_relock_that_nobody_older_waits_for_is_granted_at_once() {
    let mut locks = Locks::default();
    locks.request(txn(5), OID, Mode::Exclusive, Ticket(1));
    locks.request(txn(6), OID, Mode::Exclusive, Ticket(2));
    let relocked = locks.relock(txn(5), OID, Ticket(3));
    assert_eq!(relocked, Some((Requested::Granted, vec![])));
    assert_eq!(locks.relock(txn(6), OID, Ticket(4)), None);
}

/// Checks what must hold after every step.
fn check(locks: &Locks) {
    for (oid, lock) in &locks.oids {
        let exclusive = lock.holders.values().any(|h| h.mode == Mode::Exclusive);
        assert!(!exclusive || lock.holders.len() == 1, "{oid}: {lock:?}");
        assert!(!lock.holders.is_empty(), "{oid} is free, and waited for");
        for (&(waiting, ticket), &mode) in &lock.queue {
            let in_the_way = lock
                .holders
                .iter()
                .filter(|(holder, held)| **holder != waiting && !compatible(mode, held.mode));
            let mut blocked = lock.queue.range(..(waiting, ticket)).next().is_some();
            for (holder, held) in in_the_way {
                blocked = true;
                let voted = locks.txns[holder].voted;
                assert!(*holder < waiting || voted || held.told, "{oid}: {lock:?}");
            }
            assert!(blocked, "{waiting} waits for nobody: {lock:?}");
            assert!(locks.txns[&waiting].oids.contains(oid));
        }
    }
}

#[derive(Debug, Clone)]
struct Plan {
    /// What it locks, in this order.
    wants: Vec<(u8, bool)>,
    /// It aborts after so many steps instead of voting.
    aborts: Option<u8>,
}

#[derive(Debug, Default)]
struct Run {
    next: usize,
    waiting: Option<Ticket>,
    relocks: BTreeMap<Ticket, Oid>,
    told: Vec<Oid>,
    steps: u8,
    voted: bool,
    ended: bool,
}

/// Plays transactions that do as a client does, in an order that the picks choose, until all end.
fn play(plans: &[Plan], picks: &[u8]) {
    let mut locks = Locks::default();
    let mut runs: Vec<Run> = plans.iter().map(|_| Run::default()).collect();
    let mut owners: BTreeMap<Ticket, usize> = BTreeMap::new();
    let mut last = 0;
    let mut idle = 0usize;
    for step in 0.. {
        assert!(step < 10_000, "no end: {runs:?} {locks:?}");
        if runs.iter().all(|run| run.ended) {
            break;
        }
        assert!(idle < 2 * plans.len(), "stuck: {runs:?} {locks:?}");
        let n = picks.get(step).map_or(step, |pick| usize::from(*pick)) % plans.len();
        let (me, run, plan) = (txn(n as u64), &mut runs[n], &plans[n]);
        // Once the picks are used up everybody has its turn, and somebody must get on.
        idle += usize::from(step >= picks.len());
        if run.ended {
            continue;
        }
        last += 1;
        let ticket = Ticket(last);
        owners.insert(ticket, n);
        let (mut granted, mut blocked) = (Vec::new(), false);
        run.steps = run.steps.saturating_add(1);
        let asked = if !run.voted && plan.aborts.is_some_and(|after| run.steps > after) {
            granted = locks.end(me);
            run.ended = true;
            None
        } else if let Some(oid) = run.told.pop().filter(|_| !run.voted) {
            locks.relock(me, oid, ticket).map(|(outcome, more)| {
                granted = more;
                if outcome != Requested::Granted {
                    run.relocks.insert(ticket, oid);
                }
                (outcome, oid)
            })
        } else if run.waiting.is_some() || !run.relocks.is_empty() {
            blocked = true;
            None
        } else if let Some(&(oid, exclusive)) = plan.wants.get(run.next) {
            let mode = if exclusive {
                Mode::Exclusive
            } else {
                Mode::Shared
            };
            let oid = Oid(oid.into());
            let outcome = locks.request(me, oid, mode, ticket);
            run.next += 1;
            run.waiting = (outcome != Requested::Granted).then_some(ticket);
            Some((outcome, oid))
        } else if run.voted {
            granted = locks.end(me);
            run.ended = true;
            None
        } else {
            locks.vote(me);
            run.voted = true;
            None
        };
        if !blocked {
            idle = 0;
        }
        if let Some((Requested::Waits { deadlocks, .. }, oid)) = asked {
            for told in deadlocks {
                runs[told.ttid.0 as usize].told.push(oid);
            }
        }
        for ticket in granted {
            let run = &mut runs[owners[&ticket]];
            assert!(!run.ended, "granted to a transaction that ended");
            if run.waiting == Some(ticket) {
                run.waiting = None;
            } else {
                assert!(run.relocks.remove(&ticket).is_some());
            }
        }
        check(&locks);
    }
    assert!(locks.oids.is_empty(), "{locks:?}");
}

fn plan() -> impl Strategy<Value = Plan> {
    (
        prop::collection::vec((0u8..4, any::<bool>()), 1..6),
        prop::option::weighted(0.2, 0u8..12),
    )
        .prop_map(|(wants, aborts)| Plan { wants, aborts })
}

proptest! {
    #[test]
    fn everybody_gets_there(
        plans in prop::collection::vec(plan(), 1..7),
        picks in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        play(&plans, &picks);
    }
}
