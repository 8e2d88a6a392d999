//! Two nodes and one database.

use neo_api::{BackendError, StorageBackend};
use neo_testkit::MariaDb;

use crate::work::{ENGINES, apply, close, open, step, steps};

/// Ends the connections of all nodes.
fn cut(server: &MariaDb) {
    let ids = server
        .sql("SELECT ID FROM information_schema.PROCESSLIST WHERE DB = 'neo'")
        .unwrap();
    for id in ids.lines() {
        // It may have ended already.
        let _ = server.sql(&format!("KILL {id}"));
    }
}

fn is_closed(backend: &dyn StorageBackend, words: &str) {
    let error = apply(backend, step(1)).unwrap_err();
    assert!(matches!(error, BackendError::Closed(_)), "{error:?}");
    assert!(error.to_string().contains(words), "{error}");
    // For good, and for reads as well.
    let error = crate::work::run(backend.next_data_id()).unwrap_err();
    assert!(matches!(error, BackendError::Closed(_)), "{error:?}");
}

#[test]
fn a_second_node_is_told_who_has_the_database() {
    for engine in ENGINES {
        let server = MariaDb::start(engine).unwrap();
        let database = format!("{}?engine={engine}", server.database("neo").unwrap());
        let backend = open(&database).unwrap();
        let error = open(&database).map(drop).unwrap_err();
        assert!(matches!(error, BackendError::InUse(_)), "{error:?}");
        let words = error.to_string();
        assert!(
            words.contains("in use") && words.contains("KILL "),
            "{words}"
        );
        // Another database of the server is another one.
        server.database("neo2").unwrap();
        let other = database.replace("@neo/", "@neo2/");
        close(&*open(&other).unwrap());
        apply(&*backend, step(1)).unwrap();
        close(&*backend);
        close(&*open(&database).unwrap());
    }
}

/// A node that lost its connection, and the database with it, writes nothing any more.
#[test]
fn who_lost_the_database_is_fenced() {
    for engine in ENGINES {
        let server = MariaDb::start(engine).unwrap();
        let database = format!("{}?engine={engine}", server.database("neo").unwrap());
        let first = open(&database).unwrap();
        apply(&*first, step(1)).unwrap();
        cut(&server);
        let second = open(&database).unwrap();
        apply(&*second, step(2)).unwrap();
        is_closed(&*first, "another storage node has taken the database neo");
        assert_eq!(steps(&*second), 2);
        drop(second);

        // Also one that did not notice: each batch looks.
        let first = open(&database).unwrap();
        server
            .sql("UPDATE neo.neo SET owner = REPEAT(x'07', 16)")
            .unwrap();
        is_closed(&*first, "another storage node has taken the database neo");
        drop(first);
        let backend = open(&database).unwrap();
        assert_eq!(steps(&*backend), 2);
        close(&*backend);
    }
}

/// A server that was put back to an earlier state is not gone on with.
#[test]
fn a_server_that_forgets_is_found_out() {
    let server = MariaDb::start("InnoDB").unwrap();
    let database = server.database("neo").unwrap();
    let backend = open(&database).unwrap();
    apply(&*backend, step(1)).unwrap();
    server.sql("UPDATE neo.neo SET seq = seq - 1").unwrap();
    cut(&server);
    is_closed(&*backend, "the server has not what it acknowledged");
}
