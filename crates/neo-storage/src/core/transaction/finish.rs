//! Votes and locks: what makes a transaction durable, in pages, and decided.

use std::ops::Bound;

use neo_api::{
    BackendResult, Durability, METADATA_BYTES_MAX, Oid, PACK_OIDS_MAX, PendingObject,
    TRANSACTION_OIDS_MAX, Tid, TxnId, VotedRecord, WriteBatch, WriteOp,
};
use neo_proto::{ErrorCode, MsgId, Packet};

use super::{Peer, Refusal, Stage, Transactions, Txn, Value};
use crate::core::cells::Cells;
use crate::core::io::{AfterPersist, Asker, Io, code_of, words};

/// Objects written by one operation of a vote.
const VOTE_PAGE: usize = 10_000;

impl Transactions {
    /// A client votes: everything but the tid becomes durable.
    pub(crate) fn vote(
        &mut self,
        cells: &Cells,
        io: &mut Io<'_>,
        peer: Peer,
        id: MsgId,
        txn: TxnId,
        (record, objects): (Option<VotedRecord>, u32),
    ) {
        let asker = Asker {
            conn: peer.conn,
            id,
        };
        let checked = self.admit(txn, peer).and_then(|()| match &record {
            Some(record) => admit_record(cells, txn, record),
            None => Ok(()),
        });
        let checked = checked.and_then(|()| self.admit_write(txn));
        let checked = checked.and_then(|()| self.admit_vote(txn, record.is_some(), objects));
        if let Err((code, text)) = checked {
            return io.error(asker, code, text);
        }
        let with_record = record.is_some();
        let t = self.open(txn, peer);
        t.orders = record.as_ref().is_some_and(|record| record.pack.is_some());
        t.record = record.map(Box::new);
        t.stage = Stage::Voting {
            asker,
            with_record,
            after: None,
        };
        // From now on it waits for no lock.
        self.locks.vote(txn);
        self.continue_vote(io, txn);
    }

    /// Writes the next page of a vote, unless values are still being written.
    pub(super) fn continue_vote(&mut self, io: &mut Io<'_>, txn: TxnId) {
        let Some(t) = self.txns.get_mut(&txn) else {
            return;
        };
        let Stage::Voting {
            asker,
            with_record,
            after,
        } = t.stage
        else {
            return;
        };
        if !t.writing.is_empty() {
            return;
        }
        if let Some(code) = t.refused {
            t.stage = Stage::Open;
            let text = format!("transaction {txn} could not be written here");
            return io.error(asker, code, text);
        }
        let (page, more, freed) = t.vote_page(io, txn, after);
        self.buffered -= freed;
        let mut batch = page;
        if !more && let Some(record) = t.record.as_deref() {
            let record = Some(record.clone());
            batch.push(WriteOp::PutUnfinished { txn, record });
        }
        if batch.is_empty() {
            // Only checks, and no metadata: the locks are all that counts.
            t.stage = Stage::Voted;
            self.voted.push(txn);
            return io.answer(asker, voted(with_record));
        }
        t.has_rows = true;
        let durability = if more || self.mutations.vote_not_durable {
            Durability::Buffered
        } else {
            Durability::Synced
        };
        io.persist(batch, durability, AfterPersist::Vote(txn));
    }

    /// A page of a vote is written, or is not.
    pub(crate) fn vote_persisted(
        &mut self,
        io: &mut Io<'_>,
        txn: TxnId,
        result: BackendResult<()>,
    ) {
        let Some(t) = self.txns.get_mut(&txn) else {
            return;
        };
        let Stage::Voting {
            asker,
            with_record,
            after,
        } = t.stage
        else {
            return;
        };
        if let Err(error) = result {
            t.stage = Stage::Open;
            t.refused = Some(code_of(&error));
            return io.error(asker, code_of(&error), words(&error));
        }
        if t.stores_after(after) {
            return self.continue_vote(io, txn);
        }
        t.stage = Stage::Voted;
        self.voted.push(txn);
        io.answer(asker, voted(with_record));
    }

    /// The primary gives the transaction its tid; from now on readers of its objects wait.
    ///
    /// # Errors
    /// When the primary asks for what can't be: it does not know this node as it is.
    pub(crate) fn lock(
        &mut self,
        cells: &Cells,
        io: &mut Io<'_>,
        asker: Asker,
        txn: TxnId,
        tid: Tid,
    ) -> Result<(), String> {
        let stage = self.txns.get(&txn).map(|t| t.stage);
        if stage != Some(Stage::Voted) {
            return Err(format!("transaction {txn} has not voted here"));
        }
        let congruent = |p: neo_api::Partitioning| p.of_tid(tid) == p.of_tid(txn.ttid);
        if tid > Tid::MAX || !cells.partitioning().is_some_and(congruent) {
            return Err(format!("{tid} can't be the tid of transaction {txn}"));
        }
        if self.locked.contains_key(&tid) {
            return Err(format!("{tid} is the tid of another transaction"));
        }
        let Some(t) = self.txns.get_mut(&txn) else {
            return Ok(());
        };
        self.locked.insert(tid, txn);
        let stored = t.objects.iter().filter(|(_, o)| o.value.is_some());
        self.read_locks.extend(stored.map(|(oid, _)| (*oid, tid)));
        if t.record.is_none() {
            t.stage = Stage::Locked { tid };
            io.answer(asker, Packet::AnswerInformationLocked { txn });
            return Ok(());
        }
        t.stage = Stage::Locking { asker, tid };
        let batch = WriteBatch::from(vec![WriteOp::LockUnfinished { txn, tid }]);
        let durability = match self.mutations.lock_not_durable {
            true => Durability::Buffered,
            false => Durability::Synced,
        };
        io.persist_surely(batch, durability, AfterPersist::Lock(txn));
        Ok(())
    }

    /// The tid is durable.
    pub(crate) fn lock_persisted(&mut self, io: &mut Io<'_>, txn: TxnId) {
        if let Some(t) = self.txns.get_mut(&txn)
            && let Stage::Locking { asker, tid } = t.stage
        {
            t.stage = Stage::Locked { tid };
            io.answer(asker, Packet::AnswerInformationLocked { txn });
        }
    }

    fn admit_vote(&self, txn: TxnId, with_record: bool, objects: u32) -> Result<(), Refusal> {
        let t = self.txns.get(&txn);
        let unknown = |text: String| Err((ErrorCode::UnknownTransaction, text));
        if let Some(waiting) = t.map(|t| t.tickets.len()).filter(|n| *n > 0) {
            return unknown(format!(
                "transaction {txn} has {waiting} requests that are not answered yet"
            ));
        }
        if t.is_none() && !with_record {
            return unknown(format!("transaction {txn} has nothing here"));
        }
        let known = t.map_or(0, |t| t.objects.len());
        let dropped = t.map_or(0, |t| t.dropped);
        // A node that lost some (its locks too) must not vote for what is left. What it dropped with
        // a discarded cell is another matter, whether its client knows of that already or not.
        if u64::from(objects) > (known + dropped) as u64 && !self.mutations.no_vote_count {
            return unknown(format!(
                "transaction {txn} has {known} objects here, not {objects}"
            ));
        }
        Ok(())
    }
}

impl Txn {
    /// The next page of a vote, whether more follow, and how many bytes left the memory.
    fn vote_page(
        &mut self,
        io: &mut Io<'_>,
        txn: TxnId,
        after: Option<Oid>,
    ) -> (WriteBatch, bool, usize) {
        let mut batch = WriteBatch::new();
        let mut objects = Vec::new();
        let mut freed = 0;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (oid, object) in self.objects.range_mut((from, Bound::Unbounded)) {
            if objects.len() == VOTE_PAGE {
                break;
            }
            if let Some(Value::Memory(record)) = &mut object.value {
                let id = io.jobs.data_id();
                freed += record.data.len();
                batch.push(WriteOp::PutData {
                    id,
                    owner: Some(txn),
                    record: record.clone(),
                });
                object.value = Some(Value::Written(id));
            }
            if let Some(data) = object.data() {
                objects.push(PendingObject { oid: *oid, data });
            }
        }
        self.buffered -= freed;
        let after = objects.last().map(|object| object.oid).or(after);
        if !objects.is_empty() {
            batch.push(WriteOp::PutUnfinishedObjects { txn, objects });
        }
        if let Stage::Voting {
            asker, with_record, ..
        } = self.stage
        {
            self.stage = Stage::Voting {
                asker,
                with_record,
                after,
            };
        }
        (batch, self.stores_after(after), freed)
    }

    pub(super) fn stores_after(&self, after: Option<Oid>) -> bool {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.objects.range((from, Bound::Unbounded));
        rest.any(|(_, object)| object.value.is_some())
    }
}

fn admit_record(
    cells: &Cells,
    txn: TxnId,
    VotedRecord {
        meta, oids, pack, ..
    }: &VotedRecord,
) -> Result<(), Refusal> {
    if cells.writable_of_tid(txn.ttid).is_none() {
        let text = format!("this node has no cell of transaction {txn}");
        return Err((ErrorCode::NonReadableCell, text));
    }
    let longest = [&meta.user, &meta.description, &meta.extension]
        .into_iter()
        .map(bytes::Bytes::len)
        .max();
    if longest > Some(METADATA_BYTES_MAX) {
        let text =
            format!("user, description and extension have at most {METADATA_BYTES_MAX} bytes each");
        return Err((ErrorCode::TooLarge, text));
    }
    if oids.len() > TRANSACTION_OIDS_MAX {
        let text = format!("a transaction has at most {TRANSACTION_OIDS_MAX} objects");
        return Err((ErrorCode::TooLarge, text));
    }
    let Some(order) = pack else {
        return Ok(());
    };
    if !order.is_valid() {
        let text = format!("a pack names at most {PACK_OIDS_MAX} objects, in order, each once");
        return Err((ErrorCode::TooLarge, text));
    }
    if order.at >= txn.ttid || !oids.is_empty() {
        let text = "a pack is ordered by a transaction without objects that began after its tid";
        return Err((ErrorCode::Denied, text.to_owned()));
    }
    Ok(())
}

const fn voted(with_record: bool) -> Packet {
    if with_record {
        Packet::AnswerStoreTransaction {}
    } else {
        Packet::AnswerVoteTransaction {}
    }
}
