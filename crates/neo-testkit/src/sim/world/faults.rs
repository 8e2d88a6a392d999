//! The faults of a world: placed at points, or at once.

use std::collections::BTreeSet;
use std::ops::AddAssign;

use super::*;
use crate::sim::network::Slow;

/// How many faults there were of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Nodes that crashed: one that is down can't.
    pub nodes_crashed: usize,
    /// Connections that were cut.
    pub links_cut: usize,
    /// Partitions between nodes.
    pub partitions: usize,
    /// Ways that became slow.
    pub slow_ways: usize,
    /// Nodes that stood still.
    pub freezes: usize,
    /// Disks that stood still.
    pub disk_freezes: usize,
    /// Disks that became slow.
    pub slow_disks: usize,
    /// Clocks that went too fast or too slowly.
    pub clock_skews: usize,
    /// Clocks that jumped.
    pub clock_jumps: usize,
    /// Orders of an operator: no faults, but as disturbing.
    pub orders: usize,
}

impl Tally {
    /// Each kind, with a name.
    #[must_use]
    pub const fn kinds(&self) -> [(&'static str, usize); 10] {
        [
            ("crashes", self.nodes_crashed),
            ("cuts", self.links_cut),
            ("partitions", self.partitions),
            ("slow links", self.slow_ways),
            ("frozen nodes", self.freezes),
            ("frozen disks", self.disk_freezes),
            ("slow disks", self.slow_disks),
            ("skewed clocks", self.clock_skews),
            ("clock jumps", self.clock_jumps),
            ("orders", self.orders),
        ]
    }

    /// All faults together.
    #[must_use]
    pub fn total(&self) -> usize {
        let all: usize = self.kinds().iter().map(|(_, count)| count).sum();
        all - self.orders
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.nodes_crashed += other.nodes_crashed;
        self.links_cut += other.links_cut;
        self.partitions += other.partitions;
        self.slow_ways += other.slow_ways;
        self.freezes += other.freezes;
        self.disk_freezes += other.disk_freezes;
        self.slow_disks += other.slow_disks;
        self.clock_skews += other.clock_skews;
        self.clock_jumps += other.clock_jumps;
        self.orders += other.orders;
    }
}

impl World {
    /// Places a fault.
    pub fn plan(&mut self, placed: Placed) {
        self.plan.push(placed);
    }

    /// Places a fault at the next point that fits.
    pub fn plan_at(&mut self, pattern: Pattern, when: When, fault: Fault) {
        self.patterns.push((pattern, when, fault));
    }

    /// Whether every fault that was placed has happened.
    #[must_use]
    pub fn has_struck(&self) -> bool {
        self.plan.is_empty() && self.patterns.is_empty()
    }

    /// Faults that were placed and have not happened.
    #[must_use]
    pub fn planned(&self) -> &[Placed] {
        &self.plan
    }

    /// A fault, now.
    pub fn strike(&mut self, fault: &Fault) {
        match fault {
            Fault::Crash {
                nodes,
                keep,
                in_flight,
            } => self.crash(nodes, *keep, *in_flight),
            Fault::Cut {
                first,
                second,
                gap,
                in_flight,
            } => self.cut(*first, *second, *gap, *in_flight),
            Fault::Delay(_) => {}
        }
    }

    /// Nodes crash.
    pub fn crash(&mut self, nodes: &[Name], keep: Keep, in_flight: InFlight) {
        let up: Vec<Name> = nodes.iter().copied().filter(|n| self.is_up(*n)).collect();
        let note = format!("CRASH of {up:?}, keep {keep:?}, in flight {in_flight:?}");
        self.trace.note(self.now, None, note);
        self.busy_at = self.now;
        self.tally.nodes_crashed += up.len();
        for name in &up {
            self.take_down(*name, Some(keep));
        }
        for name in up {
            self.drop_links(name, in_flight);
        }
    }

    /// What runs at a place ends; `keep`: what its disk keeps, if the machine crashes with it.
    pub(super) fn take_down(&mut self, name: Name, keep: Option<Keep>) {
        // What waited for it finds it gone.
        self.thaw_disk(name);
        if let Some(waited) = self.place_mut(name).frozen.take() {
            self.frozen -= 1;
            for happening in waited {
                self.push(self.now, happening);
            }
        }
        let place = self.place_mut(name);
        place.running = None;
        place.serving = false;
        place.timer = None;
        if let Some(disk) = &mut place.disk {
            disk.close(keep);
        }
        // Scripts are dropped with their transactions, before anything is taken of the mailbox.
        self.scripts.retain(|script| script.client != name);
        if let Some(mailbox) = self.mailboxes.get(&name) {
            let left = mailbox.borrow().after_crash();
            mailbox.replace(left);
        }
    }

    /// The connections of a node that is gone end.
    pub(super) fn drop_links(&mut self, name: Name, in_flight: InFlight) {
        let conns = std::mem::take(&mut self.place_mut(name).conns);
        for (link, side) in conns.into_values() {
            let now = self.now;
            let link_state = &mut self.links[link.0];
            link_state.end(side).open = false;
            link_state.to(side).lost = true;
            let there = link_state.to(side.other());
            if in_flight == InFlight::Lost {
                there.clear();
                there.last_arrival = now;
            }
            self.carry(
                link,
                side.other(),
                Carried::End(Some("connection reset by peer".into())),
            );
        }
    }

    /// The connections between two nodes are cut.
    pub fn cut(&mut self, first: Name, second: Name, gap: Duration, in_flight: InFlight) {
        let note =
            format!("CUT of {first}-{second}, {first} sees it first, the other {gap:?} later");
        self.trace.note(self.now, None, note);
        self.busy_at = self.now;
        let gap = gap.as_nanos() as u64;
        // One that only one end holds is among that end's.
        let held = [first, second].into_iter().flat_map(|name| {
            let conns = self.place(name).conns.values();
            conns.map(|(link, _)| *link)
        });
        let links: BTreeSet<LinkId> = held
            .filter(|id| self.links[id.0].joins(first, second))
            .collect();
        self.tally.links_cut += links.len();
        for id in links {
            let now = self.now;
            let link = &mut self.links[id.0];
            let side = if link.dialer.node == first {
                Side::Dialer
            } else {
                Side::Listener
            };
            if in_flight == InFlight::Lost {
                link.to(side).queue.clear();
                link.to(side.other()).queue.clear();
            }
            link.to(side).held.clear();
            link.to(side.other()).held.clear();
            if in_flight == InFlight::Late {
                let mut late = Vec::new();
                for (at, _) in &mut link.to(side.other()).queue {
                    *at = (*at).max(now + gap);
                    late.push(*at);
                }
                for at in late {
                    let side = side.other();
                    self.push(at, Happening::Arrival { link: id, side });
                }
            }
            let link = &mut self.links[id.0];
            // Nothing that is sent from now on arrives.
            link.to(side).lost = true;
            link.to(side.other()).lost = true;
            let reset = || Carried::End(Some("connection reset".into()));
            for (side, at) in [(side, now), (side.other(), now + gap)] {
                let to = self.links[id.0].to(side);
                let at = to.queue.back().map_or(at, |(last, _)| at.max(last + 1));
                to.queue.push_back((at, reset()));
                self.push(at, Happening::Arrival { link: id, side });
            }
        }
    }

    /// Nothing that one of `from` sends reaches one of `to`, until [`unblock`](Self::unblock):
    /// no byte, no attempt to connect. Connections stay open: nobody sees more than silence.
    pub fn block(&mut self, from: &[Name], to: &[Name]) {
        let note = format!("BLOCK of {from:?} -> {to:?}");
        self.trace.note(self.now, None, note);
        self.tally.partitions += 1;
        for way in ways(from, to) {
            self.roads.block(way);
        }
    }

    /// A partition ends. Connections that were not given up go on with what was sent meanwhile, as
    /// TCP does; with `is_reset`, they end.
    pub fn unblock(&mut self, from: &[Name], to: &[Name], is_reset: bool) {
        let note = format!("{from:?} -> {to:?} is free again, reset: {is_reset}");
        self.trace.note(self.now, None, note);
        for way in ways(from, to) {
            if self.roads.unblock(way) {
                self.set_free(way, is_reset);
            }
        }
    }

    fn set_free(&mut self, (from, to): (Name, Name), is_reset: bool) {
        for id in (0..self.links.len()).map(LinkId) {
            for side in [Side::Dialer, Side::Listener] {
                let link = &mut self.links[id.0];
                if link.to(side).held.is_empty()
                    || (link.end(side.other()).node, link.end(side).node) != (from, to)
                {
                    continue;
                }
                if !is_reset {
                    self.release(id, side);
                    continue;
                }
                for side in [side, side.other()] {
                    let way = self.links[id.0].to(side);
                    way.clear();
                    way.last_arrival = way.last_arrival.min(self.now);
                    let error = Some("connection reset by peer".into());
                    self.carry(id, side, Carried::End(error));
                    self.links[id.0].to(side).lost = true;
                }
            }
        }
    }

    /// A way takes longer than it should from now on; `None`: no more.
    pub fn slow_way(&mut self, from: Name, to: Name, slow: Option<Slow>) {
        let note = format!("{from} -> {to} is slow: {slow:?}");
        self.trace.note(self.now, None, note);
        self.tally.slow_ways += usize::from(slow.is_some());
        self.roads.slow((from, to), slow);
    }

    /// Somebody gives an order: it is counted, and in the trace.
    pub fn note_order(&mut self, words: String) {
        self.tally.orders += 1;
        self.trace.note(self.now, None, words);
    }

    /// Everything that stands still or is slow goes on, every way is free; nodes that are down
    /// stay so, clocks stay wrong.
    pub fn end_faults(&mut self) {
        for (from, to) in self.roads.blocked() {
            while self.roads.is_blocked(from, to) {
                self.unblock(&[from], &[to], false);
            }
        }
        for (from, to) in self.roads.slow_ways() {
            self.slow_way(from, to, None);
        }
        let names: Vec<Name> = self.names().collect();
        for name in names {
            self.thaw(name);
            self.thaw_disk(name);
            if self.place(name).disk.as_ref().is_some_and(Disk::is_slow) {
                self.slow_disk(name, 1);
            }
        }
    }

    pub(super) fn point(&mut self, what: Happens) -> u64 {
        let index = self.points_met;
        self.points_met += 1;
        let at = self.now;
        if self.settings.keeps_points {
            self.points.push(Point { index, at, what });
        }
        for (_, when, fault) in self
            .patterns
            .extract_if(.., |(pattern, ..)| pattern.meets(&what))
        {
            self.plan.push(Placed {
                point: index,
                when,
                fault,
            });
        }
        index
    }

    pub(super) fn strike_at(&mut self, point: u64, when: When, here: Option<(LinkId, Side)>) {
        while let Some(at) = self
            .plan
            .iter()
            .position(|placed| placed.point == point && placed.when == when)
        {
            let placed = self.plan.remove(at);
            match (&placed.fault, here) {
                (Fault::Delay(by), Some((link, side))) => {
                    let at = self.now + by.as_nanos() as u64;
                    self.trace
                        .note(self.now, Some(point), format!("DELAY by {by:?}"));
                    self.delay_arrival(link, side, at);
                }
                (fault, _) => self.strike(fault),
            }
        }
    }
}

/// Each way from one of these to one of those.
fn ways(from: &[Name], to: &[Name]) -> Vec<(Name, Name)> {
    let from = from.iter();
    from.flat_map(|from| to.iter().map(move |to| (*from, *to)))
        .filter(|(from, to)| from != to)
        .collect()
}
