//! What a server must be like to keep the promises of a backend.

use std::collections::BTreeMap;

use neo_api::{BackendError, BackendResult};

use super::link::{Link, Row};

/// What a statement has at most, with room: the least that a server may take. It is what servers
/// take unless they are told otherwise.
pub(super) const PACKET_BYTES: u64 = 16 << 20;

/// Variables of the server by name; those that it does not know are not there.
type Variables = BTreeMap<String, String>;

/// A setting with which the server may forget what it has acknowledged.
struct Unsafe {
    /// Of which engine; empty: of the server.
    engine: &'static str,
    name: &'static str,
    is_safe: fn(&str) -> bool,
    safe: &'static str,
}

const UNSAFE: &[Unsafe] = &[
    Unsafe {
        engine: "InnoDB",
        name: "innodb_flush_log_at_trx_commit",
        is_safe: |value| matches!(value, "1" | "3"),
        safe: "1",
    },
    Unsafe {
        engine: "InnoDB",
        name: "innodb_doublewrite",
        is_safe: |value| !matches!(value, "OFF" | "0"),
        safe: "ON",
    },
    Unsafe {
        engine: "InnoDB",
        name: "innodb_flush_method",
        is_safe: |value| !value.to_ascii_lowercase().ends_with("sync") || is_a_sync(value),
        safe: "O_DIRECT or fsync",
    },
    Unsafe {
        engine: "RocksDB",
        name: "rocksdb_flush_log_at_trx_commit",
        is_safe: |value| value == "1",
        safe: "1",
    },
    Unsafe {
        engine: "RocksDB",
        name: "rocksdb_write_disable_wal",
        is_safe: |value| value == "OFF",
        safe: "OFF",
    },
    Unsafe {
        engine: "RocksDB",
        name: "rocksdb_wal_recovery_mode",
        is_safe: |value| value != "3",
        safe: "1",
    },
];

fn is_a_sync(value: &str) -> bool {
    value.eq_ignore_ascii_case("fsync") || value.eq_ignore_ascii_case("O_DSYNC")
}

/// Looks at the server's settings.
pub(super) fn check(link: &mut Link, engine: &str, accept_unsafe: bool) -> BackendResult<()> {
    let sets = link.ask(
        "reading the server's settings",
        "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('max_allowed_packet', 'log_bin',
            'sync_binlog', 'wsrep_on', 'innodb_force_recovery', 'binlog_format')
            OR Variable_name LIKE 'innodb\\_flush\\_%' OR Variable_name = 'innodb_doublewrite'
            OR Variable_name LIKE 'rocksdb\\_%'",
    )?;
    let pair = |row: &Row| Ok((row.text(0)?, row.text(1)?));
    let variables = sets.iter().flatten().map(pair);
    let variables = variables.collect::<BackendResult<Variables>>()?;
    refuse(&variables, engine)?;
    let found = unsafe_settings(&variables, engine);
    if found.is_empty() {
        return Ok(());
    }
    let found = found.join("; ");
    if accept_unsafe {
        tracing::warn!("commits may be lost when the server or its machine crashes: {found}");
        return Ok(());
    }
    Err(BackendError::Unsupported(format!(
        "a server that may lose commits when it or its machine crashes: {found}. Set that in the \
         server's configuration, or add ?unsafe_flush=accept to the name of the database"
    )))
}

/// What can't be done without.
fn refuse(variables: &Variables, engine: &str) -> BackendResult<()> {
    let is = |name: &str, value: &str| variables.get(name).is_some_and(|found| found == value);
    let refuse = |why: String| Err(BackendError::Unsupported(why));
    let packet = variables.get("max_allowed_packet");
    let packet = packet.and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
    if packet < PACKET_BYTES {
        return refuse(format!(
            "a server whose max_allowed_packet is {packet}: \
             set max_allowed_packet = {PACKET_BYTES} or more in its configuration"
        ));
    }
    if is("wsrep_on", "ON") {
        return refuse(
            "a server of a Galera cluster, which may commit on two nodes at once: set \
             wsrep_on = OFF in its configuration, and let neo make the copies"
                .to_owned(),
        );
    }
    let recovery = variables.get("innodb_force_recovery");
    if let Some(level) = recovery.filter(|level| *level != "0" && engine == "InnoDB") {
        return refuse(format!(
            "a server that is being repaired, with innodb_force_recovery = {level}: set it to 0"
        ));
    }
    if engine == "RocksDB" && is("log_bin", "ON") && !is("binlog_format", "ROW") {
        return refuse(
            "RocksDB with a binary log of statements: set binlog_format = ROW in the server's \
             configuration, or take log_bin out of it"
                .to_owned(),
        );
    }
    Ok(())
}

fn unsafe_settings(variables: &Variables, engine: &str) -> Vec<String> {
    let concerned = UNSAFE.iter().filter(|setting| setting.engine == engine);
    let found = concerned.filter_map(|setting| {
        let value = variables.get(setting.name)?;
        let (name, safe) = (setting.name, setting.safe);
        (!(setting.is_safe)(value)).then(|| format!("{name} is {value}, safe is {safe}"))
    });
    let mut found: Vec<String> = found.collect();
    // With a log, it alone says after a crash what was committed.
    let logs = variables.get("log_bin").is_some_and(|log| log == "ON");
    if let Some(sync) = variables.get("sync_binlog").filter(|sync| *sync != "1")
        && logs
    {
        found.push(format!(
            "sync_binlog is {sync} beside a binary log, safe is 1"
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The settings of a server as it is installed, but for some.
    fn server(others: &[(&str, &str)]) -> Variables {
        let installed = [
            ("max_allowed_packet", "16777216"),
            ("log_bin", "OFF"),
            ("sync_binlog", "0"),
            ("wsrep_on", "OFF"),
            ("innodb_force_recovery", "0"),
            ("binlog_format", "MIXED"),
            ("innodb_flush_log_at_trx_commit", "1"),
            ("innodb_doublewrite", "ON"),
            ("innodb_flush_method", "O_DIRECT"),
            ("rocksdb_flush_log_at_trx_commit", "1"),
            ("rocksdb_write_disable_wal", "OFF"),
            ("rocksdb_wal_recovery_mode", "1"),
        ];
        let all = installed.iter().chain(others);
        all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_server_as_it_is_installed_will_do() {
        for engine in ["InnoDB", "RocksDB"] {
            refuse(&server(&[]), engine).unwrap();
            assert_eq!(unsafe_settings(&server(&[]), engine), [""; 0]);
        }
    }

    #[test]
    fn what_may_lose_commits_is_found() {
        for (engine, name, values) in [
            ("InnoDB", "innodb_flush_log_at_trx_commit", &["0", "2"][..]),
            ("InnoDB", "innodb_doublewrite", &["OFF", "0"]),
            (
                "InnoDB",
                "innodb_flush_method",
                &["nosync", "littlesync", "O_DIRECT_NO_FSYNC"],
            ),
            ("RocksDB", "rocksdb_flush_log_at_trx_commit", &["0", "2"]),
            ("RocksDB", "rocksdb_write_disable_wal", &["ON"]),
            ("RocksDB", "rocksdb_wal_recovery_mode", &["3"]),
        ] {
            for value in values {
                let variables = server(&[(name, value)]);
                let found = unsafe_settings(&variables, engine);
                assert_eq!(found.len(), 1, "{name} = {value}: {found:?}");
                assert!(found[0].starts_with(&format!("{name} is {value}, safe is ")));
                // It matters to its own engine alone.
                let other = if engine == "InnoDB" {
                    "RocksDB"
                } else {
                    "InnoDB"
                };
                assert_eq!(unsafe_settings(&variables, other), [""; 0]);
            }
        }
        for (method, sync) in [("fsync", "1"), ("O_DSYNC", "1"), ("O_DIRECT", "0")] {
            let log = if sync == "1" { "ON" } else { "OFF" };
            let variables = server(&[
                ("innodb_flush_method", method),
                ("log_bin", log),
                ("sync_binlog", sync),
            ]);
            assert_eq!(unsafe_settings(&variables, "InnoDB"), [""; 0]);
        }
        let found = unsafe_settings(&server(&[("log_bin", "ON")]), "RocksDB");
        assert_eq!(found, ["sync_binlog is 0 beside a binary log, safe is 1"]);
    }

    #[test]
    fn what_can_not_work_is_refused_with_what_to_set() {
        for (engine, others, words) in [
            (
                "InnoDB",
                &[("max_allowed_packet", "16777215")][..],
                "set max_allowed_packet = 16777216 or more",
            ),
            ("InnoDB", &[("wsrep_on", "ON")], "set wsrep_on = OFF"),
            (
                "InnoDB",
                &[("innodb_force_recovery", "3")],
                "innodb_force_recovery = 3: set it to 0",
            ),
            ("RocksDB", &[("log_bin", "ON")], "set binlog_format = ROW"),
        ] {
            let error = refuse(&server(others), engine).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        refuse(
            &server(&[("log_bin", "ON"), ("binlog_format", "ROW")]),
            "RocksDB",
        )
        .unwrap();
        refuse(&server(&[("log_bin", "ON")]), "InnoDB").unwrap();
    }
}
