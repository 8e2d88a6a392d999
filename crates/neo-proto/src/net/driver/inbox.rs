//! What wakes the loop, and what it then looks at.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use crate::node::Core;

/// Ready is: the listener; commands; the timer. Connections have small numbers.
pub(super) const ACCEPT: u64 = u64::MAX;
pub(super) const COMMANDS: u64 = u64::MAX - 1;
pub(super) const TIMER: u64 = u64::MAX - 2;

/// What is ready. Bounded: by the connections, each of which is in it once or twice, and by the
/// jobs that the core has asked for.
pub(super) struct Inbox<C: Core> {
    state: Mutex<State<C>>,
}

struct State<C: Core> {
    ready: VecDeque<u64>,
    done: Vec<C::Done>,
    /// The loop's, while it waits.
    waiting: Option<Waker>,
}

impl<C: Core> fmt::Debug for Inbox<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

impl<C: Core> Inbox<C> {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                done: Vec::new(),
                waiting: None,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<C>> {
        // Nothing that holds the lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks something as ready.
    pub(super) fn ready(&self, token: u64) {
        let mut state = self.state();
        state.ready.push_back(token);
        let waiting = state.waiting.take();
        drop(state);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// How many are ready, if there is something to look at; if not, `waker` is woken when there
    /// is.
    pub(super) fn begin_turn(&self, waker: &Waker) -> Option<usize> {
        let mut state = self.state();
        let has_work = !state.ready.is_empty() || !state.done.is_empty();
        state.waiting = (!has_work).then(|| waker.clone());
        has_work.then_some(state.ready.len())
    }

    pub(super) fn next_ready(&self) -> Option<u64> {
        self.state().ready.pop_front()
    }

    pub(super) fn take_done(&self) -> Vec<C::Done> {
        std::mem::take(&mut self.state().done)
    }

    /// A waker that marks something as ready.
    pub(super) fn waker(inbox: &Arc<Self>, token: u64) -> Waker {
        Waker::from(Arc::new(TokenWaker {
            inbox: Arc::clone(inbox),
            token,
        }))
    }
}

struct TokenWaker<C: Core> {
    inbox: Arc<Inbox<C>>,
    token: u64,
}

impl<C: Core> Wake for TokenWaker<C> {
    fn wake(self: Arc<Self>) {
        self.inbox.ready(self.token);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.inbox.ready(self.token);
    }
}

/// Takes the results of jobs to the loop, from any task or thread, without waiting.
pub struct DoneSender<C: Core> {
    inbox: Arc<Inbox<C>>,
}

impl<C: Core> DoneSender<C> {
    pub(super) const fn new(inbox: Arc<Inbox<C>>) -> Self {
        Self { inbox }
    }

    /// A job is done. Without effect once the node has ended.
    pub fn send(&self, done: C::Done) {
        let mut state = self.inbox.state();
        state.done.push(done);
        let waiting = state.waiting.take();
        drop(state);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

impl<C: Core> Clone for DoneSender<C> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.inbox))
    }
}

impl<C: Core> fmt::Debug for DoneSender<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DoneSender").finish_non_exhaustive()
    }
}
