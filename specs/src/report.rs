//! What is printed: traces, and the tables of the README.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::explore::{Outcome, Report, explore};
use crate::options::Options;
use crate::step::Step;
use crate::suite::{CASES, Case, Expected};
use crate::walk::walk;

/// Explores one configuration, with the trace of what it finds.
///
/// # Errors
/// When it can't be written, as by who looked at the first lines only.
pub(crate) fn explore_one(options: &Options, out: &mut impl Write) -> io::Result<ExitCode> {
    if options.walks > 0 {
        return walk_one(options, out);
    }
    let report = explore(options);
    writeln!(out, "{}", summary(&report))?;
    let Outcome::Violation { trace, last, .. } = &report.outcome else {
        return Ok(ExitCode::SUCCESS);
    };
    print_trace(trace, out)?;
    writeln!(out, "{last:#?}")?;
    Ok(ExitCode::FAILURE)
}

fn walk_one(options: &Options, out: &mut impl Write) -> io::Result<ExitCode> {
    let found = walk(options);
    writeln!(out, "{} walks, {} steps", found.walks, found.steps)?;
    for (promise, (times, trace)) in &found.broken {
        writeln!(
            out,
            "VIOLATION {promise}, {times} times; the shortest trace:"
        )?;
        print_trace(trace, out)?;
    }
    Ok(if found.broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print_trace(trace: &[Step], out: &mut impl Write) -> io::Result<()> {
    (1..)
        .zip(trace)
        .try_for_each(|(number, step)| writeln!(out, "{number:4} {step}"))
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
///
/// # Errors
/// When it can't be written.
pub(crate) fn tables(with_long: bool, out: &mut impl Write) -> io::Result<ExitCode> {
    writeln!(out, "| configuration | outcome |\n| --- | --- |")?;
    let mut failed = 0;
    for case in CASES.iter().filter(|case| with_long || !case.long) {
        let report = explore(&case.options());
        let wrong = !case.is_as_expected(&report.outcome);
        failed += usize::from(wrong);
        let mark = if wrong { " **not as expected**" } else { "" };
        writeln!(out, "| `{}` | {}{mark} |", case.words, summary(&report))?;
        out.flush()?;
    }
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("neo-model: {failed} configurations are not as expected");
    Ok(ExitCode::FAILURE)
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
