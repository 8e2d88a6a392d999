//! A server that is killed, and connections that are lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use neo_api::BackendError;
use neo_testkit::MariaDb;

use crate::proxy::{Cut, Proxy};
use crate::work::{ENGINES, apply, close, open, refusal, step, steps};

/// Nothing that was acknowledged is lost, and nothing is done twice: while the backend stays, and
/// when it is opened again.
#[test]
fn a_server_that_is_killed_again_and_again() {
    for engine in ENGINES {
        let mut server = MariaDb::start(engine).unwrap();
        let database = server.database("neo").unwrap();
        let database = format!("{database}?engine={engine}");
        let backend = open(&database).unwrap();
        let acknowledged = AtomicU64::new(0);
        const KILLS: u64 = 4;
        const STEPS: u64 = 60;
        thread::scope(|scope| {
            let writer = Arc::clone(&backend);
            let acknowledged = &acknowledged;
            let writes = scope.spawn(move || {
                for n in 1..=STEPS * (KILLS + 1) {
                    apply(&*writer, step(n)).unwrap();
                    acknowledged.store(n, Ordering::SeqCst);
                }
            });
            for kill in 1..=KILLS {
                while acknowledged.load(Ordering::SeqCst) < STEPS * kill {
                    assert!(!writes.is_finished(), "{engine}");
                    thread::yield_now();
                }
                server.restart().unwrap();
                let before = acknowledged.load(Ordering::SeqCst);
                let found = steps(&*backend);
                assert!(found >= before, "{engine}: {found} of {before}");
            }
            writes.join().unwrap();
        });
        assert_eq!(steps(&*backend), STEPS * (KILLS + 1), "{engine}");
        // Now both at once.
        drop(backend);
        server.restart().unwrap();
        let backend = open(&database).unwrap();
        assert_eq!(steps(&*backend), STEPS * (KILLS + 1), "{engine}");
        close(&*backend);
    }
}

/// A commit whose answer is lost was done or not: the batch is there once in any case.
#[test]
fn a_commit_whose_outcome_is_lost() {
    for engine in ENGINES {
        let server = MariaDb::start(engine).unwrap();
        server.database("neo").unwrap();
        let proxy = Proxy::new(&server);
        let socket = proxy.socket();
        let backend = open(&format!("root@neo{}?engine={engine}", socket.display())).unwrap();
        let mut n = 0;
        let cuts = [
            (Cut::Nothing, 1),
            (Cut::Answer, 1),
            (Cut::Request, 1),
            // Also what makes sure that it is durable.
            (Cut::Answer, 2),
            (Cut::Answer, 3),
            (Cut::Request, 3),
        ];
        for (cut, times) in cuts {
            n += 1;
            proxy.cut(cut, times);
            apply(&*backend, step(n)).unwrap();
            assert_eq!(steps(&*backend), n, "{engine} {cut:?} {times}");
        }
        assert_eq!(proxy.cuts(), 10);
        // Lost between two batches.
        proxy.cut_all();
        assert_eq!(steps(&*backend), n);
        apply(&*backend, step(n + 1)).unwrap();
        assert_eq!(steps(&*backend), n + 1);
        close(&*backend);
    }
}

/// A server that does not come back: what is certain is told, and what is not ends the backend.
#[test]
fn a_server_that_stays_away() {
    let mut server = MariaDb::start("InnoDB").unwrap();
    server.database("neo").unwrap();
    let proxy = Proxy::new(&server);
    let database = format!("root@neo{}?reconnect_s=0", proxy.socket().display());
    let backend = open(&database).unwrap();
    apply(&*backend, step(1)).unwrap();

    // Nothing was on its way.
    server.kill().unwrap();
    proxy.cut_all();
    for _ in 0..3 {
        let error = apply(&*backend, step(2)).unwrap_err();
        assert!(matches!(error, BackendError::Unavailable(_)), "{error:?}");
    }
    assert!(refusal(&database).contains("is not available"));
    server.restart().unwrap();
    apply(&*backend, step(2)).unwrap();
    assert_eq!(steps(&*backend), 2);

    // A commit was.
    proxy.cut(Cut::Answer, 1);
    proxy.refuse();
    let error = apply(&*backend, step(3)).unwrap_err().to_string();
    assert!(
        error.contains("whether the last batch is there is unknown"),
        "{error}"
    );
    let error = apply(&*backend, step(3)).unwrap_err();
    assert!(matches!(error, BackendError::Closed(_)), "{error}");
    drop(backend);
    let backend = open(&server.database("neo").unwrap()).unwrap();
    assert_eq!(steps(&*backend), 3);
    close(&*backend);
}
