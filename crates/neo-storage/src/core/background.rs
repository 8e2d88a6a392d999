//! Work that gives way to clients: catching up, being the source of others that do, packs, and the
//! deletion of what is left of discarded cells.

use neo_api::Now;
use neo_proto::{ConnId, Effects};

use super::io::Io;
use super::replication::{Around, Replication};
use super::{Service, StorageCore};

impl StorageCore {
    /// Whether such work may be done now: not while a table is on its way to the disk, nor before
    /// the primary counts on this node.
    pub(super) fn may_work(&self) -> bool {
        let is_ready = |service: &Service| service.unready.is_none();
        self.table.is_none() && self.service.as_ref().is_some_and(is_ready)
    }

    /// Work that gives way to clients: catching up, and being the source of others that do; behind
    /// all that, the deletion of what is left of discarded cells.
    pub(super) fn background(&mut self, now: Now, out: &mut Effects<Self>) {
        if !self.may_work() {
            return;
        }
        self.with_replication(now, out, Replication::pump);
        let Some(service) = &mut self.service else {
            return;
        };
        let mut io = Io {
            now,
            out,
            jobs: &mut self.jobs,
        };
        let is_waiting = io.jobs.is_client_waiting() || self.reads.is_client_waiting();
        let clients = self.presence.note(now.mono, is_waiting);
        self.reads.pump(&self.cells, &mut io, clients);
        let is_anybody_waiting =
            is_waiting || self.reads.is_somebody_giving_way() || !service.replication.is_idle();
        service.drops.pump(&mut io, is_anybody_waiting);
        let is_importing = self.import.is_some();
        let transactions = &service.transactions;
        service
            .packing
            .pump(&self.cells, transactions, &mut io, clients, is_importing);
        let Some(conn) = self.link.up() else {
            return;
        };
        if let Some(packed) = service.packing.take_untold() {
            out.notify(conn, packed);
        }
        if let Some(question) = service.packing.take_question(|| self.link.next_id()) {
            let (id, question) = question;
            out.send(conn, id, question);
        }
    }

    /// The connection to the node that is copied from.
    pub(super) fn source_conn(&self) -> Option<ConnId> {
        self.service.as_ref()?.replication.conn()
    }

    /// Does something about the cells that catch up, while this node serves.
    pub(super) fn with_replication<R>(
        &mut self,
        now: Now,
        out: &mut Effects<Self>,
        what: impl FnOnce(&mut Replication, &mut Around<'_, '_>) -> R,
    ) -> Option<R> {
        let (Some(service), Some(nid)) = (&mut self.service, self.nid) else {
            return None;
        };
        let is_waiting = self.jobs.is_client_waiting() || self.reads.is_client_waiting();
        let clients = self.presence.note(now.mono, is_waiting);
        let mut io = Io {
            now,
            out,
            jobs: &mut self.jobs,
        };
        let mut around = Around {
            cells: &mut self.cells,
            transactions: &mut service.transactions,
            conns: &self.conns,
            link: &mut self.link,
            io: &mut io,
            nid,
            clients,
            is_importing: self.import.is_some(),
            dropping: service.drops.dropping(),
            object_bytes_max: self.object_bytes_max,
        };
        Some(what(&mut service.replication, &mut around))
    }
}
