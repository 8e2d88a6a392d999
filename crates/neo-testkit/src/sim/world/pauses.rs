//! Nodes and disks that stand still, disks that are slow, clocks that are wrong.

use super::*;

impl World {
    /// A node stands still, its connections open: what happens to it waits until it is
    /// [thawed](Self::thaw). A node that is down, or frozen already, does not change.
    pub fn freeze(&mut self, name: Name) {
        let place = self.place_mut(name);
        if place.running.is_none() || place.frozen.is_some() {
            return;
        }
        place.frozen = Some(Vec::new());
        self.frozen += 1;
        self.tally.freezes += 1;
        self.trace.note(self.now, None, format!("FREEZE of {name}"));
    }

    /// A frozen node goes on, with all that has waited.
    pub fn thaw(&mut self, name: Name) {
        let Some(waited) = self.place_mut(name).frozen.take() else {
            return;
        };
        self.frozen -= 1;
        self.trace.note(self.now, None, format!("{name} goes on"));
        for happening in waited {
            self.push(self.now, happening);
        }
        self.pump(name);
    }

    /// Whether a node is frozen.
    #[must_use]
    pub fn is_frozen(&self, name: Name) -> bool {
        self.frozen > 0 && self.place(name).frozen.is_some()
    }

    /// The disk of a storage node stands still until it is [thawed](Self::thaw_disk): nothing is
    /// read, and no write ends.
    pub fn freeze_disk(&mut self, name: Name) {
        let Some(disk) = &mut self.place_mut(name).disk else {
            return;
        };
        if disk.frozen.is_some() {
            return;
        }
        disk.frozen = Some(Vec::new());
        self.frozen += 1;
        self.tally.disk_freezes += 1;
        let note = format!("FREEZE of the disk of {name}");
        self.trace.note(self.now, None, note);
    }

    /// A frozen disk goes on.
    pub fn thaw_disk(&mut self, name: Name) {
        let disk = self.place_mut(name).disk.as_mut();
        let Some(waited) = disk.and_then(|disk| disk.frozen.take()) else {
            return;
        };
        self.frozen -= 1;
        let note = format!("the disk of {name} goes on");
        self.trace.note(self.now, None, note);
        for happening in waited {
            self.push(self.now, happening);
        }
    }

    /// From now on, each read and write of a disk takes up to `factor` times as long as it should;
    /// 1: as it should.
    pub fn slow_disk(&mut self, name: Name, factor: u32) {
        let Some(disk) = &mut self.place_mut(name).disk else {
            return;
        };
        disk.slowness = factor.max(1);
        if factor > 1 {
            self.tally.slow_disks += 1;
        }
        let note = format!("the disk of {name} is up to {factor} times slower");
        self.trace.note(self.now, None, note);
    }

    /// Jumps a node's wall clock.
    pub fn shift_wall_clock(&mut self, name: Name, micros: i64) {
        self.place_mut(name).clock.jump(micros);
        self.tally.clock_jumps += 1;
        let note = format!("the wall clock of {name} jumps by {micros} us");
        self.trace.note(self.now, None, note);
    }

    /// From now on, a node's clocks go faster than the world's, by millionths; 0: as fast.
    pub fn skew_clock(&mut self, name: Name, rate_ppm: i32) {
        let now = self.now;
        let place = self.place_mut(name);
        place.clock.skew(now, rate_ppm);
        place.timer = None;
        if rate_ppm != 0 {
            self.tally.clock_skews += 1;
        }
        let note = format!("the clock of {name} goes wrong by {rate_ppm} ppm");
        self.trace.note(now, None, note);
        self.schedule_timer(name);
    }

    /// What is to happen now, unless it must wait for a node or a disk that is frozen.
    pub(super) fn unless_frozen(&mut self, happening: Happening) -> Option<Happening> {
        if self.frozen == 0 {
            return Some(happening);
        }
        let (node, is_of_disk) = match &happening {
            Happening::Timer { node, .. } | Happening::Gone { node, .. } => (*node, false),
            Happening::Dial { link } => (self.links[link.0].listener.node, false),
            Happening::Dialed { link, .. } => (self.links[link.0].dialer.node, false),
            Happening::Arrival { link, side } => (self.links[link.0].end(*side).node, false),
            Happening::Written { node, .. }
            | Happening::Read { node, .. }
            | Happening::ReadDone { node, .. } => (*node, true),
        };
        let place = self.place_mut(node);
        if let Some(waits) = &mut place.frozen {
            waits.push(happening);
            return None;
        }
        let disk = place.disk.as_mut().filter(|_| is_of_disk);
        match disk.and_then(|disk| disk.frozen.as_mut()) {
            Some(waits) => {
                waits.push(happening);
                None
            }
            None => Some(happening),
        }
    }
}
