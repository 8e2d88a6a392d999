//! ZODB has the last word on FileStorage files: those of `testdata/`, and copies that neo wrote.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::shell::{Workspace, execute};
use crate::tools;

/// Compares each file, and neo's copy of it, with the manifest.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    tools::python(workspace)?;
    let copies = workspace.own().join("databases");
    match fs::remove_dir_all(&copies) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => fs::create_dir_all(&copies)?,
    }
    workspace.run(&["cargo", "build", "--locked", "--workspace", "--examples"])?;
    let copy_program = workspace.target.join("debug/examples/filestorage_copy");
    let mut compared = 0;
    for entry in fs::read_dir(workspace.root.join("testdata"))? {
        let source = entry?.path();
        if source.extension().is_none_or(|extension| extension != "fs") {
            continue;
        }
        let manifest = source.with_extension("jsonl");
        let copy = copies.join(source.file_name().context("a file has a name")?);
        execute(
            workspace
                .command(&[&copy_program.to_string_lossy()])
                .arg(&source)
                .arg(&copy),
        )?;
        for file in [&source, &copy] {
            let script = workspace.root.join("testdata/compare_zodb.py");
            let mut compare = workspace.command(&[&workspace.python().to_string_lossy()]);
            execute(compare.arg(script).arg(file).arg(&manifest))?;
        }
        compared += 1;
    }
    ensure!(compared > 0, "testdata/ has no databases");
    println!("{compared} databases and their copies are as their manifests say");
    Ok(())
}
