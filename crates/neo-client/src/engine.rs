//! Who runs the client's driver: a thread that waits for an answer does it itself, so that nobody has to
//! be woken up on the way; while none waits, a thread that does nothing else.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, Runtime};
use tokio::sync::Notify;

use crate::error::{Error, Result};
use crate::patience::Patience;

/// How long a thread looks for what it waits for before it goes to sleep.
const LOOK: Duration = Duration::from_micros(150);
/// The keeper is back so long after the last thread that waited, at most twice that: who commits has
/// a few requests, one after the other.
const LINGER: Duration = Duration::from_millis(2);
/// After so many things to do that it does not wait for, as stores are, a thread leaves the next ones
/// to the keeper, which does them at the same time.
const SENT_MAX: usize = 8;

thread_local! {
    static PATIENCE: Cell<Patience> = const { Cell::new(Patience::new()) };
    /// Whether this thread is in a call that waits, and so runs the driver if nobody else does.
    static WAITS: Cell<bool> = const { Cell::new(false) };
    /// Whether it has queued something meanwhile.
    static HAS_QUEUED: Cell<bool> = const { Cell::new(false) };
}

/// The runtime of a client's driver.
#[derive(Debug)]
pub(crate) struct Engine {
    runtime: Runtime,
    callers: Mutex<Callers>,
    /// For the keeper, unless it drives.
    keeper: Condvar,
    /// The keeper, which drives, is to let somebody else.
    wanted: Notify,
}

#[derive(Debug)]
struct Callers {
    /// Threads that wait.
    count: usize,
    /// Another one whenever a thread came.
    came: u64,
    /// What was sent since a thread waited last.
    sent: usize,
    keeper: Keeper,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeper {
    Drives,
    /// It looks again when the last thread that waits has gone.
    Sleeps,
    /// It looks again after a while.
    Lingers,
    /// It was told to drive, by who has something done and does not wait.
    IsCalled,
}

impl Engine {
    /// Starts the keeper, which ends with the driver.
    pub(crate) fn start<F>(driver: F) -> Result<Arc<Self>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::Node(format!("no runtime: {error}")))?;
        let engine = Arc::new(Self {
            runtime,
            callers: Mutex::new(Callers {
                count: 0,
                came: 0,
                sent: 0,
                keeper: Keeper::Drives,
            }),
            keeper: Condvar::new(),
            wanted: Notify::new(),
        });
        let keeper = Arc::clone(&engine);
        std::thread::Builder::new()
            .name("neo-client".into())
            .spawn(move || keeper.keep(driver))
            .map_err(|error| Error::Node(format!("no thread: {error}")))?;
        Ok(engine)
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    fn callers(&self) -> MutexGuard<'_, Callers> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- those who wait ---

    /// Waits for a future of this crate, and drives meanwhile. Not inside a runtime.
    pub(crate) fn wait<F: Future>(&self, future: F) -> F::Output {
        let _waiting = Waiting::begin();
        let mut future = pin!(future);
        let woken = Arc::new(Woken(Notify::new()));
        let waker = Waker::from(Arc::clone(&woken));
        let mut leaving = None;
        loop {
            // Outside the runtime: what it calls, as a resolver of conflicts, may wait too.
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                // Nobody waits for what was queued last.
                match leaving {
                    _ if !HAS_QUEUED.get() => {}
                    Some(_) => self.runtime.block_on(tokio::task::yield_now()),
                    None => self.send(),
                }
                return output;
            }
            HAS_QUEUED.set(false);
            leaving.get_or_insert_with(|| self.enter());
            self.runtime.block_on(look(woken.0.notified()));
        }
    }

    /// What was queued is on its way when this is done, or soon.
    fn send(&self) {
        let mut callers = self.callers();
        if callers.keeper == Keeper::Drives || callers.count > 0 {
            return;
        }
        callers.sent += 1;
        if callers.sent > SENT_MAX {
            self.call_keeper(&mut callers);
            return;
        }
        callers.count += 1;
        drop(callers);
        let _leaving = Leaving(self);
        // All that the driver can do at once.
        self.runtime.block_on(tokio::task::yield_now());
    }

    fn enter(&self) -> Leaving<'_> {
        let mut callers = self.callers();
        callers.count += 1;
        callers.sent = 0;
        callers.came = callers.came.wrapping_add(1);
        if callers.keeper == Keeper::Drives {
            callers.keeper = Keeper::Lingers;
            self.wanted.notify_one();
        }
        Leaving(self)
    }

    /// A command is queued.
    pub(crate) fn queued(&self) {
        if WAITS.get() {
            HAS_QUEUED.set(true);
        } else {
            self.call_keeper(&mut self.callers());
        }
    }

    fn call_keeper(&self, callers: &mut Callers) {
        if callers.keeper == Keeper::Lingers && callers.count == 0 {
            callers.keeper = Keeper::IsCalled;
            self.keeper.notify_one();
        }
    }

    // --- the keeper ---

    fn keep<F>(&self, driver: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut driver = pin!(self.runtime.spawn(driver));
        loop {
            let drives = async {
                let mut wanted = pin!(self.wanted.notified());
                poll_fn(|cx| {
                    if driver.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(true);
                    }
                    wanted.as_mut().poll(cx).map(|()| false)
                })
                .await
            };
            if self.runtime.block_on(drives) {
                return;
            }
            self.rest();
        }
    }

    /// Until nobody has waited for a while.
    fn rest(&self) {
        let mut callers = self.callers();
        loop {
            let came = callers.came;
            if callers.count > 0 {
                callers.keeper = Keeper::Sleeps;
                let asleep = |callers: &mut Callers| callers.keeper == Keeper::Sleeps;
                let woken = self.keeper.wait_while(callers, asleep);
                callers = woken.unwrap_or_else(PoisonError::into_inner);
            }
            callers.keeper = Keeper::Lingers;
            let lingers = |callers: &mut Callers| callers.keeper == Keeper::Lingers;
            let woken = self.keeper.wait_timeout_while(callers, LINGER, lingers);
            callers = woken.unwrap_or_else(PoisonError::into_inner).0;
            let is_called = callers.keeper == Keeper::IsCalled;
            if callers.count == 0 && (is_called || callers.came == came) {
                callers.keeper = Keeper::Drives;
                return;
            }
        }
    }
}

/// That a future is to be polled.
struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

/// That this thread waits, until it is dropped.
struct Waiting(bool);

impl Waiting {
    fn begin() -> Self {
        HAS_QUEUED.set(false);
        Self(WAITS.replace(true))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITS.set(self.0);
    }
}

/// A thread that may drive, until it is dropped.
struct Leaving<'a>(&'a Engine);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let Self(engine) = *self;
        let mut callers = engine.callers();
        callers.count -= 1;
        if callers.count == 0 && callers.keeper == Keeper::Sleeps {
            callers.keeper = Keeper::Lingers;
            engine.keeper.notify_one();
        }
    }
}

/// For a moment without going to sleep; gives way to all other threads meanwhile.
async fn look<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut patience = PATIENCE.get();
    if patience.looks() {
        let until = Instant::now() + LOOK;
        loop {
            let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
            if let Poll::Ready(output) = polled {
                patience.learn(true);
                PATIENCE.set(patience);
                return output;
            }
            if Instant::now() >= until {
                break;
            }
            std::thread::yield_now();
            // Looks what has arrived, and does it.
            tokio::task::yield_now().await;
        }
        patience.learn(false);
    }
    PATIENCE.set(patience);
    future.await
}

#[cfg(test)]
mod tests {
    use std::thread::{self, ThreadId};

    use tokio::sync::{mpsc, oneshot};

    use super::*;

    type Ask = oneshot::Sender<ThreadId>;

    /// An engine whose driver answers with the thread that runs it.
    fn engine() -> (Arc<Engine>, mpsc::Sender<Ask>) {
        let (sender, mut asked) = mpsc::channel::<Ask>(16);
        let driver = async move {
            while let Some(reply) = asked.recv().await {
                let _ = reply.send(thread::current().id());
            }
        };
        (Engine::start(driver).unwrap(), sender)
    }

    async fn ask(sender: &mpsc::Sender<Ask>) -> ThreadId {
        let (reply, answer) = oneshot::channel();
        sender.send(reply).await.unwrap();
        answer.await.unwrap()
    }

    #[test]
    fn who_waits_drives() {
        let (engine, sender) = engine();
        let own = thread::current().id();
        // The keeper may answer until it has heard.
        let drives = (0..10_000).any(|_| engine.wait(ask(&sender)) == own);
        assert!(drives);
    }

    #[test]
    fn while_nobody_waits_the_keeper_drives() {
        let (engine, sender) = engine();
        for _ in 0..3 {
            engine.wait(ask(&sender));
            let (reply, answer) = oneshot::channel();
            sender.try_send(reply).unwrap();
            engine.queued();
            assert_ne!(answer.blocking_recv().unwrap(), thread::current().id());
        }
        // It comes by itself too.
        let (reply, answer) = oneshot::channel();
        engine.wait(ask(&sender));
        sender.try_send(reply).unwrap();
        assert_ne!(answer.blocking_recv().unwrap(), thread::current().id());
    }

    #[test]
    fn who_waits_may_wait_within() {
        let (engine, sender) = engine();
        engine.wait(async {
            for _ in 0..100 {
                ask(&sender).await;
                engine.wait(ask(&sender));
            }
        });
        assert_eq!(engine.callers().count, 0);
        assert!(!WAITS.get());
    }

    #[test]
    fn threads_that_wait_take_turns() {
        let (engine, sender) = engine();
        let (engine, sender) = (&engine, &sender);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(move || {
                    for _ in 0..1_000 {
                        engine.wait(ask(sender));
                    }
                });
            }
        });
        assert_eq!(engine.callers().count, 0);
    }

    #[test]
    fn the_keeper_ends_with_the_driver() {
        let (engine, sender) = engine();
        engine.wait(ask(&sender));
        let weak = Arc::downgrade(&engine);
        drop((engine, sender));
        while weak.strong_count() > 0 {
            thread::yield_now();
        }
    }
}
