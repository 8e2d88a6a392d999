//! Reading a file from its beginning to its end, one record at a time.

mod pointers;

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use neo_api::{Oid, Tid, TransactionMeta};

use super::error::Error;
use super::format::{
    Format, MAGIC_LEN, RECORD_HEADER_LEN, RawStatus, RecordHeader, TRAILER_LEN,
    TRANSACTION_HEADER_LEN, TransactionHeader,
};
use super::record::{Data, Record, Tail, Transaction};
use super::source::Source;

/// Reads a FileStorage file, in constant memory: one record and a buffer.
///
/// The file is never written, and may be open in a running ZODB: the reader sees what was there
/// when it was opened. What it reads, it checks; each structure that contradicts another is an
/// [`Error::Corrupt`], and each allocation is bounded by the size of the file. Data are not
/// checked, since the format has no checksums.
///
/// After an error the reader stays where it was: the next call gives the same error, except that
/// [`next_transaction`](Self::next_transaction) leaves a transaction with a damaged record, and
/// [`next_record`](Self::next_record) leaves a record whose back pointer cannot be followed.
#[derive(Debug)]
pub struct Reader<S = File> {
    source: Source<S>,
    path: PathBuf,
    format: Format,
    place: Place,
}

/// Where a reader is.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Where the next transaction begins.
    next: u64,
    /// The tid of the one before.
    last: Option<Tid>,
    /// The transaction whose records are being read.
    open: Option<Open>,
    /// Set at the end.
    tail: Option<Tail>,
}

impl Place {
    const START: Self = Self {
        next: MAGIC_LEN,
        last: None,
        open: None,
        tail: None,
    };
}

#[derive(Debug, Clone, Copy)]
struct Open {
    tid: Tid,
    offset: u64,
    /// Where its next record begins.
    at: u64,
    /// Where its records end.
    end: u64,
}

/// What is where the next transaction should be.
enum Step {
    Transaction(TransactionHeader),
    Undone(TransactionHeader),
    End(Tail),
}

impl Reader {
    /// Opens a file and checks that it is a FileStorage.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NotAFile`] or [`Error::NotFileStorage`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        check_file(path)?;
        let file = File::open(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            offset: None,
            action: "open the file",
            source,
        })?;
        Self::new(file, path)
    }
}

impl<S: Read + Seek> Reader<S> {
    /// Reads from anything; `name` stands in errors where a file has its path.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NotFileStorage`].
    pub fn new(source: S, name: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = name.into();
        let opened = Source::new(source).and_then(|mut source| {
            let found = source.read_bytes(0, source.len().min(MAGIC_LEN) as usize)?;
            Ok((source, found))
        });
        let (source, found) = match opened {
            Ok(opened) => opened,
            Err(source) => {
                return Err(Error::Io {
                    path,
                    offset: None,
                    action: "read the file",
                    source,
                });
            }
        };
        match <[u8; 4]>::try_from(&found[..])
            .ok()
            .and_then(Format::from_magic)
        {
            Some(format) => Ok(Self {
                source,
                path,
                format,
                place: Place::START,
            }),
            None => Err(Error::NotFileStorage {
                path,
                found: found.to_vec(),
            }),
        }
    }

    /// Which Python wrote the pickles.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Size of the file in bytes.
    #[must_use]
    pub fn file_size(&self) -> u64 {
        self.source.len()
    }

    /// How far the reader has come, in bytes from the beginning of the file.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.place.open.map_or(self.place.next, |open| open.at)
    }

    /// Bytes between [`position`](Self::position) and the end of the file.
    #[must_use]
    pub fn bytes_left(&self) -> u64 {
        self.file_size() - self.position()
    }

    /// How the file ends; `None` until [`next_transaction`](Self::next_transaction) has
    /// returned `None`.
    #[must_use]
    pub fn tail(&self) -> Option<Tail> {
        self.place.tail
    }

    /// The next transaction, or `None` at the end of the file; records of the current one that
    /// were not read are skipped.
    ///
    /// Transactions that old versions of ZODB undid in place are left out.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Corrupt`]. A transaction that is merely cut off is the end, see
    /// [`tail`](Self::tail).
    pub fn next_transaction(&mut self) -> Result<Option<Transaction>, Error> {
        self.place.open = None;
        let Some(header) = self.next_header()? else {
            return Ok(None);
        };
        let offset = self.place.next;
        let lens = [
            header.user_len,
            header.description_len,
            header.extension_len,
        ];
        let mut at = offset + TRANSACTION_HEADER_LEN as u64;
        let [mut user, mut description, mut extension] = [const { Bytes::new() }; 3];
        for (len, text) in lens
            .into_iter()
            .zip([&mut user, &mut description, &mut extension])
        {
            let read = self.source.read_bytes(at, usize::from(len));
            *text = read.map_err(|e| self.io(at, e))?;
            at += u64::from(len);
        }
        let end = offset + header.length;
        self.enter(&header);
        self.place.open = Some(Open {
            tid: header.tid,
            offset,
            at,
            end,
        });
        Ok(Some(Transaction {
            tid: header.tid,
            status: match header.status {
                RawStatus::Committed(status) => status,
                _ => unreachable!("next_header() gives committed transactions only"),
            },
            meta: TransactionMeta {
                user,
                description,
                extension,
            },
            offset,
            length: header.length + TRAILER_LEN,
        }))
    }

    /// The next record of the current transaction, in the order in which they were stored, or
    /// `None` after the last one.
    ///
    /// An object can have more than one record in a transaction that undid several; the last one
    /// is its state.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Corrupt`].
    pub fn next_record(&mut self) -> Result<Option<Record>, Error> {
        let Some((position, header)) = self.next_record_header()? else {
            return Ok(None);
        };
        let payload = position + RECORD_HEADER_LEN as u64;
        let data = if header.data_len > 0 {
            let data = self
                .source
                .read_bytes(payload, self.to_len(position, header.data_len)?);
            Data::Data(data.map_err(|e| self.io(payload, e))?)
        } else {
            let pointer = self.source.read(payload).map_err(|e| self.io(payload, e))?;
            self.resolve(position, &header, u64::from_be_bytes(pointer))?
        };
        Ok(Some(Record {
            oid: header.oid,
            data,
        }))
    }

    /// The objects of the records that [`next_record`](Self::next_record) has still to give, in
    /// their order; only headers are read, and the reader stays where it is.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Corrupt`].
    pub fn record_oids(&mut self) -> Result<Vec<Oid>, Error> {
        self.apart(|reader| {
            let mut oids = Vec::new();
            while let Some((_, header)) = reader.next_record_header()? {
                oids.push(header.oid);
            }
            Ok(oids)
        })
    }

    /// Goes to the first transaction after `tid`, to resume an import: only headers are read.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Corrupt`].
    pub fn seek_after(&mut self, tid: Tid) -> Result<(), Error> {
        self.place.open = None;
        if self.place.last.is_some_and(|last| last > tid) {
            self.place = Place::START;
        }
        while let Some(header) = self.next_header()? {
            if header.tid > tid {
                break;
            }
            self.enter(&header);
        }
        Ok(())
    }

    /// Tid of the first transaction, or `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Corrupt`].
    pub fn first_tid(&mut self) -> Result<Option<Tid>, Error> {
        self.apart(|reader| {
            reader.place = Place::START;
            Ok(reader.next_header()?.map(|header| header.tid))
        })
    }

    /// Tid of the last whole transaction, or `None` if there is none.
    ///
    /// It is found from the end of the file; only if that is cut off, all headers are read.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Corrupt`].
    pub fn last_tid(&mut self) -> Result<Option<Tid>, Error> {
        let mut end = self.source.len();
        while end > MAGIC_LEN
            && let Some(offset) = self.whole_transaction_before(end)?
        {
            let header = self.look_transaction_header(offset)?;
            if header.length != end - TRAILER_LEN - offset {
                break;
            }
            if matches!(header.status, RawStatus::Committed(_)) {
                return Ok(Some(header.tid));
            }
            end = offset;
        }
        self.apart(|reader| {
            while let Some(header) = reader.next_header()? {
                reader.enter(&header);
            }
            Ok(reader.place.last)
        })
    }

    /// The header of the next record, with its position; the reader is then behind the record.
    pub(super) fn next_record_header(&mut self) -> Result<Option<(u64, RecordHeader)>, Error> {
        let Some(open) = self.place.open else {
            return Ok(None);
        };
        let position = open.at;
        let left = open.end - position;
        if left == 0 {
            return Ok(None);
        }
        if left <= RECORD_HEADER_LEN as u64 {
            let what = format!("a record begins {left} bytes before its transaction ends");
            return Err(self.corrupt(position, what));
        }
        let bytes = self
            .source
            .read(position)
            .map_err(|e| self.io(position, e))?;
        let header = RecordHeader::parse(&bytes);
        self.check_record(position, &header, &open)?;
        let end = position + RECORD_HEADER_LEN as u64 + header.payload_len();
        self.place.open = Some(Open { at: end, ..open });
        Ok(Some((position, header)))
    }

    fn check_record(&self, position: u64, header: &RecordHeader, open: &Open) -> Result<(), Error> {
        let RecordHeader {
            oid,
            tid,
            previous,
            transaction,
            version_len,
            data_len,
        } = *header;
        let room = open.end - position - RECORD_HEADER_LEN as u64;
        let what = if transaction != open.offset {
            format!(
                "the record's transaction is at {}, but it says {transaction}",
                open.offset
            )
        } else if tid != open.tid {
            format!("the record has tid {tid} in transaction {}", open.tid)
        } else if version_len != 0 {
            "the record belongs to a version; ZODB gave versions up in 3.9, and this reader has \
             none"
                .to_owned()
        } else if header.payload_len() > room {
            format!("object {oid} has {data_len} bytes where {room} are left in its transaction")
        } else if previous >= position {
            format!("the record before that of object {oid} is at {previous}, behind it")
        } else {
            return Ok(());
        };
        Err(self.corrupt(position, what))
    }

    /// The header of the next transaction that counts; the reader stays before it.
    fn next_header(&mut self) -> Result<Option<TransactionHeader>, Error> {
        if self.place.tail.is_some() {
            return Ok(None);
        }
        loop {
            match self.step()? {
                Step::Transaction(header) => return Ok(Some(header)),
                Step::Undone(header) => self.place.next += header.length + TRAILER_LEN,
                Step::End(tail) => {
                    self.place.tail = Some(tail);
                    return Ok(None);
                }
            }
        }
    }

    /// Goes behind the transaction that [`Self::next_header`] found.
    fn enter(&mut self, header: &TransactionHeader) {
        self.place.next += header.length + TRAILER_LEN;
        self.place.last = Some(header.tid);
    }

    fn step(&mut self) -> Result<Step, Error> {
        let offset = self.place.next;
        let left = self.source.len() - offset;
        if left == 0 {
            return Ok(Step::End(Tail::Clean));
        }
        if left < TRANSACTION_HEADER_LEN as u64 {
            return Ok(Step::End(Tail::Incomplete { offset }));
        }
        let bytes = self.source.read(offset).map_err(|e| self.io(offset, e))?;
        let header = TransactionHeader::parse(&bytes);
        // After a loss of power, a file can have its new length and zeros for its new bytes.
        if bytes.iter().all(|&byte| byte == 0)
            && self
                .source
                .is_zero_from(offset)
                .map_err(|e| self.io(offset, e))?
        {
            return Ok(Step::End(Tail::Incomplete { offset }));
        }
        let fits = header
            .length
            .checked_add(TRAILER_LEN)
            .is_some_and(|length| length <= left);
        if header.status == RawStatus::Unfinished || !fits {
            return self.cut_off(offset, &header);
        }
        if header.length < header.full_len() {
            let what = format!(
                "the transaction has {} bytes, less than its header",
                header.length
            );
            return Err(self.corrupt(offset, what));
        }
        if let RawStatus::Unknown(byte) = header.status {
            return Err(self.corrupt(offset, format!("unknown transaction status {byte:#04x}")));
        }
        let end = offset + header.length;
        let trailer = self.source.look(end).map_err(|e| self.io(end, e))?;
        let trailer = u64::from_be_bytes(trailer);
        if trailer != header.length {
            let length = header.length;
            let what = format!("the transaction's length is {length} before it, {trailer} after");
            return Err(self.corrupt(offset, what));
        }
        if header.status == RawStatus::Undone {
            return Ok(Step::Undone(header));
        }
        match self.place.last {
            Some(last) if header.tid <= last => {
                let what = format!("transaction {} comes after {last}", header.tid);
                Err(self.corrupt(offset, what))
            }
            _ => Ok(Step::Transaction(header)),
        }
    }

    /// Tells an interrupted write, which nothing follows, from a damaged header.
    fn cut_off(&mut self, offset: u64, header: &TransactionHeader) -> Result<Step, Error> {
        let what = match self.whole_transaction_before(self.source.len())? {
            Some(last) if last > offset => {
                format!("the transaction is unfinished, but one at {last} comes after it")
            }
            Some(last) if last == offset && header.status != RawStatus::Unfinished => {
                format!(
                    "the transaction's length is {}, beyond the end of the file",
                    header.length
                )
            }
            _ => return Ok(Step::End(Tail::Incomplete { offset })),
        };
        Err(self.corrupt(offset, what))
    }

    /// Where the transaction begins whose trailer ends at `end`, if there is one.
    ///
    /// Bytes of an object can look like a trailer. For an offset before the object, which is what
    /// the callers ask, they would also have to agree with a header and a record's position.
    fn whole_transaction_before(&mut self, end: u64) -> Result<Option<u64>, Error> {
        let Some(at) = end.checked_sub(TRAILER_LEN) else {
            return Ok(None);
        };
        let length = u64::from_be_bytes(self.source.look(at).map_err(|e| self.io(at, e))?);
        let Some(offset) = at.checked_sub(length).filter(|&offset| offset >= MAGIC_LEN) else {
            return Ok(None);
        };
        if length < TRANSACTION_HEADER_LEN as u64 {
            return Ok(None);
        }
        let header = self.look_transaction_header(offset)?;
        // The length may be what is damaged: the place and its first record still tell.
        let record = header.full_len();
        let known = match length.checked_sub(record) {
            Some(0) => header.length == length,
            Some(room) if room >= RECORD_HEADER_LEN as u64 => {
                let at = offset + record;
                let bytes = self.source.look(at).map_err(|e| self.io(at, e))?;
                let first = RecordHeader::parse(&bytes);
                first.transaction == offset && first.tid == header.tid
            }
            _ => false,
        };
        Ok(known.then_some(offset))
    }

    fn look_transaction_header(&mut self, offset: u64) -> Result<TransactionHeader, Error> {
        let bytes = self.source.look(offset).map_err(|e| self.io(offset, e))?;
        Ok(TransactionHeader::parse(&bytes))
    }

    /// Does something elsewhere in the file and comes back.
    fn apart<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let place = self.place;
        let result = f(self);
        self.place = place;
        result
    }

    /// A length that was checked against the file, as a length in memory.
    fn to_len(&self, position: u64, length: u64) -> Result<usize, Error> {
        usize::try_from(length)
            .map_err(|_| self.corrupt(position, format!("{length} bytes do not fit into memory")))
    }

    fn io(&self, offset: u64, source: io::Error) -> Error {
        Error::Io {
            path: self.path.clone(),
            offset: Some(offset),
            action: "read",
            source,
        }
    }

    fn corrupt(&self, offset: u64, what: String) -> Error {
        Error::Corrupt {
            path: self.path.clone(),
            offset,
            what,
        }
    }
}

/// Refuses what is there and no file: opening a pipe would wait for somebody to write to it.
pub(super) fn check_file(path: &Path) -> Result<(), Error> {
    match path.metadata() {
        Ok(metadata) if !metadata.is_file() => Err(Error::NotAFile {
            path: path.to_owned(),
        }),
        // Opening it tells what is wrong.
        Ok(_) | Err(_) => Ok(()),
    }
}
