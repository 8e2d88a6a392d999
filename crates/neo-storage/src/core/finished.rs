//! What jobs of the backend lead to when they are done.

use neo_api::{BackendError, BackendResult, Now};
use neo_proto::{Effects, ErrorCode, Packet};

use super::cells::Cells;
use super::effect::{QueryResult, Token};
use super::import::Import;
use super::io::{AfterPersist, AfterRead, Asker, Io, words};
use super::{Service, StorageCore};

impl StorageCore {
    pub(super) fn persisted(
        &mut self,
        now: Now,
        out: &mut Effects<Self>,
        token: Token,
        result: BackendResult<()>,
    ) {
        let retry_at = now.mono + self.settings.limits.persist_retry();
        if self.space.tried(now.mono, &result) {
            self.space.tell(&self.link, out);
        }
        let mut io = Io {
            now,
            out,
            jobs: &mut self.jobs,
        };
        let Some((then, result)) = io.persisted(token, result, retry_at) else {
            return;
        };
        if let AfterPersist::Data { conn, bytes, .. }
        | AfterPersist::Import {
            asker: Asker { conn, .. },
            bytes,
        } = &then
            && self.conns.contains(*conn)
        {
            io.consumed(*conn, *bytes);
        }
        let refusable = matches!(
            then,
            AfterPersist::Data { .. }
                | AfterPersist::Vote(_)
                | AfterPersist::Import { .. }
                | AfterPersist::Fetched(_)
                | AfterPersist::Dropped(_)
                | AfterPersist::Packed(_)
                | AfterPersist::Nothing
        );
        if result.is_ok() && self.space.written(now.mono, &then) {
            self.space.tell(&self.link, io.out);
        }
        if let Err(error) = &result
            && !(refusable && error.leaves_reads())
        {
            let why = format!("a write failed: {}", words(error));
            return self.end(out, Some(why));
        }
        match then {
            AfterPersist::Nothing => {}
            AfterPersist::Table => self.table_stored(now, out),
            AfterPersist::Reign(asker, reign) => {
                self.reign = self.reign.max(reign);
                out.send(asker.conn, asker.id, Packet::AnswerReignStarted { reign });
            }
            AfterPersist::OidMark(asker, mark) => {
                self.oid_mark = self.oid_mark.max(mark);
                out.send(asker.conn, asker.id, Packet::AnswerOidMarkStored { mark });
            }
            AfterPersist::ImportMark(asker, import, mark) => {
                self.import_mark_stored(now, out, asker, import, mark);
            }
            AfterPersist::SyncImport(asker, import) => {
                let closed = self.import.as_ref().and_then(Import::closed);
                match closed {
                    None => io.answer(asker, Packet::AnswerImportSynced { import }),
                    Some(why) => io.error(asker, ErrorCode::Internal, why),
                }
            }
            AfterPersist::Task(number) => self.tasks.persisted(&mut io, number),
            AfterPersist::Fetched(number) => {
                if let Some(service) = &mut self.service {
                    service.replication.page_written(&io, number, result);
                }
            }
            AfterPersist::Caught(partition, assigned) => {
                self.with_replication(now, out, |replication, around| {
                    replication.caught(around, partition, assigned);
                });
            }
            AfterPersist::Dropped(number) => {
                if let Some(service) = &mut self.service {
                    service.drops.deleted(&io, number, result);
                    service.replication.look();
                }
            }
            AfterPersist::Packed(number) => {
                if let Some(service) = &mut self.service {
                    let transactions = &mut service.transactions;
                    service
                        .packing
                        .persisted(&self.cells, transactions, &mut io, number, result);
                }
            }
            AfterPersist::Import { asker, .. } => {
                if let Some(import) = &mut self.import {
                    import.persisted(&mut io, asker, result);
                }
            }
            AfterPersist::Data { .. }
            | AfterPersist::Vote(_)
            | AfterPersist::Lock(_)
            | AfterPersist::Unlock(_)
            | AfterPersist::Clean => {
                if let Some(service) = &mut self.service {
                    service.persisted(&self.cells, &mut io, then, result);
                }
            }
        }
    }

    pub(super) fn read(
        &mut self,
        now: Now,
        out: &mut Effects<Self>,
        token: Token,
        result: BackendResult<QueryResult>,
    ) {
        let Some(then) = self.jobs.read_done(token) else {
            return;
        };
        if let Err(error) = &result
            && (!error.leaves_reads() || then == AfterRead::Start)
        {
            let why = format!("a read failed: {}", words(error));
            return self.end(out, Some(why));
        }
        let mut io = Io {
            now,
            out,
            jobs: &mut self.jobs,
        };
        match (then, &mut self.service) {
            (AfterRead::Start, _) => {
                if let Ok(QueryResult::Start(start)) = result {
                    self.started(now, out, *start);
                }
            }
            (AfterRead::Serial(ticket), Some(service)) => {
                let transactions = &mut service.transactions;
                transactions.serial_read(&self.cells, &mut io, ticket, result);
            }
            (AfterRead::LastOid(era), Some(service)) => {
                service.transactions.last_oid_read(era, result);
            }
            (AfterRead::Peer(asker), Some(service)) => {
                let transactions = &mut service.transactions;
                self.reads
                    .done(&self.cells, transactions, &mut io, asker, result);
            }
            (AfterRead::Task(number), _) => {
                self.tasks.found(&self.cells, &mut io, number, result);
            }
            (AfterRead::Extent, _) => self.extent_read(now, out, result),
            (AfterRead::Progress, Some(service)) => service.replication.progress_read(result),
            (AfterRead::Own(number), Some(service)) => {
                service.replication.own_read(&io, number, result);
            }
            (AfterRead::Serials(_), Some(_)) => {
                self.with_replication(now, out, |replication, around| {
                    replication.serials_read(around, result);
                });
            }
            (AfterRead::Drop(number), Some(service)) => {
                service.drops.found(&mut io, number, result);
                service.replication.look();
            }
            (AfterRead::PackStates, Some(service)) => {
                service.packing.states_read(&self.cells, &io, result);
            }
            (AfterRead::Obsolete(number), Some(service)) => {
                let transactions = &mut service.transactions;
                service
                    .packing
                    .found(&self.cells, transactions, &mut io, number, result);
            }
            (AfterRead::Packable(number), Some(service)) => {
                service
                    .packing
                    .transactions_found(&self.cells, &mut io, number, result);
            }
            (AfterRead::Remaining(number), Some(service)) => {
                service
                    .packing
                    .remaining_read(&self.cells, &mut io, number, result);
            }
            (AfterRead::Clean, Some(service)) => {
                service.transactions.garbage_found(&mut io, result);
            }
            (
                AfterRead::Serial(_)
                | AfterRead::LastOid(_)
                | AfterRead::Peer(_)
                | AfterRead::Clean
                | AfterRead::Progress
                | AfterRead::Own(_)
                | AfterRead::Serials(_)
                | AfterRead::Drop(_)
                | AfterRead::PackStates
                | AfterRead::Obsolete(_)
                | AfterRead::Packable(_)
                | AfterRead::Remaining(_),
                None,
            ) => {}
        }
    }
}

impl Service {
    fn persisted(
        &mut self,
        cells: &Cells,
        io: &mut Io<'_>,
        then: AfterPersist,
        result: Result<(), BackendError>,
    ) {
        let transactions = &mut self.transactions;
        match then {
            AfterPersist::Data { txn, id, .. } => {
                transactions.data_persisted(io, (txn, id), result);
            }
            AfterPersist::Vote(txn) => transactions.vote_persisted(io, txn, result),
            AfterPersist::Lock(txn) => transactions.lock_persisted(io, txn),
            AfterPersist::Unlock(txn) => transactions.unlock_persisted(cells, io, txn),
            AfterPersist::Clean => transactions.garbage_persisted(io),
            _ => {}
        }
    }
}
