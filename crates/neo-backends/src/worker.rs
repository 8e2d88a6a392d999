//! Threads that own what blocks, behind an async call.
//!
//! A database handle is slow, often bound to one thread, and wants its calls in order. A
//! [`Worker`] gives each handle a thread of its own and hands closures to it:
//!
//! ```
//! use neo_backends::{Worker, WorkerError};
//!
//! # futures_block(async {
//! let worker = Worker::threads("counter", 1, |_| Ok::<_, WorkerError>(0_u64))?;
//! let reply = worker.submit(|count| { *count += 1; *count });
//! assert_eq!(reply.await?, 1);
//! worker.close().await?;
//! # Ok::<(), WorkerError>(()) }).unwrap();
//! # fn futures_block<F: Future>(f: F) -> F::Output {
//! #     let mut f = std::pin::pin!(f);
//! #     let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
//! #     loop { if let std::task::Poll::Ready(r) = f.as_mut().poll(&mut cx) { return r } std::thread::yield_now() }
//! # }
//! ```

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};

use neo_api::BackendError;
use tokio::sync::{Semaphore, oneshot};
use tracing::Span;

/// Most jobs that wait in a worker's queue.
///
/// [`Worker::call`] waits for room; [`Worker::submit`], which may not wait, is refused.
pub const QUEUE_JOBS_MAX: usize = 1024;

/// Why a job has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The worker was closed before the job could run.
    #[error("the worker is closed")]
    Closed,
    /// This job, or one before it, panicked; its handle is gone and the worker with it.
    #[error("a job panicked: {0}")]
    Panicked(String),
    /// The queue is full; the job did not run.
    #[error("{QUEUE_JOBS_MAX} jobs are waiting already")]
    Full,
}

impl From<WorkerError> for BackendError {
    fn from(error: WorkerError) -> Self {
        match error {
            WorkerError::Closed => Self::Closed("by this node".to_owned()),
            WorkerError::Panicked(_) => Self::Closed(error.to_string()),
            WorkerError::Full => Self::Unavailable(Box::new(error)),
        }
    }
}

/// Runs closures over handles: on threads of their own, or on the caller's.
///
/// Dropping a worker runs what is queued and waits for its threads; [`Worker::close`] does so
/// without blocking.
pub struct Worker<H: Send + 'static> {
    inner: Inner<H>,
}

enum Inner<H> {
    Threads {
        shared: Arc<Shared<H>>,
        threads: Mutex<Vec<JoinHandle<()>>>,
    },
    Inline(Mutex<Result<H, WorkerError>>),
}

struct Shared<H> {
    name: String,
    queue: Mutex<Queue<H>>,
    /// Told when a job or the end comes.
    changed: Condvar,
    /// One permit for each free place in the queue; closed with the worker.
    room: Semaphore,
}

struct Queue<H> {
    jobs: VecDeque<Job<H>>,
    /// Why no job is taken any more; those that are queued still run.
    closed: Option<WorkerError>,
    /// Threads that still run.
    live: usize,
    /// Who waits for the last thread to end.
    waiting: Vec<oneshot::Sender<()>>,
}

/// A job answers its caller itself, but for a panic: the worker has to be closed before that is
/// told.
type Job<H> = Box<dyn FnOnce(&mut H) -> Result<(), Panic> + Send>;

struct Panic {
    error: WorkerError,
    tell: Box<dyn FnOnce(WorkerError) + Send>,
}

impl<H: Send + 'static> Worker<H> {
    /// Starts `n` threads (one, if 0) called `name-0`, `name-1`, …; each opens its own handle.
    ///
    /// # Errors
    /// The first error of `open`, after which no thread is left, and nothing was served.
    ///
    /// # Panics
    /// When the system can't start a thread.
    pub fn threads<E: Send + 'static>(
        name: &str,
        n: usize,
        open: impl Fn(usize) -> Result<H, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        let n = n.max(1);
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            queue: Mutex::new(Queue {
                jobs: VecDeque::new(),
                closed: None,
                live: n,
                waiting: Vec::new(),
            }),
            changed: Condvar::new(),
            room: Semaphore::new(QUEUE_JOBS_MAX),
        });
        let open = Arc::new(open);
        let (opened, outcomes) = std::sync::mpsc::sync_channel(n);
        let threads = (0..n).map(|i| {
            let (shared, open, opened) = (Arc::clone(&shared), Arc::clone(&open), opened.clone());
            let body = move || {
                let _ended = Ended(&shared);
                let handle = match open(i) {
                    Ok(handle) => {
                        let _ = opened.send(Ok(()));
                        handle
                    }
                    Err(error) => {
                        let _ = opened.send(Err(error));
                        return;
                    }
                };
                drop((opened, open));
                shared.run(handle);
            };
            thread::Builder::new()
                .name(format!("{name}-{i}"))
                .spawn(body)
                .expect("the system starts a thread")
        });
        let worker = Self {
            inner: Inner::Threads {
                threads: Mutex::new(threads.collect()),
                shared,
            },
        };
        drop(opened);
        // An `open` that panics sends nothing: its thread has closed the worker, so the first
        // call tells.
        outcomes.iter().collect::<Result<(), E>>()?;
        Ok(worker)
    }

    /// Runs every job on its caller's thread, before the call returns: for a simulator, where
    /// one thread does everything in an order of its choosing.
    #[must_use]
    pub const fn inline(handle: H) -> Self {
        Self {
            inner: Inner::Inline(Mutex::new(Ok(handle))),
        }
    }

    /// Queues a job now, in the order of the calls: the reply need not be polled.
    ///
    /// The job runs whether or not the reply is awaited. When the queue is full the reply is
    /// [`WorkerError::Full`].
    pub fn submit<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut H) -> R + Send + 'static,
    ) -> Reply<R> {
        match &self.inner {
            Inner::Inline(handle) => Reply::ready(run_inline(&mut lock(handle), job)),
            Inner::Threads { shared, .. } => match shared.room.try_acquire() {
                Ok(room) => {
                    room.forget();
                    shared.push(job, false)
                }
                Err(tokio::sync::TryAcquireError::NoPermits) => {
                    Reply::ready(Err(WorkerError::Full))
                }
                Err(tokio::sync::TryAcquireError::Closed) => Reply::ready(Err(shared.why_closed())),
            },
        }
    }

    /// Queues a job once there is room, and waits for its result.
    ///
    /// Calls may overtake each other while they wait for room. A job that was queued runs, also
    /// when this future is dropped.
    ///
    /// # Errors
    /// When the worker is closed, or the job panics.
    pub async fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut H) -> R + Send + 'static,
    ) -> Result<R, WorkerError> {
        if let Inner::Threads { shared, .. } = &self.inner {
            match shared.room.acquire().await {
                Ok(room) => room.forget(),
                Err(_) => return Err(shared.why_closed()),
            }
            shared.push(job, false).await
        } else {
            self.submit(job).await
        }
    }

    /// Takes no more jobs, runs those that are queued, and drops the handles.
    ///
    /// # Errors
    /// When the worker was closed already, or a job panicked.
    pub async fn close(&self) -> Result<(), WorkerError> {
        self.close_with(|_| ()).await
    }

    /// As [`Worker::close`], with a last job after all others (with several threads: after all
    /// others were begun).
    ///
    /// # Errors
    /// When the worker was closed already, or a job panicked.
    pub async fn close_with<R: Send + 'static>(
        &self,
        last: impl FnOnce(&mut H) -> R + Send + 'static,
    ) -> Result<R, WorkerError> {
        match &self.inner {
            Inner::Inline(handle) => {
                let mut handle = lock(handle);
                let result = run_inline(&mut handle, last)?;
                *handle = Err(WorkerError::Closed);
                Ok(result)
            }
            Inner::Threads { shared, .. } => {
                let reply = shared.push(last, true);
                let ended = shared.ended();
                let result = reply.await;
                let _ = ended.await;
                result
            }
        }
    }
}

impl<H: Send + 'static> Drop for Worker<H> {
    fn drop(&mut self) {
        let Inner::Threads { shared, threads } = &mut self.inner else {
            return;
        };
        shared.close(WorkerError::Closed);
        let threads = threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A job may hold the last reference to whatever owns its worker.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl<H: Send + 'static> fmt::Debug for Worker<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner {
            Inner::Inline(_) => f.write_str("Worker(inline)"),
            Inner::Threads { shared, .. } => {
                let queue = lock(&shared.queue);
                f.debug_struct("Worker")
                    .field("name", &shared.name)
                    .field("queued", &queue.jobs.len())
                    .field("threads", &queue.live)
                    .field("closed", &queue.closed)
                    .finish()
            }
        }
    }
}

impl<H> Shared<H> {
    /// Runs jobs until the worker is closed and the queue empty.
    fn run(&self, mut handle: H) {
        loop {
            let job = {
                let mut queue = lock(&self.queue);
                loop {
                    if let Some(job) = queue.jobs.pop_front() {
                        break job;
                    }
                    if queue.closed.is_some() {
                        return;
                    }
                    queue = self
                        .changed
                        .wait(queue)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            };
            self.room.add_permits(1);
            if let Err(panic) = job(&mut handle) {
                // The handle may be half-way through something: nobody uses it again, and what
                // was queued behind it has lost its premise.
                self.abandon(panic.error.clone());
                drop(handle);
                (panic.tell)(panic.error);
                return;
            }
        }
    }

    fn push<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut H) -> R + Send + 'static,
        last: bool,
    ) -> Reply<R> {
        let (sender, receiver) = oneshot::channel();
        let span = Span::current();
        let job = Box::new(move |handle: &mut H| {
            let result = span.in_scope(|| catch_unwind(AssertUnwindSafe(|| job(handle))));
            match result {
                Ok(result) => {
                    let _ = sender.send(Ok(result));
                    Ok(())
                }
                Err(payload) => Err(Panic {
                    error: panic_error(&*payload),
                    tell: Box::new(|error| {
                        let _ = sender.send(Err(error));
                    }),
                }),
            }
        });
        let mut queue = lock(&self.queue);
        if let Some(why) = &queue.closed {
            return Reply::ready(Err(why.clone()));
        }
        queue.jobs.push_back(job);
        drop(queue);
        if last {
            self.close(WorkerError::Closed);
        } else {
            self.changed.notify_one();
        }
        Reply(State::Waiting(receiver))
    }

    fn close(&self, why: WorkerError) {
        lock(&self.queue).closed.get_or_insert(why);
        self.room.close();
        self.changed.notify_all();
    }

    fn abandon(&self, why: WorkerError) {
        let jobs = {
            let mut queue = lock(&self.queue);
            queue.closed = Some(why);
            std::mem::take(&mut queue.jobs)
        };
        self.room.close();
        self.changed.notify_all();
        // Their callers hear of it by the loss of the other end.
        drop(jobs);
    }

    /// Is ready, with whatever result, when no thread is left.
    fn ended(&self) -> oneshot::Receiver<()> {
        let (sender, ended) = oneshot::channel();
        let mut queue = lock(&self.queue);
        if queue.live > 0 {
            queue.waiting.push(sender);
        }
        ended
    }

    fn why_closed(&self) -> WorkerError {
        lock(&self.queue)
            .closed
            .clone()
            .unwrap_or(WorkerError::Closed)
    }
}

/// Says that a thread ends, however it does.
struct Ended<'a, H>(&'a Shared<H>);

impl<H> Drop for Ended<'_, H> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0
                .abandon(WorkerError::Panicked("while opening".to_owned()));
        }
        let waiting = {
            let mut queue = lock(&self.0.queue);
            queue.live -= 1;
            if queue.live > 0 {
                return;
            }
            std::mem::take(&mut queue.waiting)
        };
        for waiter in waiting {
            let _ = waiter.send(());
        }
    }
}

/// The result of a job, to be awaited.
#[derive(Debug)]
#[must_use = "the job runs anyway, but its errors are only here"]
pub struct Reply<R>(State<R>);

#[derive(Debug)]
enum State<R> {
    Ready(Option<Result<R, WorkerError>>),
    Waiting(oneshot::Receiver<Result<R, WorkerError>>),
}

impl<R> Reply<R> {
    const fn ready(result: Result<R, WorkerError>) -> Self {
        Self(State::Ready(Some(result)))
    }
}

// The result is moved out, never pinned.
impl<R> Unpin for Reply<R> {}

impl<R> Future for Reply<R> {
    type Output = Result<R, WorkerError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Ready(result) => Poll::Ready(
                result
                    .take()
                    .expect("a future is not polled after it was ready"),
            ),
            // A job that was never run was dropped with the queue.
            State::Waiting(receiver) => Pin::new(receiver)
                .poll(cx)
                .map(|result| result.unwrap_or(Err(WorkerError::Closed))),
        }
    }
}

fn run_inline<H, R>(
    handle: &mut Result<H, WorkerError>,
    job: impl FnOnce(&mut H) -> R,
) -> Result<R, WorkerError> {
    let open = handle.as_mut().map_err(|why| why.clone())?;
    catch_unwind(AssertUnwindSafe(|| job(open))).map_err(|payload| {
        let error = panic_error(&*payload);
        *handle = Err(error.clone());
        error
    })
}

fn panic_error(payload: &(dyn Any + Send)) -> WorkerError {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    WorkerError::Panicked(text.unwrap_or("without words").to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code of others runs under these locks, so a poisoned one is as good as any.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
