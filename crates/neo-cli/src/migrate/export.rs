//! From a cluster into a FileStorage.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use futures_util::TryStreamExt as _;
use neo_api::{Tid, TransactionRecord};
use neo_backends::filestorage::{Error, NewData, Reader, Status, Writer};
use neo_client::{Client, TransactionObject, Transactions};

use super::order::{Next, Reorder};
use super::same::first_difference;
use super::{Copied, Progress};

/// Copies what a FileStorage does not have yet of a cluster, up to its last transaction now.
///
/// A file that does not exist is created; one that has the first transactions of the cluster is
/// continued, anything else is refused, and so is one that ends before the time of a pack: what was
/// deleted since might be gone without a trace. Records are in the order of the transaction's oids.
///
/// # Errors
/// When the file cannot be written, or has other data, or the cluster fails.
pub async fn export(
    client: &Client,
    destination: &Path,
    progress: &mut Progress,
) -> anyhow::Result<Copied> {
    let last = client.sync().await?;
    let mut writer = if destination.exists() {
        check_same(client, destination).await?;
        Writer::append(destination)?
    } else {
        Writer::create(destination)?
    };
    let from = writer.last_tid().map_or(Some(Tid::ZERO), Tid::checked_next);
    if let Some(there) = writer.last_tid() {
        progress.say(&format!("going on after transaction {there}"));
    }
    let mut copied = Copied::default();
    let mut all = client.iterate(from.unwrap_or(Tid::MAX)..=last).await?;
    let mut started = false;
    let mut exported = writer.last_tid().unwrap_or(Tid::ZERO);
    while let Some(transaction) = all.try_next().await? {
        if !started {
            // Tids are moments: how far it is shows by them.
            progress.start(transaction.tid.0, last.0);
            started = true;
        }
        let tid = transaction.tid;
        copy(client, &mut all, transaction, &mut writer, &mut copied)
            .await
            .with_context(|| format!("transaction {tid} cannot be exported"))?;
        copied.transactions += 1;
        exported = tid;
        progress.advance(tid.0, &copied);
    }
    writer.finish()?;
    ensure!(
        exported == last,
        "the cluster's last transaction is {last}, but {exported} is the last one that its storage \
         nodes have: their data is damaged, or of different times"
    );
    progress.finish(&copied);
    Ok(copied)
}

/// Refuses a file that does not have the first transactions of the cluster.
async fn check_same(client: &Client, destination: &Path) -> anyhow::Result<()> {
    let mut reader = match Reader::open(destination) {
        Ok(reader) => reader,
        // Its creator was stopped before the first write.
        Err(Error::NotFileStorage { found, .. }) if found.is_empty() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let Some(last) = reader.last_tid()? else {
        return Ok(());
    };
    let packed_at = client.pack_progress().await?.packed_at;
    ensure!(
        packed_at <= last,
        "the cluster was packed up to {packed_at}, and {} ends at {last}: what was deleted between \
         may be gone without a trace; give a path that does not exist",
        destination.display()
    );
    if let Some(other) = first_difference(client, &mut reader, last).await? {
        bail!(
            "{} has other data than the cluster: they differ at transaction {other}; give a path \
             that does not exist",
            destination.display()
        );
    }
    Ok(())
}

async fn copy(
    client: &Client,
    all: &mut Transactions,
    transaction: TransactionRecord,
    writer: &mut Writer,
    copied: &mut Copied,
) -> anyhow::Result<()> {
    let (tid, packed) = (transaction.tid, transaction.packed);
    let status = if transaction.packed {
        Status::Packed
    } else {
        Status::Normal
    };
    writer.begin(tid, status, &transaction.meta)?;
    let mut reorder = Reorder::new(transaction.oids);
    let mut objects = all.objects();
    while let Some(object) = objects.try_next().await? {
        let bytes = object.data.as_ref().map_or(0, bytes::Bytes::len);
        reorder.push(object.oid, object, bytes, |object| {
            TransactionObject::new(object.oid, None).same_as(object.data_serial)
        });
        loop {
            let object = match reorder.next() {
                Next::Wait => break,
                next => taken(client, tid, next).await?,
            };
            write(writer, &object, copied)?;
        }
    }
    while let Some(next) = reorder.next_at_end() {
        let object = taken(client, tid, next).await?;
        write(writer, &object, copied)?;
    }
    // Of a transaction that was packed, what is gone is gone.
    if let (Some(oid), false) = (reorder.missing().first(), packed)
        && client.pack_progress().await?.packed_at < tid
    {
        bail!("its object {oid} is missing: the data of a storage node is damaged, or too old");
    }
    writer.finish_transaction()?;
    Ok(())
}

/// An object that comes next, read again if it was let go.
async fn taken(
    client: &Client,
    tid: Tid,
    next: Next<TransactionObject>,
) -> anyhow::Result<TransactionObject> {
    let rest = match next {
        Next::Object(object) => return Ok(object),
        Next::ReadAgain(rest) => rest,
        Next::Wait => bail!("nothing comes next"),
    };
    let found = client.load_serial(rest.oid, tid).await?.object();
    let data = found.map(|object| object.data);
    Ok(TransactionObject::new(rest.oid, data).same_as(rest.data_serial))
}

fn write(
    writer: &mut Writer,
    object: &TransactionObject,
    copied: &mut Copied,
) -> anyhow::Result<()> {
    let TransactionObject {
        oid,
        data,
        data_serial,
        ..
    } = object;
    copied.records += 1;
    copied.bytes += data.as_ref().map_or(0, |data| data.len() as u64);
    // As ZODB's restore() does: also a deletion can point back, to another one.
    if let Some(data_tid) = *data_serial {
        match writer.record(*oid, NewData::BackPointer { data_tid }) {
            // It may be packed away, or before the beginning of this file.
            Err(Error::NoSuchRevision { .. }) => {}
            written => return Ok(written?),
        }
    }
    let data = data.as_deref().map_or(NewData::Deleted, NewData::Data);
    Ok(writer.record(*oid, data)?)
}
