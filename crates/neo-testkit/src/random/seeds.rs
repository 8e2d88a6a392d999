//! Many seeds, on several threads.

use std::any::Any;
use std::num::NonZero;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::driver::{Failure, run};
use super::report::{Report, Totals};
use super::settings::RunSettings;

/// Seeds to run, and how.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Which seeds.
    pub seeds: Vec<u64>,
    /// On how many threads.
    pub threads: usize,
    /// Each changes what each seed stands for.
    pub tunes: Vec<fn(&mut RunSettings)>,
    /// No other seed is begun after the first that fails.
    pub stops: bool,
}

impl Batch {
    /// Some seeds, on as many threads as there are processors.
    pub fn new(seeds: impl IntoIterator<Item = u64>) -> Self {
        Self {
            seeds: seeds.into_iter().collect(),
            threads: std::thread::available_parallelism().map_or(1, NonZero::get),
            tunes: Vec::new(),
            stops: false,
        }
    }
}

/// Runs every seed of a batch; each one that ends is told to `ended`, on its thread.
pub fn sweep(batch: &Batch, ended: impl Fn(&Result<Report, Failure>) + Sync) -> Totals {
    let next = AtomicUsize::new(0);
    let totals = Mutex::new(Totals::default());
    let work = || {
        while let Some(seed) = batch.seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut settings = RunSettings::of_seed(*seed);
            for tune in &batch.tunes {
                tune(&mut settings);
            }
            let result = caught(&settings);
            ended(&result);
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(report) => totals.add(report),
                Err(_) => {
                    totals.add_failure();
                    if batch.stops {
                        next.store(batch.seeds.len(), Ordering::Relaxed);
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..batch.threads {
            scope.spawn(work);
        }
        work();
    });
    totals.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A run whose panics are failures.
fn caught(settings: &RunSettings) -> Result<Report, Failure> {
    let result = catch_unwind(AssertUnwindSafe(|| run(settings)));
    result.unwrap_or_else(|panic| {
        Err(Failure {
            seed: settings.seed,
            what: format!("panic: {}", words(&*panic)),
            trace: String::new(),
        })
    })
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without words")
}

/// A range of seeds that are at least one: `FROM..TO`.
#[must_use]
pub fn parse_seeds(text: &str) -> Option<Range<u64>> {
    let (from, to) = text.split_once("..")?;
    let seeds = from.parse().ok()?..to.parse().ok()?;
    (!seeds.is_empty()).then_some(seeds)
}
