//! Clocks that jump, and tids that clients impose.

use std::time::Duration;

use neo_api::Tid;
use neo_client::Error;
use neo_testkit::sim::{InFlight, Keep, SimClient, World, c, m};

use super::{change, check, check_and_crash, objects, replicated, run, settle, single};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Tids increase whatever the wall clock does, in one reign and over a restart of the master.
#[test]
fn tids_increase_when_the_clock_jumps() {
    for restart in [false, true] {
        let mut world = World::booted(replicated(1));
        let (oids, mut last) = objects(&mut world, c(1), 1);
        let oid = oids[0];
        for jump in [
            -3600 * SECOND,
            60 * SECOND,
            -400 * DAY,
            300 * DAY,
            200 * DAY,
            -DAY,
        ] {
            world.shift_wall_clock(m(1), jump);
            if restart {
                world.crash(&[m(1)], Keep::None, InFlight::Lost);
                world.heal().unwrap();
            }
            let next = run(&mut world, c(1), async move |client: SimClient| {
                client.wait_ready(Duration::from_secs(60)).await?;
                change(&client, oid, last, "next").await
            });
            let next = next.unwrap();
            assert!(
                next > last,
                "after a jump of {jump} us: {next} after {last}"
            );
            last = next;
        }
        settle(&mut world);
        check_and_crash(&mut world);
    }
}

/// A clock that jumps far ahead while the master runs is not followed: the tids would be ahead of
/// the time for ever.
#[test]
fn a_clock_that_jumps_far_ahead_is_not_followed() {
    let mut world = World::booted(single(1));
    let (oids, first) = objects(&mut world, c(1), 1);
    let oid = oids[0];
    world.shift_wall_clock(m(1), 3650 * DAY);
    let second = run(&mut world, c(1), async move |client: SimClient| {
        change(&client, oid, first, "second").await
    });
    let ahead = second.unwrap().to_unix().0 - first.to_unix().0;
    assert!(ahead < 3600 * SECOND, "{ahead} us");
    settle(&mut world);
    check(&world);
}

/// Imposed tids: those that are not above the last, beyond the greatest or far in the future are
/// refused, and do no harm.
#[test]
fn an_imposed_tid_must_make_sense() {
    let mut world = World::booted(replicated(1));
    let (oids, first) = objects(&mut world, c(1), 1);
    let oid = oids[0];
    let imposed = run(&mut world, c(1), async move |client: SimClient| {
        // Three days; the high word counts minutes.
        let far = Tid(first.0 + ((3 * 1440) << 32));
        for wrong in [Tid::ZERO, Tid(first.0 - 1), first, far, Tid(Tid::MAX.0 + 1)] {
            let result = client.begin_at(Some(wrong)).await;
            assert!(result.is_err(), "{wrong} was taken");
        }
        let right = Tid(first.0 + 1000);
        let txn = client.begin_at(Some(right)).await?;
        txn.store(oid, first, "restored").await?;
        let tid = txn.commit().await?;
        assert_eq!(tid, right);
        let next = change(&client, oid, tid, "next").await?;
        assert!(next > tid);
        Ok::<_, Error>(())
    });
    imposed.unwrap();
    settle(&mut world);
    check_and_crash(&mut world);
}
