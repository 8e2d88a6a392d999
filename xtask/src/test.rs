//! `cargo xtask test`: every check of the project, one step after the other.

mod databases;
mod dependencies;
mod examples;
mod guide;
pub(crate) mod python;

use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::shell::Workspace;
use crate::{api, sim, tidy, tools};

struct Step {
    name: &'static str,
    what: &'static str,
    run: fn(&Workspace) -> Result<()>,
}

// Cheap ones first. The last is the test runner, so that its summary closes the output. All that
// compile use the dev profile and the features of the whole workspace, so that nothing is built
// twice: clippy, doc and the doc tests share the metadata of the dependencies, the rest their code.
const STEPS: &[Step] = &[
    Step {
        name: "tools",
        what: "installs what is missing",
        run: tools::all,
    },
    Step {
        name: "fmt",
        what: "cargo fmt --check",
        run: fmt,
    },
    Step {
        name: "tidy",
        what: "cargo xtask tidy",
        run: tidy::run,
    },
    Step {
        name: "api",
        what: "the public API is the one that docs/api lists",
        run: api::check,
    },
    Step {
        name: "deny",
        what: "licences, banned crates, sources, advisories",
        run: dependencies::run,
    },
    Step {
        name: "clippy",
        what: "all targets, warnings are errors",
        run: clippy,
    },
    Step {
        name: "package",
        what: "every crate can be packaged for publishing",
        run: package,
    },
    Step {
        name: "doc",
        what: "rustdoc, warnings are errors",
        run: doc,
    },
    Step {
        name: "doctest",
        what: "the examples in the documentation",
        run: doctest,
    },
    Step {
        name: "examples",
        what: "runs each program of examples/examples, and makes the crate of docs/sdk.md",
        run: examples::run,
    },
    Step {
        name: "seeds",
        what: "new seeds of the simulator, others each time, or NEO_SEEDS=FROM..TO",
        run: sim::new_seeds,
    },
    Step {
        name: "zodb",
        what: "ZODB reads the databases, neo's copies, and what comes out of a cluster",
        run: databases::run,
    },
    Step {
        name: "python",
        what: "the Python package: its own tests, and ZODB's conformance suites",
        run: python::run,
    },
    Step {
        name: "tests",
        what: "cargo nextest run, without retries",
        run: tests,
    },
];

/// The lines of the help text.
pub(crate) fn help() -> String {
    STEPS
        .iter()
        .map(|step| format!("{:26}{:9} {}\n", "", step.name, step.what))
        .collect()
}

/// Runs all steps, or those named.
pub(crate) fn run(workspace: &Workspace, names: &[String]) -> Result<()> {
    let named = |name: &String| {
        STEPS
            .iter()
            .find(|step| step.name == name)
            .with_context(|| format!("no such step: {name}"))
    };
    let steps: Vec<&Step> = if names.is_empty() {
        STEPS.iter().collect()
    } else {
        names.iter().map(named).collect::<Result<_>>()?
    };
    let started = Instant::now();
    for step in &steps {
        println!("\n== {}: {}", step.name, step.what);
        let step_started = Instant::now();
        let result = (step.run)(workspace);
        let seconds = step_started.elapsed().as_secs_f32();
        if let Err(error) = result {
            println!("== {} FAILED after {seconds:.1} s: {error:#}", step.name);
            bail!(
                "stopped at the step {:?}; to repeat it: cargo xtask test {0}",
                step.name
            );
        }
        println!("== {} ok in {seconds:.1} s", step.name);
    }
    let names: Vec<&str> = steps.iter().map(|step| step.name).collect();
    let seconds = started.elapsed().as_secs_f32();
    println!("\n== passed in {seconds:.1} s: {}", names.join(", "));
    Ok(())
}

fn fmt(workspace: &Workspace) -> Result<()> {
    workspace.run(&["cargo", "fmt", "--all", "--check"])
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let targets = [
        "cargo",
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        // A database that was measured beside the others, and is part of nothing else.
        "--features=neobench/fjall",
    ];
    workspace.run(&[&targets[..], &["--", "--deny", "warnings"]].concat())?;
    // The backends without what they bring by default.
    workspace.run(&[
        "cargo",
        "clippy",
        "--locked",
        "--package=neo-backends",
        "--no-default-features",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ])
}

fn package(workspace: &Workspace) -> Result<()> {
    // They are compiled by the other steps; what depends on a crate that is not published yet
    // could not be, from a package.
    let command = [
        "cargo",
        "package",
        "--workspace",
        "--exclude=xtask",
        "--exclude=examples",
        "--exclude=neobench",
        "--exclude=neo-model",
        "--no-verify",
        "--allow-dirty",
        "--locked",
        "--quiet",
    ];
    workspace.run(&command)
}

fn doc(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.command(&["cargo", "doc", "--locked", "--workspace", "--no-deps"]);
    crate::shell::execute(command.env("RUSTDOCFLAGS", "--deny warnings"))
}

fn doctest(workspace: &Workspace) -> Result<()> {
    workspace.run(&[
        "cargo",
        "test",
        "--locked",
        "--workspace",
        "--doc",
        "--quiet",
    ])
}

fn tests(workspace: &Workspace) -> Result<()> {
    tools::python(workspace)?;
    workspace.run(&[
        "cargo",
        "nextest",
        "run",
        "--locked",
        "--workspace",
        "--profile",
        "ci",
    ])
}
