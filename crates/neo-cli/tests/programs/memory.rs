//! How much memory a copy of a large database takes: nobody has it whole.

use std::path::Path;

use neo_api::{Oid, Tid, TransactionMeta};
use neo_backends::filestorage::{NewData, Status, Writer};

use super::harness::{Running, Simple, children};

/// What a storage node may have taken at most, in MiB: SQLite's caches (48), what comes in and waits
/// for the disk when that is slow (16 on their way, 16 in a group), the largest value where it is
/// received, stored, read and sent (4 times 20), and the program itself (32). On a machine with
/// nothing else to do it is half of that; the database is more.
const STORAGE_MIB: u64 = 48 + 16 + 16 + 80 + 32;

/// A FileStorage of 290 MB, with a value of 20 MB in it.
fn large(path: &Path) {
    let mut value = vec![0u8; 4096];
    let mut random = 1u64;
    let mut writer = Writer::create(path).unwrap();
    let first: Tid = "040d2bd691f0e299".parse().unwrap();
    for n in 0..2600 {
        let tid = Tid(first.0 + n * 1_000_000);
        let meta = TransactionMeta::default();
        writer.begin(tid, Status::Normal, &meta).unwrap();
        for k in 0..25 {
            // What could be compressed would not count.
            for bytes in value.chunks_exact_mut(8) {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                bytes.copy_from_slice(&(random ^ random >> 33).to_le_bytes());
            }
            let oid = Oid(n * 25 + k);
            if oid == Oid(1000) {
                writer
                    .record(oid, NewData::Data(&value.repeat(5000)))
                    .unwrap();
            } else {
                writer.record(oid, NewData::Data(&value)).unwrap();
            }
        }
        writer.finish_transaction().unwrap();
    }
    writer.finish().unwrap();
    let mib = std::fs::metadata(path).unwrap().len() >> 20;
    assert!(mib > STORAGE_MIB + 40, "{mib} MiB");
}

/// The most memory that a process has had, in MiB, and its command line.
fn peak(pid: u32) -> Option<(u64, String)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = String::from_utf8_lossy(&words).replace('\0', " ");
    Some((kib / 1024, words))
}

fn assert_below(pid: u32, most: u64) {
    let (mib, words) = peak(pid).unwrap();
    println!("{mib} MiB: {words}");
    assert!(mib > 1 && mib < most, "{mib} MiB: {words}");
}

#[test]
fn a_database_is_copied_in_bounded_memory() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("large.fs");
    large(&source);
    let args = ["--processes", "--import", source.to_str().unwrap()];
    let cluster = Simple::start(&dir.path().join("data"), &args);
    let copy = dir.path().join("copy.fs");
    let words = ["-c", "main", "-q", &cluster.masters, copy.to_str().unwrap()];
    let export = Running::start("neomigrate", &words);
    let mut exporting = 0;
    while let Some((mib, _)) = peak(export.pid()) {
        exporting = exporting.max(mib);
        // What it measures needs the processor.
        std::thread::park_timeout(std::time::Duration::from_millis(2));
    }
    let (status, said) = export.wait();
    assert!(status.success(), "{said}");
    println!("{exporting} MiB: neomigrate");
    assert!(exporting > 1 && exporting < 128, "{exporting} MiB");
    let simple = cluster.process.pid();
    // It read the file.
    assert_below(simple, 128);
    let nodes = children(simple);
    assert_eq!(nodes.len(), 4);
    for node in nodes {
        assert_below(node, STORAGE_MIB);
    }
    let (one, other) = (
        std::fs::read(&source).unwrap(),
        std::fs::read(&copy).unwrap(),
    );
    assert!(one == other, "the copy differs");
    cluster.process.stop("TERM");
}

#[test]
fn nodes_with_nothing_to_do_take_no_processor() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Simple::start(&dir.path().join("data"), &["--processes"]);
    let nodes = children(cluster.process.pid());
    let ticks = || -> u64 {
        let of = |pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let (_, rest) = stat.rsplit_once(')').unwrap();
            let fields: Vec<&str> = rest.split_whitespace().collect();
            fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
        };
        nodes.iter().map(of).sum()
    };
    let before = ticks();
    // Time is what is asked for: a loop that is busy takes a hundred ticks a second.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let spent = ticks() - before;
    assert!(spent < 40, "{spent} ticks of 10 ms in 2 s");
    cluster.process.stop("TERM");
}
