//! Runs seeds of the simulator: `cargo xtask sim --seeds FROM..TO [--threads N] [--trace]`.
//!
//! Each failing seed is told with the command that replays it; the last line has the totals.

use std::ops::Range;
use std::process::ExitCode;
use std::time::Instant;

use neo_api::{Env, SystemEnv};
use neo_testkit::random::{Batch, Failure, MUTATIONS, Report, RunSettings, parse_seeds, sweep};

const USAGE: &str = "\
usage: cargo xtask sim [--seeds FROM..TO | --new N] [--threads N] [--trace] [--quiet]
                       [--mutate RULE]

  --seeds FROM..TO  These seeds, TO not included; by default NEO_SEEDS, or 0..100.
  --new N           So many seeds that nobody has run: the first is the time, in milliseconds
                    since 1970. Which they are is told first, and NEO_SEEDS goes before.
  --threads N       On so many threads; by default as many as there are processors.
  --trace           Every message, write and fault, as it happens; one seed after the other.
  --quiet           Nothing of seeds in which nothing is wrong.
  --mutate RULE     Breaks a rule, to see that it is found out: durability, read-lock, conflicts,
                    replication, invalidation. Stops at the first seed that fails.
";

/// What replays seeds with the same compiled code: one that is optimised checks less.
const REPLAY: &str = if cfg!(debug_assertions) {
    "cargo run --package=neo-testkit --example=sim --"
} else {
    "cargo xtask sim"
};

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
    let from_env = std::env::var("NEO_SEEDS").ok();
    let from_env = from_env.map(|text| seeds("NEO_SEEDS", &text)).transpose()?;
    let mut options = Options {
        batch: Batch::new(from_env.clone().unwrap_or(0..100)),
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
                options.batch.seeds = seeds("--seeds", &value()?)?.collect();
            }
            "--new" => {
                let count = count("--new", &value()?)?;
                let seeds = from_env.clone().unwrap_or_else(|| new_seeds(count));
                let Range { start, end } = seeds;
                println!("seeds {start}..{end}; to repeat them: {REPLAY} --seeds {start}..{end}");
                options.batch.seeds = seeds.collect();
            }
            "--threads" => {
                options.batch.threads = count("--threads", &value()?)? as usize;
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

fn seeds(from: &str, text: &str) -> Result<Range<u64>, String> {
    parse_seeds(text).ok_or_else(|| format!("{from}: {text:?} is no FROM..TO, FROM being less"))
}

fn count(option: &str, text: &str) -> Result<u32, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| format!("{option}: {text:?} is no number above 0"))
}

/// Later runs begin at another millisecond, whatever was run before.
fn new_seeds(count: u32) -> Range<u64> {
    let first = SystemEnv::new().now().wall.0.unsigned_abs() / 1000;
    first..first + u64::from(count)
}

fn main() -> ExitCode {
    if std::env::args()
        .skip(1)
        .any(|word| word == "--help" || word == "-h")
    {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
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
                 to replay it: {REPLAY} --seeds {seed}..{end}{repeats} --trace"
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
