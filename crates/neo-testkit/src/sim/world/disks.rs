//! The disks of a world: reads and writes that take their time.

use super::*;

impl World {
    /// A copy is made of what is durable on a storage node's disk.
    ///
    /// # Panics
    /// When it is no storage node.
    pub fn copy_disk(&mut self, node: Name) {
        self.disk(node).copy();
        let note = format!("the disk of {node} is copied");
        self.trace.note(self.now, None, note);
    }

    /// An operator puts the last copy of a storage node's disk back in its place.
    ///
    /// # Panics
    /// When the node runs, or no copy of its disk was made since it was last put back.
    pub fn put_disk_back(&mut self, node: Name) {
        assert!(!self.is_up(node), "{node} runs");
        let disk = self.place_mut(node).disk.as_mut();
        let is_back = disk.expect("storage nodes have disks").put_copy_back();
        assert!(is_back, "there is no copy of the disk of {node}");
        let note = format!("an older disk of {node} is put back");
        self.trace.note(self.now, None, note);
    }

    pub(super) fn storage_job(&mut self, node: Name, job: Job) {
        self.busy_at = self.now;
        let incarnation = self.place(node).incarnation;
        let (until_read, until_done) = (self.delay_of_read(node), self.delay_of_read(node));
        let disk = self.place_mut(node).disk.as_mut();
        let disk = disk.expect("storage nodes have disks");
        match job {
            Job::Persist {
                token,
                batch,
                durability,
            } => {
                disk.persist(token, batch, durability);
                self.start_write(node);
            }
            Job::Read { token, query } => {
                let job = disk.queue_read(token, query);
                let at = self.now + until_read;
                let read = Happening::Read {
                    node,
                    incarnation,
                    job,
                };
                self.push(at, read);
                let done = Happening::ReadDone {
                    node,
                    incarnation,
                    job,
                };
                self.push(at + until_done, done);
            }
        }
    }

    fn delay_of_read(&mut self, node: Name) -> u64 {
        let (least, most) = self.settings.read_delay;
        let delay = self
            .rng
            .between(least.as_nanos() as u64, most.as_nanos() as u64);
        delay * self.slowness(node)
    }

    /// How many times as long as it should something on a disk takes.
    fn slowness(&mut self, node: Name) -> u64 {
        let disk = self.place(node).disk.as_ref();
        match disk.map_or(1, |disk| disk.slowness) {
            1 => 1,
            most => self.rng.between(1, u64::from(most)),
        }
    }

    pub(super) fn start_write(&mut self, node: Name) {
        let incarnation = self.place(node).incarnation;
        let disk = self.place_mut(node).disk.as_mut();
        let disk = disk.expect("storage nodes have disks");
        if let Some(synced) = disk.start_write() {
            let delay = if synced {
                self.settings.sync_delay
            } else {
                self.settings.write_delay
            };
            let at = self.now + delay.as_nanos() as u64 * self.slowness(node);
            self.push(at, Happening::Written { node, incarnation });
        }
    }

    pub(super) fn written(&mut self, node: Name, incarnation: u32) {
        if !self.is_current(node, incarnation) {
            return;
        }
        self.busy_at = self.now;
        let synced = self.disk(node).is_writing_synced();
        let point = self.point(Happens::Write { node, synced });
        let disk = &self.places[&node].disk;
        self.trace.detail(self.now, Some(point), || {
            let words = disk.as_ref().map(Disk::writing);
            format!("{node} {}", words.unwrap_or_default())
        });
        self.strike_at(point, When::Before, None);
        if !self.is_current(node, incarnation) {
            return;
        }
        let disk = self.place_mut(node).disk.as_mut();
        let done = disk.expect("storage nodes have disks").end_write();
        self.start_write(node);
        for done in done {
            self.input(node, |running, now| running.done(now, done));
        }
        self.strike_at(point, When::After, None);
    }

    pub(super) fn read(&mut self, node: Name, incarnation: u32, job: u64) {
        if self.is_current(node, incarnation)
            && let Some(disk) = &mut self.place_mut(node).disk
        {
            disk.read(job);
        }
    }

    pub(super) fn read_done(&mut self, node: Name, incarnation: u32, job: u64) {
        if !self.is_current(node, incarnation) {
            return;
        }
        self.busy_at = self.now;
        let disk = self.place_mut(node).disk.as_mut();
        if let Some(done) = disk.and_then(|disk| disk.read_done(job)) {
            self.input(node, |running, now| running.done(now, done));
        }
    }

    pub(super) fn gone(&mut self, node: Name, incarnation: u32) {
        if self.is_current(node, incarnation) && self.place(node).ended.is_some() {
            self.take_down(node, None);
            self.drop_links(node, InFlight::Delivered);
        }
    }
}
