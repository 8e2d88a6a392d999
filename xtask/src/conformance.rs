//! `cargo xtask conformance [NAME]`: the conformance suites, each by its name, and what came of
//! them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use crate::shell::Workspace;
use crate::tools;

/// What a suite is of, by the macro that emits its cases.
const KINDS: [(&str, &str); 4] = [
    ("backend", "backend_conformance!("),
    ("engine", "engine_conformance!("),
    ("transport", "transport_conformance!("),
    ("election", "election_conformance!("),
];

/// One use of a suite's macro.
#[derive(Debug)]
struct Suite {
    kind: &'static str,
    /// The program of its cases: a test of neo-testkit, or none, that of the examples' parts.
    test: Option<String>,
    /// Where its cases are; `""`: nowhere in a module.
    module: String,
}

impl Suite {
    /// As nextest names its program.
    fn binary(&self) -> String {
        self.test.as_ref().map_or_else(
            || "examples".to_owned(),
            |test| format!("neo-testkit::{test}"),
        )
    }

    /// What it is run on: a backend, say, and how that is opened.
    fn name(&self) -> String {
        let program = self.test.as_deref().unwrap_or("example");
        let program = program.strip_prefix("backend_").unwrap_or(program);
        let modules = self.module.split("::");
        let words = [program].into_iter().chain(modules);
        let words = words.filter(|word| !word.is_empty() && *word != "tests" && *word != self.kind);
        words.collect::<Vec<_>>().join(" ")
    }

    /// Whether it is run on what is asked for.
    fn is_of(&self, name: &str) -> bool {
        self.name().split(' ').any(|word| word == name)
    }

    fn has(&self, binary: &str, test: &str) -> bool {
        let module = test.rsplit_once("::").map_or("", |(module, _)| module);
        self.binary() == binary && self.module == module
    }

    /// Its cases, as nextest is told.
    fn filter(&self) -> String {
        let module = match self.module.as_str() {
            "" => String::new(),
            module => format!("{module}::"),
        };
        format!("(binary_id({}) & test(/^{module}[^:]*$/))", self.binary())
    }
}

/// Runs all suites, or those of what is named.
pub(crate) fn run(workspace: &Workspace, name: Option<&str>) -> Result<()> {
    let all = suites(workspace)?;
    let names: Vec<String> = all.iter().map(Suite::name).collect();
    let is_asked = |suite: &Suite| name.is_none_or(|name| suite.is_of(name));
    let suites: Vec<Suite> = all.into_iter().filter(is_asked).collect();
    if suites.is_empty() {
        bail!(
            "no suite of {:?}; there are: {}",
            name.unwrap_or_default(),
            names.join(", ")
        );
    }
    tools::nextest(workspace)?;
    if suites.iter().any(|suite| suite.is_of("mysql")) {
        tools::mariadb(workspace)?;
    }
    let (outcomes, has_passed) = run_cases(workspace, &suites)?;
    println!(
        "\n{:<10} {:<28} {:>6} {:>7}",
        "suite", "of", "cases", "failed"
    );
    let mut has_none = Vec::new();
    for suite in &suites {
        let of_it = outcomes.iter();
        let of_it = of_it.filter(|((binary, test), _)| suite.has(binary, test));
        let passed: Vec<bool> = of_it.map(|(_, passed)| *passed).collect();
        let failed = passed.iter().filter(|passed| !**passed).count();
        let name = suite.name();
        println!(
            "{:<10} {name:<28} {:>6} {failed:>7}",
            suite.kind,
            passed.len()
        );
        if passed.is_empty() {
            has_none.push(name);
        }
    }
    if !has_none.is_empty() {
        bail!("nothing was run of: {}", has_none.join(", "));
    }
    if !has_passed {
        bail!("a promise is broken: see the cases that failed");
    }
    Ok(())
}

/// Whether each case, by binary and name, passed.
type Outcomes = BTreeMap<(String, String), bool>;

/// Runs cases, shows how, and tells which passed and whether all went well.
fn run_cases(workspace: &Workspace, suites: &[Suite]) -> Result<(Outcomes, bool)> {
    let filters: Vec<String> = suites.iter().map(Suite::filter).collect();
    let filter = filters.join(" | ");
    let mut command = vec![
        "cargo",
        "nextest",
        "run",
        "--locked",
        "--profile=conformance",
    ];
    command.extend(["--package=neo-testkit", "--package=examples"]);
    let mut programs: Vec<&str> = Vec::new();
    for suite in suites {
        programs.extend(match &suite.test {
            Some(test) if !programs.contains(&test.as_str()) => vec!["--test", test],
            None if !programs.contains(&"--lib") => vec!["--lib"],
            _ => Vec::new(),
        });
    }
    command.extend(programs);
    println!("$ {}", command.join(" "));
    command.extend(["--filterset", &filter]);
    let mut child = workspace.command(&command).stderr(Stdio::piped()).spawn()?;
    let said = child.stderr.take().context("nextest says nothing")?;
    let mut outcomes = Outcomes::new();
    for line in BufReader::new(said).lines() {
        let line = line?;
        println!("{line}");
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [status, .., binary, test] = words[..]
            && suites.iter().any(|suite| suite.has(binary, test))
        {
            let key = (binary.to_owned(), test.to_owned());
            // One that is slow is named before it ends.
            if status != "SLOW" {
                outcomes.insert(key, ["PASS", "LEAK"].contains(&status));
            }
        }
    }
    Ok((outcomes, child.wait()?.success()))
}

/// The suites of the tests of neo-testkit, and of the parts of the examples. One that shares its
/// module with other tests would be told with them.
fn suites(workspace: &Workspace) -> Result<Vec<Suite>> {
    let mut suites = Vec::new();
    for (directory, is_program) in [("crates/neo-testkit/tests", true), ("examples/src", false)] {
        let directory = workspace.root.join(directory);
        let entries = fs::read_dir(&directory);
        let entries = entries.with_context(|| format!("cannot list {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                suites.extend(suites_of(&path, is_program)?);
            }
        }
    }
    let rank = |kind| KINDS.iter().position(|(known, _)| *known == kind);
    suites.sort_by_key(|suite| (rank(suite.kind), suite.test.is_none(), suite.name()));
    Ok(suites)
}

/// Those in a file, which is a program of its own or a module.
fn suites_of(path: &Path, is_program: bool) -> Result<Vec<Suite>> {
    let text = fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    let file = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut suites = Vec::new();
    // The modules that a line is in, and how far each is indented.
    let mut modules: Vec<(usize, &str)> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        modules.retain(|(outer, _)| *outer < indent);
        let name = code.strip_prefix("mod ");
        modules.extend(name.and_then(|rest| Some((indent, rest.strip_suffix(" {")?))));
        for (kind, words) in KINDS {
            if code.contains(words) {
                let own = (!is_program).then_some(&*file);
                let inner = modules.iter().map(|(_, name)| *name);
                let module: Vec<&str> = own.into_iter().chain(inner).collect();
                suites.push(Suite {
                    kind,
                    test: is_program.then(|| file.to_string()),
                    module: module.join("::"),
                });
            }
        }
    }
    Ok(suites)
}
