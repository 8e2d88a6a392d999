//! A process that dies by SIGKILL: what is left is a prefix, with all that was synced.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use neo_api::{Durability, KvEngine};
use neo_backends::{SledEngine, SledSettings};

use crate::work;

const DATABASE: &str = "NEO_TEST_SLED_DATABASE";

/// What is killed: it goes on where the database ends, syncs every third batch, and tells so.
#[test]
fn killed() {
    let Some(path) = std::env::var_os(DATABASE) else {
        return;
    };
    let engine = SledEngine::open(&SledSettings::new(path)).unwrap();
    println!("synced {}", work::count(&engine));
    for n in work::count(&engine) + 1.. {
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

/// Lets it work until it has synced so many times, and kills it; the last batch that is synced.
fn kill_after(lines: usize, database: &std::path::Path) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::killed", "--nocapture"])
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

#[test]
fn a_prefix_remains_that_holds_what_was_synced() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("database");
    let mut last = 0;
    for round in 0..16 {
        let synced = kill_after(1 + round * 7 % 40, &database);
        let engine = SledEngine::open(&SledSettings::new(&database)).unwrap();
        let found = work::check(&engine);
        assert!(found >= synced, "{found} batches of {synced}");
        assert!(found >= last);
        last = found;
    }
    assert!(last > 60, "{last} batches");
}

/// Without a word to the operating system: what an engine has that is forgotten, and not dropped.
#[test]
fn a_copy_of_the_files_has_what_was_synced() {
    let directory = tempfile::tempdir().unwrap();
    let (database, copy) = (
        directory.path().join("database"),
        directory.path().join("copy"),
    );
    let engine = SledEngine::open(&SledSettings::new(&database)).unwrap();
    for n in 1..=60 {
        engine.apply(work::batch(n), Durability::Synced).unwrap();
    }
    let copied = Command::new("cp")
        .arg("-r")
        .args([&database, &copy])
        .status();
    assert!(copied.unwrap().success());
    let copied = SledEngine::open(&SledSettings::new(&copy)).unwrap();
    assert_eq!(work::check(&copied), 60);
}
