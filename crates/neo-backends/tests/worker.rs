//! Workers: order, panics, bounds and ends.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use neo_api::BackendError;
use neo_backends::{QUEUE_JOBS_MAX, Worker, WorkerError};

type Log = Worker<Vec<u32>>;

fn threads(n: usize) -> Log {
    Worker::threads("test", n, |_| Ok::<_, WorkerError>(Vec::new())).unwrap()
}

fn run<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn jobs_run_in_the_order_in_which_they_were_submitted() {
    for worker in [threads(1), Worker::inline(Vec::new())] {
        let replies: Vec<_> = (0..100)
            .map(|n| worker.submit(move |log| log.push(n)))
            .collect();
        drop(replies);
        let log = run(worker.call(|log| log.clone())).unwrap();
        assert_eq!(log, (0..100).collect::<Vec<_>>());
    }
}

#[test]
fn an_inline_worker_answers_at_once() {
    let worker = Worker::inline(1);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut call = std::pin::pin!(worker.call(|n| *n + 1));
    assert_eq!(
        call.as_mut().poll(&mut context),
        std::task::Poll::Ready(Ok(2))
    );
}

#[test]
fn a_panic_is_an_error_and_the_end() {
    for worker in [threads(1), Worker::inline(Vec::new())] {
        let gate = Arc::new(Mutex::new(()));
        let held = gate.lock().unwrap();
        // While the first job waits, the others are queued behind the one that panics. Inline,
        // they are not queued at all.
        let waits = Arc::clone(&gate);
        let is_inline = format!("{worker:?}").contains("inline");
        let first = worker.submit(move |_| {
            if !is_inline {
                drop(waits.lock())
            }
        });
        let panics = worker.submit(|_| -> u32 { panic!("on purpose") });
        let behind = worker.submit(|log| log.len());
        drop(held);
        assert_eq!(run(first), Ok(()));
        let error = WorkerError::Panicked("on purpose".to_owned());
        assert_eq!(run(panics), Err(error.clone()));
        assert!(run(behind).is_err());
        assert_eq!(run(worker.call(|log| log.len())), Err(error.clone()));
        assert_eq!(run(worker.close()), Err(error.clone()));
        assert!(matches!(BackendError::from(error), BackendError::Closed(_)));
    }
}

#[test]
fn an_open_that_fails_or_panics_is_told() {
    let failed = Worker::<u32>::threads("test", 3, |i| if i == 1 { Err(i) } else { Ok(1) });
    assert_eq!(failed.map(|_| ()).unwrap_err(), 1);
    let worker = Worker::<u32>::threads("test", 1, |_| -> Result<u32, u32> { panic!("no") });
    assert!(matches!(
        run(worker.unwrap().call(|_| ())),
        Err(WorkerError::Panicked(_))
    ));
}

#[test]
fn closing_runs_what_is_queued_and_drops_the_handles() {
    struct Handle(Arc<AtomicUsize>);
    impl Drop for Handle {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (dropped, ran) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let open = {
        let dropped = Arc::clone(&dropped);
        move |_| Ok::<_, WorkerError>(Handle(Arc::clone(&dropped)))
    };
    let worker = Worker::threads("test", 3, open).unwrap();
    for _ in 0..50 {
        let ran = Arc::clone(&ran);
        drop(worker.submit(move |_| {
            thread::sleep(Duration::from_millis(1));
            ran.fetch_add(1, Ordering::SeqCst);
        }));
    }
    run(worker.close()).unwrap();
    assert_eq!(
        (ran.load(Ordering::SeqCst), dropped.load(Ordering::SeqCst)),
        (50, 3)
    );
    assert_eq!(run(worker.call(|_| ())), Err(WorkerError::Closed));
    assert_eq!(run(worker.submit(|_| ())), Err(WorkerError::Closed));
    assert_eq!(run(worker.close()), Err(WorkerError::Closed));
    // The same without closing.
    let ran = Arc::new(AtomicUsize::new(0));
    let worker = threads(1);
    for _ in 0..50 {
        let ran = Arc::clone(&ran);
        drop(worker.submit(move |_| ran.fetch_add(1, Ordering::SeqCst)));
    }
    drop(worker);
    assert_eq!(ran.load(Ordering::SeqCst), 50);
}

#[test]
fn a_full_queue_refuses_to_be_submitted_to_and_lets_calls_wait() {
    let worker = threads(1);
    let (open, gate) = mpsc::sync_channel::<()>(1);
    let (began, begun) = mpsc::sync_channel::<()>(1);
    let waits = worker.submit(move |_| {
        began.send(()).unwrap();
        gate.recv().unwrap();
    });
    begun.recv().unwrap();
    let queued: Vec<_> = (0..QUEUE_JOBS_MAX)
        .map(|n| worker.submit(move |log| log.push(n as u32)))
        .collect();
    assert_eq!(
        run(worker.submit(|log| log.push(0))),
        Err(WorkerError::Full)
    );
    assert!(BackendError::from(WorkerError::Full).is_retryable());
    thread::scope(|scope| {
        let calls = scope.spawn(|| run(worker.call(|log| log.len())));
        open.send(()).unwrap();
        assert_eq!(calls.join().unwrap(), Ok(QUEUE_JOBS_MAX));
    });
    assert_eq!(run(waits), Ok(()));
    assert!(queued.into_iter().all(|reply| run(reply).is_ok()));
}

#[test]
fn a_worker_may_be_dropped_by_its_own_job() {
    let worker = Arc::new(threads(2));
    let (done, told) = mpsc::sync_channel(1);
    let own = Arc::clone(&worker);
    let reply = worker.submit(move |_| {
        drop(own);
        done.send(()).unwrap();
    });
    drop(worker);
    told.recv_timeout(Duration::from_secs(10)).unwrap();
    drop(reply);
}
