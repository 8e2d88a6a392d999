//! A database that is packed, and what was exported of it before and after.

use neo_api::{Oid, Tid};
use neo_backends::filestorage::Reader;
use neo_client::blocking::Client;

use super::harness::{Simple, run_err, run_ok};

/// A new value for an object; the tid.
fn set(client: &Client, oid: Oid, serial: Tid, value: &'static str) -> Tid {
    let transaction = client.begin(Default::default()).unwrap();
    transaction.store(oid, serial, value).unwrap();
    transaction.vote().unwrap();
    transaction.finish().unwrap()
}

/// How many records each transaction of a file has.
fn records(path: &str) -> Vec<usize> {
    let mut reader = Reader::open(path).unwrap();
    let mut counts = Vec::new();
    while reader.next_transaction().unwrap().is_some() {
        counts.push(reader.record_oids().unwrap().len());
    }
    counts
}

#[test]
fn an_export_goes_on_after_a_pack_unless_something_may_be_lost() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Simple::start(&dir.path().join("data"), &[]);
    let client = Client::connect("main", [cluster.masters.as_str()]).unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (before, after) = (path("before.fs"), path("after.fs"));
    let export = |file: &str| {
        run_ok("neomigrate", &["-c", "main", "-q", &cluster.masters, file]);
        records(file)
    };
    let oid = client.new_oid().unwrap();
    // Of two objects, one is replaced.
    let (one, other) = (client.new_oid().unwrap(), client.new_oid().unwrap());
    let transaction = client.begin(Default::default()).unwrap();
    for oid in [one, other] {
        transaction.store(oid, Tid::ZERO, "both").unwrap();
    }
    transaction.vote().unwrap();
    let both = transaction.finish().unwrap();
    set(&client, one, both, "one");
    let first = set(&client, oid, Tid::ZERO, "first");
    let second = set(&client, oid, first, "second");
    let third = set(&client, oid, second, "third");
    assert_eq!(export(&before), [2, 1, 1, 1, 1]);

    // The first revision goes; the order is a transaction of its own.
    cluster.ctl(&format!("pack -c main 0x{second}"));
    assert_eq!(export(&after), [1, 1, 1, 1, 0]);
    assert_eq!(export(&before), [2, 1, 1, 1, 1, 0]);
    let fourth = set(&client, oid, third, "fourth");
    assert_eq!(export(&before), [2, 1, 1, 1, 1, 0, 1]);
    assert_eq!(export(&after), [1, 1, 1, 1, 0, 1]);

    // What was deleted after the last export could be gone without a trace.
    set(&client, oid, fourth, "fifth");
    cluster.ctl("pack -c main");
    for file in [&before, &after] {
        let export = ["-c", "main", "-q", &cluster.masters, file];
        let error = run_err("neomigrate", &export, 1);
        assert!(error.contains("the cluster was packed up to"), "{error}");
        assert!(error.contains("give a path that does not exist"), "{error}");
    }
    assert_eq!(export(&path("new.fs")), [1, 1, 0, 1, 0]);
    client.close();
    cluster.process.stop("TERM");
}
