//! Servers and databases that are not what they should be: each refusal says what to do.

use neo_backends::{Adapters, DatabaseOptions};
use neo_testkit::MariaDb;

use crate::work::{apply, close, open, refusal, step};

#[test]
fn a_server_that_may_lose_commits_is_refused_unless_told() {
    for (engine, option, words) in [
        (
            "InnoDB",
            "--innodb-flush-log-at-trx-commit=2",
            "innodb_flush_log_at_trx_commit is 2, safe is 1",
        ),
        (
            "RocksDB",
            "--rocksdb-flush-log-at-trx-commit=0",
            "rocksdb_flush_log_at_trx_commit is 0, safe is 1",
        ),
    ] {
        let server = MariaDb::start_with(engine, &[option]).unwrap();
        let database = format!("{}?engine={engine}", server.database("neo").unwrap());
        let error = refusal(&database);
        assert!(error.contains(words), "{error}");
        assert!(error.contains("add ?unsafe_flush=accept"), "{error}");
        // It was left as it was.
        assert_eq!(server.sql("SHOW TABLES IN neo").unwrap(), "");
        let backend = open(&format!("{database}&unsafe_flush=accept")).unwrap();
        apply(&*backend, step(1)).unwrap();
        close(&*backend);
    }
}

#[test]
fn a_server_that_takes_too_little_is_refused() {
    let server = MariaDb::start_with("InnoDB", &["--max-allowed-packet=8M"]).unwrap();
    let error = refusal(&server.database("neo").unwrap());
    assert!(
        error.contains("set max_allowed_packet = 16777216"),
        "{error}"
    );
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let server = MariaDb::start("InnoDB").unwrap();
    let database = server.database("neo").unwrap();
    let error = refusal(&database.replace("@neo/", "@none/"));
    assert!(error.contains("let it CREATE DATABASE `none`"), "{error}");

    server
        .sql("CREATE TABLE neo.obj (x INT); INSERT neo.obj VALUES (5)")
        .unwrap();
    let error = refusal(&database);
    assert!(error.contains("it has tables of something else"), "{error}");
    server.sql("CREATE TABLE neo.neo (id INT)").unwrap();
    let error = refusal(&database);
    assert!(error.contains("it has tables of something else"), "{error}");
    assert_eq!(server.sql("SELECT * FROM neo.obj").unwrap(), "5\n");

    let other = server.database("other").unwrap();
    close(&*open(&other).unwrap());
    let known = server.sql("SELECT format FROM other.neo").unwrap();
    let known: u32 = known.trim().parse().unwrap();
    let newer = known + 1;
    server
        .sql(&format!("UPDATE other.neo SET format = {newer}"))
        .unwrap();
    let error = refusal(&other);
    let words = format!("its tables have format {newer}, this one knows 1 to {known}");
    assert!(error.contains(&words), "{error}");
}

#[test]
fn engines_are_those_of_the_server() {
    let server = MariaDb::start("InnoDB").unwrap();
    let database = server.database("neo").unwrap();
    for engine in ["RocksDB", "MyISAM", "TokuDB"] {
        let error = refusal(&format!("{database}?engine={engine}"));
        let words =
            format!("the engine {engine}: of those with transactions the server has InnoDB");
        assert!(error.contains(&words), "{error}");
    }
    close(&*open(&format!("{database}?engine=innodb")).unwrap());
    // Without a name it is what there is; another one is not made of it.
    close(&*open(&database).unwrap());
    let error = refusal(&format!("{database}?engine=RocksDB"));
    assert!(
        error.contains("whose tables are of InnoDB already"),
        "{error}"
    );
}

#[test]
fn a_server_that_is_not_there_is_told_by_where_it_was_looked_for() {
    for (database, place) in [
        ("u@neo/no/such.sock", "/no/such.sock"),
        ("u@neo:127.0.0.1:1", "127.0.0.1:1"),
    ] {
        let error = refusal(database);
        assert!(
            error.contains(&format!("connecting to {place}: ")),
            "{error}"
        );
        assert!(error.contains("is that where it listens?"), "{error}");
        assert_eq!(error.matches("os error").count(), 1, "{error}");
    }
}

/// A crash can leave some tables.
#[test]
fn a_creation_that_was_cut_off_goes_on() {
    let server = MariaDb::start("InnoDB").unwrap();
    let database = server.database("neo").unwrap();
    close(&*open(&database).unwrap());
    server
        .sql("DELETE FROM neo.neo; DROP TABLE neo.pending; DROP TABLE neo.obj")
        .unwrap();
    let backend = open(&database).unwrap();
    apply(&*backend, step(1)).unwrap();
    close(&*backend);
}

#[test]
fn erasing_takes_what_is_ours() {
    let server = MariaDb::start("InnoDB").unwrap();
    let database = server.database("neo").unwrap();
    let adapters = Adapters::default();
    let adapter = adapters.find("MySQL").unwrap();
    let options = DatabaseOptions::new(&database);
    let backend = open(&database).unwrap();
    assert!(
        adapter
            .erase(&options)
            .unwrap_err()
            .to_string()
            .contains("in use")
    );
    close(&*backend);
    assert!(adapter.erase(&options).unwrap());
    assert_eq!(server.sql("SHOW TABLES IN neo").unwrap(), "");
    server.sql("CREATE TABLE neo.x (x INT)").unwrap();
    assert!(adapter.erase(&options).is_err());
    assert_eq!(server.sql("SHOW TABLES IN neo").unwrap(), "x\n");
}
