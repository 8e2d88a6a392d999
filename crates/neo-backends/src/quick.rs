//! Short jobs on their callers' threads, as long as they are short: to wake up another thread, and to
//! be woken up by it, takes longer than most reads.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A job that took longer had to wait for the disk, or had much to do.
const LONG: Duration = Duration::from_micros(200);
/// After one that was long, so many are left to other threads, at first and at most: twice as many
/// each time, half as many after one that was short.
const LEFT: (u32, u32) = (16, 4096);

/// A handle for jobs that are expected to be short.
#[derive(Debug)]
pub(crate) struct Quick<H> {
    handle: Mutex<Option<H>>,
    /// Jobs that are left to others before one is tried here.
    left: AtomicU32,
    /// How many it will be after the next long one.
    next: AtomicU32,
}

impl<H> Quick<H> {
    /// Without a handle, it leaves all jobs to others.
    pub(crate) const fn new(handle: Option<H>) -> Self {
        Self {
            handle: Mutex::new(handle),
            left: AtomicU32::new(0),
            next: AtomicU32::new(LEFT.0),
        }
    }

    /// Runs a job now; gives it back when it is to be done by another thread: the handle is in use,
    /// or jobs are not short lately.
    pub(crate) fn run<R, J: FnOnce(&mut H) -> R>(&self, job: J) -> Result<R, J> {
        let skips = |left: u32| left.checked_sub(1);
        let order = Ordering::Relaxed;
        if self.left.fetch_update(order, order, skips).is_ok() {
            return Err(job);
        }
        // A job that panicked may have left it half-way through something.
        let Ok(mut handle) = self.handle.try_lock() else {
            return Err(job);
        };
        let Some(handle) = &mut *handle else {
            return Err(job);
        };
        let begun = Instant::now();
        let result = job(handle);
        self.took(begun.elapsed());
        Ok(result)
    }

    fn took(&self, time: Duration) {
        let next = self.next.load(Ordering::Relaxed);
        if time > LONG {
            self.left.store(next, Ordering::Relaxed);
            self.next.store((next * 2).min(LEFT.1), Ordering::Relaxed);
        } else if next > LEFT.0 {
            self.next.store(next / 2, Ordering::Relaxed);
        }
    }

    /// Drops the handle.
    pub(crate) fn close(&self) {
        let handle: MutexGuard<'_, Option<H>> =
            self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        drop({ handle }.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_job_leaves_the_next_ones_to_others() {
        let quick = Quick::new(Some(0));
        let runs = |takes: Duration| {
            let ran = quick.run(|count| *count += 1).is_ok();
            if ran {
                quick.took(takes);
            }
            ran
        };
        let mut rounds = Vec::new();
        for takes in [LONG * 2, LONG * 2, LONG * 2] {
            assert!(runs(takes));
            let left = std::iter::repeat_with(|| runs(Duration::ZERO)).take_while(|ran| !ran);
            rounds.push(left.count());
        }
        // The one that ended each round was short: half as many again.
        assert_eq!(rounds, [16, 16, 16]);
        for _ in 0..20 {
            quick.took(LONG * 2);
        }
        let left = std::iter::repeat_with(|| quick.run(|_| ()).is_ok()).take_while(|ran| !ran);
        assert_eq!(left.count() as u32, LEFT.1);
    }

    #[test]
    fn what_cannot_be_done_here_is_given_back() {
        let none = Quick::<u32>::new(None);
        assert!(none.run(|_| 1).is_err());
        let quick = Quick::new(Some(5));
        assert!(matches!(quick.run(|five| *five + 1), Ok(6)));
        let inside = quick.run(|_| quick.run(|_| ()).is_err());
        assert!(matches!(inside, Ok(true)));
        let panic = std::panic::AssertUnwindSafe(|| quick.run(|_| panic!("as wanted")).is_ok());
        assert!(std::panic::catch_unwind(panic).is_err());
        assert!(quick.run(|_| 1).is_err());
        quick.close();
        let quick = Quick::new(Some(5));
        quick.close();
        assert!(quick.run(|_| 1).is_err());
    }
}
