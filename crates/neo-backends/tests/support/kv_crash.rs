//! A process that dies by SIGKILL: what is left is a prefix, with all that was synced.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use neo_api::{BackendResult, Durability, KvEngine};

use crate::work;

const DATABASE: &str = "NEO_TEST_KV_DATABASE";

/// The database of the process that is to be killed, when this one is it.
pub(crate) fn to_be_killed() -> Option<PathBuf> {
    std::env::var_os(DATABASE).map(PathBuf::from)
}

/// Goes on where the database ends, syncs every third batch, and tells so.
pub(crate) fn go_on(engine: &impl KvEngine) {
    println!("synced {}", work::count(engine));
    for n in work::count(engine) + 1.. {
        let durability = if n % 3 == 0 {
            Durability::Synced
        } else {
            Durability::Buffered
        };
        engine.apply(work::batch(n), durability).unwrap();
        if n % 3 == 0 {
            println!("synced {n}");
        }
    }
}

/// Lets a test that goes on work until it has synced so many times, and kills it; the last batch
/// that is synced.
fn kill_after(test: &str, lines: usize, database: &Path) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(DATABASE, database)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let told = output.lines().map(Result::unwrap);
    // Other words of the test runner may be on the same line.
    let mut told = told.filter_map(|line| line.rsplit_once("synced ")?.1.parse::<u64>().ok());
    let mut synced = told.by_ref().take(lines).last().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // What it could still say is true as well.
    synced = told.last().unwrap_or(synced);
    synced
}

/// Kills a test that goes on, again and again.
pub(crate) fn check_kills<E: KvEngine>(test: &str, open: impl Fn(&Path) -> BackendResult<E>) {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("database");
    let mut last = 0;
    for round in 0..16 {
        let synced = kill_after(test, 1 + round * 7 % 40, &database);
        let found = work::check(&open(&database).unwrap());
        assert!(found >= synced, "{found} batches of {synced}");
        assert!(found >= last);
        last = found;
    }
    assert!(last > 60, "{last} batches");
}

/// Without a word to the operating system: what an engine has that is forgotten, and not dropped.
pub(crate) fn check_copy<E: KvEngine>(open: impl Fn(&Path) -> BackendResult<E>) {
    let directory = tempfile::tempdir().unwrap();
    let (database, copy) = (
        directory.path().join("database"),
        directory.path().join("copy"),
    );
    let engine = open(&database).unwrap();
    for n in 1..=60 {
        engine.apply(work::batch(n), Durability::Synced).unwrap();
    }
    let copied = Command::new("cp")
        .arg("-r")
        .args([&database, &copy])
        .status();
    assert!(copied.unwrap().success());
    assert_eq!(work::check(&open(&copy).unwrap()), 60);
}
