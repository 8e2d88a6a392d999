//! Import: an ordered bulk load, alone on the cluster, whose writes count once the mark is raised.

use bytes::Bytes;
use neo_api::{
    Durability, ObjectData, Partition, Record, TRANSACTION_OIDS_MAX, Tid, WriteBatch, WriteOp,
};
use neo_proto::{
    ConnId, ErrorCode, MsgId, Packet, WireRevision, WireTransaction, WireValue, split_payload,
};

use super::cells::Cells;
use super::io::{AfterPersist, Asker, Io, code_of, words};
use super::transaction::Refusal;

/// An import that goes on.
#[derive(Debug)]
pub(crate) struct Import {
    number: u64,
    /// What is written after this tid does not count yet.
    mark: Tid,
    /// Batches that are being written.
    writing: usize,
    /// A batch failed, or the primary began to take back what is after the mark.
    closed: Option<&'static str>,
}

impl Import {
    pub(crate) const fn new(number: u64, mark: Tid) -> Self {
        Self {
            number,
            mark,
            writing: 0,
            closed: None,
        }
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// Whether a batch is being written.
    pub(crate) const fn is_writing(&self) -> bool {
        self.writing > 0
    }

    /// The primary raises the mark.
    pub(crate) const fn raise(&mut self, mark: Tid) {
        self.mark = mark;
    }

    /// What is after the mark is taken back: nothing may be added to it.
    pub(crate) const fn close(&mut self) {
        self.closed = Some("it is being taken back to its last checkpoint");
    }

    /// Why it can't go on, if so.
    pub(crate) const fn closed(&self) -> Option<&'static str> {
        self.closed
    }

    /// A client's batch: written at once, in the order of arrival.
    pub(crate) fn take(
        &mut self,
        cells: &Cells,
        io: &mut Io<'_>,
        (conn, id): (ConnId, MsgId),
        batch: Batch,
        object_bytes_max: usize,
    ) {
        let asker = Asker { conn, id };
        let bytes = batch.payload.len() as u64;
        match self.prepare(cells, io, batch, object_bytes_max) {
            Ok(batch) => {
                self.writing += 1;
                let then = AfterPersist::Import { asker, bytes };
                io.persist(batch, Durability::Buffered, then);
            }
            Err((code, text)) => {
                io.consumed(conn, bytes);
                io.error(asker, code, text);
            }
        }
    }

    /// A batch is written, or is not.
    pub(crate) fn persisted(
        &mut self,
        io: &mut Io<'_>,
        asker: Asker,
        result: Result<(), neo_api::BackendError>,
    ) {
        self.writing = self.writing.saturating_sub(1);
        match result {
            Ok(()) => io.answer(asker, Packet::AnswerImport {}),
            Err(error) => {
                // What follows it in order must not be there without it.
                self.closed = Some("an earlier part of it could not be written");
                io.error(asker, code_of(&error), words(&error));
            }
        }
    }

    fn prepare(
        &self,
        cells: &Cells,
        io: &mut Io<'_>,
        batch: Batch,
        object_bytes_max: usize,
    ) -> Result<WriteBatch, Refusal> {
        if batch.import != self.number {
            let text = format!("import {} is not the one that goes on", batch.import);
            return Err((ErrorCode::UnknownTransaction, text));
        }
        if let Some(why) = self.closed {
            let text = format!("import {} can't go on: {why}", self.number);
            return Err((ErrorCode::UnknownTransaction, text));
        }
        let values = split_payload(&batch.revisions, &batch.payload)
            .map_err(|why| (ErrorCode::Protocol, why.to_owned()))?;
        let Some(partitioning) = cells.partitioning() else {
            let text = "this node has no partition table".to_owned();
            return Err((ErrorCode::NotReady, text));
        };
        let mut ops = Vec::with_capacity(batch.revisions.len() * 2 + batch.transactions.len());
        for (revision, data) in batch.revisions.into_iter().zip(values) {
            let partition = partitioning.of_oid(revision.id.oid);
            if !self.admit(cells, partition, revision.id.tid)? {
                continue;
            }
            let data = match (revision.value, data, revision.data_serial) {
                (Some(value), Some(data), _) => {
                    let record = record(value, data, object_bytes_max)?;
                    let id = io.jobs.data_id();
                    let owner = None;
                    ops.push(WriteOp::PutData { id, owner, record });
                    ObjectData::Value(id)
                }
                (_, _, Some(tid)) => ObjectData::SameAs(tid),
                _ => ObjectData::Deleted,
            };
            let id = revision.id;
            ops.push(WriteOp::PutObject {
                partition,
                id,
                data,
            });
        }
        for transaction in batch.transactions {
            let partition = partitioning.of_tid(transaction.tid);
            if !self.admit(cells, partition, transaction.tid)? {
                continue;
            }
            if transaction.oids.0.len() > TRANSACTION_OIDS_MAX {
                let text = format!("a transaction has at most {TRANSACTION_OIDS_MAX} objects");
                return Err((ErrorCode::TooLarge, text));
            }
            let record = transaction.into();
            ops.push(WriteOp::PutTransaction { partition, record });
        }
        Ok(WriteBatch::from(ops))
    }

    /// Whether something of a partition is to be written now. A cell that lacks something fetches it
    /// when the mark is raised: here, what it repeats may be missing.
    fn admit(&self, cells: &Cells, partition: Partition, tid: Tid) -> Result<bool, Refusal> {
        if !cells.is_writable(partition) {
            let text = format!("this node has no cell of partition {partition}");
            return Err((ErrorCode::NonReadableCell, text));
        }
        if tid <= self.mark || tid > Tid::MAX {
            let text = format!("{tid} is not after {}, where the import stands", self.mark);
            return Err((ErrorCode::Denied, text));
        }
        Ok(cells.is_checked(partition))
    }
}

/// Whether all of a batch is of cells that lack something, and fetch it later.
pub(crate) fn is_for_replicas(cells: &Cells, batch: &Batch) -> bool {
    let Some(partitioning) = cells.partitioning() else {
        return false;
    };
    let revisions = batch.revisions.iter();
    let revisions = revisions.map(|revision| partitioning.of_oid(revision.id.oid));
    let transactions = batch.transactions.iter();
    let transactions = transactions.map(|transaction| partitioning.of_tid(transaction.tid));
    revisions
        .chain(transactions)
        .all(|partition| cells.is_writable(partition) && !cells.is_checked(partition))
}

/// What one message of an import has.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) import: u64,
    pub(crate) transactions: Vec<WireTransaction>,
    pub(crate) revisions: Vec<WireRevision>,
    pub(crate) payload: Bytes,
}

fn record(value: WireValue, data: Bytes, object_bytes_max: usize) -> Result<Record, Refusal> {
    if data.len() > object_bytes_max {
        let is = data.len();
        let text = format!("an object of {is} bytes; this node takes at most {object_bytes_max}");
        return Err((ErrorCode::TooLarge, text));
    }
    let record = Record {
        compression: value.compression,
        checksum: value.checksum,
        data,
    };
    if !record.is_intact() {
        let text = "the data does not match its checksum".to_owned();
        return Err((ErrorCode::Checksum, text));
    }
    Ok(record)
}
