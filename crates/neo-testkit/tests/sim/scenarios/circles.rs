//! Three transactions of which each wants what the next one has: whoever fails in the circle, the
//! others come through.

use std::time::Duration;

use bytes::Bytes;
use neo_api::{ConflictingChange, Oid};
use neo_client::Error;
use neo_testkit::sim::{SimClient, World, WorldSettings, c};

use super::{
    add, check_and_crash, count, counters, replicated, settle, single, split, store_next, wait,
};

/// Longer than what a storage node keeps in memory until the vote: it is written at once.
const BIG: usize = 2 << 20;

/// What one of the three does that is not to succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fails {
    /// Its changes can't be merged.
    Merge,
    /// So it is, and they are large.
    BigMerge,
    /// Its first object it only checks.
    FirstCheck,
    /// Its second object it only checks.
    SecondCheck,
}

fn refuse(_: &ConflictingChange) -> Option<Bytes> {
    None
}

/// Takes two objects, the second one when the others have their first.
async fn take(
    client: SimClient,
    [first, second]: [Oid; 2],
    late: Duration,
    pause: Duration,
    fails: Option<Fails>,
) -> Result<(), Error> {
    client.sleep(late).await;
    let mut txn = client.begin().await?;
    for (oid, checked) in [(first, Fails::FirstCheck), (second, Fails::SecondCheck)] {
        let (serial, _) = client.load(oid).await?.expect("a counter");
        match fails {
            Some(fails) if fails == checked => txn.check(oid, serial).await?,
            Some(Fails::BigMerge) => txn.store(oid, serial, vec![b'9'; BIG]).await?,
            _ => store_next(&client, &txn, oid).await?,
        }
        client.sleep(pause).await;
    }
    let resolver = if fails.is_some() { refuse } else { add };
    txn.vote_with(resolver).await?;
    txn.finish().await.map(drop)
}

/// Of those who came first to last, the `failing` one fails, and nobody else.
fn circle(settings: WorldSettings, failing: usize, fails: Fails, pause: Duration) {
    let words = format!("{fails:?} of {failing}, pause {pause:?}");
    let mut world = World::booted(settings);
    let oids = counters(&mut world, c(1), 3);
    let began = world.now();
    let scripts: Vec<_> = (0..3)
        .map(|n| {
            let wants = [oids[n], oids[(n + 1) % 3]];
            // The first to begin is the oldest, to which others give way.
            let late = Duration::from_micros(100 * n as u64);
            let fails = (n == failing).then_some(fails);
            let name = c(n as u8 + 1);
            world.run_script(name, move |client| take(client, wants, late, pause, fails))
        })
        .collect();
    for (n, script) in scripts.iter().enumerate() {
        match wait(&mut world, &words, script) {
            Ok(()) => assert_ne!(n, failing, "{words}"),
            Err(error) => assert!(n == failing && error.is_conflict(), "{words}: {n}: {error}"),
        }
    }
    let took = world.now() - began;
    assert!(took < Duration::from_secs(1), "{words}: {took:?}");
    settle(&mut world);
    check_and_crash(&mut world);
    for (n, oid) in oids.into_iter().enumerate() {
        // By the one whose first it is, and the one whose second it is.
        let by = [n, (n + 2) % 3];
        let expected = by.iter().filter(|by| **by != failing).count();
        assert_eq!(count(&mut world, c(1), oid), expected as i64, "{words}");
    }
}

fn circles(failing: &[usize], fails: Fails) {
    for settings in [single(3), replicated(3), split(3)] {
        for failing in failing {
            for pause in [1, 3, 10] {
                circle(
                    settings.clone(),
                    *failing,
                    fails,
                    Duration::from_millis(pause),
                );
            }
        }
    }
}

#[test]
fn a_merge_that_fails_in_a_circle_of_three_frees_the_others() {
    circles(&[1, 2], Fails::Merge);
}

#[test]
fn a_large_value_whose_merge_fails_in_a_circle_of_three_leaves_nothing() {
    circles(&[1, 2], Fails::BigMerge);
}

#[test]
fn a_check_that_fails_in_a_circle_of_three_frees_the_others() {
    circles(&[1, 2], Fails::FirstCheck);
    // What the one in the middle wants second, it gets: the last one gives way.
    circles(&[2], Fails::SecondCheck);
}
