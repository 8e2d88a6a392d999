//! `cargo xtask tidy`: the rules that neither the compiler nor clippy knows.

mod cores;
mod documents;
mod files;
mod manifests;
mod source;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::shell::Workspace;
use source::Source;

/// What was found, in the order of the rules.
#[derive(Debug, Default)]
struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Findings {
    fn error(&mut self, place: impl std::fmt::Display, complaint: impl std::fmt::Display) {
        self.errors.push(format!("{place}: {complaint}"));
    }

    fn warn(&mut self, place: impl std::fmt::Display, complaint: impl std::fmt::Display) {
        self.warnings.push(format!("{place}: {complaint}"));
    }
}

/// The texts of the repository, by their path from the root; `/` on every system.
#[derive(Debug)]
struct Tree {
    texts: BTreeMap<String, String>,
    // Every file and directory, texts or not: what a link may lead to.
    paths: Vec<String>,
}

impl Tree {
    // What git tracks or would: build products and local files are not the repository's.
    fn read(workspace: &Workspace) -> Result<Self> {
        let listed = workspace.output(&[
            "git",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])?;
        let mut tree = Self {
            texts: BTreeMap::new(),
            paths: Vec::new(),
        };
        for path in listed.split_terminator('\0') {
            // A file that is deleted and not yet committed is still listed.
            let Ok(bytes) = fs::read(workspace.root.join(path)) else {
                continue;
            };
            tree.paths.push(path.to_owned());
            let parents = Path::new(path).ancestors().skip(1);
            tree.paths
                .extend(parents.map(|parent| parent.to_string_lossy().into_owned()));
            if let Ok(text) = String::from_utf8(bytes) {
                tree.texts.insert(path.to_owned(), text);
            }
        }
        tree.paths.sort();
        tree.paths.dedup();
        Ok(tree)
    }

    fn has(&self, path: &str) -> bool {
        self.paths
            .binary_search_by(|known| known.as_str().cmp(path))
            .is_ok()
    }

    fn with_extension<'a>(
        &'a self,
        extension: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> + 'a {
        self.texts
            .iter()
            .filter(move |(path, _)| Path::new(path).extension().is_some_and(|e| e == extension))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

/// Prints what is against the rules; an error if anything must be mended.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let tree = Tree::read(workspace)?;
    let mut findings = Findings::default();
    let sources: Vec<Source<'_>> = tree
        .with_extension("rs")
        .map(|(path, text)| Source::new(path, text))
        .collect();
    files::check(&tree, &sources, &mut findings);
    cores::check(&sources, &mut findings);
    manifests::check(workspace, &tree, &mut findings)?;
    documents::check(&tree, &sources, &mut findings);
    for warning in &findings.warnings {
        println!("warning: {warning}");
    }
    for error in &findings.errors {
        println!("error: {error}");
    }
    if !findings.errors.is_empty() {
        bail!("{} things to mend", findings.errors.len());
    }
    println!("{} files are tidy", tree.texts.len());
    Ok(())
}

/// Prints each source file with its line of purpose.
pub(crate) fn map(workspace: &Workspace, crates: &[String]) -> Result<()> {
    let tree = Tree::read(workspace)?;
    for (path, text) in tree.with_extension("rs") {
        let Some((name, file)) = files::in_crate(path) else {
            continue;
        };
        if crates.is_empty() || crates.iter().any(|wanted| wanted == name) {
            println!("{name:14}{file:40}{}", files::purpose(text).unwrap_or("?"));
        }
    }
    Ok(())
}
