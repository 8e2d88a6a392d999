//! Cells that are added, promoted and discarded while clients write to them.

use std::time::Duration;

use neo_api::{CellState, NodeType};
use neo_proto::Packet;
use neo_testkit::seed::Rng;
use neo_testkit::sim::{Handle, Happens, World, WorldSettings, c};

use super::contention::{Ends, work};
use super::forced::ask;
use super::{check, count, counters, heal, wait};

const CLIENTS: u8 = 3;
const ROUNDS: u32 = 25;

fn settings(seed: u64) -> WorldSettings {
    WorldSettings {
        seed,
        storages: 3,
        replicas: 1,
        clients: CLIENTS,
        puppets: 1,
        latency: (Duration::from_micros(50), Duration::from_millis(3)),
        ..WorldSettings::default()
    }
}

fn order(world: &mut World, packet: Packet) {
    match ask(world, NodeType::Admin, Some(packet)) {
        Packet::AnswerDone { .. } | Packet::AnswerTweakPartitionTable { .. } => {}
        other => panic!("{other:?}"),
    }
}

/// The number of copies is changed again and again: cells come, catch up, and are discarded. No
/// transaction is lost for that, and no node is taken to have failed.
#[test]
fn cells_that_move_among_writers_fail_nobody() {
    let mut moved = 0;
    for seed in 0..8 {
        let mut world = World::booted(settings(seed));
        let oids = counters(&mut world, c(1), 6);
        let mut rng = Rng::new(seed);
        let scripts: Vec<_> = (1..=CLIENTS)
            .map(|n| {
                let (oids, rng) = (oids.clone(), rng.fork());
                world.run_script(c(n), move |client| work(client, oids, rng, ROUNDS))
            })
            .collect();
        for replicas in [2, 0, 1, 2, 0, 2] {
            world.run_for(Duration::from_micros(rng.between(1_000, 60_000)));
            order(&mut world, Packet::SetNumReplicas { replicas });
            let ignore = Vec::new();
            let dry_run = false;
            order(&mut world, Packet::TweakPartitionTable { dry_run, ignore });
            moved += usize::from(!scripts.iter().all(Handle::is_done));
        }
        let mut ends = Ends::default();
        for script in &scripts {
            let of = wait(&mut world, "the end of a client", script);
            ends.done += of.done;
            ends.conflicts += of.conflicts;
            ends.lost += of.lost;
        }
        assert_eq!(ends.lost, 0, "seed {seed}: {ends:?}");
        let failed = |what: &Happens| {
            matches!(
                what,
                Happens::Delivery {
                    packet: "AskFailedVote",
                    ..
                }
            )
        };
        let points = world.points().iter();
        assert_eq!(points.filter(|point| failed(&point.what)).count(), 0);
        heal(&mut world);
        check(&world);
        let table = world.partition_table().expect("a table");
        let mut cells = table.rows.iter().flatten();
        assert!(cells.all(|cell| cell.state == CellState::UpToDate));
        let counted: i64 = oids.iter().map(|oid| count(&mut world, c(1), *oid)).sum();
        assert!(counted >= i64::from(ends.done), "seed {seed}: {counted}");
    }
    assert!(moved > 20, "{moved} of 48 among writers");
}
