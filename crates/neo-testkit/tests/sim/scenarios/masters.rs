//! Several masters: who leads, who follows, and who takes over.

use std::time::Duration;

use neo_api::ClusterState;
use neo_testkit::sim::{InFlight, Keep, Name, PATIENCE, SimClient, World, WorldSettings, c, m, s};

use super::{change, check_and_crash, objects, run, settle};

fn of(masters: u8) -> WorldSettings {
    WorldSettings {
        masters,
        ..WorldSettings::default()
    }
}

fn crash(world: &mut World, name: Name) {
    world.crash(&[name], Keep::None, InFlight::Delivered);
}

/// Whom each master that is up follows: one leads, and all others follow it.
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

fn agree(world: &mut World) -> Name {
    let agreed = world.run_until("one primary, and all others follow", PATIENCE, is_agreed);
    agreed.unwrap_or_else(|stuck| panic!("{stuck}\n{}", world.trace().tail(100)));
    world.primary().unwrap()
}

fn write(world: &mut World, oid: neo_api::Oid, value: &'static str) {
    let done = run(world, c(1), async move |client: SimClient| {
        client.wait_ready(PATIENCE).await?;
        client.sync().await?;
        let (serial, _) = client.load(oid).await?.expect("it exists");
        change(&client, oid, serial, value).await
    });
    done.unwrap_or_else(|error| panic!("{error}\n{}", world.trace().tail(100)));
}

/// A cluster of two masters starts, loses its primary, and goes on with the other; the first comes
/// back and follows.
#[test]
fn a_secondary_takes_over_and_the_first_primary_follows_when_it_comes_back() {
    let mut world = World::booted(of(2));
    assert_eq!(agree(&mut world), m(1));
    let (oids, _) = objects(&mut world, c(1), 1);
    crash(&mut world, m(1));
    let lost_at = world.now();
    world.wait_running().unwrap();
    let took = world.now() - lost_at;
    assert!(
        took < Duration::from_millis(200),
        "{took:?}\n{}",
        world.trace()
    );
    assert_eq!(world.primary(), Some(m(2)));
    write(&mut world, oids[0], "second");
    world.start(m(1));
    assert_eq!(agree(&mut world), m(2));
    assert_eq!(world.cluster_state(), Some(ClusterState::Running));
    settle(&mut world);
    write(&mut world, oids[0], "third");
    assert!(world.is_serving(s(1)));
    check_and_crash(&mut world);
}
