//! FileStorage files: what ZODB wrote, what it would read, and what no one should have written.

mod damage;
mod golden;
mod round_trip;
mod writer;

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use neo_backends::filestorage::{Error, NewData, Reader, Record, Transaction, Writer};

/// The databases that ZODB wrote, see `testdata/make_filestorages.py`.
const DATABASES: [&str; 6] = ["btrees", "undo", "packed", "sizes", "undone", "doubled"];

fn testdata(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")).join(name)
}

/// Everything from where a reader is to the end.
fn read_all<S: Read + Seek>(
    reader: &mut Reader<S>,
) -> Result<Vec<(Transaction, Vec<Record>)>, Error> {
    let mut all = Vec::new();
    while let Some(transaction) = reader.next_transaction()? {
        let mut records = Vec::new();
        while let Some(record) = reader.next_record()? {
            records.push(record);
        }
        all.push((transaction, records));
    }
    Ok(all)
}

fn write_all(writer: &mut Writer, all: &[(Transaction, Vec<Record>)]) -> Result<(), Error> {
    for (transaction, records) in all {
        writer.begin(transaction.tid, transaction.status, &transaction.meta)?;
        for record in records {
            writer.record(record.oid, NewData::from(&record.data))?;
        }
        writer.finish_transaction()?;
    }
    Ok(())
}
