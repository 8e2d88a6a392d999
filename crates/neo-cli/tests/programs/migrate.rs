//! A database of ZODB's into a cluster, and back.

use std::path::{Path, PathBuf};

use neo_api::{Oid, Partition, Tid, TransactionMeta};
use neo_backends::filestorage::{Data, NewData, Reader, Status, Tail, Writer};
use neo_client::{Client, Lookup};
use neo_testkit::invariant::committed;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::harness::{Running, Simple, run, run_err, run_ok, testdata};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A file as its manifest would say it.
fn manifest(path: &Path) -> Vec<Value> {
    let mut reader = Reader::open(path).unwrap();
    let mut lines = Vec::new();
    while let Some(transaction) = reader.next_transaction().unwrap() {
        let mut records = Vec::new();
        while let Some(record) = reader.next_record().unwrap() {
            let (data_tid, data) = match &record.data {
                Data::Data(data) => (None, Some(data)),
                Data::BackPointer { data_tid, data } => (Some(*data_tid), Some(data)),
                Data::Deleted { data_tid } => (*data_tid, None),
            };
            records.push(json!([
                record.oid.to_string(),
                data_tid.map(|tid| tid.to_string()),
                data.map(|data| data.len()),
                data.map(|data| hex(&Sha256::digest(data))),
            ]));
        }
        lines.push(json!({
            "tid": transaction.tid.to_string(),
            "status": if transaction.status == Status::Packed { "p" } else { " " },
            "user": hex(&transaction.meta.user),
            "description": hex(&transaction.meta.description),
            "extension": hex(&transaction.meta.extension),
            "records": records,
        }));
    }
    assert_eq!(reader.tail(), Some(Tail::Clean));
    lines
}

fn expected(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(testdata(&format!("{name}.jsonl"))).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Stops a cluster: what it said on stderr before.
fn stopped(cluster: Simple) -> Vec<String> {
    let said = cluster.process.stop("TERM");
    let lines = said.lines().map(str::to_owned);
    lines
        .take_while(|line| line != "neosimple: SIGTERM: stopping")
        .collect()
}

/// A file of `transactions`, of some objects each.
fn make_file(path: &Path, transactions: u64) {
    let mut writer = Writer::create(path).unwrap();
    let data: Vec<u8> = (0..5000u32)
        .flat_map(|n| (n.wrapping_mul(n) ^ 77).to_be_bytes())
        .collect();
    for n in 0..transactions {
        let meta = TransactionMeta {
            user: "somebody".into(),
            description: format!("change {n}").into(),
            extension: Default::default(),
        };
        writer
            .begin(Tid(0x040d_2bd6_0000_0000 + n), Status::Normal, &meta)
            .unwrap();
        for oid in 0..10 {
            let from = (n * 10 + oid) as usize % 1000;
            writer
                .record(Oid(oid), NewData::Data(&data[from..from + 4000]))
                .unwrap();
        }
        writer.finish_transaction().unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn every_database_of_zodb_comes_back_as_it_was() {
    for (name, mode) in [
        ("btrees", &[][..]),
        ("undo", &["--processes"]),
        ("packed", &["--partitions", "1"]),
        ("sizes", &["--adapter", "memory"]),
        ("undone", &[]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let source = testdata(&format!("{name}.fs"));
        let mut args = vec!["--import", text(&source)];
        args.extend(mode);
        let cluster = Simple::start(&dir.path().join("data"), &args);
        let expected = expected(name);
        let last = expected.last().unwrap()["tid"].as_str().unwrap();
        assert!(cluster.ctl("print ids").contains(last));

        let copy = dir.path().join("copy.fs");
        run_ok(
            "neomigrate",
            &["-c", "main", "-q", &cluster.masters, text(&copy)],
        );
        assert_eq!(manifest(&copy), expected, "{name}");
        assert_eq!(
            std::fs::read(&copy).unwrap(),
            std::fs::read(&source).unwrap(),
            "{name}"
        );

        // Once more changes nothing; something else is refused, in both directions.
        let again = run(
            "neomigrate",
            &["-c", "main", text(&source), &cluster.masters],
        );
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(
            again.status.success() && said.contains("is imported already"),
            "{said}"
        );
        run_ok(
            "neomigrate",
            &["-c", "main", "-q", &cluster.masters, text(&copy)],
        );
        assert_eq!(manifest(&copy), expected, "{name}");
        let other = testdata(if name == "undo" {
            "packed.fs"
        } else {
            "undo.fs"
        });
        let error = run_err(
            "neomigrate",
            &["-c", "main", text(&other), &cluster.masters],
            1,
        );
        assert!(error.contains("the cluster has other data than"), "{error}");
        // The same but for a byte of the first object.
        let mut changed = std::fs::read(&source).unwrap();
        changed[110] ^= 1;
        let near = dir.path().join("near.fs");
        std::fs::write(&near, &changed).unwrap();
        for words in [
            [text(&near), &cluster.masters],
            [&cluster.masters, text(&near)],
        ] {
            let error = run_err("neomigrate", &[&["-c", "main"][..], &words].concat(), 1);
            assert!(error.contains("they differ at transaction"), "{error}");
        }
        assert_eq!(std::fs::read(&near).unwrap(), changed);
        let copy = dir.path().join("other.fs");
        std::fs::copy(&other, &copy).unwrap();
        let error = run_err(
            "neomigrate",
            &["-c", "main", &cluster.masters, text(&copy)],
            1,
        );
        assert!(error.contains("has other data than the cluster"), "{error}");
        assert_eq!(
            std::fs::read(&copy).unwrap(),
            std::fs::read(&other).unwrap()
        );
        cluster.process.stop("TERM");
    }
}

/// A backup that lacks something must not look like one that does not.
#[test]
fn an_export_of_data_that_is_too_old_fails() {
    for (old_one, words) in [
        (
            "storage1",
            "is missing: the data of a storage node is damaged, or too old",
        ),
        ("storage2", "their data is damaged, or of different times"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let source = testdata("btrees.fs");
        let part = dir.path().join("part.fs");
        // All but the last transaction, which ends with its length.
        let all = std::fs::read(&source).unwrap();
        let (_, length) = all.split_last_chunk().unwrap();
        let length = u64::from_be_bytes(*length) as usize;
        std::fs::write(&part, &all[..all.len() - 8 - length]).unwrap();
        let data = dir.path().join("data");
        let database = data.join(format!("{old_one}.sqlite"));
        let old = dir.path().join("old");
        // Each partition is in one database only: no other says that one ends too early.
        let shape = ["--replicas", "0"];
        let cluster = Simple::start(&data, &[&shape[..], &["--import", text(&part)]].concat());
        cluster.process.stop("TERM");
        std::fs::copy(&database, &old).unwrap();
        let cluster = Simple::start(&data, &["--import", text(&source)]);
        cluster.process.stop("TERM");
        std::fs::copy(&old, &database).unwrap();

        let cluster = Simple::start(&data, &[]);
        let copy = dir.path().join("copy.fs");
        let export = ["-c", "main", "-q", &cluster.masters, text(&copy)];
        let error = run_err("neomigrate", &export, 1);
        assert!(error.contains(words), "{error}");
        cluster.process.stop("TERM");
    }
}

/// What every load and each copy of an imported database has is what its manifest says.
#[test]
fn every_database_of_zodb_is_read_by_clients_and_is_the_same_in_every_copy() {
    for name in ["btrees", "undo", "packed", "sizes", "undone", "doubled"] {
        let dir = tempfile::tempdir().unwrap();
        let source = testdata(&format!("{name}.fs"));
        let data = dir.path().join("data");
        let cluster = Simple::start(&data, &["--import", text(&source)]);
        let client = Client::builder("main")
            .master(cluster.masters.clone())
            .connect_blocking()
            .unwrap();
        let mut loads = 0;
        for transaction in last_records(expected(name)) {
            let tid: Tid = transaction["tid"].as_str().unwrap().parse().unwrap();
            let ours = client.transaction(tid).unwrap().unwrap();
            for (field, ours) in [
                ("user", &ours.meta.user),
                ("description", &ours.meta.description),
                ("extension", &ours.meta.extension),
            ] {
                assert_eq!(transaction[field], hex(ours), "{name} {tid}");
            }
            assert_eq!(ours.packed, transaction["status"] == "p");
            let records = transaction["records"].as_array().unwrap();
            assert_eq!(ours.oids.len(), records.len());
            for record in records {
                let oid: Oid = record[0].as_str().unwrap().parse().unwrap();
                let next = Tid(tid.0 + 1);
                for found in [
                    client.load_serial(oid, tid).unwrap(),
                    client.load_before(oid, next).unwrap(),
                    client.snapshot_at(tid).unwrap().look_up(oid).unwrap(),
                ] {
                    loads += 1;
                    match found {
                        Lookup::Found { data, serial, .. } => {
                            assert_eq!(serial, tid);
                            assert_eq!(record[3], hex(&Sha256::digest(&data)));
                        }
                        Lookup::Deleted { serial, .. } => {
                            assert_eq!((serial, record[3].is_null()), (tid, true));
                        }
                        other => panic!("{name}: {oid} at {tid} is {other:?}"),
                    }
                }
            }
        }
        assert!(loads > 30, "{loads} loads of {name}");
        client.close();
        cluster.process.stop("TERM");
        let [one, other] = [1, 2].map(|n| copy(&data.join(format!("storage{n}.sqlite"))));
        assert!(
            one.len() > 10 && one == other,
            "the copies of {name} differ"
        );
    }
}

/// What a database file has.
fn copy(path: &Path) -> Vec<String> {
    let backend = neo_backends::open("SQLite", text(path)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let all = committed(&*backend, (0..12).map(Partition)).await.unwrap();
        backend.close().await.unwrap();
        all
    })
}

/// A manifest with the last record only of each object in a transaction.
fn last_records(mut manifest: Vec<Value>) -> Vec<Value> {
    for transaction in &mut manifest {
        let records = transaction["records"].as_array_mut().unwrap();
        let all = records.clone();
        let mut at = 0;
        records.retain(|record| {
            at += 1;
            all[at..].iter().all(|later| later[0] != record[0])
        });
    }
    manifest
}

#[test]
fn of_several_records_of_an_object_in_a_transaction_the_last_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let source = testdata("doubled.fs");
    let cluster = Simple::start(&dir.path().join("data"), &["--import", text(&source)]);
    let copy = dir.path().join("copy.fs");
    run_ok(
        "neomigrate",
        &["-c", "main", "-q", &cluster.masters, text(&copy)],
    );
    let all = expected("doubled");
    let expected = last_records(all.clone());
    assert_eq!(manifest(&copy), expected);

    let again = run(
        "neomigrate",
        &["-c", "main", text(&source), &cluster.masters],
    );
    let told = String::from_utf8(again.stderr).unwrap();
    assert!(
        told.contains("is imported already") && !told.contains("warning"),
        "{told}"
    );
    let mut lines = stopped(cluster);
    let summary = lines.pop().unwrap();
    let count = |of: &[Value]| -> usize {
        let records = of.iter().map(|t| t["records"].as_array().unwrap().len());
        records.sum()
    };
    let (kept, replaced) = (count(&expected), count(&all) - count(&expected));
    assert!(
        summary.starts_with(&format!(
            "imported 12 transactions with {kept} records ({replaced} more were replaced in their \
             transaction), "
        )),
        "{summary}"
    );
    let mut warnings = Vec::new();
    for (transaction, kept) in all.iter().zip(&expected) {
        let of = |oid: &Value| {
            let records = transaction["records"].as_array().unwrap();
            records.iter().filter(|record| record[0] == *oid).count()
        };
        let records = kept["records"].as_array().unwrap().iter();
        let mut several: Vec<(&str, usize)> = records
            .map(|record| (record[0].as_str().unwrap(), of(&record[0])))
            .filter(|(_, records)| *records > 1)
            .collect();
        several.sort_unstable();
        for (oid, records) in several {
            warnings.push(format!(
                "warning: {}: transaction {} has {records} records of object {oid}: the last one \
                 is kept, which is the one that ZODB loads",
                source.display(),
                transaction["tid"].as_str().unwrap(),
            ));
        }
    }
    assert_eq!(lines, warnings);
    assert!(warnings.len() > 5);

    // What came back goes in and out again as it is, and nothing is said.
    let cluster = Simple::start(&dir.path().join("second"), &["--import", text(&copy)]);
    let second = dir.path().join("second.fs");
    run_ok(
        "neomigrate",
        &["-c", "main", "-q", &cluster.masters, text(&second)],
    );
    assert_eq!(
        std::fs::read(&second).unwrap(),
        std::fs::read(&copy).unwrap()
    );
    let said = stopped(cluster);
    assert_eq!(said.len(), 1, "{said:?}");
}

#[test]
fn an_import_goes_on_with_what_was_added() {
    let dir = tempfile::tempdir().unwrap();
    let (short, long) = (dir.path().join("short.fs"), dir.path().join("long.fs"));
    make_file(&short, 10);
    make_file(&long, 25);
    let data = dir.path().join("data");
    let cluster = Simple::start(&data, &["--import", text(&short)]);
    run_ok(
        "neomigrate",
        &["-c", "main", "-q", text(&long), &cluster.masters],
    );
    let copy = dir.path().join("copy.fs");
    run_ok(
        "neomigrate",
        &["-c", "main", "-q", &cluster.masters, text(&copy)],
    );
    assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&long).unwrap());
    cluster.process.stop("TERM");
    // The cluster is ahead of the short file now: that is not what is in it.
    let error = run_err(
        "neosimple",
        &["--dir", text(&data), "--import", text(&short)],
        1,
    );
    assert!(error.contains("the cluster has other data than"), "{error}");
}

#[test]
fn an_import_that_is_interrupted_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("big.fs");
    make_file(&source, 2000);
    for (signal, mode) in [("INT", &[][..]), ("KILL", &["--processes"]), ("KILL", &[])] {
        let data = dir.path().join(format!("{signal}{}", mode.len()));
        let mut args = vec!["--dir", text(&data), "--import", text(&source)];
        args.extend(mode);
        let process = Running::start("neosimple", &args);
        // In the middle: the databases are there, the line is not.
        wait_until(|| database_bytes(&data) > 2 << 20);
        process.signal(signal);
        let (status, said) = process.wait();
        // What was asked for is not done.
        assert_eq!(status.code(), (signal == "INT").then_some(1), "{said}");
        assert!(
            signal == "KILL" || said.contains("the import is interrupted"),
            "{said}"
        );

        let mut args = vec!["--import", text(&source)];
        args.extend(mode);
        let cluster = Simple::start(&data, &args);
        let copy = dir.path().join("copy.fs");
        run_ok(
            "neomigrate",
            &["-c", "main", "-q", &cluster.masters, text(&copy)],
        );
        assert!(std::fs::read(&copy).unwrap() == std::fs::read(&source).unwrap());
        std::fs::remove_file(copy).unwrap();
        cluster.process.stop("TERM");
    }
}

/// Bytes of the databases, without what is reserved beside them.
fn database_bytes(dir: &Path) -> u64 {
    let files: Vec<PathBuf> = std::fs::read_dir(dir)
        .map(|all| all.filter_map(Result::ok).map(|e| e.path()).collect())
        .unwrap_or_default();
    files
        .iter()
        .filter(|path| {
            path.extension()
                .is_some_and(|e| e.to_string_lossy().starts_with("sqlite"))
        })
        .filter_map(|path| path.metadata().ok())
        .map(|m| m.len())
        .sum()
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + super::harness::PATIENCE;
    while !done() {
        assert!(
            std::time::Instant::now() < deadline,
            "it does not come to that"
        );
        std::thread::park_timeout(std::time::Duration::from_millis(2));
    }
}

#[test]
fn a_damaged_file_is_refused_and_what_came_before_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source.fs");
    make_file(&source, 20);
    let whole = std::fs::read(&source).unwrap();

    // Cut in the middle of the last transaction: that one is left out.
    let cut = dir.path().join("cut.fs");
    std::fs::write(&cut, &whole[..whole.len() - 1000]).unwrap();
    let cluster = Simple::start(&dir.path().join("cut"), &["--import", text(&cut)]);
    let ids = cluster.ctl("print ids");
    assert!(ids.contains("last_tid = 0x040d2bd600000012"), "{ids}");
    let lines = stopped(cluster);
    // The descriptions of the first ten are a byte shorter.
    let whole_bytes = whole.len() - (whole.len() - 4 + 10) / 20;
    let [summary, warning] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert!(summary.starts_with("imported 19 transactions"), "{summary}");
    let words = format!(
        "warning: {} ends in the middle of a transaction, whose {} bytes from offset {} on are \
         left out, as ZODB does; the last one taken is 040d2bd600000012",
        cut.display(),
        whole.len() - 1000 - whole_bytes,
        whole_bytes
    );
    assert_eq!(*warning, words);

    // A flipped bit in a record's header: the error names the offset.
    let flipped = dir.path().join("flipped.fs");
    let mut bytes = whole.clone();
    let at = whole.len() / 2 / 40_000 * 40_000;
    let header = bytes[at..]
        .windows(8)
        .position(|w| w == b"somebody")
        .unwrap()
        + at;
    bytes[header - 10] ^= 0x10;
    std::fs::write(&flipped, &bytes).unwrap();
    let data = dir.path().join("flipped");
    let error = run_err(
        "neosimple",
        &["--dir", text(&data), "--import", text(&flipped)],
        1,
    );
    assert!(error.contains("flipped.fs: damaged at offset"), "{error}");
    // The mended file goes on, or starts over.
    let cluster = Simple::start(&data, &["--import", text(&source)]);
    let copy = dir.path().join("copy.fs");
    run_ok(
        "neomigrate",
        &["-c", "main", "-q", &cluster.masters, text(&copy)],
    );
    assert_eq!(std::fs::read(&copy).unwrap(), whole);
    cluster.process.stop("TERM");
}

#[test]
fn a_cluster_that_is_not_there_is_told() {
    let source = testdata("undo.fs");
    let error = run_err(
        "neomigrate",
        &["-c", "main", text(&source), "127.0.0.1:1"],
        1,
    );
    // It says for whom it waits, and then what was wrong.
    let (waiting, failed) = error.split_once('\n').unwrap();
    assert_eq!(waiting, "waiting for cluster \"main\" at 127.0.0.1:1");
    assert!(failed.starts_with("neomigrate: "), "{failed}");
    assert!(failed.contains("127.0.0.1:1"), "{failed}");
}
