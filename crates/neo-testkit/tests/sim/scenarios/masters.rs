//! Several masters: who leads, who follows, and who takes over.

use std::time::Duration;

use neo_api::ClusterState;
use neo_master::{Command, MasterSettings};
use neo_testkit::sim::{
    Ended, Fault, InFlight, Keep, Name, PATIENCE, Pattern, SimClient, Stuck, When, World,
    WorldSettings, c, m, s,
};

use super::forced::write;
use super::{change, check, check_and_crash, objects, settle};

pub(super) fn of(masters: u8) -> WorldSettings {
    WorldSettings {
        masters,
        ..WorldSettings::default()
    }
}

pub(super) fn crash(world: &mut World, name: Name) {
    world.crash(&[name], Keep::None, InFlight::Delivered);
}

pub(super) fn stuck_at(world: &World, what: &impl std::fmt::Display) -> ! {
    panic!("{what}\n{}", world.trace().tail(200))
}

/// One leads, and all others that are up follow it.
fn is_agreed(world: &World) -> bool {
    let leaders: Vec<Name> = world.leaders().collect();
    let [leader] = leaders[..] else { return false };
    let masters = world.names().filter(|name| matches!(name, Name::Master(_)));
    let mut others = masters.filter(|name| *name != leader && world.is_up(*name));
    others.all(|name| {
        let follows = world.master(name).and_then(|master| master.follows());
        follows == Some(&leader.address())
    })
}

pub(super) fn agree(world: &mut World) -> Name {
    let agreed = world.run_until("one primary, and all others follow", PATIENCE, is_agreed);
    agreed.unwrap_or_else(|stuck| stuck_at(world, &stuck));
    world.primary().unwrap()
}

pub(super) fn until_running(world: &mut World) {
    if let Err(stuck) = world.wait_running() {
        stuck_at(world, &stuck);
    }
}

/// How long it takes until clients are served again.
fn until_served(world: &mut World) -> Duration {
    let since = world.now();
    until_running(world);
    world.now() - since
}

pub(super) fn nids(world: &World, masters: u8) -> Vec<String> {
    let cores = (1..=masters).filter_map(|n| world.master(m(n)));
    cores.map(|core| core.nid().to_string()).collect()
}

/// What a master that leads waits for.
pub(super) fn waiting(world: &World, master: Name) -> String {
    world.master(master).unwrap().status().waiting.clone()
}

#[test]
fn a_secondary_takes_over_and_the_first_primary_follows_when_it_comes_back() {
    let mut world = World::booted(of(2));
    assert_eq!(agree(&mut world), m(1));
    let (oids, _) = objects(&mut world, c(1), 1);
    crash(&mut world, m(1));
    let took = until_served(&mut world);
    assert!(took < Duration::from_millis(200), "{took:?}");
    assert_eq!(world.primary(), Some(m(2)));
    write(&mut world, c(1), oids[0], "second");
    world.start(m(1));
    assert_eq!(agree(&mut world), m(2));
    assert_eq!(world.cluster_state(), Some(ClusterState::Running));
    settle(&mut world);
    write(&mut world, c(1), oids[0], "third");
    assert!(world.is_serving(s(1)));
    check_and_crash(&mut world);
}

#[test]
fn masters_that_start_one_after_the_other_keep_the_first_primary_and_their_ids() {
    let mut world = World::new(of(3));
    // The one with the greatest address is the first.
    for master in [m(3), m(1), m(2)] {
        world.start(master);
        world.run_for(Duration::from_secs(1));
        assert_eq!(agree(&mut world), m(3));
    }
    assert_eq!(nids(&world, 3), ["M2", "M3", "M1"]);
    world.start_all();
    until_running(&mut world);
    for _ in 0..3 {
        let primary = world.primary().unwrap();
        crash(&mut world, primary);
        until_running(&mut world);
        world.start(primary);
        assert_ne!(agree(&mut world), primary);
        settle(&mut world);
        assert_eq!(nids(&world, 3), ["M2", "M3", "M1"]);
    }
    check_and_crash(&mut world);
}

#[test]
fn a_secondary_is_lost_then_the_primary_and_the_third_leads() {
    let mut world = World::booted(of(3));
    let (oids, _) = objects(&mut world, c(1), 1);
    let first = agree(&mut world);
    let others: Vec<Name> = (1..=3).map(m).filter(|name| *name != first).collect();
    crash(&mut world, others[0]);
    settle(&mut world);
    assert_eq!(world.primary(), Some(first));
    crash(&mut world, first);
    until_running(&mut world);
    assert_eq!(world.primary(), Some(others[1]));
    write(&mut world, c(1), oids[0], "second");
    check_and_crash(&mut world);
}

#[test]
fn twenty_masters_agree_and_agree_again() {
    let mut world = World::booted(of(20));
    let first = agree(&mut world);
    crash(&mut world, first);
    let took = until_served(&mut world);
    assert!(took < Duration::from_millis(500), "{took:?}");
    assert_ne!(agree(&mut world), first);
    world.start(first);
    assert_ne!(agree(&mut world), first);
}

#[test]
fn an_identification_that_is_late_changes_nothing() {
    for (from, to) in [(m(1), m(2)), (m(2), m(1)), (m(2), m(3)), (m(3), m(1))] {
        for packet in ["RequestIdentification", "AcceptIdentification"] {
            for by in [50, 300, 3000] {
                let mut world = World::new(of(3));
                let arrival = Pattern::arrival(from, to, packet);
                let late = Fault::Delay(Duration::from_millis(by));
                world.plan_at(arrival, When::Before, late);
                world.start_all();
                until_running(&mut world);
                agree(&mut world);
                settle(&mut world);
                assert!(is_agreed(&world));
            }
        }
    }
}

/// Nodes are told of the first master only; the first master is told of nobody.
#[test]
fn masters_that_nobody_was_told_of_are_accepted_learnt_and_found() {
    let mut world = World::booted(WorldSettings {
        tune_master: |settings| settings.masters.truncate(1),
        tune_storage: |settings| settings.masters.truncate(1),
        ..of(3)
    });
    assert_eq!(agree(&mut world), m(1));
    let (oids, _) = objects(&mut world, c(1), 1);
    for left in [2, 1] {
        let primary = agree(&mut world);
        crash(&mut world, primary);
        until_running(&mut world);
        let up = (1..=3).filter(|n| world.is_up(m(*n))).count();
        assert_eq!(up, left);
        write(&mut world, c(1), oids[0], "another master");
    }
    // Who comes back knows the first one only, which knows nobody: the one that leads finds both.
    world.start_all();
    agree(&mut world);
    check_and_crash(&mut world);
}

/// Two sides that do not see each other when there is no cluster yet. Each master leads, and calls
/// itself M1, and its storage node S1; neither creates a cluster of too few. Then they meet.
/// The same, but each side is enough for a cluster, and makes one. These are two, and stay two:
/// their masters refuse each other, and a storage node of the one refuses to be of the other.
/// The primary stands still, its connections open. When its silence has been long enough, another
/// master leads. When the first goes on, it finds its connections dead, and follows.
/// The primary and a client of its see each other still, and nobody else sees it; the others elect
/// another one. Both sides try to commit: the client of the first can't, since no storage node
/// obeys its master.
/// The primary is lost together with a storage node that has complete copies: the next one can't
/// know whether commits went on there, so it waits, and says for whom.
#[test]
fn a_primary_and_a_storage_node_that_are_lost_together_are_waited_for() {
    let mut world = World::booted(of(2));
    let (oids, _) = objects(&mut world, c(1), 1);
    let first = agree(&mut world);
    let other = if first == m(1) { m(2) } else { m(1) };
    world.crash(&[first, s(1)], Keep::None, InFlight::Lost);
    world.run_for(Duration::from_secs(30));
    assert_eq!(world.primary(), Some(other));
    assert_eq!(world.cluster_state(), Some(ClusterState::Recovering));
    let missing = world.nid(s(1)).unwrap();
    let words = waiting(&world, other);
    assert!(
        words.starts_with(&format!("waiting for {missing} ")),
        "{words}"
    );
    // The first one knows no more.
    world.start(first);
    agree(&mut world);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.cluster_state(), Some(ClusterState::Recovering));
    world.start(s(1));
    until_running(&mut world);
    write(&mut world, c(1), oids[0], "second");
    check_and_crash(&mut world);
}

/// The cluster is split in the middle; the side with the primary goes on, and an operator starts
/// the other one by force. When they meet, the side that was started is the cluster: the other
/// master falls back and follows, and its storage node is out of date, or refused when it went on.
/// Both sides are started by force: they are two clusters then. Their masters refuse each other and
/// go on, and whoever changes sides is told what to do.
#[test]
fn masters_that_follow_end_with_the_cluster() {
    let mut world = World::booted(of(3));
    let primary = agree(&mut world);
    world.command_master(primary, Command::StopCluster);
    let ended = world.run_until("the end of all", PATIENCE, |world| {
        let nodes = (1..=3).map(m).chain([s(1), s(2)]);
        nodes.into_iter().all(|name| world.ended(name).is_some())
    });
    ended.unwrap_or_else(|stuck| stuck_at(&world, &stuck));
    assert!((1..=3).all(|n| world.ended(m(n)) == Some(&Ended::Cleanly)));
    world.run_for(Duration::from_secs(5));
    check(&world);
}

/// A commit that one storage node only has locked, durably, when nearly everything is lost; and
/// that node is lost again when the next primary is about to hear of it.
fn lost_in_verifying(tune_master: fn(&mut MasterSettings)) -> Result<(), String> {
    let mut world = World::booted(WorldSettings {
        tune_master,
        ..of(2)
    });
    let (oids, tid) = objects(&mut world, c(1), 1);
    let first = agree(&mut world);
    let crash_of = |nodes: &[Name]| Fault::Crash {
        nodes: nodes.to_vec(),
        keep: Keep::None,
        in_flight: InFlight::Lost,
    };
    let lock = Pattern::arrival(first, s(2), "AskLockInformation");
    world.plan_at(lock, When::After, crash_of(&[s(2)]));
    // The client is told before the other node has noted that this one is out of date.
    let answer = Pattern::arrival(first, c(1), "AnswerTransactionFinished");
    world.plan_at(answer, When::After, crash_of(&[first, s(1)]));
    let oid = oids[0];
    let told = world.run_script(c(1), async move |client: SimClient| {
        change(&client, oid, tid, "acknowledged").await
    });
    let stuck = |stuck: Stuck| stuck.to_string();
    world
        .run_until("the losses", PATIENCE, World::has_struck)
        .map_err(stuck)?;
    let other = agree(&mut world);
    assert_ne!(other, first);
    let question = Pattern::arrival(other, s(1), "AskLockedTransactions");
    world.plan_at(question, When::Before, crash_of(&[s(1)]));
    world.start(s(1));
    world.start(s(2));
    world
        .run_until("the loss in VERIFYING", PATIENCE, World::has_struck)
        .map_err(stuck)?;
    world.run_for(Duration::from_secs(5));
    world.heal().map_err(stuck)?;
    assert!(matches!(told.take(), Some(Ok(_))), "the client was told");
    world.check()
}

#[test]
fn a_storage_node_that_is_lost_while_a_new_primary_verifies_is_waited_for() {
    lost_in_verifying(|_| {}).unwrap();
    let broken = lost_in_verifying(|settings| settings.mutations.no_way_back = true);
    let wrong = broken.expect_err("a primary that goes on without it loses a commit");
    println!("without the way back: {wrong}");
}
