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
use std::sync::Arc;

use anyhow::Context;
use neo_backends::filestorage::Reader;
use neo_backends::{Adapter, Adapters, Place};

use self::args::SimpleArgs;
use self::cluster::{Cluster, End};
use self::memory::{ClusterDir, ClusterPlan};
use crate::Programs;
use crate::config::ConfigError;
use crate::report::say;
use crate::signal::Signals;

/// Runs a cluster until it is told to stop. A failure of a node is told at once, on stderr.
///
/// # Errors
/// When it cannot be started, or fails in another way.
pub async fn run(programs: &Programs, args: &SimpleArgs) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new().context("cannot listen for signals")?;
    if let Some(file) = &args.import {
        // Before anything is made: the file may not be what it should.
        Reader::open(file)?;
    }
    let dir = ClusterDir::open(args.dir.as_deref())?;
    let plan = dir.plan(args)?;
    let adapter = check(&programs.adapters, &plan)?;
    dir.check_databases(&plan, &**adapter)?;
    let mut cluster = Cluster::new(programs, args, dir, plan, Arc::clone(adapter));
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
fn check<'a>(
    adapters: &'a Adapters,
    plan: &ClusterPlan,
) -> Result<&'a Arc<dyn Adapter>, ConfigError> {
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
    let adapter = adapters
        .find(adapter)
        .map_err(|error| ConfigError::Usage(format!("--adapter: {error}")))?;
    match adapter.place() {
        Place::Memory | Place::Path => Ok(adapter),
        _ => wrong(format!(
            "--adapter: databases of {} are on a server: start the nodes one by one, by \
             neomaster, neostorage and neoadmin",
            adapter.name()
        )),
    }
}
