//! The network of a world: dialling, bytes on their way, ends that are seen.

use super::*;

impl World {
    pub(super) fn latency(&mut self) -> u64 {
        let (least, most) = self.settings.latency;
        self.rng
            .between(least.as_nanos() as u64, most.as_nanos() as u64)
    }

    pub(super) fn transmit(&mut self, node: Name, conn: ConnId) {
        let now = self.now;
        loop {
            let place = self.place_mut(node);
            let moment = place.now(now);
            let known = place.conns.get(&conn).copied();
            let Some(running) = &mut place.running else {
                return;
            };
            let (Some(bytes), Some((link, side))) = (running.poll_transmit(moment, conn), known)
            else {
                return;
            };
            for frame in self.links[link.0].to(side.other()).cut(bytes) {
                self.carry(link, side.other(), Carried::Frame(frame));
            }
        }
    }

    /// Sends something to an end of a link.
    pub(super) fn carry(&mut self, link: LinkId, side: Side, carried: Carried) {
        let latency = self.latency();
        let state = &mut self.links[link.0];
        let (from, to) = (state.end(side.other()).node, state.end(side).node);
        let way = state.to(side);
        if way.lost {
            return;
        }
        if !way.held.is_empty() || self.roads.is_blocked(from, to) {
            way.held.push_back(carried);
            return;
        }
        let takes = self.roads.takes(from, to, latency, &carried);
        let at = way.queue(self.now + takes, carried);
        self.push(at, Happening::Arrival { link, side });
    }

    /// What was held back goes on its way.
    pub(super) fn release(&mut self, link: LinkId, side: Side) {
        let at = self.now + self.latency();
        let way = self.links[link.0].to(side);
        let held = std::mem::take(&mut way.held);
        let arrivals: Vec<u64> = held
            .into_iter()
            .map(|carried| way.queue(at, carried))
            .collect();
        for at in arrivals {
            self.push(at, Happening::Arrival { link, side });
        }
    }

    pub(super) fn dial(&mut self, id: LinkId) {
        let link = &self.links[id.0];
        if !link.dialer.open {
            return;
        }
        let (dialer, target) = (link.dialer.node, link.listener.node);
        if self.roads.is_blocked(dialer, target) || self.roads.is_blocked(target, dialer) {
            // Nobody answers; the dialer gives up by itself.
            return;
        }
        let at = self.now + self.latency();
        let from = dialer.address().with_port(10_000 + (id.0 % 50_000) as u16);
        let now = self.now;
        let place = self.place_mut(target);
        let moment = place.now(now);
        let accepted = match &mut place.running {
            Some(running) if target != dialer => running.accepted(moment, from),
            _ => None,
        };
        let Some(conn) = accepted else {
            self.links[id.0].listener.open = false;
            let error = Some("connection refused".to_owned());
            self.push(at, Happening::Dialed { link: id, error });
            return;
        };
        place.conns.insert(conn, (id, Side::Listener));
        let incarnation = place.incarnation;
        let end = self.links[id.0].end(Side::Listener);
        end.conn = Some(conn);
        end.incarnation = incarnation;
        // The dialer hears of it before it gets bytes.
        self.links[id.0].to(Side::Dialer).last_arrival = at;
        self.push(
            at,
            Happening::Dialed {
                link: id,
                error: None,
            },
        );
        self.pump(target);
    }

    pub(super) fn dialed(&mut self, id: LinkId, error: Option<String>) {
        let dialer = &self.links[id.0].dialer;
        let (node, conn) = (dialer.node, dialer.conn);
        if !dialer.open || !self.is_current(node, dialer.incarnation) {
            return;
        }
        let conn = conn.expect("a dialer's end has a name");
        match error {
            None => self.input(node, |running, now| running.opened(now, conn)),
            Some(error) => {
                self.links[id.0].end(Side::Dialer).open = false;
                self.place_mut(node).conns.remove(&conn);
                self.input(node, |running, now| {
                    running.connect_failed(now, conn, error)
                });
            }
        }
    }

    pub(super) fn arrival(&mut self, id: LinkId, side: Side) {
        let now = self.now;
        let link = &mut self.links[id.0];
        let from = link.end(side.other()).node;
        let end = link.end(side);
        let (node, conn, incarnation, is_open) = (end.node, end.conn, end.incarnation, end.open);
        let to = link.to(side);
        if to.queue.front().is_none_or(|(at, _)| *at > now) {
            return;
        }
        let (true, Some(conn)) = (is_open && self.is_current(node, incarnation), conn) else {
            self.links[id.0].to(side).queue.pop_front();
            return;
        };
        let queue = &self.links[id.0].to(side).queue;
        let packet = match queue.front() {
            Some((_, Carried::Frame(frame))) => packet_name(frame),
            _ => {
                if let Some((_, Carried::End(error))) = self.links[id.0].to(side).queue.pop_front()
                {
                    self.end_seen(id, side, error);
                }
                return;
            }
        };
        let wants = |running: &mut Running| running.wants_bytes(conn);
        if !self.place_mut(node).running.as_mut().is_some_and(wants) {
            // The node reads nothing now: what came waits, with all behind it.
            let at = now + Duration::from_millis(1).as_nanos() as u64;
            self.delay_arrival(id, side, at);
            return;
        }
        let point = match packet {
            None | Some("Heartbeat" | "Credit") => None,
            Some(packet) => {
                let what = Happens::Delivery {
                    link: id,
                    side,
                    from,
                    to: node,
                    packet,
                };
                Some(self.point(what))
            }
        };
        if let Some(point) = point {
            self.strike_at(point, When::Before, Some((id, side)));
            // What the fault left.
            let front = self.links[id.0].to(side).queue.front();
            let is_due = front
                .is_some_and(|(at, carried)| *at <= now && matches!(carried, Carried::Frame(_)));
            if !is_due || !self.is_current(node, incarnation) || !self.links[id.0].end(side).open {
                return;
            }
        }
        if let Some((_, Carried::Frame(frame))) = self.links[id.0].to(side).queue.pop_front() {
            self.deliver(point, (from, node), conn, &frame);
        }
        if let Some(point) = point {
            self.strike_at(point, When::After, None);
        }
    }

    pub(super) fn deliver(
        &mut self,
        point: Option<u64>,
        ends: (Name, Name),
        conn: ConnId,
        frame: &Bytes,
    ) {
        if point.is_some() {
            self.busy_at = self.now;
            self.trace.message(self.now, point, ends, frame);
        }
        self.input(ends.1, |running, now| running.receive(now, conn, frame));
    }

    /// What is next on a link, and all behind it, arrives later.
    pub(super) fn delay_arrival(&mut self, id: LinkId, side: Side, at: u64) {
        let to = self.links[id.0].to(side);
        let mut least = at;
        let mut arrivals = Vec::new();
        for (arrival, _) in &mut to.queue {
            *arrival = (*arrival).max(least);
            least = *arrival + 1;
            arrivals.push(*arrival);
        }
        to.last_arrival = to.last_arrival.max(least - 1);
        for at in arrivals {
            self.push(at, Happening::Arrival { link: id, side });
        }
    }

    pub(super) fn end_seen(&mut self, id: LinkId, side: Side, error: Option<String>) {
        let end = self.links[id.0].end(side);
        let (node, conn, incarnation) = (end.node, end.conn, end.incarnation);
        if !std::mem::replace(&mut end.open, false) || !self.is_current(node, incarnation) {
            return;
        }
        if let Some(conn) = conn {
            self.place_mut(node).conns.remove(&conn);
            self.input(node, |running, now| running.closed(now, conn, error));
        }
    }
}
