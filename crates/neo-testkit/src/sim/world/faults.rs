//! The faults of a world: placed at points, or at once.

use super::*;

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
        self.nodes_crashed += up.len();
        for name in &up {
            self.take_down(*name, Some(keep));
        }
        for name in up {
            self.drop_links(name, in_flight);
        }
    }

    /// What runs at a place ends; `keep`: what its disk keeps, if the machine crashes with it.
    pub(super) fn take_down(&mut self, name: Name, keep: Option<Keep>) {
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
                there.queue.clear();
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
        let links: Vec<LinkId> = (0..self.links.len())
            .map(LinkId)
            .filter(|id| self.links[id.0].joins(first, second) && !self.links[id.0].is_dead())
            .collect();
        self.links_cut += links.len();
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

    pub(super) fn point(&mut self, what: Happens) -> u64 {
        let index = self.points.len() as u64;
        let at = self.now;
        self.points.push(Point { index, at, what });
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
