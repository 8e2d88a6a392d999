//! Random walks: not exhaustive, but they go deeper than a search of all states can.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::explore::first_state;
use crate::options::Options;
use crate::state::State;
use crate::step::Step;

const STEPS_MAX: usize = 400;

/// What the walks found: by broken promise, how often, and the shortest trace.
#[derive(Debug, Default)]
pub(crate) struct Walks {
    pub(crate) walks: u64,
    pub(crate) steps: u64,
    pub(crate) broken: BTreeMap<&'static str, (u64, Vec<Step>)>,
}

/// As many walks as the options say, always the same ones.
pub(crate) fn walk(options: &Options) -> Walks {
    let started = Instant::now();
    let first = first_state(options);
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    let mut found = Walks::default();
    while found.walks < options.walks && started.elapsed().as_secs() < options.seconds_max {
        found.walks += 1;
        let mut walker = Walker {
            options,
            // Each walk has its own rate of faults, and of noticing them late.
            fault_one_in: 4 + random.below(60),
            lazy: random.below(3) == 0,
            random: &mut random,
            trace: Vec::new(),
        };
        let broken = walker.go(first.clone());
        let trace = walker.trace;
        found.steps += trace.len() as u64;
        if let Some(promise) = broken {
            let (times, shortest) = found
                .broken
                .entry(promise)
                .or_insert_with(|| (0, trace.clone()));
            *times += 1;
            if trace.len() < shortest.len() {
                *shortest = trace;
            }
        }
    }
    found
}

struct Walker<'a> {
    options: &'a Options,
    random: &'a mut Random,
    fault_one_in: u64,
    lazy: bool,
    trace: Vec<Step>,
}

impl Walker<'_> {
    fn go(&mut self, mut state: State) -> Option<&'static str> {
        let mut steps = Vec::new();
        for _ in 0..STEPS_MAX {
            steps.clear();
            state.enabled(self.options, &mut steps);
            let quiet = steps.iter().all(Step::is_fault);
            if quiet && let Some(promise) = state.wrong_at_end(self.options) {
                return Some(promise);
            }
            let fault = self.random.below(self.fault_one_in) == 0;
            if quiet && !fault {
                return None;
            }
            steps.retain(|step| {
                let late = self.lazy && step.is_notice() && self.random.below(8) != 0;
                step.is_fault() == fault && !late
            });
            if steps.is_empty() {
                continue;
            }
            let step = steps[self.random.below(steps.len() as u64) as usize];
            self.trace.push(step);
            state = state.after(step, self.options);
            if state.truth.broken.is_some() {
                return state.truth.broken;
            }
        }
        None
    }
}

// Marsaglia's xorshift: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
