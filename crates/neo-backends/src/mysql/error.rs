//! What the server's errors mean, by what the node does about them.

use std::fmt;
use std::sync::OnceLock;

use mysql_async::{Error, ServerError};
use neo_api::{BackendError, BackendResult};

/// Why a statement did not do what it should.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection is gone, or of no more use.
    Lost(Error),
    /// Others were in the way: the same may succeed later.
    Busy(Error),
    /// The row of the owner says that somebody else has the database.
    Fenced,
    /// Anything else: the connection goes on.
    Refused(BackendError),
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        Self::Refused(error)
    }
}

/// Column of the row of the owner that is set to NULL by whoever is not the owner.
pub(super) const FENCE: &str = "seq";

/// What an error means.
pub(super) fn failure(what: &str, error: Error) -> Failure {
    match &error {
        Error::Server(refusal) => match refusal.code {
            // The server ends, restarts, or ended the connection.
            1053 | 1079 | 1080 | 1152..=1161 | 1184 | 1927 | 2006 | 2013 => Failure::Lost(error),
            // Locks of a connection that the server has not given up yet.
            1205 | 1213 | 1020 | 4024 => Failure::Busy(error),
            1048 if refusal.message.contains(&format!("'{FENCE}'")) => Failure::Fenced,
            _ => Failure::Refused(meaning(what, error)),
        },
        _ => Failure::Lost(error),
    }
}

/// What an error means to the caller of a backend.
pub(super) fn meaning(what: &str, error: Error) -> BackendError {
    match &error {
        Error::Server(refusal) if is_full(refusal) => BackendError::Full,
        Error::Server(refusal) => match refusal.code {
            1290 | 1792 | 1836 | 3906 => BackendError::ReadOnly,
            // Tables, indexes or pages that are damaged, or lost.
            1034 | 1035 | 1146 | 1194 | 1195 | 1712 | 1714 | 1877 | 1932 => {
                BackendError::Corrupt(format!("{what}: {}", refusal.message))
            }
            1040 | 1203 | 1226 => BackendError::Unavailable(Box::new(error)),
            _ => failed(what, error),
        },
        Error::Io(_) => BackendError::Unavailable(Box::new(error)),
        _ => failed(what, error),
    }
}

/// Also what the engine says in its own words: 28 is the system's number of a disk that is full, 122
/// that of a quota, 27 that of a file that may not grow.
fn is_full(refusal: &ServerError) -> bool {
    let names_it = |words: &[&str]| words.iter().any(|words| refusal.message.contains(words));
    match refusal.code {
        1021 | 1114 => true,
        3 | 20 | 1002 | 1004 | 1006 | 1026 | 1030 | 1105 | 1180 | 1296 => names_it(&[
            "No space left",
            "rror 28",
            "rrno: 28",
            "rror 122",
            "rrno: 122",
            "rror 27 ",
            "rrno: 27 ",
            "File too large",
            "uota exceeded",
        ]),
        _ => false,
    }
}

fn failed(what: &str, error: Error) -> BackendError {
    BackendError::Failed {
        what: what.to_owned(),
        source: Box::new(error),
    }
}

/// Several words for one failure, as source of an error.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
pub(super) struct Told {
    words: String,
    #[source]
    source: Option<Error>,
}

/// An error that says more than the server does.
pub(super) fn told(what: &str, words: impl fmt::Display, source: Option<Error>) -> BackendError {
    let words = words.to_string();
    BackendError::Failed {
        what: what.to_owned(),
        source: Box::new(Told { words, source }),
    }
}

/// The server can't be reached: it may be there later.
pub(super) fn away(words: impl fmt::Display) -> BackendError {
    let words = words.to_string();
    let source = None;
    BackendError::Unavailable(Box::new(Told { words, source }))
}

/// Why the backend closed itself, once it did.
#[derive(Debug, Default)]
pub(super) struct Broken(OnceLock<String>);

impl Broken {
    /// From now on every call is refused: what the database has is unknown, or not ours any more.
    pub(super) fn set(&self, why: String) -> BackendError {
        tracing::error!(why, "the database is closed until it is opened again");
        let why = self.0.get_or_init(|| why);
        BackendError::Closed(why.clone())
    }

    pub(super) fn check(&self) -> BackendResult<()> {
        match self.0.get() {
            None => Ok(()),
            Some(why) => Err(BackendError::Closed(why.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16, message: &str) -> Error {
        Error::Server(ServerError {
            code,
            message: message.to_owned(),
            state: "HY000".to_owned(),
        })
    }

    #[test]
    fn errors_of_the_server_by_what_is_to_be_done() {
        let full = [
            (1114, "The table 'data' is full"),
            (
                1021,
                "Disk full (data); waiting for someone to free some space...",
            ),
            (
                1030,
                "Got error 28 \"No space left on device\" from storage engine InnoDB",
            ),
            (
                1026,
                "Error writing file './x' (Errcode: 28 \"No space left on device\")",
            ),
            (
                1296,
                "Got error 10 'IO error: No space left on device' from ROCKSDB",
            ),
        ];
        for (code, message) in full {
            let error = meaning("writing", server(code, message));
            assert!(matches!(error, BackendError::Full), "{code}: {error}");
        }
        let error = meaning("writing", server(1030, "Got error 127 from storage engine"));
        assert!(matches!(error, BackendError::Failed { .. }), "{error}");
        let error = meaning("writing", server(1290, "--read-only"));
        assert!(matches!(error, BackendError::ReadOnly), "{error}");
        let error = meaning("reading", server(1194, "Table 'obj' is marked as crashed"));
        assert!(matches!(error, BackendError::Corrupt(_)), "{error}");

        let fenced = failure("writing", server(1048, "Column 'seq' cannot be null"));
        assert!(matches!(fenced, Failure::Fenced));
        let other = failure("writing", server(1048, "Column 'tid' cannot be null"));
        assert!(matches!(other, Failure::Refused(_)));
        assert!(matches!(
            failure("writing", server(1053, "Server shutdown in progress")),
            Failure::Lost(_)
        ));
        assert!(matches!(
            failure("writing", server(1205, "Lock wait timeout exceeded")),
            Failure::Busy(_)
        ));
    }
}
