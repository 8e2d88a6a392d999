//! All states, breadth first, so that the trace of a violation is as short as any.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use crate::fingerprint::{FingerprintMap, fingerprint};
use crate::options::{Options, Prefix};
use crate::state::State;
use crate::step::Step;

/// What an exploration found.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) states: usize,
    pub(crate) depth: u32,
    pub(crate) elapsed: Duration,
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    /// Every state that can be reached was visited, and all promises are kept.
    Exhausted,
    /// It came to the limit of states or time without a violation.
    Limit,
    Violation {
        promise: &'static str,
        trace: Vec<Step>,
        last: Box<State>,
    },
}

/// Visits all states, or as many as the limits allow.
pub(crate) fn explore(options: &Options) -> Report {
    let first = first_state(options);
    let root = fingerprint(&first);
    let mut search = Search {
        options,
        started: Instant::now(),
        // From each state's fingerprint to that of the state from which it was reached.
        seen: FingerprintMap::default(),
        queue: VecDeque::new(),
        depth: 0,
    };
    search.seen.insert(root, 0);
    search.queue.push_back((0, first.clone()));
    let end = search.run();
    let outcome = match end {
        End::Exhausted => Outcome::Exhausted,
        End::Limit => Outcome::Limit,
        End::Violation(at, promise) => {
            let (trace, last) = search.trace(first, root, at);
            Outcome::Violation {
                promise,
                trace,
                last: Box::new(last),
            }
        }
    };
    Report {
        states: search.seen.len(),
        depth: search.depth,
        elapsed: search.started.elapsed(),
        outcome,
    }
}

/// The initial state, or the one after the prefix.
pub(crate) fn first_state(options: &Options) -> State {
    let state = State::initial(options);
    match options.prefix {
        Prefix::None => state,
        Prefix::TwoPrimaries => two_primaries(state, options),
        Prefix::OneCommit => one_commit(state, options),
    }
}

fn two_primaries(mut state: State, options: &Options) -> State {
    let steps = [
        Step::BreakSeenByMaster {
            master: 0,
            storage: 0,
        },
        Step::BreakSeenByStorage {
            master: 0,
            storage: 1,
        },
        Step::MasterLosesStorage {
            master: 0,
            storage: 1,
        },
        Step::StorageLosesMaster {
            master: 0,
            storage: 0,
        },
        Step::SecondaryRises { master: 1 },
        Step::StorageConnects {
            master: 1,
            storage: 0,
        },
        Step::StorageConnects {
            master: 1,
            storage: 1,
        },
    ];
    for step in steps {
        let mut enabled = Vec::new();
        state.enabled(options, &mut enabled);
        assert!(
            enabled.contains(&step),
            "the prefix needs 2 masters and 3 breaks: {step}"
        );
        state = state.after(step, options);
    }
    state
}

fn one_commit(mut state: State, options: &Options) -> State {
    let is_of_others = |step: &Step| {
        step.is_fault()
            || matches!(
                step,
                Step::ClientConnects { client: 0, .. } | Step::StorageReplicates { .. }
            )
    };
    let mut steps = Vec::new();
    loop {
        steps.clear();
        state.enabled(options, &mut steps);
        let Some(step) = steps.iter().find(|step| !is_of_others(step)) else {
            return state;
        };
        state = state.after(*step, options);
    }
}

enum End {
    Exhausted,
    Limit,
    Violation(u64, &'static str),
}

struct Search<'a> {
    options: &'a Options,
    started: Instant,
    seen: FingerprintMap<u64>,
    queue: VecDeque<(u32, State)>,
    depth: u32,
}

impl Search<'_> {
    fn run(&mut self) -> End {
        let mut steps = Vec::new();
        while let Some((depth, state)) = self.queue.pop_front() {
            self.depth = depth;
            steps.clear();
            state.enabled(self.options, &mut steps);
            let from = fingerprint(&state);
            if steps.iter().all(Step::is_fault)
                && let Some(promise) = state.wrong_at_end(self.options)
            {
                return End::Violation(from, promise);
            }
            for &step in &steps {
                let next = state.after(step, self.options);
                let to = fingerprint(&next);
                let Entry::Vacant(entry) = self.seen.entry(to) else {
                    continue;
                };
                entry.insert(from);
                if let Some(promise) = next.truth.broken {
                    return End::Violation(to, promise);
                }
                self.queue.push_back((depth + 1, next));
            }
            if self.is_over_limit() {
                return End::Limit;
            }
        }
        End::Exhausted
    }

    fn is_over_limit(&self) -> bool {
        self.seen.len() > self.options.states_max
            || self.started.elapsed().as_secs() >= self.options.seconds_max
    }

    /// The steps from the first state to the one with this fingerprint.
    fn trace(&self, first: State, root: u64, at: u64) -> (Vec<Step>, State) {
        let mut path = vec![at];
        let mut last = at;
        while last != root {
            last = self.seen[&last];
            path.push(last);
        }
        let mut state = first;
        let mut trace = Vec::new();
        for &next in path.iter().rev().skip(1) {
            let mut steps = Vec::new();
            state.enabled(self.options, &mut steps);
            let (step, after) = steps
                .into_iter()
                .map(|step| (step, state.after(step, self.options)))
                .find(|(_, after)| fingerprint(after) == next)
                .expect("each state on the path was reached by a step from the one before");
            trace.push(step);
            state = after;
        }
        (trace, state)
    }
}
