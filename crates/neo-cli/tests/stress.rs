//! `neostress`: a short run, and what it leaves when it is interrupted.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

fn neostress() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_neostress"));
    command.stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(words: &str) -> Output {
    let words = words.split_whitespace();
    neostress().args(words).output().expect("it runs")
}

/// Exit status 0, and the number of commits in the last line.
fn is_well(words: &str) -> u64 {
    let output = run(words);
    let (told, said) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}{told}");
    let last = told.lines().last().expect("a last line");
    assert!(last.ends_with(", 0 anomalies"), "{last}");
    let commits = last.split(' ').next().and_then(|word| word.parse().ok());
    commits.expect("the last line starts with the number of commits")
}

#[test]
fn a_short_run_finds_no_anomaly() {
    let commits = is_well("--seconds 20 --masters 3 --storages 3 --clients 4 --seed 1");
    assert!(commits > 0, "clients get through");
}

#[test]
fn without_faults_every_client_commits() {
    let commits = is_well("--seconds 2 --storages 2 --clients 2 --seed 2 --faults reset");
    assert!(commits > 20, "{commits}");
}

/// Pids of the processes that a process started.
fn children(parent: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").expect("there is a /proc");
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may have anything in it.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn interrupted_it_leaves_no_process() {
    let mut command = neostress();
    command.args(["--seconds", "600", "--storages", "2", "--clients", "1"]);
    // No process is killed: all of them are there at any moment.
    command.args(["--faults", "reset"]);
    let mut running = command.stderr(Stdio::piped()).spawn().expect("it starts");
    let stderr = running.stderr.take().expect("stderr is piped");
    let mut lines = BufReader::new(stderr).lines();
    let mut said = lines.by_ref().map(|line| line.expect("it talks"));
    // It tells the state every now and then: then all processes are there.
    said.find(|line| line.contains(" committed, "))
        .expect("it comes that far");
    let children = children(running.id());
    assert!(children.len() > 2, "{children:?}");
    let kill = Command::new("kill")
        .args(["-INT", &running.id().to_string()])
        .status();
    assert!(kill.expect("kill runs").success());
    let status = running.wait().expect("it ends");
    assert_eq!(status.code(), Some(130));
    let left: Vec<u32> = children
        .into_iter()
        .filter(|pid| parent_of(*pid).is_some())
        .collect();
    assert_eq!(left, Vec::<u32>::new());
}

#[test]
fn what_makes_no_sense_is_said_before_anything_is_started() {
    for (words, text) in [
        (
            "--adapter Memory",
            "a killed node would lose what the adapter Memory keeps; there is SQLite",
        ),
        (
            "--adapter Importer",
            "the adapter Importer is not available in this version; there is SQLite",
        ),
        (
            "--adapter MySQL",
            "databases of MySQL are in no directory; there is SQLite",
        ),
        (
            "--storages 2 --replicas 2",
            "--replicas 2: that needs --storages 3 at least, not 2",
        ),
        ("--adapter Oracle", "there is no adapter \"Oracle\""),
        ("--dir /", "--dir: cannot make /"),
        ("--faults quake", "invalid value 'quake'"),
    ] {
        let output = run(words);
        let said = self::text(&output.stderr);
        assert!(
            !output.status.success() && said.contains(text),
            "{words}: {said}"
        );
    }
}

#[test]
fn help_helps() {
    let output = run("--help");
    assert!(output.status.success());
    let help = text(&output.stdout);
    for word in [
        "--seconds",
        "--masters",
        "--storages",
        "--replicas",
        "--clients",
        "--seed",
        "--adapter",
        "Exit status",
        "- coma:",
        "- split:",
        "- blackout:",
    ] {
        assert!(help.contains(word), "{word}: {help}");
    }
}
