//! The commands of the guide to neo in Rust, in their order, with the files that it shows.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::harness::Running;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// The port that the guide names.
const PORT: &str = "10000";
/// What starts a cluster.
const NEOSIMPLE: &str =
    "cargo run --release --manifest-path \"$NEO/Cargo.toml\" --bin neosimple -- ";

/// A block of the guide that is more than text.
enum Block {
    Commands(String),
    File { path: String, text: String },
}

fn blocks(guide: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut rest = guide;
    while let Some((_, after)) = rest.split_once("\n```") {
        let (info, after) = after.split_once('\n').unwrap();
        let (text, after) = after.split_once("```\n").unwrap();
        if info.starts_with("sh ") {
            blocks.push(Block::Commands(text.to_owned()));
        } else if let Some((_, path)) = info.split_once(" file=") {
            let (path, text) = (path.to_owned(), text.to_owned());
            blocks.push(Block::File { path, text });
        }
        // The newline before the next block may be the one behind this one.
        rest = &guide[guide.len() - after.len() - 1..];
    }
    blocks
}

/// A directory in which commands are given, one after the other.
struct Terminal {
    directory: PathBuf,
}

impl Terminal {
    /// What they print.
    fn run(&mut self, commands: &str) -> String {
        let output = Command::new("sh")
            .args(["-c", &format!("set -eu\n{commands}\npwd")])
            .current_dir(&self.directory)
            .env("NEO", fs::canonicalize(ROOT).unwrap())
            // What was compiled stays for the next time.
            .env(
                "CARGO_TARGET_DIR",
                Path::new(env!("CARGO_TARGET_TMPDIR")).join("guide"),
            )
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{commands}: {stdout}\n{stderr}");
        let (printed, directory) = stdout.trim_end().rsplit_once('\n').unwrap_or(("", &stdout));
        self.directory = directory.trim_end().into();
        printed.to_owned()
    }
}

#[test]
fn the_guide_to_rust_runs() {
    let guide = fs::read_to_string(Path::new(ROOT).join("docs/rust.md")).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("neo-data");
    let mut terminal = Terminal {
        directory: home.path().to_owned(),
    };
    let mut cluster = None;
    let mut printed = Vec::new();
    for block in blocks(&guide) {
        match block {
            Block::File { path, text } => {
                let path = terminal.directory.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Block::Commands(commands) => match commands.strip_prefix(NEOSIMPLE) {
                // It was built together with this test.
                Some(arguments) => {
                    let arguments = arguments.trim_end().replace(PORT, &port);
                    let mut all = vec!["--dir", data.to_str().unwrap()];
                    all.extend(arguments.split(' '));
                    let mut running = Running::start("neosimple", &all);
                    assert!(running.stdout_line().starts_with("RUNNING "));
                    cluster = Some(running);
                }
                None => printed.push(terminal.run(&commands.replace(PORT, &port))),
            },
        }
    }
    let hello = printed.iter().any(|text| text == "Some(b\"hello\")");
    assert!(hello, "{printed:#?}");
    let last = printed.last().unwrap();
    assert!(
        last.contains("what_is_committed_survives_a_node ... ok"),
        "{last}"
    );
    cluster.unwrap().stop("TERM");
}
