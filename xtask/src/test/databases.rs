//! ZODB has the last word on FileStorage files: those of `testdata/`, copies that neo wrote, and what
//! comes out of a cluster that they were put into.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::shell::{Workspace, execute};
use crate::tools;

/// Compares each file, neo's copy of it, and what a cluster makes of it, with the manifest.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    tools::python(workspace)?;
    let copies = workspace.own().join("databases");
    match fs::remove_dir_all(&copies) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => fs::create_dir_all(&copies)?,
    }
    workspace.run(&[
        "cargo",
        "build",
        "--locked",
        "--workspace",
        "--bins",
        "--examples",
    ])?;
    let mut compared = 0;
    for entry in fs::read_dir(workspace.root.join("testdata"))? {
        let source = entry?.path();
        if source.extension().is_none_or(|extension| extension != "fs") {
            continue;
        }
        let manifest = source.with_extension("jsonl");
        let copy = copies.join(source.file_name().context("a file has a name")?);
        let mut program = workspace.command(&[&built(workspace, "examples/filestorage_copy")]);
        execute(program.arg(&source).arg(&copy))?;
        compare(workspace, &source, &manifest, &[])?;
        compare(workspace, &copy, &manifest, &[])?;
        // A cluster has one revision of an object for a transaction.
        let export = through_a_cluster(workspace, &source, &copy)?;
        compare(workspace, &export, &manifest, &["--last"])?;
        compared += 1;
    }
    ensure!(compared > 0, "testdata/ has no databases");
    println!(
        "{compared} databases, their copies and their ways through a cluster are as they should"
    );
    Ok(())
}

fn built(workspace: &Workspace, program: &str) -> String {
    let path = workspace.target.join("debug").join(program);
    path.to_string_lossy().into_owned()
}

fn compare(workspace: &Workspace, file: &Path, manifest: &Path, more: &[&str]) -> Result<()> {
    let script = workspace.root.join("testdata/compare_zodb.py");
    let mut compare = workspace.command(&[&workspace.python().to_string_lossy()]);
    execute(compare.arg(script).arg(file).arg(manifest).args(more))
}

/// Imports a file into a new cluster of two storage nodes, each with a copy of everything, and
/// exports it again.
fn through_a_cluster(workspace: &Workspace, source: &Path, beside: &Path) -> Result<PathBuf> {
    let export = beside.with_extension("export.fs");
    let cluster = Cluster::start(workspace, source, &beside.with_extension("cluster"))?;
    let mut migrate = workspace.command(&[&built(workspace, "neomigrate"), "-q", "-c", "main"]);
    execute(migrate.arg(&cluster.masters).arg(&export))?;
    cluster.stop(workspace)?;
    Ok(export)
}

/// A `neosimple` that has said that it is ready; killed when this is dropped.
struct Cluster {
    process: Child,
    masters: String,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Cluster {
    fn start(workspace: &Workspace, import: &Path, dir: &Path) -> Result<Self> {
        let program = built(workspace, "neosimple");
        let shape = ["--storages", "2", "--replicas", "1"];
        let mut command = workspace.command(&[&program]);
        command.args(shape).arg("--import").arg(import);
        command.arg("--dir").arg(dir).stdout(Stdio::piped());
        println!("$ {program} --import {}", import.display());
        let process = command.spawn().context("cannot run neosimple")?;
        let mut cluster = Self {
            process,
            masters: String::new(),
        };
        let stdout = cluster.process.stdout.take();
        let mut line = String::new();
        BufReader::new(stdout.context("it is a pipe")?).read_line(&mut line)?;
        let masters = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("masters="));
        masters
            .context("neosimple does not say that it is ready")?
            .clone_into(&mut cluster.masters);
        Ok(cluster)
    }

    fn stop(mut self, workspace: &Workspace) -> Result<()> {
        workspace.run(&["kill", "-TERM", &self.process.id().to_string()])?;
        let status = self.process.wait()?;
        ensure!(status.success(), "neosimple: {status}");
        Ok(())
    }
}
