//! Orders that wait are answered, whatever ends what they wait for.

use std::time::Duration;

use neo_api::{
    Address, ClusterState, Election, ElectionEffect, ElectionInput, Instant, NodeState, Reign, Tid,
    TxnId,
};
use neo_proto::{ConnId, Input, MsgId, Packet};

use super::harness::*;
use crate::{Command, MasterCore, MasterSettings};

/// Leads until it is told something else.
#[derive(Debug)]
struct Leads;

impl Election for Leads {
    fn handle(&mut self, _: Instant, input: ElectionInput, out: &mut Vec<ElectionEffect>) {
        match input {
            ElectionInput::Started { .. } => out.push(ElectionEffect::Lead),
            ElectionInput::External(_) => {
                out.push(ElectionEffect::Follow(Address::new("m2", 1)));
            }
            _ => {}
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

/// Two storage nodes that share two partitions, and a third that is PENDING.
fn running(replicas: u32) -> World {
    let settings = MasterSettings {
        autostart: Some(2),
        replicas,
        partitions: 2,
        masters: vec![Address::new("m2", 1)],
        ..MasterSettings::new("c")
    };
    let own = Address::new("m", 1);
    let core = MasterCore::with_election(settings, own, [1; 4], Box::new(Leads));
    let mut world = World::of(core);
    world.input(Input::Timer);
    for n in 1..=3 {
        world.storages.insert(n, Storage::new(n));
        world.join(n);
    }
    assert_eq!(world.state(), ClusterState::Running);
    world
}

fn hold(world: &mut World, n: u32, name: &'static str) {
    world.storages.get_mut(&n).unwrap().holds.insert(name);
}

/// The master stands still, and starts over with every copy as it was.
fn sleep(world: &mut World) {
    let asleep = world.core.settings.asleep_max() + Duration::from_secs(1);
    world.now.mono = world.now.mono + asleep;
    world.input(Input::Timer);
    assert_eq!(world.state(), ClusterState::Recovering);
}

/// An order that waits: for a promotion, for a node that joins, for a survey.
fn waits(order: &Packet) -> (World, ConnId, MsgId) {
    let is_start = matches!(order, Packet::SetClusterState { .. });
    let mut world = running(u32::from(is_start));
    let admin = world.admin();
    match order {
        Packet::SetClusterState { .. } => {
            sleep(&mut world);
            hold(&mut world, 1, "AskLastIds");
            world.join(1);
        }
        Packet::AddPendingNodes { .. } => hold(&mut world, 3, "AskStartReign"),
        _ => {
            world.ask(admin, Packet::SetNumReplicas { replicas: 1 });
            let (dry_run, ignore) = (false, Vec::new());
            world.ask(admin, Packet::TweakPartitionTable { dry_run, ignore });
            world.register(2);
            hold(&mut world, 1, "NotifyPartitionChanges");
            world.complete(2);
        }
    }
    let id = world.request(admin, order.clone());
    assert_eq!(world.answer(admin, id), None, "{order:?} waits");
    (world, admin, id)
}

fn orders() -> [Packet; 5] {
    let dry_run = false;
    [
        Packet::TweakPartitionTable {
            dry_run,
            ignore: Vec::new(),
        },
        Packet::SetNumReplicas { replicas: 1 },
        Packet::SetNodeState {
            nid: nid("S3"),
            state: NodeState::Unknown,
        },
        Packet::AddPendingNodes { nodes: Vec::new() },
        Packet::SetClusterState {
            state: ClusterState::Verifying,
        },
    ]
}

#[test]
fn every_order_that_waits_is_answered_whatever_ends_it() {
    type Way = (&'static str, fn(&mut World));
    let ways: [Way; 6] = [
        ("no readable cell left", |world| {
            world.lose(1);
            // What comes next finds it so, at the latest.
            world.input(Input::Timer);
        }),
        ("asleep", sleep),
        ("", |world| {
            let ttid = Tid(1);
            let reign = Reign(u64::MAX);
            let client = world.client();
            world.ask(
                client,
                Packet::AskFinalTid {
                    txn: TxnId { reign, ttid },
                },
            );
        }),
        ("not the primary", |world| {
            world.command(Command::External("follow".into()));
        }),
        ("this master stops", |world| world.command(Command::Stop)),
        ("the cluster is stopping", |world| {
            world.command(Command::StopCluster);
        }),
    ];
    for order in orders() {
        let starts = matches!(order, Packet::SetClusterState { .. });
        for (told, way) in ways {
            // A start waits in RECOVERING, where there is nothing to fall back from.
            let needs_running = ["no readable cell left", "asleep", ""].contains(&told);
            if starts && needs_running {
                continue;
            }
            let (mut world, admin, id) = waits(&order);
            way(&mut world);
            let answer = words(world.answer(admin, id));
            let is_told = answer.contains("given up") && answer.contains(told);
            assert!(is_told, "{order:?}, {told:?}: {answer}");
        }
    }
}
