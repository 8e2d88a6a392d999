//! What every test of a world does: start it, heal it, check it.

use std::time::Duration;

use neo_api::ClusterState;

use super::facts::Facts;
use super::fault::{InFlight, Keep};
use super::name::Name;
use super::node::Ended;
use super::settings::WorldSettings;
use super::world::{Stuck, World};
use crate::invariant::check_all;

/// How long anything may take that must happen, in virtual time.
pub const PATIENCE: Duration = Duration::from_secs(120);

impl World {
    /// A world whose cluster is RUNNING and quiet.
    ///
    /// # Panics
    /// When it does not get there.
    #[must_use]
    pub fn booted(settings: WorldSettings) -> Self {
        let mut world = Self::new(settings);
        world.start_all();
        let running = world.wait_running().and_then(|()| world.settle(PATIENCE));
        if let Err(stuck) = running {
            panic!("{stuck}\n{}", world.trace());
        }
        world
    }

    /// Whether the cluster is RUNNING, with every storage node that is up and has a readable cell,
    /// and every client that is up.
    #[must_use]
    pub fn is_running(&self) -> bool {
        if self.cluster_state() != Some(ClusterState::Running) {
            return false;
        }
        let mut waits = self
            .names()
            .filter(|name| self.is_up(*name) && !self.is_serving(*name));
        waits.all(|name| match name {
            Name::Master(_) => true,
            Name::Storage(_) => !self.is_readable(name),
            Name::Client(_) => false,
            Name::Puppet(_) => true,
        })
    }

    /// Whether a storage node has a readable cell in the table that the primary goes by.
    #[must_use]
    pub fn is_readable(&self, name: Name) -> bool {
        let nid = self.nid(name);
        let rows = self.partition_table().map(|table| &table.rows);
        let mut cells = rows.into_iter().flatten().flatten();
        cells.any(|cell| Some(cell.nid) == nid && cell.state.is_readable())
    }

    /// Runs until the cluster is RUNNING.
    ///
    /// # Errors
    /// When it does not get there.
    pub fn wait_running(&mut self) -> Result<(), Stuck> {
        self.run_until("RUNNING", PATIENCE, Self::is_running)
    }

    /// Starts what is down, and runs until the cluster is RUNNING and quiet.
    ///
    /// # Errors
    /// When it does not get there.
    pub fn heal(&mut self) -> Result<(), Stuck> {
        self.start_all();
        // A connection that one end believes in takes as long to end as silence is borne.
        let noticed = "rid of connections that are only half there";
        self.run_until(noticed, PATIENCE, |world| !world.has_half_open_links())?;
        self.wait_running()?;
        self.settle(PATIENCE)
    }

    /// Cuts the power of every node at once; disks keep nothing that was not synced.
    pub fn crash_all(&mut self) {
        let all: Vec<Name> = self.names().collect();
        self.crash(&all, Keep::None, InFlight::Lost);
    }

    /// Checks every property of what the clients were told and of what is in the databases.
    ///
    /// # Errors
    /// What is wrong, one a line.
    pub fn check(&self) -> Result<(), String> {
        let facts = Facts::read(self).ok_or("there is no partition table")?;
        let violations = check_all(&self.oracle().borrow(), &facts);
        let mut wrong: Vec<String> = violations.iter().map(ToString::to_string).collect();
        for name in self.names() {
            if let Some(Ended::Failed(why)) = self.ended(name) {
                wrong.push(format!("{name} declared itself failed: {why}"));
            }
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n"))
        }
    }
}
