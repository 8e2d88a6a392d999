//! The tables, and how a database of a server becomes one of ours.
//!
//! All is binary, ids are unsigned. `part`, the partition, comes first in the keys of what a node has
//! of a partition, so that it lies together and goes together.

use neo_api::{BackendError, BackendResult};

use super::MySqlSettings;
use super::link::Link;
use super::server;

/// In the row of the owner.
const FORMAT: u32 = 2;

/// Who has the database, and the number of the last batch: see the module. `complete`: all other
/// tables are there.
const OWNER: (&str, &str) = (
    "neo",
    "id TINYINT UNSIGNED NOT NULL PRIMARY KEY, format INT UNSIGNED NOT NULL,
     complete TINYINT UNSIGNED NOT NULL, owner BINARY(16) NOT NULL, seq BIGINT UNSIGNED NOT NULL",
);

/// The others, in the order in which they are made.
const TABLES: &[(&str, &str)] = &[
    (
        "config",
        "name VARBINARY(64) NOT NULL PRIMARY KEY, value MEDIUMBLOB NOT NULL",
    ),
    // All of the partition table but its cells, once there is one; id is 1.
    (
        "pt_head",
        "id TINYINT UNSIGNED NOT NULL PRIMARY KEY, np INT UNSIGNED NOT NULL,
         reign BIGINT UNSIGNED NOT NULL, ptid BIGINT UNSIGNED NOT NULL,
         replicas INT UNSIGNED NOT NULL, last_storage INT UNSIGNED NOT NULL",
    ),
    // Cells, with the version of the table that assigned them.
    (
        "pt",
        "part INT UNSIGNED NOT NULL, nid INT UNSIGNED NOT NULL, state TINYINT UNSIGNED NOT NULL,
         reign BIGINT UNSIGNED NOT NULL, ptid BIGINT UNSIGNED NOT NULL, PRIMARY KEY (part, nid)",
    ),
    // Values. bytes: how many there are; value has none of them when they are in pieces, or are those
    // of the id shared in the table of that name.
    (
        "data",
        "id BIGINT UNSIGNED NOT NULL PRIMARY KEY, compression TINYINT UNSIGNED NOT NULL,
         checksum BINARY(16) NOT NULL, bytes INT UNSIGNED NOT NULL, value MEDIUMBLOB NOT NULL,
         shared BIGINT UNSIGNED",
    ),
    SHARED,
    // What is too large for a row of another table: see `pieces`.
    (
        "piece",
        "kind TINYINT UNSIGNED NOT NULL, a BIGINT UNSIGNED NOT NULL, b BIGINT UNSIGNED NOT NULL,
         n INT UNSIGNED NOT NULL, value MEDIUMBLOB NOT NULL, PRIMARY KEY (kind, a, b, n)",
    ),
    // Values that no revision has claimed yet, and for whom they were written.
    (
        "loose",
        "id BIGINT UNSIGNED NOT NULL PRIMARY KEY, reign BIGINT UNSIGNED NOT NULL,
         ttid BIGINT UNSIGNED NOT NULL, KEY owner (reign, ttid, id)",
    ),
    // Committed revisions. data_id: NULL for a deletion. data_tid: the revision that it repeats.
    // shared: another revision of the object may have the same value.
    (
        "obj",
        "part INT UNSIGNED NOT NULL, oid BIGINT UNSIGNED NOT NULL, tid BIGINT UNSIGNED NOT NULL,
         data_id BIGINT UNSIGNED, data_tid BIGINT UNSIGNED, shared TINYINT UNSIGNED NOT NULL,
         PRIMARY KEY (part, oid, tid), KEY history (part, tid, oid)",
    ),
    // Committed transactions. oids: 8 bytes each, big-endian; oid_bytes: how many bytes there are.
    (
        "trans",
        "part INT UNSIGNED NOT NULL, tid BIGINT UNSIGNED NOT NULL, reign BIGINT UNSIGNED,
         ttid BIGINT UNSIGNED, packed TINYINT UNSIGNED NOT NULL, user MEDIUMBLOB NOT NULL,
         description MEDIUMBLOB NOT NULL, extension MEDIUMBLOB NOT NULL,
         oid_bytes INT UNSIGNED NOT NULL, oids MEDIUMBLOB NOT NULL,
         PRIMARY KEY (part, tid), KEY name (part, ttid, reign)",
    ),
    // What those of them order that order a pack: see `pack::encode_order`.
    (
        "pack_order",
        "part INT UNSIGNED NOT NULL, tid BIGINT UNSIGNED NOT NULL, value MEDIUMBLOB NOT NULL,
         PRIMARY KEY (part, tid)",
    ),
    // Transactions that have voted. tid: once locked. packed and what follows: NULL on a node
    // without the metadata; pack_order: also when it orders none.
    (
        "unfinished",
        "reign BIGINT UNSIGNED NOT NULL, ttid BIGINT UNSIGNED NOT NULL, tid BIGINT UNSIGNED,
         packed TINYINT UNSIGNED, user MEDIUMBLOB, description MEDIUMBLOB, extension MEDIUMBLOB,
         oid_bytes INT UNSIGNED, oids MEDIUMBLOB, pack_order MEDIUMBLOB, PRIMARY KEY (reign, ttid)",
    ),
    // Their objects. kind: 0 deleted, 1 the value n, 2 the same as at tid n.
    (
        "pending",
        "reign BIGINT UNSIGNED NOT NULL, ttid BIGINT UNSIGNED NOT NULL,
         oid BIGINT UNSIGNED NOT NULL, kind TINYINT UNSIGNED NOT NULL,
         n BIGINT UNSIGNED NOT NULL, PRIMARY KEY (reign, ttid, oid)",
    ),
];

/// Bytes that are kept once for all that are equal, and how many have them. id: that of the first.
const SHARED: (&str, &str) = (
    "shared",
    "id BIGINT UNSIGNED NOT NULL PRIMARY KEY, n BIGINT UNSIGNED NOT NULL,
     checksum BINARY(16) NOT NULL, value MEDIUMBLOB NOT NULL, KEY checksum (checksum)",
);

/// The engine of new tables, unless another is asked for.
const ENGINE: &str = "InnoDB";

/// Opens a database: makes the tables where there are none, or looks whether they are ours. Tells
/// their engine.
pub(super) fn open(link: &mut Link, settings: &MySqlSettings) -> BackendResult<String> {
    let wanted = settings.engine.as_deref();
    let found = tables(link)?;
    let incompatible = |why: String| BackendError::Incompatible {
        what: settings.database.clone(),
        why,
    };
    let engine = match found.iter().find(|(name, _)| name == OWNER.0) {
        None if found.is_empty() => engine(link, wanted.unwrap_or(ENGINE))?,
        None => return Err(incompatible("it has tables of something else".to_owned())),
        // It may be one that the server has not loaded this time.
        Some((_, found)) => engine(link, found)?,
    };
    if let Some(wanted) = wanted.filter(|wanted| !wanted.eq_ignore_ascii_case(&engine)) {
        return Err(BackendError::Unsupported(format!(
            "the engine {wanted} for {}, whose tables are of {engine} already: leave the engine \
             out, or copy the node to another database",
            settings.database
        )));
    }
    server::check(link, &engine, settings.unsafe_flush)?;
    if engine == "RocksDB" {
        // A batch may change more rows than it lets one change.
        let limits =
            "SET SESSION rocksdb_max_row_locks = 1073741824, rocksdb_lock_wait_timeout = 5";
        link.ask("setting up a connection", limits)?;
    }
    let format = match found.is_empty() {
        true => None,
        false => read_format(link, &incompatible)?,
    };
    match format {
        None => create(link, &engine)?,
        Some(FORMAT) => {}
        Some(_) => upgrade(link, &engine)?,
    }
    Ok(engine)
}

/// Names and engines of the tables of the database.
fn tables(link: &mut Link) -> BackendResult<Vec<(String, String)>> {
    let sets = link.ask(
        "listing the tables",
        "SELECT TABLE_NAME, ENGINE FROM information_schema.TABLES
         WHERE TABLE_SCHEMA = DATABASE()",
    )?;
    let table = |row: &super::link::Row| {
        let engine = row.text(1)?;
        // The server's way to write it.
        let known = ["InnoDB", "RocksDB"];
        let known = known.iter().find(|name| name.eq_ignore_ascii_case(&engine));
        let engine = known.map_or_else(|| engine.clone(), |name| (*name).to_owned());
        Ok((row.text(0)?, engine))
    };
    sets.iter().flatten().map(table).collect()
}

/// The server's name of an engine for new tables: it must be able to undo a batch.
fn engine(link: &mut Link, wanted: &str) -> BackendResult<String> {
    let sets = link.ask(
        "listing the engines",
        "SELECT ENGINE FROM information_schema.ENGINES
         WHERE SUPPORT IN ('YES', 'DEFAULT') AND TRANSACTIONS = 'YES' ORDER BY ENGINE",
    )?;
    // It has no tables of its own.
    let offered = sets.iter().flatten().map(|row| row.text(0));
    let mut offered = offered.collect::<BackendResult<Vec<String>>>()?;
    offered.retain(|name| !name.eq_ignore_ascii_case("SEQUENCE"));
    let found = offered
        .iter()
        .find(|name| name.eq_ignore_ascii_case(wanted));
    match found {
        Some(name) if name.eq_ignore_ascii_case("RocksDB") => Ok("RocksDB".to_owned()),
        Some(name) => Ok(name.clone()),
        None => Err(BackendError::Unsupported(format!(
            "the engine {wanted}: of those with transactions the server has {}",
            offered.join(", ")
        ))),
    }
}

/// Looks at the row of the owner; tells the format of the tables, if all are there.
fn read_format(
    link: &mut Link,
    incompatible: &impl Fn(String) -> BackendError,
) -> BackendResult<Option<u32>> {
    let other = |_| incompatible("it has tables of something else".to_owned());
    let sets = link
        .ask(
            "reading the format",
            "SELECT format, complete FROM neo WHERE id = 1",
        )
        .map_err(|error| match error {
            BackendError::Failed { .. } => other(error),
            error => error,
        })?;
    let Some(row) = sets.first().and_then(|rows| rows.first()) else {
        // Whoever made the table came no further.
        return Ok(None);
    };
    let format: u32 = row.int(0).map_err(other)?;
    if !(1..=FORMAT).contains(&format) {
        return Err(incompatible(format!(
            "its tables have format {format}, this one knows 1 to {FORMAT}"
        )));
    }
    Ok((row.int::<u8>(1)? == 1).then_some(format))
}

/// From format 1: no values were shared. The server does one statement after the other, and each can
/// be done again.
fn upgrade(link: &mut Link, engine: &str) -> BackendResult<()> {
    tracing::info!("upgrading the tables to format {FORMAT}");
    create_table(link, engine, &SHARED)?;
    for statement in [
        "ALTER TABLE data ADD COLUMN IF NOT EXISTS shared BIGINT UNSIGNED".to_owned(),
        format!("UPDATE neo SET format = {FORMAT} WHERE id = 1"),
    ] {
        link.ask("upgrading the tables", &statement)?;
    }
    Ok(())
}

/// Makes what is missing. Each table is made at once, and the last write says that all are there.
fn create(link: &mut Link, engine: &str) -> BackendResult<()> {
    create_table(link, engine, &OWNER)?;
    for table in TABLES {
        create_table(link, engine, table)?;
    }
    let complete = format!("REPLACE INTO neo VALUES (1, {FORMAT}, 1, REPEAT(x'00', 16), 0)");
    link.ask("creating the tables", &complete).map(drop)
}

fn create_table(
    link: &mut Link,
    engine: &str,
    (name, columns): &(&str, &str),
) -> BackendResult<()> {
    let options = match engine {
        "InnoDB" => "ROW_FORMAT = DYNAMIC",
        _ => "",
    };
    let create = format!(
        "CREATE TABLE IF NOT EXISTS {name} ({columns})
         ENGINE = {engine} {options} DEFAULT CHARACTER SET binary"
    );
    link.ask("creating the tables", &create).map(drop)
}

/// Removes all that [`open`] made, the row of the owner last.
pub(super) fn erase(link: &mut Link) -> BackendResult<()> {
    let all = TABLES.iter().rev().chain([&OWNER]);
    let names: Vec<&str> = all.map(|(name, _)| *name).collect();
    for name in names {
        link.ask("erasing", &format!("DROP TABLE IF EXISTS {name}"))?;
    }
    Ok(())
}
