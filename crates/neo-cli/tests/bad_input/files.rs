//! FileStorage files that are cut short, damaged, or something else, given to an import.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use neo_api::{Oid, Tid, TransactionMeta};
use neo_backends::filestorage::{NewData, Status, Writer};
use neo_testkit::process::{CLUSTER, Process};

use crate::cluster::{self, programs};

const TRANSACTIONS: u64 = 40;

/// A file with some objects that change again and again; where its transactions begin.
fn write_good(path: &Path) -> Vec<usize> {
    let mut writer = Writer::create(path).expect("created");
    for n in 0..TRANSACTIONS {
        let tid = Tid((0x03f0_0000 + n) << 32);
        let meta = TransactionMeta {
            user: "somebody".into(),
            description: format!("transaction {n}").into(),
            ..TransactionMeta::default()
        };
        writer.begin(tid, Status::Normal, &meta).expect("begun");
        for oid in [n % 7, 100 + n] {
            let data = vec![n as u8; 500];
            writer
                .record(Oid(oid), NewData::Data(&data))
                .expect("written");
        }
        writer.finish_transaction().expect("finished");
    }
    writer.finish().expect("finished");
    // At 4, and then behind each transaction: its length is 8 bytes after its beginning.
    let bytes = fs::read(path).expect("written");
    let mut starts = vec![4];
    while let Some(at) = starts.last().map(|at| *at + 8)
        && let Some(length) = bytes.get(at..at + 8)
    {
        let length = u64::from_be_bytes(length.try_into().expect("8 bytes"));
        starts.push(at + usize::try_from(length).expect("short"));
    }
    starts
}

/// A file that is no good, and what an import of it says.
struct Bad {
    path: PathBuf,
    words: String,
}

/// Files that are damaged in the middle of the good one.
fn damaged(dir: &Path, good: &[u8], starts: &[usize]) -> Vec<Bad> {
    let offset = starts[20];
    // Behind the header, "somebody" and "transaction 20".
    let record = offset + 23 + 8 + 14;
    let advice =
        "restore the file from a copy, or save what can still be read with ZODB's fsrecover";
    let flip = |name: &str, byte: usize, bit: u8, at: usize, what: &str| {
        let mut bytes = good.to_vec();
        bytes[byte] ^= bit;
        let path = dir.join(name);
        fs::write(&path, bytes).expect("written");
        let words = format!(
            "{}: damaged at offset {at}: {what}; {advice}",
            path.display()
        );
        Bad { path, words }
    };
    let tid = Tid((0x03f0_0000 + 20) << 32);
    // 500 bytes become 244: what follows is no record, but data, which are all the number 20.
    let next = record + 42 + 244;
    let noise = u64::from_be_bytes([20; 8]);
    let words = [
        format!("the record's transaction is at {offset}, but it says {noise}"),
        format!(
            "the record has tid {tid} in transaction {}",
            Tid(tid.0 | 1 << 63)
        ),
        format!(
            "the transaction's length is 1128 before it, {} after",
            0x1400_0000_0000_0004_u64
        ),
        "unknown transaction status 0x60".to_owned(),
        format!("the record has tid {} in transaction {tid}", Tid(tid.0 | 1)),
    ];
    vec![
        flip("data_length.fs", record + 40, 0x01, next, &words[0]),
        flip("tid.fs", offset, 0x80, record, &words[1]),
        flip("length.fs", offset + 15, 0x01, offset, &words[2]),
        flip("status.fs", offset + 16, 0x40, offset, &words[3]),
        flip("record.fs", record + 8 + 7, 0x01, record, &words[4]),
    ]
}

fn neomigrate(from: &str, to: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_neomigrate"))
        .args(["-q", "-c", CLUSTER, from, to])
        .output()
        .expect("it runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn a_damaged_file_is_refused_by_neomigrate_and_the_good_one_follows() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().canonicalize().expect("a path");
    let good = dir.join("good.fs");
    let starts = write_good(&good);
    let bytes = fs::read(&good).expect("written");
    let mut cluster = cluster::start(&dir.join("cluster"));
    drop(cluster::connect(&cluster));
    let masters = cluster.master_address().to_string();

    let (mut said, mut expected) = (Vec::new(), Vec::new());
    for bad in damaged(&dir, &bytes, &starts) {
        let output = neomigrate(text(&bad.path), &masters);
        assert_eq!(output.status.code(), Some(1));
        said.push(stderr(&output));
        expected.push(format!("neomigrate: {}\n", bad.words));
    }
    assert_eq!(said, expected);

    // Cut short: what is whole is taken, as ZODB does.
    let cut = dir.join("cut.fs");
    let at = starts[30];
    fs::write(&cut, &bytes[..at + 100]).expect("written");
    let last = Tid((0x03f0_0000 + 29) << 32);
    let words = format!(
        "warning: {} ends in the middle of a transaction, whose 100 bytes from offset {at} on are \
         left out, as ZODB does; the last one taken is {last}\n",
        cut.display()
    );
    // The second time, nothing is new: it is told all the same.
    for _ in 0..2 {
        let output = neomigrate(text(&cut), &masters);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stderr(&output), words);
    }

    // The good one goes on from there, and comes back as it was.
    let output = neomigrate(text(&good), &masters);
    assert!(output.status.success(), "{}", stderr(&output));
    let copy = dir.join("copy.fs");
    let output = neomigrate(&masters, text(&copy));
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(fs::read(&copy).expect("written") == bytes, "the same bytes");

    // Now there is other data than in a file that begins otherwise.
    let other = dir.join("other.fs");
    let mut writer = Writer::create(&other).expect("created");
    writer
        .begin(Tid(1 << 32), Status::Normal, &TransactionMeta::default())
        .expect("begun");
    writer
        .record(Oid(1), NewData::Data(b"other"))
        .expect("written");
    writer.finish_transaction().expect("finished");
    writer.finish().expect("finished");
    let output = neomigrate(text(&other), &masters);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains(&format!(
            "the cluster has other data than {}",
            other.display()
        )) && said.contains("import into an empty cluster"),
        "{said}"
    );
    cluster.stop().expect("a clean stop");
}

fn neosimple(dir: &Path, import: &Path) -> Process {
    let data = dir.join("data");
    let arguments = ["--dir", text(&data), "--import", text(import)];
    let arguments = arguments.iter().map(|&a| a.to_owned()).collect();
    Process::new(
        programs().join("neosimple"),
        arguments,
        dir.join("neosimple.log"),
    )
}

/// It must end with a failure; gives its last line.
fn fails(mut process: Process) -> String {
    process.start().expect("it starts");
    let status = process.wait().expect("it ends");
    let output = process.output();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(!output.contains("panicked"), "{output}");
    output.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_damaged_file_is_refused_by_neosimple_and_the_good_one_follows() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().canonicalize().expect("a path");
    let good = dir.join("good.fs");
    let starts = write_good(&good);
    let bytes = fs::read(&good).expect("written");
    for bad in damaged(&dir, &bytes, &starts) {
        let said = fails(neosimple(&dir, &bad.path));
        assert!(
            said.starts_with(&format!("neosimple: {}", bad.words)),
            "{said}"
        );
    }
    let text_file = dir.join("text.fs");
    fs::write(&text_file, "no database").expect("written");
    let said = fails(neosimple(&dir, &text_file));
    let words = format!(
        "neosimple: {}: not a FileStorage file: it begins with [6e, 6f, 20, 64] instead of \
         \"FS21\" or \"FS30\"; give the path of a ZODB Data.fs",
        text_file.display()
    );
    assert!(said.starts_with(&words), "{said}");

    let mut simple = neosimple(&dir, &good);
    simple.start().expect("it starts");
    let line = simple.wait_for("RUNNING cluster=main").expect("it runs");
    let masters = line
        .split("masters=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let copy = dir.join("copy.fs");
    let output = Command::new(env!("CARGO_BIN_EXE_neomigrate"))
        .args(["-q", "-c", "main", masters.expect("masters"), text(&copy)])
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(fs::read(&copy).expect("written") == bytes, "the same bytes");
    assert!(
        simple
            .stop()
            .expect("it stops")
            .is_some_and(|status| status.success())
    );
}
