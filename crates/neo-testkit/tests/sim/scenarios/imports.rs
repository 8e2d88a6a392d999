//! An ordered bulk load that is struck at any point, and taken up again.

use std::time::Duration;

use bytes::Bytes;
use neo_api::{Checksum, Compression, Oid, Partition, RevisionId, Tid, TransactionMeta};
use neo_client::Error;
use neo_proto::{Oids, WireRevision, WireTransaction, WireValue};
use neo_testkit::sim::{
    Facts, Fault, InFlight, Keep, Name, PATIENCE, Placed, SimClient, When, World, WorldSettings, c,
    m, s,
};

use super::{replicated, run, single};

/// Transactions of the imported database.
const COUNT: u64 = 8;

fn tid(n: u64) -> Tid {
    Tid((1 << 40) + n * 1001)
}

/// The n-th transaction: two new objects, and a change or the deletion of an earlier one.
fn nth(n: u64) -> (WireTransaction, Vec<(WireRevision, Bytes)>) {
    let mut changes = vec![
        (Oid(n * 10 + 1), Some(Bytes::from(format!("{n} one")))),
        (Oid(n * 10 + 2), Some(Bytes::from(format!("{n} two")))),
    ];
    if n > 0 {
        let earlier = Oid((n - 1) * 10 + 1);
        changes.push((
            earlier,
            n.is_multiple_of(2)
                .then(|| Bytes::from(format!("{n} again"))),
        ));
    }
    changes.sort();
    let transaction = WireTransaction {
        tid: tid(n),
        txn: None,
        meta: TransactionMeta {
            description: Bytes::from(format!("imported {n}")),
            ..TransactionMeta::default()
        },
        oids: Oids(changes.iter().map(|(oid, _)| *oid).collect()),
        packed: false,
        pack: None,
    };
    let revisions = changes.into_iter().map(|(oid, value)| {
        let wire = WireRevision {
            id: RevisionId { tid: tid(n), oid },
            value: value.as_ref().map(|data| WireValue {
                compression: Compression::None,
                checksum: Checksum::of(data),
                bytes: data.len() as u32,
            }),
            data_serial: None,
        };
        (wire, value.unwrap_or_default())
    });
    (transaction, revisions.collect())
}

/// Imports what is missing, with a checkpoint now and then.
async fn import(client: &SimClient) -> Result<(), Error> {
    let (import, last) = client.begin_import().await?;
    for n in 0..COUNT {
        if tid(n) <= last {
            continue;
        }
        let (transaction, revisions) = nth(n);
        client
            .import_batch(import, vec![transaction], revisions)
            .await?;
        if n % 3 == 2 {
            client
                .checkpoint_import(import, tid(n), Oid(n * 10 + 2))
                .await?;
        }
    }
    client
        .checkpoint_import(import, tid(COUNT - 1), Oid(COUNT * 10))
        .await?;
    client.end_import(import).await
}

/// Tries until it is done: the cluster comes back, and the import that was lost is ended.
async fn import_all(client: SimClient) -> Result<(), Error> {
    for _ in 0..200 {
        client.wait_ready(PATIENCE).await?;
        match import(&client).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_retryable() => client.sleep(Duration::from_millis(50)).await,
            Err(error) => return Err(error),
        }
    }
    import(&client).await
}

/// What is readable must be a prefix of the import, whole and equal on all replicas.
fn check_prefix(world: &World) -> Result<u64, String> {
    world.check()?;
    let facts = Facts::read(world).ok_or("no table")?;
    let mut last = None;
    for n in 0..COUNT {
        let (transaction, revisions) = nth(n);
        let home = facts.table.partitioning().of_tid(tid(n));
        let there: Vec<bool> = facts
            .readable(home)
            .map(|(_, cell)| cell.transactions.contains_key(&tid(n)))
            .collect();
        let Some(first) = there.first() else {
            return Err(format!("no readable copy of {home}"));
        };
        if there.iter().any(|one| one != first) {
            return Err(format!("replicas differ in {n}"));
        }
        if *first {
            if last != n.checked_sub(1) {
                return Err(format!("{n} is there, but not the one before"));
            }
            last = Some(n);
        }
        for (revision, data) in revisions {
            let partition = facts.table.partitioning().of_oid(revision.id.oid);
            for (name, cell) in facts.readable(partition) {
                let found = cell.revisions.get(&revision.id);
                let value = found.map(|found| found.record.as_ref().map(|r| r.data.clone()));
                let expected = first.then(|| revision.value.map(|_| data.clone()));
                if value != expected {
                    return Err(format!("{name}: {:?} is {value:?}", revision.id));
                }
            }
        }
        for (_, cell) in facts.readable(home) {
            if let Some(record) = cell.transactions.get(&tid(n))
                && record.oids != transaction.oids.0
            {
                return Err(format!("{n} lists other oids"));
            }
        }
    }
    Ok(last.map_or(0, |n| n + 1))
}

fn strike(settings: &WorldSettings, point: u64, when: When, nodes: &[Name], keep: Keep) {
    let mut world = World::booted(settings.clone());
    let base = world.points().len() as u64;
    let fault = Fault::Crash {
        nodes: nodes.to_vec(),
        keep,
        in_flight: InFlight::Lost,
    };
    world.plan(Placed {
        point: base + point,
        when,
        fault,
    });
    let first = world.run_script(c(1), async |client: SimClient| import(&client).await);
    let result = (|| {
        let struck = world.run_until("the fault", PATIENCE, World::has_struck);
        struck.map_err(|stuck| stuck.to_string())?;
        world.run_for(Duration::from_secs(1));
        world.heal().map_err(|stuck| stuck.to_string())?;
        if !nodes.contains(&c(1)) {
            let ended = world.run_until("the end of the import", PATIENCE, |_| first.is_done());
            ended.map_err(|stuck| stuck.to_string())?;
            world.settle(PATIENCE).map_err(|stuck| stuck.to_string())?;
        }
        check_prefix(&world)?;
        let again = world.run_script(c(1), import_all);
        let done = world.run_until("the import taken up again", PATIENCE, |_| again.is_done());
        done.map_err(|stuck| stuck.to_string())?;
        if let Some(Err(error)) = again.take() {
            return Err(format!("it can't be taken up again: {error}"));
        }
        for crash in [false, true] {
            if crash {
                world.crash_all();
            }
            world.heal().map_err(|stuck| stuck.to_string())?;
            let count = check_prefix(&world)?;
            if count != COUNT {
                return Err(format!("only {count} are there"));
            }
        }
        Ok(())
    })();
    if let Err(wrong) = result {
        let trace = world.trace().tail(150);
        panic!("{trace}{nodes:?} {when:?} {point}, keep {keep:?}: {wrong}");
    }
}

fn enumerate(settings: &WorldSettings, sets: &[&[Name]]) {
    let mut world = World::booted(settings.clone());
    let base = world.points().len();
    let done = run(&mut world, c(1), async |client: SimClient| {
        import(&client).await
    });
    done.unwrap();
    world.settle(PATIENCE).unwrap();
    assert_eq!(check_prefix(&world), Ok(COUNT));
    let points = (world.points().len() - base) as u64;
    let mut runs = 0;
    for point in 0..points {
        for nodes in sets {
            for keep in [Keep::None, Keep::All] {
                strike(settings, point, When::Before, nodes, keep);
                runs += 1;
            }
        }
    }
    println!("{points} points, {runs} runs");
}

#[test]
fn an_import_that_is_struck_anywhere_is_taken_up_again() {
    let all = [m(1), c(1), s(1)];
    enumerate(&single(1), &[&[m(1)], &[s(1)], &[c(1)], &all]);
}

#[test]
fn an_import_with_a_replica_that_is_struck_anywhere_is_taken_up_again() {
    let all = [m(1), c(1), s(1), s(2)];
    enumerate(&replicated(1), &[&[m(1)], &[s(1)], &[s(2)], &[c(1)], &all]);
}

#[test]
fn the_partitions_of_the_import_are_those_of_the_table() {
    // Guards the test itself: transactions and objects are in several partitions.
    let home = |n: u64| Partition((tid(n).0 % 4) as u32);
    assert_ne!(home(0), home(1));
}
