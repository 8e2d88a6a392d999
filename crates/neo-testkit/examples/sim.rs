//! Runs seeds of the simulator: `cargo xtask sim --seeds FROM..TO [--threads N] [--trace]`.
//!
//! Each failing seed is told with the command that replays it; the last line has the totals.

use std::process::ExitCode;
use std::time::Instant;

use neo_testkit::random::{
    Batch, Failure, MUTATIONS, Report, RunSettings, parse_seeds, seeds_from_env, sweep,
};

const USAGE: &str = "\
usage: cargo xtask sim [--seeds FROM..TO] [--threads N] [--trace] [--quiet]
                       [--mutate RULE]

  --seeds FROM..TO  These seeds, TO not included; by default NEO_SEEDS, or 0..100.
  --threads N       On so many threads; by default as many as there are processors.
  --trace           Every message, write and fault, as it happens; one seed after the other.
  --quiet           Nothing of seeds in which nothing is wrong.
  --mutate RULE     Breaks a rule, to see that it is found out: durability, read-lock, conflicts,
                    replication, invalidation. Stops at the first seed that fails.
";

#[derive(Debug)]
struct Options {
    batch: Batch,
    traces: bool,
    is_quiet: bool,
}

fn options(arguments: impl Iterator<Item = String>) -> Option<Options> {
    let mut arguments = arguments;
    let mut options = Options {
        batch: Batch::new(seeds_from_env().unwrap_or(0..100)),
        traces: false,
        is_quiet: false,
    };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seeds" => options.batch.seeds = parse_seeds(&arguments.next()?)?.collect(),
            "--threads" => {
                options.batch.threads = arguments.next()?.parse().ok().filter(|n| *n > 0)?;
            }
            "--trace" => options.traces = true,
            "--quiet" => options.is_quiet = true,
            "--mutate" => {
                let name = arguments.next()?;
                let mutation = MUTATIONS.iter().find(|rule| rule.name == name)?;
                options.batch.tunes.push(mutation.tune);
                options.batch.stops = true;
            }
            _ => return None,
        }
    }
    if options.traces {
        options.batch.threads = 1;
        let prints = |settings: &mut RunSettings| settings.world.prints_trace = true;
        options.batch.tunes.push(prints);
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let started = Instant::now();
    let tell = |result: &Result<Report, Failure>| match result {
        Ok(_) if options.is_quiet => {}
        Ok(report) => println!("{report}"),
        Err(failure) => {
            let seed = failure.seed;
            let end = seed + 1;
            println!(
                "FAILED {failure}\nto replay it: cargo xtask sim --seeds {seed}..{end} --trace"
            );
        }
    };
    let totals = sweep(&options.batch, tell);
    println!("{totals}, {:.1} s", started.elapsed().as_secs_f64());
    if totals.failures() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
