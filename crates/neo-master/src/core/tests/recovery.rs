//! RECOVERING: from which table, with whom, and whom it waits for.

use std::time::Duration;

use neo_api::{Address, CellState, ClusterState, NodeType, Ptid, Reign, TableVersion, Tid, TxnId};
use neo_proto::{MsgId, Packet};

use super::harness::*;
use crate::MasterSettings;

fn settings(partitions: u32, replicas: u32) -> MasterSettings {
    MasterSettings {
        partitions,
        replicas,
        ..MasterSettings::new("c")
    }
}

fn version(reign: u64, ptid: u64) -> TableVersion {
    TableVersion {
        reign: Reign(reign),
        ptid: Ptid(ptid),
    }
}

fn start(world: &mut World) -> Option<Packet> {
    let admin = world.admin();
    let state = ClusterState::Verifying;
    world.ask(admin, Packet::SetClusterState { state })
}

#[test]
fn the_layout_of_a_new_cluster() {
    for (np, nr, nodes, rows) in [
        (3, 0, 1, vec!["1U", "1U", "1U"]),
        (3, 0, 2, vec!["1U", "2U", "1U"]),
        (3, 1, 2, vec!["1U2U", "1U2U", "1U2U"]),
        (4, 1, 3, vec!["1U2U", "1U3U", "2U3U", "1U2U"]),
        (2, 5, 2, vec!["1U2U", "1U2U"]),
        (1, 0, 3, vec!["1U"]),
    ] {
        let world = World::running(nodes, nr, np);
        assert_eq!(world.rows(), rows, "{np} {nr} {nodes}");
        assert_eq!(world.table().version, version(1, 1));
        for storage in world.storages.values() {
            assert!(storage.operating);
            let identity = storage.recovery.identity.as_ref().unwrap();
            assert_eq!(identity.epochs.len(), 1);
            assert_eq!(storage.table.as_ref(), Some(world.table()));
        }
    }
}

#[test]
fn autostart_waits_for_so_many_nodes() {
    let mut world = World::new(MasterSettings {
        autostart: Some(2),
        ..settings(1, 0)
    });
    world.storages.insert(1, Storage::new(1));
    world.join(1);
    assert_eq!(world.state(), ClusterState::Recovering);
    assert!(
        world.status.waiting.contains("2 storage nodes"),
        "{}",
        world.status.waiting
    );
    world.lose(1);
    world.storages.insert(2, Storage::new(2));
    world.join(2);
    assert_eq!(
        world.state(),
        ClusterState::Recovering,
        "one at a time is not two"
    );
    world.join(1);
    assert_eq!(world.state(), ClusterState::Running);
}

#[test]
fn start_creates_a_cluster_of_the_nodes_that_are_there() {
    let mut world = World::new(settings(2, 1));
    assert!(words(start(&mut world)).contains("no storage node is connected"));
    world.storages.insert(1, Storage::new(1));
    world.join(1);
    assert!(world.status.waiting.contains("neoctl start"));
    assert!(matches!(start(&mut world), Some(Packet::AnswerDone { .. })));
    assert_eq!(world.rows(), ["1U", "1U"]);
    assert!(words(start(&mut world)).contains("started already"));
}

#[test]
fn start_waits_for_what_connected_nodes_remember() {
    let mut world = World::new(settings(1, 0));
    for n in 1..=2 {
        world.storages.insert(n, Storage::new(n));
        world
            .storages
            .get_mut(&n)
            .unwrap()
            .holds
            .insert("AskRecovery");
        world.join(n);
    }
    let admin = world.admin();
    let state = ClusterState::Verifying;
    let id = world.request(admin, Packet::SetClusterState { state });
    world.release(1, "AskRecovery");
    assert_eq!(world.answer(admin, id), None);
    let second = Packet::SetClusterState { state };
    assert!(words(world.ask(admin, second)).contains("under way"));
    world.release(2, "AskRecovery");
    assert!(matches!(
        world.answer(admin, id),
        Some(Packet::AnswerDone { .. })
    ));
}

#[test]
fn it_restarts_with_the_newest_table() {
    let mut world = World::running(3, 1, 3);
    world.lose(3);
    let newest = world.table().clone();
    assert_eq!(world.rows(), ["1U2U", "1U3O", "2U3O"]);
    world.restart_master();
    world.join(3);
    assert!(
        world.status.waiting.contains("S1, S2"),
        "{}",
        world.status.waiting
    );
    world.join(1);
    assert!(
        world.status.waiting.contains("waiting for S2"),
        "{}",
        world.status.waiting
    );
    world.join(2);
    assert_eq!(world.state(), ClusterState::Running);
    assert_eq!(world.table().version, version(2, newest.version.ptid.0));
    assert_eq!(world.table().rows, newest.rows);
    assert!(world.storages[&3].operating, "it has cells, out of date");
}

#[test]
fn the_table_is_asked_of_another_holder_when_one_is_lost() {
    let mut world = World::running(3, 2, 1);
    world.restart_master();
    for n in 1..=2 {
        world
            .storages
            .get_mut(&n)
            .unwrap()
            .holds
            .insert("AskPartitionTable");
    }
    world.join(1);
    world.join(2);
    assert_eq!(
        (
            world.held(1, "AskPartitionTable"),
            world.held(2, "AskPartitionTable")
        ),
        (1, 0)
    );
    world.lose(1);
    assert_eq!(world.held(2, "AskPartitionTable"), 1);
    world.release(2, "AskPartitionTable");
    world.join(1);
    world.join(3);
    assert_eq!(world.state(), ClusterState::Running);
}

#[test]
fn admins_are_told_for_whom_it_waits_and_of_each_change() {
    let mut world = World::running(2, 1, 1);
    world.restart_master();
    let told = |world: &mut World, admin| {
        let packets = world.received(admin).into_iter();
        let told = packets.filter_map(|packet| match packet {
            Packet::NotifyClusterInformation { state, waiting } => Some((state, waiting)),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    let admin = world.admin();
    let state = ClusterState::Recovering;
    let waiting = world.status.waiting.clone();
    assert!(waiting.contains("no cluster yet"), "{waiting}");
    assert_eq!(told(&mut world, admin), [(state, waiting)]);
    world.join(1);
    let waiting = world.status.waiting.clone();
    assert!(waiting.starts_with("waiting for S2 "), "{waiting}");
    assert_eq!(
        told(&mut world, admin).last(),
        Some(&(state, waiting.clone()))
    );
    let late = world.admin();
    assert_eq!(told(&mut world, late), [(state, waiting)]);
    world.join(2);
    let state = ClusterState::Running;
    assert_eq!(
        told(&mut world, admin).last(),
        Some(&(state, String::new()))
    );
}

#[test]
fn an_older_table_than_the_own_one_is_never_loaded() {
    let mut world = World::running(2, 1, 1);
    world.lose(2);
    let floor = world.table().version;
    world.lose(1);
    assert_eq!(world.state(), ClusterState::Recovering);
    world.join(2);
    assert_eq!(world.table().version, floor);
    assert!(
        world.status.waiting.contains("waiting for S1"),
        "{}",
        world.status.waiting
    );
    assert!(!world.storages[&2].log.contains(&"AskPartitionTable"));
    world.join(1);
    assert_eq!(world.rows(), ["1U2O"]);
    assert_eq!(world.state(), ClusterState::Running);
}

#[test]
fn reigns_come_before_ptids_and_epochs_before_reigns() {
    for (one, two, ptid) in [
        ((3, 9, 1), (3, 8, 1), 9),
        ((3, 9, 1), (4, 2, 1), 2),
        ((4, 9, 1), (1, 2, 2), 2),
        ((1, 2, 2), (4, 9, 1), 2),
    ] {
        let mut world = World::running(2, 1, 1);
        world.restart_master();
        for (n, (reign, ptid, epochs)) in [(1, one), (2, two)] {
            let storage = world.storages.get_mut(&n).unwrap();
            storage.recovery.version = Some(version(reign, ptid));
            storage.recovery.reign = Reign(reign);
            storage.recovery.identity = Some(identity(epochs));
            storage.table.as_mut().unwrap().version = version(reign, ptid);
            world.join(n);
        }
        assert_eq!(
            world.state(),
            ClusterState::Running,
            "{}",
            world.status.waiting
        );
        assert_eq!(
            world.table().version,
            version(5.min(one.0.max(two.0) + 1), ptid)
        );
    }
}

#[test]
fn clients_are_told_for_whom_the_cluster_waits() {
    let mut world = World::running(2, 0, 2);
    world.restart_master();
    world.join(1);
    let (conn, answer) = world.identify(World::identification(NodeType::Client));
    let told = words(Some(answer));
    assert!(
        told.contains("not ready: the cluster is RECOVERING: waiting for S2"),
        "{told}"
    );
    assert!(world.closed.contains_key(&conn));
}

#[test]
fn a_start_is_denied_when_data_would_be_missing() {
    let mut world = World::running(2, 0, 2);
    world.restart_master();
    world.join(1);
    let told = words(start(&mut world));
    assert!(told.contains("can't be started without S2"), "{told}");
    world.join(2);
    assert_eq!(world.state(), ClusterState::Running);
}

fn forced() -> (World, Tid) {
    let mut world = World::running(2, 1, 2);
    let client = world.client();
    let tid = world.commit(client, &[]);
    world.restart_master();
    world.join(1);
    match start(&mut world) {
        Some(Packet::AnswerDone { message }) => {
            assert!(message.contains("without S2"), "{message}")
        }
        other => panic!("{other:?}"),
    }
    (world, tid)
}

#[test]
fn a_forced_start_opens_an_epoch() {
    let (mut world, tid) = forced();
    assert_eq!(world.state(), ClusterState::Running);
    assert_eq!(world.rows(), ["1U2O", "1U2O"]);
    // A reign to which the side that is left behind never comes.
    assert_eq!(world.table().version, version(1 << 32, 2));
    let identity = world.storages[&1].recovery.identity.clone().unwrap();
    let [first, second] = identity.epochs[..] else {
        panic!("{identity:?}")
    };
    assert_eq!((second.number, second.parent), (2, Some(first.id)));
    assert_eq!((second.base_reign, second.base_ptid), (Reign(1), Ptid(1)));
    assert_eq!(second.base_tid, tid);
    // The one that was missing committed nothing on its own: it is let in, out of date.
    world.join(2);
    let storage = &world.storages[&2];
    assert!(storage.conn.is_some() && storage.operating);
    assert_eq!(storage.table.as_ref(), Some(world.table()));
    assert_eq!(storage.recovery.identity.as_ref(), Some(&identity));
}

#[test]
fn a_node_that_went_its_own_way_is_refused() {
    for locked in [false, true] {
        let (mut world, tid) = forced();
        let further = Tid(tid.0 + 10);
        let txn = TxnId {
            reign: Reign(1),
            ttid: further,
        };
        let storage = world.storages.get_mut(&2).unwrap();
        if locked {
            storage.unfinished.insert(txn, Some(further));
        } else {
            storage.committed.insert(txn, further);
        }
        world.join(2);
        assert_eq!(world.storages[&2].conn, None);
        let told = world.closed.values().last().unwrap();
        assert!(
            told.contains("on its own") && told.contains("empty database"),
            "{told}"
        );
        // It comes again at once, and hears why it can't join: that is the end of it.
        let told = words(Some(world.connect(2)));
        assert!(told.contains("on its own"), "{told}");
        // Once: another database may be in its place, which has to be asked.
        assert!(matches!(world.join(2), Packet::AcceptIdentification { .. }));
        assert_eq!(world.storages[&2].conn, None);
        // The next primary sees it too, whoever comes first.
        world.restart_master();
        world.join(2);
        assert_eq!(world.state(), ClusterState::Recovering);
        world.join(1);
        assert_eq!(world.state(), ClusterState::Running);
        assert_eq!(world.storages[&2].conn, None);
        let told = words(Some(world.connect(2)));
        assert!(told.contains("on its own"), "{told}");
        assert_eq!(world.rows(), ["1U2O", "1U2O"]);
    }
}

/// The others went on without the only node that had locked a transaction, under a master whose
/// clock was behind: they committed in a later reign, with a lesser tid.
#[test]
fn a_node_that_committed_in_a_later_reign_went_its_own_way_whatever_its_tids() {
    for (reign, refused) in [(1, false), (2, true)] {
        let (mut world, base) = forced();
        let txn = TxnId {
            reign: Reign(reign),
            ttid: Tid(base.0 - 1),
        };
        let storage = world.storages.get_mut(&2).unwrap();
        storage.committed.insert(txn, Tid(base.0 - 1));
        world.join(2);
        assert_eq!(world.storages[&2].conn.is_none(), refused, "reign {reign}");
        if refused {
            let told = world.closed.values().last().unwrap();
            assert!(
                told.contains("on its own, in reign 2, after reign 1,"),
                "{told}"
            );
        }
    }
}

#[test]
fn a_node_of_a_later_epoch_deposes_a_running_primary() {
    let mut world = World::running(2, 1, 1);
    let client = world.client();
    world.lose(2);
    let storage = world.storages.get_mut(&2).unwrap();
    let mut later = storage.recovery.identity.clone().unwrap();
    let parent = later.epochs[0];
    later.epochs.push(neo_api::Epoch {
        number: 2,
        id: neo_api::EpochId([7; 16]),
        parent: Some(parent.id),
        ..parent
    });
    storage.recovery.identity = Some(later);
    let conn = world.accept();
    let storage = &world.storages[&2];
    let mut identification = World::identification(NodeType::Storage);
    identification.nid = Some(storage.nid());
    identification.address = Some(storage.address());
    identification.identity = storage.recovery.identity.clone();
    let identification = Box::new(identification);
    world.send(
        conn,
        MsgId(1),
        Packet::RequestIdentification { identification },
    );
    assert_eq!(world.state(), ClusterState::Recovering);
    for conn in [conn, client] {
        assert!(
            world.closed[&conn].contains("by force"),
            "{:?}",
            world.closed
        );
    }
}

#[test]
fn a_later_reign_deposes_a_running_primary() {
    let mut world = World::running(1, 0, 1);
    let client = world.client();
    let txn = TxnId {
        reign: Reign(u64::MAX),
        ttid: Tid(1),
    };
    assert_eq!(
        world.ask(client, Packet::AskFinalTid { txn }),
        None,
        "it answers nothing"
    );
    assert!(world.closed.contains_key(&client));
    assert_eq!(world.state(), ClusterState::Recovering);
    world.join(1);
    assert_eq!(world.state(), ClusterState::Running);
    assert_eq!(
        world.status.reign,
        Reign(2),
        "what a client says is not believed"
    );
}

#[test]
fn nonsense_is_refused_in_words() {
    type Spoil = fn(&mut Storage);
    let cases: [(&str, Spoil); 7] = [
        ("makes no sense", |s| {
            s.table.as_mut().unwrap().rows[0].clear_twice()
        }),
        ("another partition table than it promised", |s| {
            s.table.as_mut().unwrap().version = version(9, 9);
        }),
        ("has lost its partition table", |s| s.table = None),
        ("that can't be", |s| s.recovery.reign = Reign(u64::MAX)),
        ("that can't be", |s| {
            s.recovery.version = Some(version(1, u64::MAX))
        }),
        ("another cluster", |s| {
            s.recovery.identity = Some(identity(1))
        }),
        ("chain of epochs", |s| {
            let mut broken = identity(2);
            broken.epochs[1].parent = None;
            s.recovery.identity = Some(broken);
        }),
    ];
    for (told, spoil) in cases {
        let mut world = World::running(2, 1, 1);
        world.restart_master();
        world.join(1);
        let good = world.storages[&2].clone();
        world.lose(1);
        world.restart_master();
        spoil(world.storages.get_mut(&2).unwrap());
        if told == "another cluster" {
            world.join(1);
        }
        // What it says when it identifies is right: what it remembers is looked at.
        let spoilt = world.storages.insert(2, good.clone()).unwrap();
        world.storages.get_mut(&2).unwrap().conn = None;
        world
            .storages
            .get_mut(&2)
            .unwrap()
            .holds
            .insert("AskRecovery");
        world.join(2);
        let conn = world.storages[&2].conn;
        world.storages.insert(2, Storage { conn, ..spoilt });
        world.settle();
        let reason = world.closed.values().last().expect("it is refused");
        assert!(reason.contains(told), "{told}: {reason}");
        assert_eq!(world.state(), ClusterState::Recovering);
        world.storages.insert(2, good);
        world.storages.get_mut(&2).unwrap().restarted();
        world.join(2);
        if world.storages[&1].conn.is_none() {
            world.join(1);
        }
        assert_eq!(world.state(), ClusterState::Running, "{told}");
    }
}

trait ClearTwice {
    fn clear_twice(&mut self);
}

impl ClearTwice for Vec<neo_api::Cell> {
    /// A row that names a node twice.
    fn clear_twice(&mut self) {
        let cell = self[0];
        self.insert(0, cell);
    }
}

#[test]
fn nodes_of_another_cluster_are_forgotten_when_they_go() {
    let mut world = World::new(settings(1, 0));
    world.storages.insert(1, Storage::new(1));
    world.storages.insert(2, Storage::new(2));
    world.storages.get_mut(&1).unwrap().recovery.identity = Some(identity(1));
    world.join(1);
    let mut other = identity(1);
    other.id = neo_api::ClusterId([3; 16]);
    world.storages.get_mut(&2).unwrap().recovery.identity = Some(other);
    let told = words(Some(world.join(2)));
    assert!(told.contains("another one of the same name"), "{told}");
    world.lose(1);
    assert!(matches!(world.join(2), Packet::AcceptIdentification { .. }));
}

#[test]
fn a_node_that_does_not_answer_is_disconnected() {
    let mut world = World::new(settings(1, 0));
    world.storages.insert(1, Storage::new(1));
    world
        .storages
        .get_mut(&1)
        .unwrap()
        .holds
        .insert("AskRecovery");
    world.join(1);
    world.sleep(Duration::from_secs(59));
    assert!(world.storages[&1].conn.is_some());
    world.sleep(Duration::from_secs(2));
    assert_eq!(world.storages[&1].conn, None);
}

#[test]
fn a_table_without_any_readable_cell_is_told() {
    let mut world = World::running(1, 0, 2);
    world.restart_master();
    let storage = world.storages.get_mut(&1).unwrap();
    storage.table.as_mut().unwrap().rows[1][0].state = CellState::OutOfDate;
    world.join(1);
    assert!(world.status.waiting.contains("no readable cell at all"));
    assert!(words(start(&mut world)).contains("no readable cell at all"));
}

#[test]
fn a_node_that_stores_nothing_stays_pending() {
    let mut world = World::running(2, 1, 1);
    world.restart_master();
    world.storages.insert(3, Storage::new(3));
    for n in [3, 1, 2] {
        world.join(n);
    }
    assert_eq!(world.state(), ClusterState::Running);
    assert!(world.storages[&1].operating && !world.storages[&3].operating);
    assert_eq!(
        world.storages[&3].table.as_ref(),
        Some(world.table()),
        "it follows the table"
    );
}

#[test]
fn a_database_that_was_emptied_is_another_node() {
    let mut world = World::running(2, 1, 2);
    world.restart_master();
    // Its disk was replaced; it comes first, before anybody knows that S1 has cells.
    world.storages.insert(1, Storage::new(1));
    world.join(1);
    assert_eq!(world.state(), ClusterState::Recovering);
    world.join(2);
    assert_eq!(world.state(), ClusterState::Recovering);
    let waiting = &world.status.waiting;
    assert!(waiting.contains("waiting for S1 "), "{waiting}");
    assert_eq!(world.storages[&1].conn, None, "it was refused");
    // It asks for its old id again, and gets another one.
    let answer = world.connect(1);
    assert!(
        matches!(answer, Packet::AcceptIdentification { your_nid, .. } if your_nid == nid("S3")),
        "{answer:?}"
    );
    assert_eq!(world.state(), ClusterState::Recovering);
}

#[test]
fn an_empty_database_leaves_its_id_to_the_one_that_has_data() {
    let mut world = World::running(2, 1, 2);
    world.restart_master();
    let mut empty = World::identification(NodeType::Storage);
    empty.address = Some(Address::new("new", 1));
    let (conn, answer) = world.identify(empty);
    assert!(
        matches!(answer, Packet::AcceptIdentification { your_nid, .. } if your_nid == nid("S1")),
        "{answer:?}"
    );
    let asked = world.inbox[&conn]
        .iter()
        .find(|m| m.packet.name() == "AskRecovery");
    let id = asked.unwrap().id;
    let recovery = Box::new(Storage::new(9).recovery);
    world.send(conn, id, Packet::AnswerRecovery { recovery });
    world.join(1);
    assert!(world.closed.contains_key(&conn));
    world.join(2);
    assert_eq!(world.state(), ClusterState::Running);
}
