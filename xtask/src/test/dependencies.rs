//! What the project depends on: licences, banned crates, sources, advisories.

use anyhow::Result;

use crate::shell::Workspace;
use crate::tools;

/// Advisories are left out, with the reason, where their database cannot be fetched.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    tools::deny(workspace)?;
    workspace.run(&[
        "cargo", "deny", "--locked", "check", "bans", "licenses", "sources",
    ])?;
    let fetched = workspace
        .command(&["cargo", "deny", "fetch", "db"])
        .output()?;
    if fetched.status.success() {
        return workspace.run(&["cargo", "deny", "--locked", "check", "advisories"]);
    }
    let stderr = String::from_utf8_lossy(&fetched.stderr);
    let reason = stderr
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("no reason given");
    println!("advisories: not checked, their database cannot be fetched: {reason}");
    Ok(())
}
