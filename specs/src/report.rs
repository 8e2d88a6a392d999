//! What is printed: traces, and the tables of the README.

use std::process::ExitCode;

use crate::explore::{Outcome, Report, explore};
use crate::options::Options;
use crate::step::Step;
use crate::suite::{CASES, Case, Expected};
use crate::walk::walk;

/// Explores one configuration, with the trace of what it finds.
pub(crate) fn explore_one(options: &Options) -> ExitCode {
    if options.walks > 0 {
        return walk_one(options);
    }
    let report = explore(options);
    println!("{}", summary(&report));
    let Outcome::Violation { trace, last, .. } = &report.outcome else {
        return ExitCode::SUCCESS;
    };
    print_trace(trace);
    println!("{last:#?}");
    ExitCode::FAILURE
}

fn walk_one(options: &Options) -> ExitCode {
    let found = walk(options);
    println!("{} walks, {} steps", found.walks, found.steps);
    for (promise, (times, trace)) in &found.broken {
        println!("VIOLATION {promise}, {times} times; the shortest trace:");
        print_trace(trace);
    }
    if found.broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print_trace(trace: &[Step]) {
    for (number, step) in (1..).zip(trace) {
        println!("{number:4} {step}");
    }
}

fn summary(report: &Report) -> String {
    let Report {
        states,
        depth,
        elapsed,
        outcome,
    } = report;
    let outcome = match outcome {
        Outcome::Exhausted => "exhausted, clean".to_owned(),
        Outcome::Limit => format!("clean to depth {}, not exhausted", depth.saturating_sub(1)),
        Outcome::Violation { promise, trace, .. } => {
            format!("VIOLATION {promise}, after {} steps", trace.len())
        }
    };
    format!(
        "{outcome}; {states} states, depth {depth}, {:.1} s",
        elapsed.as_secs_f32()
    )
}

/// Explores the configurations of the suite, and prints a row for each. Fails when one is not as
/// expected.
pub(crate) fn tables(with_long: bool) -> ExitCode {
    println!("| configuration | outcome |\n| --- | --- |");
    let mut failed = 0;
    for case in CASES.iter().filter(|case| with_long || !case.long) {
        let report = explore(&case.options());
        let wrong = !case.is_as_expected(&report.outcome);
        failed += usize::from(wrong);
        let mark = if wrong { " **not as expected**" } else { "" };
        println!("| `{}` | {}{mark} |", case.words, summary(&report));
    }
    if failed == 0 {
        return ExitCode::SUCCESS;
    }
    eprintln!("neo-model: {failed} configurations are not as expected");
    ExitCode::FAILURE
}

impl Case {
    pub(crate) fn options(&self) -> Options {
        let words: Vec<&str> = self.words.split(' ').collect();
        Options::parse(&words).expect("the suite's options are right")
    }

    pub(crate) fn is_as_expected(&self, outcome: &Outcome) -> bool {
        match (self.expected, outcome) {
            (Expected::Clean, Outcome::Exhausted) => true,
            (Expected::Clean, Outcome::Limit) => self.long,
            (Expected::Broken(expected), Outcome::Violation { promise, .. }) => {
                promise.starts_with(expected)
            }
            _ => false,
        }
    }
}
