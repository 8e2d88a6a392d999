//! Time and randomness: nothing reads the wall clock or a global generator behind its back.

use std::fmt::Debug;
use std::ops::{Add, Sub};
use std::time::Duration;

use crate::tid::UnixMicros;

/// A moment on a node's monotonic clock: nanoseconds since an origin of the clock's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// How long ago `earlier` was; zero when it was not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, d: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// Both clocks, read at one moment: what a core is handed with each input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Never goes back; for deadlines.
    pub mono: Instant,
    /// UTC; may jump; for tids.
    pub wall: UnixMicros,
}

/// Where a node's time and randomness come from.
///
/// # To ensure correctness
/// - `mono` **must not** go back, and **must not** stand still while the node works.
/// - `random` **must not** give two nodes of one cluster the same sequence: cluster ids and epochs
///   are made of it.
pub trait Env: Debug + Send + Sync + 'static {
    /// Both clocks.
    fn now(&self) -> Now;

    /// 64 random bits.
    fn random(&self) -> u64;
}

/// 16 random bytes.
pub fn random_bytes(env: &dyn Env) -> [u8; 16] {
    let (a, b) = (env.random().to_be_bytes(), env.random().to_be_bytes());
    std::array::from_fn(|i| if i < 8 { a[i] } else { b[i - 8] })
}

/// The machine's own clocks, and random numbers of the operating system's making.
#[derive(Debug)]
pub struct SystemEnv {
    origin: std::time::Instant,
}

impl SystemEnv {
    /// An environment whose monotonic clock starts now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            origin: std::time::Instant::now(),
        }
    }
}

impl Default for SystemEnv {
    fn default() -> Self {
        Self::new()
    }
}

impl Env for SystemEnv {
    fn now(&self) -> Now {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is where the wall clock is read"
        )]
        let wall = match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(d) => d.as_micros() as i64,
            Err(before) => -(before.duration().as_micros() as i64),
        };
        Now {
            mono: Instant(self.origin.elapsed().as_nanos() as u64),
            wall: UnixMicros(wall),
        }
    }

    fn random(&self) -> u64 {
        // RandomState is seeded by the operating system; each one has keys of its own.
        use std::hash::{BuildHasher, Hasher, RandomState};
        RandomState::new().build_hasher().finish()
    }
}
