//! What can go wrong with a FileStorage file.

use std::fmt;
use std::io;
use std::path::PathBuf;

use neo_api::{Oid, Tid};

/// Why a FileStorage file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused. What was written before is kept: free the cause (a full
    /// disk, a missing permission) and go on with [`Writer::append`](super::Writer::append).
    #[error("{}: cannot {action}{}", path.display(), At(*offset))]
    Io {
        /// The file.
        path: PathBuf,
        /// Where in it; `None` when it is about the file as a whole.
        offset: Option<u64>,
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A directory, a pipe or a device.
    #[error(
        "{}: not a file, but a directory or a device; give the path of a ZODB Data.fs",
        path.display()
    )]
    NotAFile {
        /// What is not a file.
        path: PathBuf,
    },
    /// The file does not begin as a FileStorage does.
    #[error(
        "{}: not a FileStorage file: {}; give the path of a ZODB Data.fs",
        path.display(),
        Beginning(found)
    )]
    NotFileStorage {
        /// The file.
        path: PathBuf,
        /// Its first bytes, 4 or fewer.
        found: Vec<u8>,
    },
    /// The file contradicts itself: it is damaged, not merely cut short.
    #[error(
        "{}: damaged at offset {offset}: {what}; restore the file from a copy, or save what can \
         still be read with ZODB's fsrecover",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the damaged structure begins.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The file to create exists, and may be somebody's database.
    #[error("{}: something of this name exists already; give another path", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Another process is writing the file.
    #[error("{}: another process is writing this file; wait for it", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// Transactions must come in the order of their tids. Nothing was written.
    #[error(
        "{}: transaction {tid} is not after {last}, the last one of the file; begin with the \
         first transaction after that",
        path.display()
    )]
    TidOrder {
        /// The file.
        path: PathBuf,
        /// The transaction to write.
        tid: Tid,
        /// The last one in the file.
        last: Tid,
    },
    /// The format has 16 bits for this length. Nothing was written.
    #[error(
        "{}: the {field} of transaction {tid} has {length} bytes; a FileStorage holds at most \
         65535: shorten it",
        path.display()
    )]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The transaction.
        tid: Tid,
        /// `user`, `description` or `extension`.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// The format has no way to write a state of no bytes. Nothing was written, and the
    /// transaction can go on without it.
    #[error(
        "{}: object {oid} has a state of no bytes, which a FileStorage cannot hold",
        path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
        /// The object.
        oid: Oid,
    },
    /// The revision to point back to is not in the file (it may be packed away). Nothing was
    /// written, and the transaction can go on: write the data themselves.
    #[error(
        "{}: object {oid} has no earlier revision {data_tid} in this file; write its data instead \
         of a back pointer",
        path.display()
    )]
    NoSuchRevision {
        /// The file.
        path: PathBuf,
        /// The object.
        oid: Oid,
        /// The revision that was asked for.
        data_tid: Tid,
    },
    /// A call that does not make sense now, for example a record outside of a transaction.
    #[error("{}: {reason}", path.display())]
    Misuse {
        /// The file.
        path: PathBuf,
        /// What does not fit, and what to do.
        reason: &'static str,
    },
}

/// ` at offset N`, where there is one.
struct At(Option<u64>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(offset) => write!(f, " at offset {offset}"),
            None => Ok(()),
        }
    }
}

/// How a file begins that is no FileStorage.
struct Beginning<'a>(&'a [u8]);

impl fmt::Display for Beginning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("it is empty"),
            found => write!(
                f,
                "it begins with {found:02x?} instead of \"FS21\" or \"FS30\""
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_told_where_there_is_one() {
        let error = |offset, action| Error::Io {
            path: "/srv/Data.fs".into(),
            offset,
            action,
            source: io::ErrorKind::NotFound.into(),
        };
        assert_eq!(
            [error(None, "open the file"), error(Some(7), "read")].map(|error| error.to_string()),
            [
                "/srv/Data.fs: cannot open the file",
                "/srv/Data.fs: cannot read at offset 7"
            ]
        );
    }

    #[test]
    fn a_message_says_which_file_where_and_what_to_do() {
        let error = Error::Corrupt {
            path: "/srv/Data.fs".into(),
            offset: 606,
            what: "unknown transaction status 0x58".into(),
        };
        assert_eq!(
            error.to_string(),
            "/srv/Data.fs: damaged at offset 606: unknown transaction status 0x58; restore the \
             file from a copy, or save what can still be read with ZODB's fsrecover"
        );
    }
}
