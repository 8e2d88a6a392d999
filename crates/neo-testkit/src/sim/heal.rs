//! What every test of a world does: start it, heal it, check it.

use std::time::Duration;

use neo_api::{Cell, ClusterState};

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

    /// Whether the cluster is RUNNING, with every storage node that is up and has a cell, and every
    /// client that is up.
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
            Name::Storage(_) => !self.has_cell(name),
            Name::Client(_) => false,
            Name::Puppet(_) => true,
        })
    }

    /// Whether a storage node has a readable cell in the table that the primary goes by.
    #[must_use]
    pub fn is_readable(&self, name: Name) -> bool {
        self.cells_of(name).any(|cell| cell.state.is_readable())
    }

    /// Whether a storage node has a cell in the table that the primary goes by.
    #[must_use]
    pub fn has_cell(&self, name: Name) -> bool {
        self.cells_of(name).next().is_some()
    }

    /// Whether every cell of every storage node that is up is readable.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        let storages = self.names().filter(|name| self.is_up(*name));
        let mut cells = storages.flat_map(|name| self.cells_of(name));
        self.partition_table().is_some() && cells.all(|cell| cell.state.is_readable())
    }

    fn cells_of(&self, name: Name) -> impl Iterator<Item = &Cell> {
        let nid = self.nid(name);
        let rows = self.partition_table().map(|table| &table.rows);
        let cells = rows.into_iter().flatten().flatten();
        cells.filter(move |cell| Some(cell.nid) == nid)
    }

    /// Runs until the cluster is RUNNING.
    ///
    /// # Errors
    /// When it does not get there.
    pub fn wait_running(&mut self) -> Result<(), Stuck> {
        self.run_until("RUNNING", PATIENCE, Self::is_running)
    }

    /// Runs until the cluster is RUNNING and no cell lacks anything.
    ///
    /// # Errors
    /// When it does not get there.
    pub fn wait_caught_up(&mut self) -> Result<(), Stuck> {
        let is_whole = |world: &Self| world.is_running() && world.is_caught_up();
        self.run_until("UP_TO_DATE everywhere", PATIENCE, is_whole)
    }

    /// Ends every fault, starts what is down, and runs until the cluster is RUNNING, every cell is
    /// UP_TO_DATE again and all is quiet.
    ///
    /// # Errors
    /// When it does not get there.
    pub fn heal(&mut self) -> Result<(), Stuck> {
        self.end_faults();
        self.start_all();
        // A connection that one end believes in takes as long to end as silence is borne.
        let noticed = "rid of connections that are only half there";
        self.run_until(noticed, PATIENCE, |world| !world.has_half_open_links())?;
        self.wait_caught_up()?;
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
        let wrong = self.wrong(&facts);
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n"))
        }
    }

    /// What is wrong with what is in the databases.
    #[must_use]
    pub fn wrong(&self, facts: &Facts) -> Vec<String> {
        let violations = check_all(&self.oracle().borrow(), facts);
        let mut wrong: Vec<String> = violations.iter().map(ToString::to_string).collect();
        for name in self.names() {
            if let Some(Ended::Failed(why)) = self.ended(name) {
                wrong.push(format!("{name} declared itself failed: {why}"));
            }
        }
        wrong
    }
}
