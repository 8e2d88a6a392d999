//! An engine of your own under whole clusters in virtual time: clients work, nodes crash, are cut off
//! or stand still, disks lose what was not synced; then everything heals and is checked.
//!
//! Each run is a function of its seed, so that a failure replays: raise the number of seeds, and let
//! it run for as long as you like.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use neo_api::{BackendInfo, StorageBackend};
use neo_backends::{KvBackend, MemoryEngine};
use neo_testkit::CrashEngine;
use neo_testkit::random::{Failure, RunSettings, run_with_backends};
use neo_testkit::sim::Name;

/// In place of yours: any `KvEngine`. Its data is in memory, so that it is `CrashEngine` that makes
/// what a loss of power leaves; an engine on a disk is opened anew instead, from a copy of what it
/// had synced.
type Engine = CrashEngine<MemoryEngine>;

/// What the storage nodes of one cluster keep. It is asked whenever one of them starts.
fn databases() -> impl FnMut(Name) -> Arc<dyn StorageBackend> {
    let mut engines: BTreeMap<Name, Arc<Engine>> = BTreeMap::new();
    move |node| {
        let engine = engines
            .entry(node)
            .or_insert_with(|| Arc::new(Engine::new(MemoryEngine::default())));
        // What was not synced when the node ended is gone, as after a loss of power.
        let sure = *engine.survivors().start();
        engine
            .restart(sure)
            .expect("memory takes what it had before");
        let info = BackendInfo::new("Mine", true);
        // Inline: on one thread, and ready at once.
        Arc::new(KvBackend::inline(Arc::clone(engine), info))
    }
}

fn main() -> Result<(), Failure> {
    for seed in 0..4 {
        let mut settings = RunSettings::of_seed(seed);
        settings.duration = Duration::from_secs(20);
        let report = run_with_backends(&settings, databases())?;
        assert!(report.commits > 0 && report.faults.total() > 0);
        println!("{report}");
    }
    Ok(())
}
