//! The pass that goes on: reads, questions to the source, pages to write.

use std::time::Duration;

use neo_api::{
    BackendError, BackendResult, Durability, Instant, NodeId, Partition, TableVersion, Tid,
};
use neo_proto::{ConnId, ConnectToken, Effect, Message, MsgId, Packet, shown};

use super::fetch::{Fetch, Purpose, Want};
use super::page::Bad;
use super::step::Page;
use super::{Around, Replication};
use crate::core::effect::QueryResult;
use crate::core::io::{AfterPersist, AfterRead, Io, words};
use crate::core::pace::Clients;

/// The pass that goes on.
#[derive(Debug)]
pub(super) struct Current {
    fetch: Fetch,
    /// Names it.
    number: u64,
    /// The request that waits for its answer.
    asked: Option<MsgId>,
    /// A page that waits for its turn.
    page: Option<Page>,
}

impl Current {
    pub(super) const fn has_page(&self) -> bool {
        self.page.is_some()
    }

    pub(super) const fn partition(&self) -> Partition {
        self.fetch.partition
    }
}

/// The step of a page that is being written.
#[derive(Debug)]
pub(super) struct Writing {
    number: u64,
    partition: Partition,
    assigned: TableVersion,
    progress: Option<Tid>,
    bytes: usize,
    is_full: bool,
    since: Instant,
}

impl Replication {
    /// Goes on with the pass, or begins one; with `look`, one may have become possible.
    pub(super) fn fetch(&mut self, around: &mut Around<'_, '_>, look: bool) {
        let mut look = look;
        loop {
            if self.current.is_none() && !(look && self.begin(around)) {
                return;
            }
            let Some(current) = &mut self.current else {
                return;
            };
            if current.page.is_none() {
                current.page = current.fetch.take_page();
                self.write(around);
            }
            let Some(current) = &mut self.current else {
                return;
            };
            if current.page.is_some() {
                return;
            }
            let fetch = &mut current.fetch;
            if fetch.is_about_to_read() && fetch.purpose == Purpose::CatchUp {
                // What is locked here comes by itself.
                let locked = around.transactions.greatest_locked(fetch.max);
                if locked.is_some() {
                    return;
                }
            }
            let (partition, number) = (fetch.partition, current.number);
            if fetch.is_about_to_ask() && self.source_of(around, partition).is_none() {
                return;
            }
            let Some(current) = &mut self.current else {
                return;
            };
            match current.fetch.next(around.clients) {
                None => return,
                Some(Want::Read(query)) => around.io.read(query, AfterRead::Own(number)),
                Some(Want::Ask(packet)) => {
                    let Some(conn) = self.source.up() else {
                        return;
                    };
                    let id = self.source.next_id();
                    current.asked = Some(id);
                    around.io.out.send(conn, id, packet);
                }
                Some(Want::End) if self.writing.is_some() => return,
                Some(Want::End) => {
                    self.pass_ended();
                    look = true;
                }
            }
        }
    }

    /// Begins a pass over the cell whose turn it is.
    fn begin(&mut self, around: &Around<'_, '_>) -> bool {
        if self.fetch_at.is_some() || self.writing.is_some() {
            return false;
        }
        let Some(partitioning) = around.cells.partitioning() else {
            return false;
        };
        let may = |partition: &Partition| around.dropping != Some(*partition);
        let wanting = self.cells.iter();
        let wanting = wanting.filter(|(partition, cell)| cell.wants_fetch() && may(partition));
        let Some((partition, cell)) = wanting.min_by_key(|(_, cell)| cell.failures) else {
            return false;
        };
        let (purpose, min, max) = match (cell.swept, cell.goal.checked_next()) {
            (false, Some(next)) => (Purpose::Sweep, next, Tid::MAX),
            _ => {
                let min = cell.progress.and_then(Tid::checked_next);
                (Purpose::CatchUp, min.unwrap_or(Tid::ZERO), cell.goal)
            }
        };
        let place = (*partition, cell.assigned);
        self.last_number += 1;
        self.current = Some(Current {
            fetch: Fetch::new(place, partitioning, purpose, (min, max)),
            number: self.last_number,
            asked: None,
            page: None,
        });
        true
    }

    fn pass_ended(&mut self) {
        let Some(current) = self.current.take() else {
            return;
        };
        self.look = true;
        let fetch = current.fetch;
        if let Some(cell) = self.cells.get_mut(&fetch.partition)
            && cell.assigned == fetch.assigned
        {
            cell.failures = 0;
            cell.swept = true;
        }
    }

    /// The source of a partition, if it is connected; else one is chosen, and connected.
    fn source_of(&mut self, around: &mut Around<'_, '_>, partition: Partition) -> Option<ConnId> {
        let candidates = self.sources(around, partition);
        match self.source.nid() {
            Some(nid) if candidates.contains(&nid) => return self.source.up(),
            Some(_) => self.leave_source(around.io),
            None => {}
        }
        match self.source.choose(around.io.now.mono, &candidates) {
            Ok(nid) => {
                let address = Self::address(around, nid)?;
                let until = around.io.now.mono + self.identification_timeout;
                let (token, to) = self.source.connect(nid, &address, until);
                around.io.out.push(Effect::Connect { token, to });
            }
            Err(again) => self.fetch_at = again,
        }
        None
    }

    /// The source may not be one any more, and the cell may have gone.
    pub(super) fn check_source(&mut self, around: &mut Around<'_, '_>) {
        let Some(current) = &self.current else {
            return;
        };
        let (partition, assigned) = (current.fetch.partition, current.fetch.assigned);
        let cell = self.cells.get(&partition);
        let is_here = cell.is_some_and(|cell| cell.assigned == assigned);
        let source = self.source.nid();
        let is_asked = current.asked.is_some();
        let is_source = |nid: NodeId| self.sources(around, partition).contains(&nid);
        let is_lost = is_asked && !source.is_some_and(is_source);
        if is_here && !is_lost {
            return;
        }
        tracing::info!(%partition, "gave up fetching a partition that moved");
        self.current = None;
        self.look = true;
        if is_lost {
            self.leave_source(around.io);
        }
    }

    /// The source is not needed any more.
    pub(super) fn leave_source(&mut self, io: &mut Io<'_>) {
        if let Some(conn) = self.source.leave() {
            io.out.close(conn, "nothing more to fetch");
        }
    }

    /// The service ends: names the connection to close.
    pub(crate) const fn stop(&mut self) -> Option<ConnId> {
        self.source.leave()
    }

    /// The source is of no use: another one is taken, or another partition.
    pub(super) fn source_failed(&mut self, io: &mut Io<'_>, why: &str) {
        let nid = self.source.nid().map(|nid| nid.to_string());
        tracing::info!(nid, why, "lost the source of replication");
        if let Some(conn) = self.source.failed(io.now.mono) {
            io.out.close(conn, "of no use as a source of replication");
        }
        self.give_up();
    }

    /// Drops what was under way of the pass; what was written counts.
    fn give_up(&mut self) {
        self.look = true;
        if let Some(current) = self.current.take()
            && let Some(cell) = self.cells.get_mut(&current.fetch.partition)
        {
            cell.failures = cell.failures.saturating_add(1);
        }
    }

    /// The connection to the source is up: says with which request to identify.
    pub(crate) fn connected(
        &mut self,
        io: &Io<'_>,
        token: ConnectToken,
        conn: ConnId,
    ) -> Option<MsgId> {
        let until = io.now.mono + self.identification_timeout;
        self.source.connected(token, conn, until)
    }

    /// The source can't be reached.
    pub(crate) fn connect_failed(&mut self, io: &mut Io<'_>, token: ConnectToken, error: &str) {
        if self.source.is_connecting(token) {
            self.source_failed(io, error);
        }
    }

    /// The source closed its connection.
    pub(crate) fn closed(&mut self, io: &mut Io<'_>, reason: &str) {
        self.source.lost();
        self.source_failed(io, reason);
    }

    /// The source answers.
    pub(crate) fn source_says(&mut self, around: &mut Around<'_, '_>, message: Message) {
        let Message {
            id,
            packet,
            payload,
        } = message;
        if let Some(conn) = self.source.conn() {
            around.io.consumed(conn, payload.len() as u64);
        }
        if let Some(request) = self.source.identifying() {
            return match packet {
                Packet::AcceptIdentification { .. } if id == request => self.source.accepted(),
                Packet::Error { message, .. } => {
                    self.source_failed(around.io, shown(&message).as_ref())
                }
                other => {
                    let why = format!("{} answers no identification", other.name());
                    self.source_failed(around.io, &why);
                }
            };
        }
        if !packet.is_answer() {
            let why = format!("{} was not expected", packet.name());
            return self.source_failed(around.io, &why);
        }
        let Some(current) = self.current.as_mut().filter(|c| c.asked == Some(id)) else {
            // Of a pass that was given up.
            return;
        };
        current.asked = None;
        let partition = current.fetch.partition;
        if let Packet::Error { code, message } = packet {
            let why = format!("partition {partition}: {code}: {}", shown(&message));
            return self.source_failed(around.io, &why);
        }
        let max = around.object_bytes_max;
        match current
            .fetch
            .answered(around.io.jobs, packet, &payload, max)
        {
            Ok(()) => self.source.served(),
            Err(bad) => self.bad_answer(around.io, partition, &bad),
        }
    }

    fn bad_answer(&mut self, io: &mut Io<'_>, partition: Partition, bad: &Bad) {
        let nid = self.source.nid().map(|nid| nid.to_string());
        let why = match bad {
            Bad::Answer(what) => (*what).to_owned(),
            Bad::Value(id) => {
                format!(
                    "revision {} of {} does not match its checksum",
                    id.tid, id.oid
                )
            }
            Bad::TooLarge(id) => {
                let what = format!("revision {} of {}", id.tid, id.oid);
                format!("{what} is larger than what this node's database takes")
            }
        };
        tracing::error!(nid, %partition, why, "a source of replication sent what can't be used");
        self.source_failed(io, &why);
    }

    /// What is here was read.
    pub(crate) fn own_read(
        &mut self,
        io: &Io<'_>,
        number: u64,
        result: BackendResult<QueryResult>,
    ) {
        let Some(current) = self.current.as_mut().filter(|c| c.number == number) else {
            return;
        };
        match result {
            Ok(found) => current.fetch.own(found),
            Err(error) => {
                tracing::warn!(error = %words(&error), "cannot read what is here of a partition");
                self.pause(io);
            }
        }
    }

    /// The disk refused something: it may be better later.
    pub(super) fn pause(&mut self, io: &Io<'_>) {
        self.give_up();
        self.fetch_at = Some(io.now.mono + self.pause_after_trouble());
    }

    /// How long to leave alone what failed: ever longer.
    pub(super) fn pause_after_trouble(&mut self) -> Duration {
        self.backoff.delay(self.source.random())
    }

    /// Writes the next step of the page, if its turn has come.
    pub(super) fn write(&mut self, around: &mut Around<'_, '_>) {
        let Some(current) = &mut self.current else {
            return;
        };
        let now = around.io.now.mono;
        if self.writing.is_some()
            || current.page.is_none()
            || !self.pace.allows(now, around.clients)
        {
            return;
        }
        let Some(page) = &mut current.page else {
            return;
        };
        let is_alone = around.clients == Clients::Away;
        let (batch, progress) = page.step((!is_alone).then_some(self.step_cost.max()));
        let is_full = !page.is_empty();
        current.page.take_if(|page| page.is_empty());
        let bytes = batch.weight();
        self.pace.spent(now, bytes);
        self.writing = Some(Writing {
            number: current.number,
            partition: current.fetch.partition,
            assigned: current.fetch.assigned,
            progress,
            bytes,
            is_full,
            since: now,
        });
        let then = AfterPersist::Fetched(current.number);
        around.io.persist(batch, Durability::Buffered, then);
    }

    /// The step is written, or is not.
    pub(crate) fn page_written(&mut self, io: &Io<'_>, number: u64, result: BackendResult<()>) {
        let Some(writing) = self.writing.take_if(|writing| writing.number == number) else {
            return;
        };
        self.look |= self.current.is_none();
        let took = io.now.mono.since(writing.since);
        self.step_cost.took(took, writing.is_full);
        self.pace.rest(io.now.mono, took);
        let cell = self.cells.get_mut(&writing.partition);
        let cell = cell.filter(|cell| cell.assigned == writing.assigned);
        match (result, cell) {
            (_, None) => {}
            (Ok(()), Some(cell)) => {
                tracing::trace!(partition = %writing.partition, bytes = writing.bytes, "fetched");
                self.backoff.reset();
                cell.progress = writing.progress.or(cell.progress);
            }
            (Err(error), Some(cell)) => {
                if let BackendError::Missing { oid, tid } = error {
                    tracing::error!(%oid, %tid, "a revision is not here that should be: from the start");
                    cell.progress = None;
                } else {
                    tracing::warn!(error = %words(&error), "cannot write what was fetched");
                }
                self.pause(io);
            }
        }
    }
}
