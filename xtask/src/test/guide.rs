//! Makes the crate of the SDK guide out of the guide alone, as a reader would: outside the
//! workspace, by the commands and files that the guide shows, in their order.
//!
//! A block that begins "```rust file=PATH" is (a further part of) a file, one that begins
//! "```sh run-by-step=examples" are commands.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shell::{Workspace, execute};

const GUIDE: &str = "docs/sdk.md";
const COMMANDS: &str = "run-by-step=examples";

/// The crates of the workspace that the guide's crate stands on. They are compiled once more: a
/// path is a part of a crate's identity, and it is another one from outside.
const CRATES: [&str; 9] = [
    "neo-admin",
    "neo-api",
    "neo-backends",
    "neo-cli",
    "neo-client",
    "neo-master",
    "neo-proto",
    "neo-storage",
    "neo-testkit",
];

pub(super) fn run(workspace: &Workspace) -> Result<()> {
    let path = workspace.root.join(GUIDE);
    let guide =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    // Not under the workspace: cargo would take it for a member.
    let home = std::env::temp_dir().join(format!("neo-sdk-guide-{}", std::process::id()));
    fs::create_dir(&home).with_context(|| format!("cannot make {}", home.display()))?;
    make(workspace, &home, &guide).with_context(|| format!("{GUIDE}, in {}", home.display()))?;
    fs::remove_dir_all(&home).with_context(|| format!("cannot remove {}", home.display()))
}

fn make(workspace: &Workspace, home: &Path, guide: &str) -> Result<()> {
    fs::create_dir(home.join(".cargo"))?;
    fs::write(home.join(".cargo/config.toml"), config())?;
    let mut krate: Option<PathBuf> = None;
    let mut written: Vec<PathBuf> = Vec::new();
    for block in blocks(guide) {
        let directory = krate.as_deref().unwrap_or(home);
        match block {
            Block::Commands(commands) => {
                sh(workspace, directory, &commands)?;
                if krate.is_none() {
                    let made = made(home)?;
                    // What it was tested with, and nothing that has to be fetched.
                    fs::copy(workspace.root.join("Cargo.lock"), made.join("Cargo.lock"))?;
                    krate = Some(made);
                }
            }
            Block::File { name, text } => {
                let path = directory.join(name);
                let goes_on = written.contains(&path);
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent)?;
                }
                let mut options = OpenOptions::new();
                options.create(true).write(true);
                let mut file = options.append(goes_on).truncate(!goes_on).open(&path)?;
                if goes_on {
                    file.write_all(b"\n")?;
                }
                file.write_all(text.as_bytes())?;
                written.push(path);
            }
        }
    }
    if written.is_empty() || krate.is_none() {
        bail!("the guide has no files, or no commands");
    }
    Ok(())
}

/// The profile of the workspace, as far as dependencies are concerned: they are compiled already.
fn config() -> String {
    let own: String = CRATES
        .iter()
        .map(|name| format!("[profile.dev.package.{name}]\nopt-level = 0\n"))
        .collect();
    format!(
        "[profile.dev]\ndebug = \"line-tables-only\"\n\
         [profile.dev.package.\"*\"]\nopt-level = 2\ndebug = false\n{own}"
    )
}

fn sh(workspace: &Workspace, directory: &Path, commands: &str) -> Result<()> {
    print!("{commands}");
    let mut command = Command::new("sh");
    command
        .args(["-euc", commands])
        .current_dir(directory)
        .env("NEO", &workspace.root)
        .env("CARGO_TARGET_DIR", &workspace.target)
        .env("CARGO_NET_OFFLINE", "true")
        .env("CARGO_INCREMENTAL", "0");
    execute(&mut command)
}

/// The crate that the first commands have made.
fn made(home: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(home)? {
        let path = entry?.path();
        if path.join("Cargo.toml").exists() {
            return Ok(path);
        }
    }
    bail!("the first commands of the guide have made no crate")
}

#[derive(Debug, PartialEq, Eq)]
enum Block {
    Commands(String),
    File { name: String, text: String },
}

fn blocks(guide: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = guide.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            continue;
        };
        let inside = lines.by_ref().take_while(|line| *line != "```");
        let text: String = inside.map(|line| format!("{line}\n")).collect();
        let mut words = info.split(' ');
        if words.clone().any(|word| word == COMMANDS) {
            blocks.push(Block::Commands(text));
        } else if let Some(name) = words.find_map(|word| word.strip_prefix("file=")) {
            let name = name.to_owned();
            blocks.push(Block::File { name, text });
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_commands_are_found_in_their_order() {
        let guide = "# A\n\n```sh run-by-step=examples\na\nb\n```\ntext\n```rust file=x in=y\nc\n```\n\n\
                     ```rust in=y\nd\n```\n```sh\ne\n```\n```rust file=z\n```\n";
        let file = |name: &str, text: &str| Block::File {
            name: name.to_owned(),
            text: text.to_owned(),
        };
        let commands = Block::Commands("a\nb\n".to_owned());
        assert_eq!(blocks(guide), [commands, file("x", "c\n"), file("z", "")]);
    }
}
