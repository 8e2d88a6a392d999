//! Looking through a database that is in use.
//!
//! SQLite's own check reads everything in one transaction, and as long as that lasts the log can't
//! start again. So the rows are read here, in the order of their keys, a few at a time: all that is
//! in use is read from the disk, every value is compared with its checksum, and every revision is
//! looked for in the index of the history, and back.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use neo_api::{BackendError, BackendResult, Checksum, Compression};
use rusqlite::{ErrorCode, InterruptHandle, Row, ToSql};
use tracing::{error, info, warn};

use super::error::Doing;
use super::read::Reader;
use super::row::{get, metadata, order};

/// Rows that are read at once.
const ROWS: usize = 500;
/// Bytes of values that are read at once.
const BYTES: usize = 4 << 20;
/// After so many findings the rest is not looked at: it is damaged.
const FINDINGS_MAX: usize = 100;

/// The key of the last row that was looked at.
type Key = [i64; 3];

/// Where the rows of one kind begin.
const FIRST: Key = [-1; 3];

/// What is wrong with a row, and how many bytes it has.
type Look = (Option<String>, usize);

/// Rows of one kind.
struct Kind {
    name: &'static str,
    /// Rows behind a key, in the order of their keys.
    query: &'static str,
    /// Columns of the key.
    key: usize,
    look: fn(&Row<'_>) -> BackendResult<Look>,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "value",
        query: "SELECT d.id, d.compression, d.checksum,
                CASE WHEN d.shared IS NULL THEN d.value
                ELSE (SELECT s.value FROM shared_value s WHERE s.id = d.shared) END
                FROM data d WHERE d.id > ?1 ORDER BY d.id",
        key: 1,
        look: value,
    },
    Kind {
        name: "shared value",
        query: "SELECT s.id, s.count, s.checksum, v.value
                FROM shared s LEFT JOIN shared_value v ON v.id = s.id
                WHERE s.id > ?1 ORDER BY s.id",
        key: 1,
        look: shared,
    },
    Kind {
        name: "revision",
        query: "SELECT o.partition, o.oid, o.tid, o.data_id IS NOT NULL AND d.id IS NULL,
                NOT EXISTS (SELECT 1 FROM obj h INDEXED BY obj_history WHERE
                    h.partition = o.partition AND h.tid = o.tid AND h.oid = o.oid)
                FROM obj o NOT INDEXED LEFT JOIN data d ON d.id = o.data_id
                WHERE (o.partition, o.oid, o.tid) > (?1, ?2, ?3)
                ORDER BY o.partition, o.oid, o.tid",
        key: 3,
        look: revision,
    },
    Kind {
        name: "entry of the history",
        query: "SELECT h.partition, h.tid, h.oid,
                NOT EXISTS (SELECT 1 FROM obj o NOT INDEXED WHERE
                    o.partition = h.partition AND o.oid = h.oid AND o.tid = h.tid)
                FROM obj h INDEXED BY obj_history
                WHERE (h.partition, h.tid, h.oid) > (?1, ?2, ?3)
                ORDER BY h.partition, h.tid, h.oid",
        key: 3,
        look: entry,
    },
    Kind {
        name: "transaction",
        query: "SELECT t.partition, t.tid, t.user, t.description, t.extension, t.oids, t.pack,
                t.late IS NOT NULL AND NOT EXISTS
                    (SELECT 1 FROM trans n INDEXED BY trans_name
                     WHERE n.partition = t.partition AND n.late = t.late AND n.reign = t.reign
                     AND n.tid = t.tid),
                t.pack IS NOT NULL AND NOT EXISTS
                    (SELECT 1 FROM trans n INDEXED BY trans_pack
                     WHERE n.partition = t.partition AND n.tid = t.tid AND n.pack IS NOT NULL)
                FROM trans t NOT INDEXED
                WHERE (t.partition, t.tid) > (?1, ?2) ORDER BY t.partition, t.tid",
        key: 2,
        look: transaction,
    },
];

/// Small tables, which SQLite checks.
const SMALL: &[&str] = &[
    "meta",
    "config",
    "pt",
    "voted",
    "unfinished",
    "pending",
    "loose",
];

fn value(row: &Row<'_>) -> BackendResult<Look> {
    let bytes = row.get_ref(3).doing("reading a value")?.as_blob();
    let bytes = bytes
        .map_err(rusqlite::Error::from)
        .doing("reading a value")?;
    let found = match Compression::try_from(get::<u8>(row, 1)?) {
        Err(error) => Some(error.to_string()),
        Ok(_) if Checksum::of(bytes) != Checksum(get(row, 2)?) => Some(format!(
            "its {} bytes do not have its checksum",
            bytes.len()
        )),
        Ok(_) => None,
    };
    Ok((found, bytes.len()))
}

fn shared(row: &Row<'_>) -> BackendResult<Look> {
    let value: Option<Vec<u8>> = get(row, 3)?;
    let found = match &value {
        None => Some("its bytes are not there".to_owned()),
        Some(bytes) if Checksum::of(bytes) != Checksum(get(row, 2)?) => Some(format!(
            "its {} bytes do not have its checksum",
            bytes.len()
        )),
        Some(_) if get::<i64>(row, 1)? < 1 => Some("nobody has it".to_owned()),
        Some(_) => None,
    };
    Ok((found, value.map_or(0, |value| value.len())))
}

fn revision(row: &Row<'_>) -> BackendResult<Look> {
    let found = match (get(row, 3)?, get(row, 4)?) {
        (true, _) => Some("its value is not there".to_owned()),
        (_, true) => Some("it is not in the history".to_owned()),
        _ => None,
    };
    Ok((found, 0))
}

fn entry(row: &Row<'_>) -> BackendResult<Look> {
    let lacks: bool = get(row, 3)?;
    Ok((lacks.then(|| "there is no such revision".to_owned()), 0))
}

fn transaction(row: &Row<'_>) -> BackendResult<Look> {
    let (meta, oids) = metadata(row, 2)?;
    order(row, 6)?;
    let bytes = meta.user.len() + meta.description.len() + meta.extension.len();
    let found = match (get(row, 7)?, get(row, 8)?) {
        (true, _) => Some("it is not found by its name".to_owned()),
        (_, true) => Some("it is not among those that order packs".to_owned()),
        _ => None,
    };
    Ok((found, bytes + 8 * oids.len()))
}

/// What is wrong with the database: nothing, as a rule. `rest` is called after each page of rows
/// with the time that it took; when it gives `false`, the check ends.
pub(super) fn run(
    reader: &Reader,
    mut rest: impl FnMut(Duration) -> bool,
) -> BackendResult<Vec<String>> {
    let mut findings = Vec::new();
    for table in SMALL {
        let text = format!("PRAGMA integrity_check({table})");
        let found = reader
            .conn
            .query_row(&text, [], |row| row.get::<_, String>(0))
            .doing("checking");
        match found {
            Ok(found) if found == "ok" => {}
            Ok(found) => findings.push(format!("the table {table}: {found}")),
            Err(error) => findings.push(unreadable(error)?),
        }
    }
    for kind in KINDS {
        let mut after = Some(FIRST);
        while let Some(key) = after {
            let since = Instant::now();
            after = match page(reader, kind, key, &mut findings) {
                Ok(after) => after,
                Err(error) => {
                    // What follows can't be reached.
                    findings.push(format!(
                        "a {} after {key:?}: {}",
                        kind.name,
                        unreadable(error)?
                    ));
                    None
                }
            };
            if findings.len() >= FINDINGS_MAX {
                findings.push("and maybe more".to_owned());
                return Ok(findings);
            }
            if !rest(since.elapsed()) {
                return Ok(findings);
            }
        }
    }
    Ok(findings)
}

/// Damage is what is looked for; other errors end the check.
fn unreadable(error: BackendError) -> BackendResult<String> {
    match error {
        BackendError::Corrupt(what) => Ok(what),
        BackendError::Failed { what, source } => {
            let code = source
                .downcast_ref::<rusqlite::Error>()
                .and_then(rusqlite::Error::sqlite_error_code);
            match code {
                // What can't be read from the disk is lost.
                Some(ErrorCode::SystemIoFailure) => Ok(format!("{what}: {source}")),
                _ => Err(BackendError::Failed { what, source }),
            }
        }
        error => Err(error),
    }
}

/// Looks at the rows behind a key; gives the last one, unless it was the last of all.
fn page(
    reader: &Reader,
    kind: &Kind,
    after: Key,
    findings: &mut Vec<String>,
) -> BackendResult<Option<Key>> {
    let mut query = reader.query(kind.query)?;
    let parameters = after.iter().take(kind.key).map(|n| n as &dyn ToSql);
    let parameters: Vec<&dyn ToSql> = parameters.collect();
    let mut rows = query.query(&parameters[..]).doing("checking")?;
    let (mut key, mut bytes) = (after, 0);
    for _ in 0..ROWS {
        let Some(row) = rows.next().doing("checking")? else {
            return Ok(None);
        };
        for (column, part) in key.iter_mut().enumerate().take(kind.key) {
            *part = get(row, column)?;
        }
        let (found, size) = match (kind.look)(row) {
            Ok(looked) => looked,
            Err(error) => (Some(unreadable(error)?), 0),
        };
        if let Some(found) = found {
            let name: Vec<String> = key.iter().take(kind.key).map(i64::to_string).collect();
            findings.push(format!("the {} {}: {found}", kind.name, name.join(", ")));
        }
        bytes += size;
        if bytes >= BYTES || findings.len() >= FINDINGS_MAX {
            break;
        }
    }
    Ok(Some(key))
}

/// Checks the database again and again, beside everything else, as long as it lives.
pub(super) struct Patrol {
    stop: Arc<(Mutex<bool>, Condvar)>,
    /// Ends what is being read.
    reading: InterruptHandle,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Patrol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patrol").finish_non_exhaustive()
    }
}

impl Patrol {
    /// Starts the thread; each check begins so long after the end of the one before, and `tell` is
    /// told what it found.
    pub(super) fn start(
        reader: Reader,
        every: Duration,
        tell: impl Fn(Duration, BackendResult<Vec<String>>) + Send + 'static,
    ) -> BackendResult<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let told = Arc::clone(&stop);
        let reading = reader.conn.get_interrupt_handle();
        let thread = thread::Builder::new().name("sqlite-check".to_owned());
        let thread = thread.spawn(move || {
            while !is_over(&told, every) {
                let since = Instant::now();
                // Others have the disk for as long.
                let found = run(&reader, |took| !is_over(&told, took));
                if !is_over(&told, Duration::ZERO) {
                    tell(since.elapsed(), found);
                }
            }
        })?;
        Ok(Self {
            stop,
            reading,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        let (stop, changed) = &*self.stop;
        *stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
        self.reading.interrupt();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.take().is_some_and(|thread| thread.join().is_err()) {
            warn!("the thread that checks the database panicked");
        }
    }
}

impl Drop for Patrol {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits, at most until it is over; tells whether it is.
fn is_over(stop: &(Mutex<bool>, Condvar), time: Duration) -> bool {
    let (stop, changed) = stop;
    let stop = stop.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = changed.wait_timeout_while(stop, time, |stop| !*stop);
    *waited.unwrap_or_else(PoisonError::into_inner).0
}

/// Says what a check found.
pub(super) fn log(took: Duration, found: BackendResult<Vec<String>>) {
    match found {
        Ok(findings) if findings.is_empty() => {
            let seconds = took.as_secs_f64();
            info!(
                seconds,
                "the database was checked: nothing is wrong with it"
            );
        }
        Ok(findings) => {
            for finding in findings {
                error!(finding, "the database is damaged");
            }
        }
        Err(error) => warn!(%error, "the database could not be checked"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::{Broken, SqliteSettings, Writer};
    use super::*;

    #[test]
    fn a_patrol_goes_round_again_and_again_and_ends_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let settings = SqliteSettings::new(directory.path().join("node.sqlite"));
        let broken = Arc::new(Broken::default());
        let _writer = Writer::open(&settings, &broken, false).unwrap();
        let reader = || Reader::open(&settings, &broken).unwrap();
        let (tell, told) = mpsc::sync_channel(10);
        let tell = move |_, found: BackendResult<Vec<String>>| {
            // As fast as it can: most of it nobody waits for.
            let _ = tell.try_send(found.unwrap());
        };
        let patrol = Patrol::start(reader(), Duration::from_millis(1), tell).unwrap();
        for _ in 0..3 {
            assert_eq!(told.recv().unwrap(), Vec::<String>::new());
        }
        drop(patrol);
        // Nobody waits for the time of the next one.
        let patrol = Patrol::start(reader(), Duration::from_secs(1 << 30), log).unwrap();
        patrol.stop();
        patrol.stop();
    }
}
