//! Tests that run themselves under strace: it tells what they ask the system for, and refuses some of it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

const DATABASE: &str = "NEO_TEST_TRACED_DATABASE";

/// The database of the process that is traced, when this one is it.
pub(crate) fn traced() -> Option<PathBuf> {
    std::env::var_os(DATABASE).map(PathBuf::from)
}

/// A name for a place in the trace: a look at a file that does not exist.
pub(crate) fn mark(name: &str) {
    assert!(!Path::new("/mark").join(name).exists());
}

/// What goes into the trace, as a list of strace's, so that marks do too.
pub(crate) fn with_marks(calls: &str) -> Vec<OsString> {
    vec![
        "-e".into(),
        format!("trace={calls},stat,statx,newfstatat").into(),
    ]
}

/// The system refuses some of these calls, in the words of strace's `inject`.
pub(crate) fn refused(calls: &str, how: &str) -> Vec<OsString> {
    vec![
        "-e".into(),
        format!("trace={calls}").into(),
        "-e".into(),
        format!("inject={calls}:{how}").into(),
    ]
}

/// Runs a test of this program in a process of its own, on a database; what it traced.
pub(crate) fn run(test: &str, database: &Path, arguments: &[OsString]) -> String {
    let out = database.with_extension("trace");
    let mut command = Command::new("strace");
    // Other calls than these pass by it, which is many times faster.
    command.args(["-f", "-y", "--seccomp-bpf"]).args(arguments);
    command.arg("-o").arg(&out);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command.env(DATABASE, database);
    let output = command.output();
    let output = output.expect("strace is installed, as `cargo xtask test` does");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    std::fs::read_to_string(out).unwrap()
}

/// What was called between two marks, a letter each, where there is one for it.
pub(crate) fn calls(
    trace: &str,
    [from, to]: [&str; 2],
    letter: impl FnMut(&str) -> Option<char>,
) -> String {
    let [from, to] = [from, to].map(|name| trace.find(&format!("/mark/{name}\"")).unwrap());
    trace[from..to].lines().filter_map(letter).collect()
}
