//! Runs that are left to chance, the same ones each time; every seed that ever failed; and each rule
//! that can be broken is, to see that the checks see it.
//!
//! New seeds are run by `cargo xtask test seeds`, as many as one likes by `cargo xtask sim`.

use std::sync::Mutex;
use std::time::Duration;

use neo_testkit::random::{Batch, Failure, MUTATIONS, Report, RunSettings, Totals, run, sweep};

/// Seeds that failed once, each with what was wrong.
const FAILED_ONCE: &str = include_str!("seeds.txt");

fn failed_once() -> Vec<u64> {
    let lines = FAILED_ONCE.lines().filter(|line| !line.starts_with('#'));
    let numbers = lines.filter_map(|line| line.split_whitespace().next());
    numbers.map(|number| number.parse().unwrap()).collect()
}

fn all_right(batch: &Batch) -> Totals {
    let failed = Mutex::new(Vec::new());
    let totals = sweep(batch, |result: &Result<Report, Failure>| {
        if let Err(failure) = result {
            failed.lock().unwrap().push(failure.clone());
        }
    });
    println!("{totals}");
    if let Some(Failure { seed, what, .. }) = failed.into_inner().unwrap().first() {
        let end = seed + 1;
        panic!("seed {seed}: {what}\nto replay it: cargo xtask sim --seeds {seed}..{end} --trace");
    }
    totals
}

#[test]
fn clients_and_faults_at_random() {
    let totals = all_right(&Batch::new(0..8));
    // So many make up for each other; the bounds are half of what was found.
    let commits = totals.median(|report| report.commits);
    let faults = totals.median(|report| report.faults.total());
    let primaries = totals.median(|report| report.primaries);
    assert!(
        commits >= 500 && faults >= 5 && primaries >= 1,
        "too little happened: {totals}"
    );
}

#[test]
fn seeds_that_failed_once() {
    all_right(&Batch::new(failed_once()));
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 100..103 {
        let mut settings = RunSettings::of_seed(seed);
        settings.duration = Duration::from_secs(15);
        let (first, second) = (run(&settings).unwrap(), run(&settings).unwrap());
        assert_eq!(first, second);
        settings.world.seed += 1;
        assert_ne!(first.hash, run(&settings).unwrap().hash);
    }
}

/// So many seeds are enough to find out a broken rule.
const SEEDS_OF_A_RULE: u64 = 200;

fn is_found_out(rule: &str) {
    let mutation = MUTATIONS.iter().find(|mutation| mutation.name == rule);
    let mut batch = Batch::new(0..SEEDS_OF_A_RULE);
    batch.tunes.push(mutation.unwrap().tune);
    batch.stops = true;
    let found = Mutex::new(None);
    let totals = sweep(&batch, |result| {
        if let Err(failure) = result {
            *found.lock().unwrap() = Some(failure.to_string());
        }
    });
    match found.into_inner().unwrap() {
        Some(words) => println!("{rule}: {words}"),
        None => panic!("{rule} was broken, and nothing was found in {totals}"),
    }
}

#[test]
fn broken_durability_is_found_out() {
    is_found_out("durability");
}

#[test]
fn a_broken_read_lock_is_found_out() {
    is_found_out("read-lock");
}

#[test]
fn a_broken_conflict_check_is_found_out() {
    is_found_out("conflicts");
}

#[test]
fn broken_replication_is_found_out() {
    is_found_out("replication");
}

#[test]
fn broken_invalidation_is_found_out() {
    is_found_out("invalidation");
}
