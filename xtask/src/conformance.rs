//! `cargo xtask conformance BACKEND`: one backend's conformance suite.

use anyhow::Result;

use crate::shell::Workspace;
use crate::tools;

/// Runs the tests named `conformance` of the backend; finding none is a failure.
pub(crate) fn run(workspace: &Workspace, backend: &str) -> Result<()> {
    tools::nextest(workspace)?;
    let filter = format!("test(/conformance/) & (test(/{backend}/) | binary(/{backend}/))");
    workspace.run(&[
        "cargo",
        "nextest",
        "run",
        "--workspace",
        "--filterset",
        &filter,
    ])
}
