//! Makes programs of the snippets of the guide, for the doc tests: they don't say each time that
//! there is a cluster, and a client.

use std::path::Path;
use std::{env, fs};

const GUIDE: &str = "../docs/rust.md";

/// Before a snippet that is no program. Rustdoc does not show what comes behind `#`.
const BEGIN: &str = "\
# #[tokio::main]
# async fn main() -> Result<(), Box<dyn std::error::Error>> {
# let cluster = neo_testkit::Cluster::builder().storages(2).replicas(1).start().await?;
# let client = cluster.client().await?;
";
const END: &str = "# Ok(()) }\n";

fn main() {
    println!("cargo::rerun-if-changed={GUIDE}");
    let guide = fs::read_to_string(GUIDE).expect("the guide is there");
    let directory = env::var_os("OUT_DIR").expect("cargo says where");
    let programs = Path::new(&directory).join("rust.md");
    fs::write(programs, runnable(&guide)).expect("cargo's directory can be written");
}

fn runnable(guide: &str) -> String {
    let mut out = String::new();
    let mut in_snippet = false;
    for line in guide.lines() {
        if in_snippet && line == "```" {
            out.push_str(END);
            in_snippet = false;
        }
        out.push_str(fence(line));
        out.push('\n');
        if line == "```rust" {
            out.push_str(BEGIN);
            in_snippet = true;
        }
    }
    out
}

/// Of what begins a block, what rustdoc knows of.
fn fence(line: &str) -> &str {
    match line.split_once(' ') {
        // A whole program is run with its commands, by a test.
        Some(("```rust", _)) => "```no_run",
        Some((start, _)) if start.starts_with("```") => start,
        _ => line,
    }
}
