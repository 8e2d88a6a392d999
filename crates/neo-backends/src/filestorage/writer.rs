//! Writing a file that ZODB opens, and going on with one.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use neo_api::{Oid, Tid, TransactionMeta};
use tracing::warn;

use super::error::Error;
use super::format::{
    Format, MAGIC_LEN, RECORD_HEADER_LEN, RecordHeader, Status, TransactionHeader,
};
use super::reader::{Reader, check_file};
use super::record::{NewData, Tail};

/// Bytes that are gathered before they are written.
const BUFFER_LEN: usize = 1 << 20;

/// Writes a FileStorage file, byte for byte as ZODB does.
///
/// A transaction is marked unfinished until its last byte is written: whenever the writer is
/// interrupted, the file holds the whole transactions up to there, ZODB opens it, and
/// [`append`](Self::append) goes on with it. That holds for the end of the process; after a loss
/// of power, it holds for what [`sync`](Self::sync) or [`finish`](Self::finish) came back from.
///
/// The format links the records of an object, so the writer keeps an oid and a position, 16
/// bytes, for each object of the file (with the slack of a hash table, 20 to 40), and as much for
/// each record of the current transaction.
#[derive(Debug)]
pub struct Writer {
    file: File,
    path: PathBuf,
    /// What is written next, at `flushed`; records are not split between file and buffer.
    buffer: Vec<u8>,
    flushed: u64,
    /// Position of the last record of each object, in the finished transactions.
    index: HashMap<Oid, u64>,
    last: Option<Tid>,
    open: Option<Open>,
    /// Nothing is written after a failure: what the file has at its end is not known.
    failed: bool,
}

/// The transaction that is being written.
#[derive(Debug)]
struct Open {
    tid: Tid,
    status: Status,
    offset: u64,
    records: Vec<(Oid, u64)>,
}

impl Writer {
    /// Creates an empty database.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is a file of that name, whatever it holds, or [`Error::Io`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let mut options = OpenOptions::new();
        let file = match options.read(true).write(true).create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists {
                    path: path.to_owned(),
                });
            }
            opened => opened.map_err(|e| io_error(path, None, "create the file", e))?,
        };
        lock(&file, path)?;
        Self::start(file, path)
    }

    /// Goes on behind the last whole transaction of a file, and cuts off what comes after it.
    ///
    /// All transactions are read, without their data. To resume an interrupted copy, ask
    /// [`last_tid`](Self::last_tid) where to go on. To ensure correctness, no ZODB may have the
    /// file open.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NotAFile`], [`Error::NotFileStorage`], [`Error::Corrupt`] (the file
    /// is left as it is) or [`Error::Locked`].
    pub fn append(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        check_file(path)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|e| io_error(path, None, "open the file for writing", e))?;
        lock(&file, path)?;
        // The creator of an empty file was stopped before its first write.
        if file
            .metadata()
            .map_err(|e| io_error(path, None, "read the file", e))?
            .len()
            == 0
        {
            return Self::start(file, path);
        }
        let mut reader = Reader::new(&file, path)?;
        let (mut index, mut last) = (HashMap::new(), None);
        while let Some(transaction) = reader.next_transaction()? {
            last = Some(transaction.tid);
            while let Some((position, header)) = reader.next_record_header()? {
                index.insert(header.oid, position);
            }
        }
        let (end, size) = (reader.position(), reader.file_size());
        if let Some(Tail::Incomplete { offset }) = reader.tail() {
            warn!(path = %path.display(), offset, bytes = size - offset, "cut off the unfinished transaction at the end");
            file.set_len(end)
                .map_err(|e| io_error(path, Some(end), "cut the file", e))?;
        }
        Ok(Self::at(file, path, end, index, last))
    }

    fn start(mut file: File, path: &Path) -> Result<Self, Error> {
        file.write_all(&Format::Fs30.magic())
            .map_err(|e| io_error(path, Some(0), "write", e))?;
        Ok(Self::at(file, path, MAGIC_LEN, HashMap::new(), None))
    }

    fn at(
        file: File,
        path: &Path,
        flushed: u64,
        index: HashMap<Oid, u64>,
        last: Option<Tid>,
    ) -> Self {
        let buffer = Vec::with_capacity(BUFFER_LEN);
        let path = path.to_owned();
        Self {
            file,
            path,
            buffer,
            flushed,
            index,
            last,
            open: None,
            failed: false,
        }
    }

    /// Tid of the last finished transaction, or `None` if there is none.
    #[must_use]
    pub fn last_tid(&self) -> Option<Tid> {
        self.last
    }

    /// Size of the file in bytes, with what is still in memory.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`Error::TidOrder`] unless `tid` is greater than all before, [`Error::TooLong`],
    /// [`Error::Misuse`] in a transaction, or [`Error::Io`].
    pub fn begin(&mut self, tid: Tid, status: Status, meta: &TransactionMeta) -> Result<(), Error> {
        self.check_usable()?;
        if self.open.is_some() {
            return Err(self.misuse("the transaction before must be finished or aborted first"));
        }
        if let Some(last) = self.last.filter(|&last| tid <= last) {
            return Err(Error::TidOrder {
                path: self.path.clone(),
                tid,
                last,
            });
        }
        let fields = [
            ("user", &meta.user),
            ("description", &meta.description),
            ("extension", &meta.extension),
        ];
        let mut lens = [0; 3];
        for (len, (field, text)) in lens.iter_mut().zip(fields) {
            let length = text.len();
            *len = u16::try_from(length).map_err(|_| Error::TooLong {
                path: self.path.clone(),
                tid,
                field,
                length,
            })?;
        }
        let offset = self.position();
        self.buffer
            .extend_from_slice(&TransactionHeader::begin(tid, lens));
        for (_, text) in fields {
            self.buffer.extend_from_slice(text);
        }
        self.open = Some(Open {
            tid,
            status,
            offset,
            records: Vec::new(),
        });
        Ok(())
    }

    /// Adds a record to the current transaction; they keep their order.
    ///
    /// To point back to a revision, the records of the object are read from the last one to that
    /// one.
    ///
    /// # Errors
    /// [`Error::Empty`] or [`Error::NoSuchRevision`], after which the transaction goes on without
    /// the record; [`Error::Misuse`] outside of a transaction; [`Error::Io`]; [`Error::Corrupt`]
    /// if the file is damaged where the revision is looked for.
    pub fn record(&mut self, oid: Oid, data: NewData<'_>) -> Result<(), Error> {
        self.check_usable()?;
        let Some(Open {
            tid,
            offset: transaction,
            ..
        }) = self.open
        else {
            return Err(self.misuse("a record needs a transaction: call begin() first"));
        };
        let back_pointer;
        let (data_len, payload) = match data {
            NewData::Data([]) => {
                return Err(Error::Empty {
                    path: self.path.clone(),
                    oid,
                });
            }
            NewData::Data(data) => (data.len() as u64, data),
            NewData::BackPointer { data_tid } => {
                back_pointer = self.find(oid, data_tid)?.to_be_bytes();
                (0, &back_pointer[..])
            }
            NewData::Deleted => (0, &[0; 8][..]),
        };
        let previous = self.index.get(&oid).copied().unwrap_or(0);
        let header = RecordHeader {
            oid,
            tid,
            previous,
            transaction,
            version_len: 0,
            data_len,
        };
        let position = self.position();
        self.buffer.extend_from_slice(&header.to_bytes());
        if payload.len() < BUFFER_LEN {
            self.buffer.extend_from_slice(payload);
        } else {
            self.flush()?;
            let written = self.file.write_all(payload);
            self.check(Some(self.flushed), "write", written)?;
            self.flushed += payload.len() as u64;
        }
        if let Some(open) = &mut self.open {
            open.records.push((oid, position));
        }
        self.flush_if_full()
    }

    /// Ends the current transaction: from now on it is part of the database.
    ///
    /// # Errors
    /// [`Error::Misuse`] outside of a transaction, or [`Error::Io`].
    pub fn finish_transaction(&mut self) -> Result<(), Error> {
        self.check_usable()?;
        let Some(open) = self.open.take() else {
            return Err(self.misuse("there is no transaction to finish: call begin() first"));
        };
        let length = self.position() - open.offset;
        let patch = TransactionHeader::finish(length, open.status);
        self.buffer.extend_from_slice(&length.to_be_bytes());
        match open.offset.checked_sub(self.flushed) {
            Some(start) => {
                // The header is in memory still: at an offset that fits into memory.
                let start = start as usize + TransactionHeader::PATCH_OFFSET;
                self.buffer[start..start + patch.len()].copy_from_slice(&patch);
            }
            None => {
                self.flush()?;
                self.write_at(open.offset + TransactionHeader::PATCH_OFFSET as u64, &patch)?;
            }
        }
        self.index.extend(open.records);
        self.last = Some(open.tid);
        self.flush_if_full()
    }

    /// Takes the current transaction back, as if it had not begun.
    ///
    /// # Errors
    /// [`Error::Misuse`] outside of a transaction, or [`Error::Io`].
    pub fn abort_transaction(&mut self) -> Result<(), Error> {
        self.check_usable()?;
        let Some(open) = self.open.take() else {
            return Err(self.misuse("there is no transaction to abort: call begin() first"));
        };
        match open.offset.checked_sub(self.flushed) {
            Some(start) => self.buffer.truncate(start as usize),
            None => {
                self.buffer.clear();
                let cut = self.file.set_len(open.offset);
                self.check(Some(open.offset), "cut the file", cut)?;
                self.flushed = open.offset;
            }
        }
        Ok(())
    }

    /// Makes the finished transactions durable.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&mut self) -> Result<(), Error> {
        self.check_usable()?;
        self.flush()?;
        let synced = self.file.sync_all();
        self.check(None, "sync the file", synced)
    }

    /// Makes the file durable, with its name, and closes it.
    ///
    /// # Errors
    /// [`Error::Misuse`] in a transaction, or [`Error::Io`].
    pub fn finish(mut self) -> Result<(), Error> {
        if self.open.is_some() {
            return Err(self.misuse("the last transaction must be finished or aborted first"));
        }
        self.sync()?;
        let synced = sync_directory(&self.path);
        self.check(None, "sync its directory", synced)
    }

    /// Position of a revision: the chain of the object's records is in the order of their tids.
    fn find(&mut self, oid: Oid, data_tid: Tid) -> Result<u64, Error> {
        let mut position = self.index.get(&oid).copied().unwrap_or(0);
        while position != 0 {
            let header = self.record_header(position)?;
            if header.oid != oid || header.previous >= position {
                let what = format!("the records of object {oid} are not linked");
                return Err(Error::Corrupt {
                    path: self.path.clone(),
                    offset: position,
                    what,
                });
            }
            if header.tid == data_tid {
                return Ok(position);
            }
            if header.tid < data_tid {
                break;
            }
            position = header.previous;
        }
        Err(Error::NoSuchRevision {
            path: self.path.clone(),
            oid,
            data_tid,
        })
    }

    fn record_header(&mut self, position: u64) -> Result<RecordHeader, Error> {
        let mut bytes = [0; RECORD_HEADER_LEN];
        match position.checked_sub(self.flushed) {
            Some(start) => {
                let start = start as usize;
                bytes.copy_from_slice(&self.buffer[start..start + RECORD_HEADER_LEN]);
            }
            None => {
                let seek = self.file.seek(SeekFrom::Start(position));
                let read = seek.and_then(|_| self.file.read_exact(&mut bytes));
                self.check(Some(position), "read", read)?;
            }
        }
        Ok(RecordHeader::parse(&bytes))
    }

    fn flush_if_full(&mut self) -> Result<(), Error> {
        if self.buffer.len() < BUFFER_LEN {
            Ok(())
        } else {
            self.flush()
        }
    }

    /// Writes the buffer; the file's cursor is then behind it.
    fn flush(&mut self) -> Result<(), Error> {
        let seek = self.file.seek(SeekFrom::Start(self.flushed));
        let written = seek.and_then(|_| self.file.write_all(&self.buffer));
        self.check(Some(self.flushed), "write", written)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn write_at(&mut self, position: u64, bytes: &[u8]) -> Result<(), Error> {
        let seek = self.file.seek(SeekFrom::Start(position));
        let written = seek.and_then(|_| self.file.write_all(bytes));
        self.check(Some(position), "write", written)
    }

    fn check<T>(
        &mut self,
        offset: Option<u64>,
        action: &'static str,
        result: io::Result<T>,
    ) -> Result<T, Error> {
        self.failed |= result.is_err();
        result.map_err(|e| io_error(&self.path, offset, action, e))
    }

    fn check_usable(&self) -> Result<(), Error> {
        if self.failed {
            return Err(self.misuse("an earlier call failed: open the file again with append()"));
        }
        Ok(())
    }

    fn misuse(&self, reason: &'static str) -> Error {
        Error::Misuse {
            path: self.path.clone(),
            reason,
        }
    }
}

impl Drop for Writer {
    /// Writes what is in memory, so that an export that was given up keeps what it has.
    fn drop(&mut self) {
        if !self.failed && !self.buffer.is_empty() {
            // There is nobody to tell; finish() is for those who want to know.
            let _ = self.flush();
        }
    }
}

fn io_error(path: &Path, offset: Option<u64>, action: &'static str, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        offset,
        action,
        source,
    }
}

/// Keeps a second writer away; a file system without locks does not.
fn lock(file: &File, path: &Path) -> Result<(), Error> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::Locked {
            path: path.to_owned(),
        }),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

/// Makes the name of a new file durable.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// Elsewhere a directory cannot be opened as a file, and syncing the file is what there is.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failed_write_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("failed.fs");
        let mut writer = Writer::create(&path).unwrap();
        let meta = TransactionMeta::default();
        writer.begin(Tid(1), Status::Normal, &meta).unwrap();
        writer.record(Oid(1), NewData::Data(b"kept")).unwrap();
        writer.finish_transaction().unwrap();
        writer.sync().unwrap();
        writer.begin(Tid(2), Status::Normal, &meta).unwrap();
        let writable = std::mem::replace(&mut writer.file, File::open(&path).unwrap());
        let error = writer
            .record(Oid(1), NewData::Data(&[1; BUFFER_LEN]))
            .unwrap_err();
        assert!(
            matches!(
                error,
                Error::Io {
                    action: "write",
                    ..
                }
            ),
            "{error}"
        );

        writer.file = writable;
        assert!(matches!(
            writer.finish_transaction(),
            Err(Error::Misuse { .. })
        ));
        assert!(matches!(writer.sync(), Err(Error::Misuse { .. })));
        drop(writer);
        let mut reader = Reader::open(&path).unwrap();
        assert_eq!(reader.last_tid().unwrap(), Some(Tid(1)));
        assert!(reader.next_transaction().unwrap().is_some());
        assert_eq!(reader.next_transaction().unwrap(), None);
        assert_eq!(reader.tail(), Some(Tail::Clean));
    }
}
