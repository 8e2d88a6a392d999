//! A disk that is full.

use neo_api::{At, BackendError, Loaded, StorageBackend, Tid};
use neo_testkit::MariaDb;

use crate::work::{ENGINES, apply, close, load, open, put};

const BYTES: usize = 500_000;

/// Writes until that fails: the number of the last one that was acknowledged.
fn fill(backend: &dyn StorageBackend) -> (u64, BackendError) {
    for n in 1..200 {
        if let Err(error) = apply(backend, put(n, vec![7; BYTES])) {
            return (n - 1, error);
        }
    }
    panic!("it never fills");
}

fn all_there(backend: &dyn StorageBackend, last: u64) {
    for tid in 1..=last {
        let found = load(backend, At::Exact(Tid(tid)));
        assert_eq!(found.value_bytes(), BYTES, "{tid}");
    }
}

/// A space that ends, as a full disk does: the batch is refused, what was there is read, and with
/// more space all goes on.
#[test]
fn a_full_tablespace_is_a_refusal() {
    let server = MariaDb::start_with(
        "InnoDB",
        &[
            "--innodb-file-per-table=OFF",
            "--innodb-data-file-path=ibdata1:12M:autoextend:max:24M",
        ],
    );
    let mut server = server.unwrap();
    let database = server.database("neo").unwrap();
    let backend = open(&database).unwrap();
    let (last, error) = fill(&*backend);
    assert!(matches!(error, BackendError::Full), "{error:?}");
    assert!(last > 3, "{last}");
    all_there(&*backend, last);
    let more = load(&*backend, At::Exact(Tid(last + 1)));
    assert_eq!(more, Loaded::NotYet);
    // There is room again: the backend goes on as it is.
    server.add_option("--innodb-data-file-path=ibdata1:12M:autoextend:max:64M");
    server.restart().unwrap();
    all_there(&*backend, last);
    apply(&*backend, put(last + 1, vec![8; BYTES])).unwrap();
    let found = load(&*backend, At::Exact(Tid(last + 1)));
    assert_eq!(found.value_bytes(), BYTES);
    close(&*backend);
}

/// KiB that a file may have: the log of InnoDB, which does not grow, has less.
const FILE_KIB: u64 = 24 << 10;

/// Where files can't grow, MariaDB may end instead of refusing. Nobody knows then whether the last
/// batch is there; all that was acknowledged is.
#[test]
fn a_server_that_ends_for_want_of_space_loses_nothing() {
    for engine in ENGINES {
        let mut server = MariaDb::start(engine).unwrap();
        let database = server.database("neo").unwrap();
        let database = format!("{database}?engine={engine}&reconnect_s=0");
        close(&*open(&database).unwrap());
        server.limit_files(Some(FILE_KIB));
        server.restart().unwrap();
        let backend = open(&database).unwrap();
        let (last, error) = fill(&*backend);
        let words = error.to_string();
        assert!(
            words.contains("since the server is away"),
            "{engine}: {words}"
        );
        assert!(last > 3, "{engine}: {last}");
        drop(backend);
        server.limit_files(None);
        if engine == "RocksDB" {
            // The end of its log is cut off, which it does not take for a crash by itself.
            server.add_option("--rocksdb-wal-recovery-mode=2");
        }
        server.restart().unwrap();
        let backend = open(&database).unwrap();
        all_there(&*backend, last);
        apply(&*backend, put(last + 2, vec![7; BYTES])).unwrap();
        close(&*backend);
    }
}
