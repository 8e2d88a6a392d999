//! `cargo xtask fuzz [SECONDS]`: the fuzz targets, for a while each.

use std::fs;

use anyhow::{Context as _, Result};

use crate::shell::{Workspace, execute};

/// How often the generator of the tests runs in place of a second of fuzzing.
const ITERATIONS_PER_SECOND: u64 = 30_000;

/// With cargo-fuzz where it is installed, else with the generator of the tests.
pub(crate) fn run(workspace: &Workspace, seconds: u64) -> Result<()> {
    if !workspace.succeeds(&["cargo", "fuzz", "--version"]) {
        println!("cargo-fuzz is not installed: the same entry points, fed by the tests' generator");
        let mut command = workspace.command(&["cargo", "test", "--release", "--locked"]);
        command.args(["--package=neo-proto", "--test=wire", "fuzz"]);
        let iterations = seconds * ITERATIONS_PER_SECOND;
        return execute(command.env("NEO_FUZZ_ITERATIONS", iterations.to_string()));
    }
    let time = format!("-max_total_time={seconds}");
    for target in targets(workspace)? {
        // The sanitizers need a nightly compiler, and there is no unsafe code to watch over.
        workspace.run(&[
            "cargo",
            "fuzz",
            "run",
            "--sanitizer=none",
            &target,
            "--",
            &time,
        ])?;
    }
    Ok(())
}

fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let directory = workspace.root.join("fuzz/fuzz_targets");
    let entries =
        fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut targets = Vec::new();
    for entry in entries {
        let path = entry?.path();
        targets.extend(
            path.file_stem()
                .map(|stem| stem.to_string_lossy().into_owned()),
        );
    }
    targets.sort();
    Ok(targets)
}
