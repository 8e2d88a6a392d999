//! Every crate can be published, and takes part in the workspace's lints.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Findings, Tree};
use crate::shell::Workspace;

const FIELDS: &[&str] = &[
    "description",
    "license",
    "readme",
    "repository",
    "rust_version",
];

pub(super) fn check(workspace: &Workspace, tree: &Tree, findings: &mut Findings) -> Result<()> {
    let metadata = workspace.output(&[
        "cargo",
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version=1",
    ])?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;
    for package in packages {
        let name = package["name"]
            .as_str()
            .unwrap_or("a package without a name");
        if !has_lints(workspace, tree, package) {
            findings.error(name, "its Cargo.toml lacks `[lints] workspace = true`");
        }
        // An empty list of registries is what `publish = false` reads as.
        if package["publish"].as_array().is_some_and(Vec::is_empty) {
            continue;
        }
        for field in FIELDS {
            if package[field].as_str().is_none_or(str::is_empty) {
                findings.error(name, format_args!("its Cargo.toml has no {field}"));
            }
        }
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // What only tests need is left out of a package when it has no version.
            let is_for_tests = dependency["kind"] == "dev";
            if !dependency["path"].is_null() && dependency["req"] == "*" && !is_for_tests {
                let on = dependency["name"].as_str().unwrap_or("?");
                findings.error(name, format_args!("depends on {on} by its path alone"));
            }
        }
    }
    Ok(())
}

fn has_lints(workspace: &Workspace, tree: &Tree, package: &Value) -> bool {
    let path = package["manifest_path"].as_str().unwrap_or_default();
    let relative = std::path::Path::new(path)
        .strip_prefix(&workspace.root)
        .unwrap_or_else(|_| path.as_ref());
    tree.texts
        .get(&*relative.to_string_lossy())
        .is_some_and(|text| text.contains("[lints]\nworkspace = true"))
}
