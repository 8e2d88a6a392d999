//! A cluster of real processes, started by `neosimple --processes`, and what they use.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What a cluster is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Storage nodes.
    pub(crate) storages: u32,
    /// Copies beside the first.
    pub(crate) replicas: u32,
}

/// A running cluster; its processes end with it.
#[derive(Debug)]
pub(crate) struct Cluster {
    simple: Child,
    master: String,
    log: PathBuf,
}

/// What a process of the cluster uses.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    /// `client`, `master`, `storage`, `admin` or `simple`.
    pub(crate) role: String,
    /// Processor time since its start.
    pub(crate) cpu: Duration,
    /// Most resident memory until now, in bytes.
    pub(crate) resident_max: u64,
}

impl Cluster {
    /// Starts a fresh cluster in a directory, every node a process of its own.
    pub(crate) fn start(dir: &Path, shape: Shape) -> Result<Self> {
        Self::start_as(dir, shape, true)
    }

    /// Starts a fresh cluster in a directory, in one process or in several.
    pub(crate) fn start_as(dir: &Path, shape: Shape, processes: bool) -> Result<Self> {
        let program = neosimple()?;
        let log = dir.with_extension("log");
        let stderr = fs::File::create(&log)?;
        let mut simple = Command::new(&program)
            .args(processes.then_some("--processes"))
            .args(["--dir".into(), dir.display().to_string()])
            .args(["--storages".into(), shape.storages.to_string()])
            .args(["--replicas".into(), shape.replicas.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .env("RUST_LOG", "warn,neo_storage::server=info")
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stdout = simple.stdout.take().context("stdout is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let master = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("masters="))
            .with_context(|| format!("neosimple did not become ready: see {}", log.display()))?
            .to_owned();
        Ok(Self {
            simple,
            master,
            log,
        })
    }

    /// Address of the master.
    pub(crate) fn master(&self) -> &str {
        &self.master
    }

    /// What each process uses now.
    pub(crate) fn usage(&self) -> Result<Vec<Usage>> {
        let root = self.simple.id();
        let mut usage = vec![
            usage_of(std::process::id(), "client")?,
            usage_of(root, "simple")?,
        ];
        for child in children_of(root)? {
            let arguments = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
            let role = ["master", "storage", "admin"]
                .into_iter()
                .find(|role| arguments.contains(role))
                .unwrap_or("other");
            usage.push(usage_of(child, role)?);
        }
        Ok(usage)
    }

    /// Stops it cleanly; tells how often a storage node synced its disk, on the average.
    pub(crate) fn stop(mut self) -> Result<f64> {
        self.terminate()?;
        let log = fs::read_to_string(&self.log)?;
        let groups = log
            .split("synced_groups=")
            .skip(1)
            .filter_map(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        let groups: Vec<f64> = groups.collect();
        Ok(groups.iter().sum::<f64>() / groups.len().max(1) as f64)
    }

    fn terminate(&mut self) -> Result<()> {
        let pid = self.simple.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.simple.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.simple.kill()?;
                bail!("neosimple did not stop within 20 s of SIGTERM");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if matches!(self.simple.try_wait(), Ok(None)) {
            let _ = self.terminate();
        }
    }
}

/// The program, beside this one.
fn neosimple() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("neosimple");
    if !program.exists() {
        bail!(
            "{} is missing: build it with `cargo build --release --bin neosimple`",
            program.display()
        );
    }
    Ok(program)
}

fn children_of(pid: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let fields = stat_fields(child).unwrap_or_default();
        if fields.get(1).and_then(|parent| parent.parse().ok()) == Some(pid) {
            children.push(child);
        }
    }
    children.sort_unstable();
    Ok(children)
}

/// Fields of `/proc/PID/stat` after the program's name, which may have spaces.
fn stat_fields(pid: u32) -> Result<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("no program name in stat")?;
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

fn usage_of(pid: u32, role: &str) -> Result<Usage> {
    let fields = stat_fields(pid)?;
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|f| f.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident_max = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0);
    Ok(Usage {
        role: role.to_owned(),
        // USER_HZ is 100 on every Linux that Rust runs on.
        cpu: Duration::from_millis((ticks(11) + ticks(12)) * 10),
        resident_max: resident_max * 1024,
    })
}
