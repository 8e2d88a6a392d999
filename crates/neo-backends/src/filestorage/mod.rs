//! ZODB FileStorage files (`Data.fs`), read and written as a stream.
//!
//! A database comes into a cluster from such a file, and leaves it as one. A [`Reader`] gives the
//! transactions of a file in the order of their tids, a [`Writer`] writes them the way ZODB does:
//! what ZODB's own iterator says of a file, and what it says of the copy, is the same.
//!
//! These files are not a [storage backend](neo_api): they are append-only and have one writer.
//! Blobs live beside the file, in a directory of their own, and are not looked at.
//!
//! # Example
//!
//! Copying what a copy does not have yet:
//! ```
//! # fn main() -> Result<(), neo_backends::filestorage::Error> {
//! # let dir = tempfile::tempdir().expect("a place for the copy");
//! # let copy = dir.path().join("copy.fs");
//! # let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/undo.fs");
//! use neo_backends::filestorage::{NewData, Reader, Writer};
//!
//! let mut reader = Reader::open(source)?;
//! let mut writer = if copy.exists() { Writer::append(&copy)? } else { Writer::create(&copy)? };
//! if let Some(last) = writer.last_tid() {
//!     reader.seek_after(last)?;
//! }
//! while let Some(transaction) = reader.next_transaction()? {
//!     writer.begin(transaction.tid, transaction.status, &transaction.meta)?;
//!     while let Some(record) = reader.next_record()? {
//!         writer.record(record.oid, NewData::from(&record.data))?;
//!     }
//!     writer.finish_transaction()?;
//! }
//! writer.finish()?;
//! # assert_eq!(std::fs::read(source).ok(), std::fs::read(copy).ok());
//! # Ok(())
//! # }
//! ```
//!
//! # Format
//!
//! All numbers are big-endian, all positions count from the beginning of the file.
//!
//! ```text
//! file          magic (4: "FS21" or "FS30"), transactions
//! transaction   tid (8), length - 8 (8), status (1), lengths of user, description and
//!               extension (2 each), these three, records, length - 8 again (8)
//! record        oid (8), tid (8), position of the object's record before, or 0 (8), position of
//!               the transaction (8), 0 (2), length of the data, or 0 (8), then the data or, if
//!               their length is 0, a back pointer (8)
//! back pointer  position of an earlier record of the object, whose state is this one's too (an
//!               undo), or 0: the object does not exist any more
//! ```
//!
//! # Source
//! The description in ZODB's `FileStorage/format.py`, and what ZODB does with files.

mod error;
mod format;
mod reader;
mod record;
mod source;
mod writer;

pub use self::error::Error;
pub use self::format::{Format, Status};
pub use self::reader::Reader;
pub use self::record::{Data, NewData, Record, Tail, Transaction};
pub use self::writer::Writer;
