//! What nodes want done.

use super::*;

impl World {
    fn master_event(&mut self, node: Name, event: &neo_master::Event) {
        let neo_master::Event::Status(status) = event else {
            return;
        };
        if status.state == Some(ClusterState::Running) && self.primary != Some(node) {
            let before = self.primary.replace(node);
            self.primaries_changed += usize::from(before.is_some());
            let note = format!("{node} is the primary, reign {}", status.reign);
            self.trace.note(self.now, None, note);
        }
    }

    pub(super) fn act(&mut self, node: Name, act: Act) {
        match act {
            Act::Connect { conn, to } => {
                let target = self.places.keys().find(|name| name.address() == to);
                let target = *target.unwrap_or(&node);
                let incarnation = self.place(node).incarnation;
                let id = LinkId(self.links.len());
                let end = |node, incarnation, conn| End {
                    node,
                    incarnation,
                    conn,
                    open: true,
                };
                let dialer = end(node, incarnation, Some(conn));
                self.links.push(Link::new(dialer, end(target, 0, None)));
                self.place_mut(node).conns.insert(conn, (id, Side::Dialer));
                let at = self.now + self.latency();
                self.push(at, Happening::Dial { link: id });
            }
            Act::Transmit { conn } => self.transmit(node, conn),
            Act::Close { conn, abort } => {
                if let Some((link, side)) = self.place_mut(node).conns.remove(&conn) {
                    self.links[link.0].end(side).open = false;
                    let error = abort.then(|| "connection reset by peer".to_owned());
                    self.carry(link, side.other(), Carried::End(error));
                }
            }
            Act::Stop { failure } => {
                let ended = failure.map_or(Ended::Cleanly, Ended::Failed);
                self.trace
                    .note(self.now, None, format!("{node} ends: {ended:?}"));
                let at = self.now + Duration::from_secs(2).as_nanos() as u64;
                let place = self.place_mut(node);
                place.ended = Some(ended);
                place.serving = false;
                let incarnation = place.incarnation;
                self.push(at, Happening::Gone { node, incarnation });
            }
            Act::MasterEvent(event) => self.master_event(node, &event),
            Act::StorageJob(job) => self.storage_job(node, job),
            Act::StorageEvent(event) => {
                let place = self.place_mut(node);
                match event {
                    StorageEvent::Identified { nid } => place.nid = Some(nid),
                    StorageEvent::Operating => place.serving = true,
                    StorageEvent::NotOperating => place.serving = false,
                    StorageEvent::Masters(_) => {}
                }
                self.trace
                    .detail(self.now, None, || format!("{node} {event:?}"));
            }
            Act::ClientEvent(event) => self.client_event(node, event),
        }
    }
}
