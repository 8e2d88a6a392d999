//! The protocol of neo as a model, and a checker that visits all of its states.

mod checks;
mod client;
mod enabled;
mod explore;
mod fingerprint;
mod master;
mod message;
mod network;
mod options;
mod report;
mod set;
mod state;
mod step;
mod storage;
mod suite;
mod table;
mod take;
mod truth;
mod walk;

use std::io::{self, Write};
use std::process::ExitCode;

use options::{Options, Rule};

const HELP: &str = "\
neo-model OPTION...      Explores one configuration; prints the trace of the first violation.
neo-model short | long   The configurations of the README that the tests run, or all of them,
                         as the README's tables.

masters=1 clients=1      1 or 2 each
same-object=1            two clients store the same object, or each its own
crashes=1 breaks=0       how many nodes may crash, how many connections may break
crash=storages,masters,clients   which nodes may
forced=0                 how often an operator may start the cluster without a missing node
copies=0                 how often S1's disk is copied; the copy may be put back while S1 is down
partitions=1 replicated=1   two partitions: both on both storages, or each on its own
objects-everywhere=1     a transaction stores in every partition, or only in the first
first-tid=0              what the first tid follows: where the first metadata is
catching-up=all|last     S1 is OUT_OF_DATE at the start, or only its cell of the last partition
deferred-unlock=1        an unlock that is not synced yet is lost in a crash
latecomers=1             a client also writes to a storage that became ready after begin
hasty=1                  a client may ask to finish before all have voted
prefix=two-primaries     starts after a sequence of three breaks
prefix=one-commit        starts when the second client has committed its transaction
check-stuck=0            states in which nothing more can happen are fine
without=RULE,...         drops rules of the protocol
states=60000000 seconds=600   where to stop
walks=N                  so many random walks, instead of all states
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words, &mut io::stdout()) {
        Ok(code) => code,
        // Who reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("neo-model: cannot print: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str], out: &mut impl Write) -> io::Result<ExitCode> {
    match words {
        ["short"] => report::tables(false, out),
        ["long"] => report::tables(true, out),
        [] | ["help" | "--help" | "-h", ..] => {
            write!(out, "{HELP}rules:")?;
            for (name, _) in Rule::ALL {
                write!(out, " {name}")?;
            }
            writeln!(out)?;
            Ok(ExitCode::SUCCESS)
        }
        _ => match Options::parse(words) {
            Ok(options) => report::explore_one(&options, out),
            Err(error) => {
                eprintln!("neo-model: {error}");
                Ok(ExitCode::FAILURE)
            }
        },
    }
}
