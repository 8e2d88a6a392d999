//! The workspace, and how commands are run in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Where the repository is, and where its build products go.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The directory of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target directory.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// The workspace that this program was built from.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask is not in a workspace")?
            .to_owned();
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |directory| root.join(directory));
        Ok(Self { root, target })
    }

    /// What xtask itself installs and makes: nothing else in the tree is written to.
    pub(crate) fn own(&self) -> PathBuf {
        self.target.join("xtask")
    }

    /// The Python that has ZODB.
    pub(crate) fn python(&self) -> PathBuf {
        self.own().join("venv/bin/python")
    }

    /// A command in the root, which finds the installed tools, and gets no standard input.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let (program, arguments) = words.split_first().expect("a command has a name");
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(&self.root)
            .env("PATH", self.path())
            .env("NEO_PYTHON", self.python())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command and shows it; an error if it fails.
    pub(crate) fn run(&self, words: &[&str]) -> Result<()> {
        execute(&mut self.command(words))
    }

    /// The standard output of a command that must succeed.
    pub(crate) fn output(&self, words: &[&str]) -> Result<String> {
        let output = self
            .command(words)
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot run {}", words.join(" ")))?;
        if !output.status.success() {
            bail!("{}: {}", words.join(" "), output.status);
        }
        String::from_utf8(output.stdout).with_context(|| format!("{} printed no text", words[0]))
    }

    /// Whether a command runs and succeeds; it prints nothing.
    pub(crate) fn succeeds(&self, words: &[&str]) -> bool {
        self.command(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    // The tools installed by xtask come last: what the machine has is preferred.
    fn path(&self) -> OsString {
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        path.push(":");
        path.push(self.own().join("tools/bin"));
        path.push(":");
        path.push(self.own().join("venv/bin"));
        path
    }
}

/// Runs a command and shows it; an error if it fails.
pub(crate) fn execute(command: &mut Command) -> Result<()> {
    let shown = show(command);
    println!("$ {shown}");
    let status = command
        .status()
        .with_context(|| format!("cannot run {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}
