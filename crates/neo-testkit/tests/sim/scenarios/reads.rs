//! Reads while something is committed.

use std::time::Duration;

use neo_api::Tid;
use neo_client::Error;
use neo_testkit::sim::{SimClient, World, c, s};

use super::{change, check, delay_unlock, objects, run, settle, single};

const LATE: Duration = Duration::from_millis(50);

/// The storage node has locked a change and not moved it yet; its client has been told. Who now
/// reads how the object was before must not take that for the newest revision.
#[test]
fn a_read_of_the_past_does_not_hide_a_change_that_is_locked() {
    let mut world = World::booted(single(2));
    let (oids, first) = objects(&mut world, c(1), 1);
    let oid = oids[0];
    delay_unlock(&mut world, s(1), LATE);
    let second = run(&mut world, c(1), async move |client: SimClient| {
        change(&client, oid, first, "second").await
    });
    let second = second.unwrap();
    let read = run(&mut world, c(2), async move |client: SimClient| {
        while client.last_tid() < second {
            client.sleep(Duration::from_micros(10)).await;
        }
        client.load_before(oid, Tid(first.0 + 1)).await
    });
    assert_eq!(read.unwrap().unwrap().0, first);
    settle(&mut world);
    let read = run(&mut world, c(2), async move |client: SimClient| {
        let newest = client.load(oid).await?;
        Ok::<_, Error>(newest.map(|(serial, _)| serial))
    });
    assert_eq!(read.unwrap(), Some(second));
    check(&world);
}
