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
    /// What a replay of a seed has to repeat besides.
    repeats: String,
}

fn options(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut arguments = arguments;
    let mut options = Options {
        batch: Batch::new(seeds_from_env().unwrap_or(0..100)),
        traces: false,
        is_quiet: false,
        repeats: String::new(),
    };
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let value = arguments.next();
            value.ok_or_else(|| format!("{argument} wants a value"))
        };
        match argument.as_str() {
            "--seeds" => {
                let text = value()?;
                let seeds = parse_seeds(&text);
                let seeds = seeds.ok_or_else(|| format!("{text:?} is no FROM..TO"))?;
                options.batch.seeds = seeds.collect();
            }
            "--threads" => {
                let text = value()?;
                let threads = text.parse().ok().filter(|n| *n > 0);
                options.batch.threads =
                    threads.ok_or_else(|| format!("{text:?} is no number of threads"))?;
            }
            "--trace" => options.traces = true,
            "--quiet" => options.is_quiet = true,
            "--mutate" => {
                let name = value()?;
                let mutation = MUTATIONS.iter().find(|rule| rule.name == name);
                let mutation = mutation.ok_or_else(|| format!("there is no rule {name:?}"))?;
                options.repeats = format!(" --mutate {name}");
                options.batch.tunes.push(mutation.tune);
                options.batch.stops = true;
            }
            _ => return Err(format!("{argument:?} is no option")),
        }
    }
    if options.traces {
        options.batch.threads = 1;
        let prints = |settings: &mut RunSettings| settings.world.prints_trace = true;
        options.batch.tunes.push(prints);
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(words) => {
            eprint!("{words}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    let tell = |result: &Result<Report, Failure>| match result {
        Ok(_) if options.is_quiet => {}
        Ok(report) => println!("{report}"),
        Err(failure) => {
            let seed = failure.seed;
            let end = seed + 1;
            let repeats = &options.repeats;
            println!(
                "FAILED {failure}\n\
                 to replay it: cargo xtask sim --seeds {seed}..{end}{repeats} --trace"
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
