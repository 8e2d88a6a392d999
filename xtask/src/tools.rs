//! Installs what the tests need and the machine lacks.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::shell::{Workspace, execute};

const NEXTEST_VERSION: &str = "0.9.151";
const DENY_VERSION: &str = "0.20.2";
const REQUIREMENTS: &str = concat!(
    include_str!("../requirements.txt"),
    include_str!("../requirements-any-python.txt")
);

/// Everything that `cargo xtask test` uses.
pub(crate) fn all(workspace: &Workspace) -> Result<()> {
    nextest(workspace)?;
    deny(workspace)?;
    if !workspace.succeeds(&["strace", "--version"]) {
        apt_install(workspace, &["strace"])?;
    }
    mariadb(workspace)?;
    python(workspace)
}

/// The server that tests start in directories of their own, with its engines.
pub(crate) fn mariadb(workspace: &Workspace) -> Result<()> {
    const PACKAGES: &[&str] = &["mariadb-server", "mariadb-plugin-rocksdb"];
    let state = "--showformat=${db:Status-Status}\n";
    let states = workspace.output(&[&["dpkg-query", "--show", state], PACKAGES].concat());
    let are_installed = states.is_ok_and(|states| states.lines().all(|it| it == "installed"));
    if are_installed {
        return Ok(());
    }
    apt_install(workspace, PACKAGES)
}

/// The test runner.
pub(crate) fn nextest(workspace: &Workspace) -> Result<()> {
    // Without its self-update, which brings a TLS stack along.
    let features = ["--no-default-features", "--features=default-no-update"];
    cargo_tool(workspace, "cargo-nextest", NEXTEST_VERSION, &features)
}

/// The check of licences and dependencies.
pub(crate) fn deny(workspace: &Workspace) -> Result<()> {
    cargo_tool(workspace, "cargo-deny", DENY_VERSION, &[])
}

/// A virtual environment with ZODB, made anew when the requirements have changed.
pub(crate) fn python(workspace: &Workspace) -> Result<()> {
    environment(
        workspace,
        &workspace.own().join("venv"),
        REQUIREMENTS,
        |python| {
            install(workspace, python, "requirements.txt", &[])?;
            let whatever_it_asks = ["--no-deps", "--ignore-requires-python"];
            install(
                workspace,
                python,
                "requirements-any-python.txt",
                &whatever_it_asks,
            )
        },
    )
}

/// A virtual environment, made anew when its requirements have changed.
pub(crate) fn environment(
    workspace: &Workspace,
    venv: &Path,
    requirements: &str,
    install: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    // Written last, so that an interrupted installation is not taken for a whole one.
    let stamp = venv.join("requirements.txt");
    let python = venv.join("bin/python");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == requirements)
        && workspace.succeeds(&[&text(&python)?, "--version"])
    {
        return Ok(());
    }
    println!("installing Python packages into {}", venv.display());
    if !workspace.succeeds(&["python3", "-c", "import venv, ensurepip"]) {
        apt_install(workspace, &["python3", "python3-venv"])?;
    }
    workspace.run(&["python3", "-m", "venv", "--clear", &text(venv)?])?;
    install(&python)?;
    fs::write(&stamp, requirements).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Installs what a file of `xtask/` names into the environment of a Python.
pub(crate) fn install(
    workspace: &Workspace,
    python: &Path,
    requirements: &str,
    options: &[&str],
) -> Result<()> {
    let requirements = text(&workspace.root.join("xtask").join(requirements))?;
    let mut command = workspace.command(&[&text(python)?, "-m", "pip", "install", "--quiet"]);
    command
        .args(["--disable-pip-version-check", "--require-hashes"])
        .args(options)
        .args(["--requirement", &requirements]);
    execute(&mut command)
}

// Unoptimised, the tools are built in a minute or two and are fast enough.
fn cargo_tool(workspace: &Workspace, name: &str, version: &str, features: &[&str]) -> Result<()> {
    let (cargo, subcommand) = name
        .split_once('-')
        .expect("tools are subcommands of cargo");
    if workspace.succeeds(&[cargo, subcommand, "--version"]) {
        return Ok(());
    }
    let own = workspace.own();
    println!(
        "installing {name} {version} into {}",
        own.join("tools").display()
    );
    let mut command = workspace.command(&["cargo", "install", "--locked", "--debug", "--quiet"]);
    command
        .args([name, "--version", version])
        .args(features)
        .arg("--root")
        .arg(own.join("tools"))
        .arg("--target-dir")
        .arg(own.join("tools-build"))
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    execute(&mut command)?;
    fs::remove_dir_all(own.join("tools-build")).context("cannot remove what the build left")
}

/// Installs packages of Debian. What they bring to be a service of the machine is not started: tests
/// start servers of their own.
pub(crate) fn apt_install(workspace: &Workspace, packages: &[&str]) -> Result<()> {
    let wanted = packages.join(", ");
    println!("installing {wanted} by apt-get");
    let sudo: &[&str] = if workspace.output(&["id", "-u"])?.trim() == "0" {
        &[]
    } else {
        &["sudo", "--non-interactive"]
    };
    // Where the scripts of packages look for programs.
    let programs = no_services(workspace)?;
    let path = format!("Dpkg::Path={programs}:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin");
    let apt_get = |arguments: &[&str]| {
        let apt_get = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
        let words = [sudo, &apt_get, &["--option", &path], arguments];
        workspace.run(&words.concat())
    };
    let installed = apt_get(&["update", "--quiet=2"]).and_then(|()| {
        let install = ["install", "--quiet=2", "--yes", "--no-install-recommends"];
        apt_get(&[&install, packages].concat())
    });
    if let Err(error) = installed {
        bail!("the tests need {wanted}: install it, then try again ({error:#})");
    }
    Ok(())
}

/// A directory with programs that start services, but do not.
fn no_services(workspace: &Workspace) -> Result<String> {
    let directory = workspace.own().join("no-services");
    fs::create_dir_all(&directory)?;
    for name in ["invoke-rc.d", "deb-systemd-invoke"] {
        let program = directory.join(name);
        fs::write(&program, "#!/bin/sh\nexit 0\n")?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    }
    text(&directory)
}

/// A path as an argument of a command.
pub(crate) fn text(path: &Path) -> Result<String> {
    let text = path
        .to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(text.to_owned())
}
