//! `neosimple`: a whole cluster in one command.
//!
//! Every node gets a thread of its own, or with `--processes` a process of its own: this program
//! again, under another command line. Either way nodes talk TCP, and are told to stop by a word
//! that gets lost when this program ends.

pub mod args;
pub(crate) mod child;
mod cluster;
pub mod memory;
mod nodes;
mod restarts;

use std::process::ExitCode;

use anyhow::Context;
use neo_backends::Engine;
use neo_backends::filestorage::Reader;

use self::args::SimpleArgs;
use self::cluster::{Cluster, End};
use self::memory::{ClusterDir, ClusterPlan};
use crate::config::ConfigError;
use crate::report::say;
use crate::signal::Signals;

/// Runs a cluster until it is told to stop. A failure of a node is told at once, on stderr.
///
/// # Errors
/// When it cannot be started, or fails in another way.
pub async fn run(args: &SimpleArgs) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new().context("cannot listen for signals")?;
    if let Some(file) = &args.import {
        // Before anything is made: the file may not be what it should.
        Reader::open(file)?;
    }
    let dir = ClusterDir::open(args.dir.as_deref())?;
    let plan = dir.plan(args)?;
    let engine = check(&plan)?;
    dir.check_databases(&plan, engine)?;
    let mut cluster = Cluster::new(args, dir, plan, engine);
    let served = cluster.serve(args, &mut signals).await;
    match served {
        // There is nobody left to stop.
        Ok(End::Stopped) => Ok(ExitCode::SUCCESS),
        Ok(End::Signal) => {
            cluster.stop(&mut signals).await?;
            Ok(ExitCode::SUCCESS)
        }
        // What was asked for is not done.
        Ok(End::Interrupted) => {
            cluster.stop(&mut signals).await?;
            Ok(ExitCode::FAILURE)
        }
        Err(error) if !cluster.has_nodes() => Err(error),
        Err(error) => {
            // Stopping may take its time.
            say(format_args!(
                "neosimple: {error:#}; stopping the other nodes"
            ));
            if let Err(error) = cluster.stop(&mut signals).await {
                say(format_args!("neosimple: {error:#}"));
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Each is connected to each other one.
const MASTERS_MAX: u32 = 50;

/// Whether a plan can be.
fn check(plan: &ClusterPlan) -> Result<Engine, ConfigError> {
    let ClusterPlan {
        masters,
        storages,
        replicas,
        adapter,
        ..
    } = plan;
    let wrong = |problem| Err(ConfigError::Usage(problem));
    if !(1..=MASTERS_MAX).contains(masters) {
        return wrong(format!(
            "--masters {masters}: a cluster has 1 to {MASTERS_MAX} masters here"
        ));
    }
    if replicas >= storages {
        return wrong(format!(
            "--replicas {replicas}: that needs {} storage nodes, and there are {storages} \
             (--storages)",
            replicas + 1
        ));
    }
    let engine: Engine = adapter
        .parse()
        .map_err(|error| ConfigError::Usage(format!("--adapter: {error}")))?;
    if !engine.is_available() {
        return wrong(format!(
            "--adapter: the adapter {engine} is not available in this version"
        ));
    }
    if !engine.has_path() && engine != Engine::Memory {
        return wrong(format!(
            "--adapter: databases of {engine} are on a server: start the nodes one by one, by \
             neomaster, neostorage and neoadmin"
        ));
    }
    Ok(engine)
}
