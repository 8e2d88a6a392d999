//! From a FileStorage into a cluster.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use neo_api::{Oid, TRANSACTION_OIDS_MAX, Tid, TransactionRecord};
use neo_backends::filestorage::{Data, Error, Format, Reader, Record, Status, Tail, Transaction};
use neo_client::{Client, TransactionObject};

use super::same::{distinct, first_difference, is_followed};
use super::{Copied, Progress};

/// A checkpoint is made when so many bytes of the file were read since the last one,
const CHECKPOINT_BYTES: u64 = 256 << 20;

/// or when so much time has passed.
const CHECKPOINT_TIME: Duration = Duration::from_secs(2);

/// So many objects with several records in a transaction are named; all are counted.
const REPLACED_NAMED: usize = 20;

/// How long an import waits for another one to end.
const BEGIN_TIME: Duration = Duration::from_secs(5);

/// Copies what a cluster does not have yet of a FileStorage.
///
/// A cluster has one revision of an object for a transaction: where the file has several records,
/// the last one is taken, and the user told.
///
/// An import that was interrupted goes on where it stood. A cluster that has other data is
/// refused.
///
/// # Errors
/// When the file cannot be read, when the cluster has other data, or when it fails.
pub async fn import(
    client: &Client,
    source: &Path,
    progress: &mut Progress,
) -> anyhow::Result<Copied> {
    let mut reader = Reader::open(source)?;
    if reader.format() == Format::Fs21 {
        progress.warn(&format!(
            "{} is of Python 2: ZODB on Python 3 does not read its strings as they were meant; \
             convert it first (zodbupdate)",
            source.display()
        ));
    }
    let there = client.sync().await?;
    if there != Tid::ZERO {
        if let Some(other) = first_difference(client, &mut reader, there).await? {
            bail!(
                "the cluster has other data than {}: they differ at transaction {other}; import \
                 into an empty cluster",
                source.display()
            );
        }
        reader.seek_after(there)?;
        if reader.last_tid()? == Some(there) {
            progress.say(&format!("{} is imported already", source.display()));
            warn_of_tail(&reader, there, source, progress);
            return Ok(Copied::default());
        }
        progress.say(&format!("going on after transaction {there}"));
    }
    let mut import = begin(client).await?;
    ensure!(
        import.last_tid() == there,
        "somebody else wrote to the cluster meanwhile: transaction {}",
        import.last_tid()
    );
    let mut copied = Copied::default();
    let mut named = 0;
    let mut checkpoint = (Instant::now(), reader.position());
    progress.start(reader.position(), reader.file_size());
    while let Some(transaction) = reader.next_transaction()? {
        let (record, mut later) = metadata(transaction, &mut reader, source)?;
        warn_of_replaced(source, record.tid, &later, &mut named, progress);
        let mut error = None;
        let records = Records {
            reader: &mut reader,
            later: &mut later,
            error: &mut error,
            copied: &mut copied,
        };
        let pushed = import.push(record, records).await;
        if let Some(error) = error {
            // What is whole is kept: the file may be mended.
            drop(import);
            return Err(error.into());
        }
        // What the cluster does not take may have been pushed a while before.
        let not_taken = |at: u64| {
            let named = source.display();
            format!("{named}: the cluster did not take what is at or before offset {at}")
        };
        pushed.with_context(|| not_taken(reader.position()))?;
        copied.transactions += 1;
        progress.advance(reader.position(), &copied);
        let (at, position) = checkpoint;
        if reader.position() - position >= CHECKPOINT_BYTES || at.elapsed() >= CHECKPOINT_TIME {
            let saved = import.checkpoint().await;
            saved.with_context(|| not_taken(reader.position()))?;
            checkpoint = (Instant::now(), reader.position());
        }
    }
    let last = import.finish().await.with_context(|| {
        format!(
            "{}: the cluster did not take the end of it",
            source.display()
        )
    })?;
    progress.finish(&copied);
    warn_of_tail(&reader, last, source, progress);
    Ok(copied)
}

/// Tells what is left out of a file that was cut off; the last thing that is told.
fn warn_of_tail(reader: &Reader, last: Tid, source: &Path, progress: &Progress) {
    let Some(Tail::Incomplete { offset }) = reader.tail() else {
        return;
    };
    let taken = if last == Tid::ZERO {
        "there is no whole one before".to_owned()
    } else {
        format!("the last one taken is {last}")
    };
    progress.warn(&format!(
        "{} ends in the middle of a transaction, whose {} bytes from offset {offset} on are left \
         out, as ZODB does; {taken}",
        source.display(),
        reader.file_size() - offset
    ));
}

/// Tells which objects have records before their last one in a transaction.
fn warn_of_replaced(
    source: &Path,
    tid: Tid,
    replaced: &BTreeMap<Oid, u32>,
    named: &mut usize,
    progress: &Progress,
) {
    for (oid, before) in replaced {
        *named += 1;
        if *named > REPLACED_NAMED {
            // Once is enough; the summary has the number.
            if *named == REPLACED_NAMED + 1 {
                progress.warn("other objects have several records in a transaction as well");
            }
            break;
        }
        progress.warn(&format!(
            "{}: transaction {tid} has {} records of object {oid}: the last one is kept, which is \
             the one that ZODB loads",
            source.display(),
            u64::from(*before) + 1
        ));
    }
}

/// Begins, once what an earlier import left is cleared away: one that was interrupted a moment ago
/// is in the way for a moment.
async fn begin(client: &Client) -> anyhow::Result<neo_client::Import> {
    let deadline = Instant::now() + BEGIN_TIME;
    loop {
        match client.import().await {
            Err(neo_client::Error::NotReady(_)) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            begun => return Ok(begun?),
        }
    }
}

/// What goes before the records, and how many records an object has beside the last one.
fn metadata(
    transaction: Transaction,
    reader: &mut Reader,
    source: &Path,
) -> anyhow::Result<(TransactionRecord, BTreeMap<Oid, u32>)> {
    let (oids, later) = distinct(reader.record_oids()?);
    ensure!(
        oids.len() <= TRANSACTION_OIDS_MAX,
        "{}: transaction {} has {} objects; a transaction has at most {TRANSACTION_OIDS_MAX} here",
        source.display(),
        transaction.tid,
        oids.len()
    );
    let record = TransactionRecord {
        tid: transaction.tid,
        txn: None,
        meta: transaction.meta,
        oids,
        packed: transaction.status == Status::Packed,
        pack: None,
    };
    Ok((record, later))
}

/// The records of a transaction as they are read: no more than one is in memory.
struct Records<'a> {
    reader: &'a mut Reader,
    later: &'a mut BTreeMap<Oid, u32>,
    error: &'a mut Option<Error>,
    copied: &'a mut Copied,
}

impl Iterator for Records<'_> {
    type Item = TransactionObject;

    fn next(&mut self) -> Option<TransactionObject> {
        loop {
            match self.reader.next_record() {
                Ok(Some(record)) if is_followed(self.later, record.oid) => {
                    self.copied.left_out += 1;
                }
                Ok(Some(record)) => {
                    self.copied.records += 1;
                    let object = object(record);
                    self.copied.bytes += object.data.as_ref().map_or(0, |d| d.len() as u64);
                    return Some(object);
                }
                Ok(None) => return None,
                Err(error) => {
                    *self.error = Some(error);
                    return None;
                }
            }
        }
    }
}

fn object(record: Record) -> TransactionObject {
    let Record { oid, data } = record;
    match data {
        Data::Data(data) => TransactionObject::new(oid, Some(data)),
        // The data is there already: the link is enough.
        Data::BackPointer { data_tid, .. } => {
            TransactionObject::new(oid, None).same_as(Some(data_tid))
        }
        Data::Deleted { data_tid } => TransactionObject::new(oid, None).same_as(data_tid),
    }
}
