//! What a process does with a database: fill it, use it, and go on until it is killed; or open it
//! again.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::neo::Neo;
use super::subject::{Source, Subject};
use super::{place, raw};
use crate::stats::Latencies;

/// Objects of a batch that fills, and bytes of each.
const FILL: (u64, usize) = (256, 4096);
/// Objects of a transaction, and bytes of each.
const COMMIT: (u64, usize) = (4, 1024);
/// Of the objects that fill, one in so many is written twice, to be packed.
const TWICE: u64 = 8;
const LOADS: u64 = 20_000;
/// Commits before a process is killed.
const COMMITS: usize = 200;

/// Through what a database is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// A storage backend.
    Neo,
    /// Nothing.
    Raw,
}

/// What the process of a database does.
#[derive(Debug, Clone, Args)]
pub(crate) struct Work {
    /// Through what.
    #[arg(long)]
    pub(super) side: Side,
    /// Which adapter.
    #[arg(long)]
    pub(super) adapter: String,
    /// What it is told.
    #[arg(long)]
    pub(super) database: String,
    /// What is on disk.
    #[arg(long)]
    pub(super) directory: Option<PathBuf>,
    /// How much there is.
    #[arg(long)]
    pub(super) megabytes: u64,
    /// How long commits are measured.
    #[arg(long)]
    pub(super) seconds: f64,
    /// Opens it again, where it has all of this tid and data id.
    #[arg(long)]
    pub(super) after: Option<u64>,
}

/// What is told of the first process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Figures {
    pub(super) one_us: f64,
    pub(super) one_per_s: f64,
    pub(super) eight_per_s: f64,
    pub(super) fill: f64,
    pub(super) scan: f64,
    pub(super) pack: Option<f64>,
    pub(super) disk: Option<f64>,
    pub(super) memory: f64,
    /// p50 and p99, in the process that wrote them.
    pub(super) loads: (f64, f64),
    /// The last tid and data id.
    last: (u64, u64),
}

impl Figures {
    /// No id of the process is greater, as it does not live for long.
    pub(super) fn last(&self) -> u64 {
        self.last.0.max(self.last.1) + (1 << 32)
    }
}

/// What is told of the process that opens it again.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Opened {
    /// From its start to opening to the first load and commit.
    pub(super) ready_ms: f64,
    /// p50 and p99.
    pub(super) loads: (f64, f64),
}

impl Work {
    /// The process itself.
    pub(crate) fn run(&self) -> Result<()> {
        let start = Instant::now();
        let mut subject: Box<dyn Subject> = match self.side {
            Side::Neo => Box::new(Neo::open(&self.adapter, &self.database)?),
            Side::Raw => raw::open(&self.adapter, &self.database)?,
        };
        let Some(after) = self.after else {
            return self.work(subject);
        };
        subject.load(0)?;
        let mut source = Source::after(after, after);
        subject.commit(vec![source.transaction([after], COMMIT.1)])?;
        tell(&Opened {
            ready_ms: start.elapsed().as_secs_f64() * 1e3,
            loads: self.loads(&mut *subject)?,
        })?;
        subject.close()
    }

    fn objects(&self) -> u64 {
        let values = (self.megabytes << 20) / FILL.1 as u64;
        values * TWICE / (TWICE + 1)
    }

    fn work(&self, mut subject: Box<dyn Subject>) -> Result<()> {
        let mut source = Source::after(0, 0);
        let fill = self.fill(&mut *subject, &mut source)?;
        let mut commits = |group: u64, time| commits(&mut *subject, &mut source, group, time);
        let time = Duration::from_secs_f64(self.seconds);
        let (one, one_per_s) = commits(1, time)?;
        let (_, eight_per_s) = commits(8, time)?;
        subject.sync()?;
        let start = Instant::now();
        let scanned = subject.scan()?;
        let scan = scanned as f64 / 1e6 / start.elapsed().as_secs_f64();
        let loads = self.loads(&mut *subject)?;
        let directory = self.directory.as_deref();
        let disk = directory.map(place::disk).transpose()?;
        let start = Instant::now();
        let packed = subject.pack()?;
        let took = start.elapsed().as_secs_f64();
        tell(&Figures {
            one_us: one.p50(),
            one_per_s,
            eight_per_s,
            fill,
            scan,
            pack: packed.map(|packed| packed as f64 / took),
            disk,
            memory: place::memory(std::process::id())?,
            loads,
            last: source.last(),
        })?;
        if directory.is_none() {
            return subject.close();
        }
        // Until it is killed.
        loop {
            commit(&mut *subject, &mut source, 1)?;
            tell(&())?;
        }
    }

    /// Megabytes a second.
    fn fill(&self, subject: &mut dyn Subject, source: &mut Source) -> Result<f64> {
        let objects = self.objects();
        let start = Instant::now();
        let mut bytes = 0;
        for count in [objects, objects / TWICE] {
            for from in (0..count).step_by(FILL.0 as usize) {
                let oids = from..count.min(from + FILL.0);
                bytes += (oids.end - oids.start) * FILL.1 as u64;
                subject.fill(source.transaction(oids, FILL.1))?;
            }
        }
        subject.sync()?;
        Ok(bytes as f64 / 1e6 / start.elapsed().as_secs_f64())
    }

    /// Of objects from anywhere.
    fn loads(&self, subject: &mut dyn Subject) -> Result<(f64, f64)> {
        let objects = self.objects();
        let mut latencies = Latencies::default();
        for n in 1..=LOADS {
            let oid = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % objects;
            let start = Instant::now();
            let bytes = subject.load(oid)?;
            latencies.add(start.elapsed());
            anyhow::ensure!(bytes == FILL.1, "object {oid} has {bytes} bytes");
        }
        Ok((latencies.p50(), latencies.p99()))
    }

    /// Runs it as a process to its end.
    pub(super) fn run_once(&self) -> Result<Figures> {
        let mut process = Process::start(self)?;
        let figures = process.line()?;
        process.end()?;
        Ok(figures)
    }

    /// Runs it as a process that is killed while it commits.
    pub(super) fn run_until_killed(&self) -> Result<Figures> {
        let mut process = Process::start(self)?;
        let figures = process.line()?;
        for _ in 0..COMMITS {
            process.line::<()>()?;
        }
        process.child.kill()?;
        process.child.wait()?;
        Ok(figures)
    }

    /// Runs a process that opens it again.
    pub(super) fn open_again(&self) -> Result<Opened> {
        let mut process = Process::start(self)?;
        let opened = process.line()?;
        process.end()?;
        Ok(opened)
    }
}

/// Transactions of new objects.
fn commit(subject: &mut dyn Subject, source: &mut Source, group: u64) -> Result<()> {
    let mut transaction = || {
        let first = (1 << 40) + source.last().1;
        source.transaction(first..first + COMMIT.0, COMMIT.1)
    };
    let group = (0..group).map(|_| transaction()).collect();
    subject.commit(group)
}

/// Latencies of groups, and transactions a second.
fn commits(
    subject: &mut dyn Subject,
    source: &mut Source,
    group: u64,
    time: Duration,
) -> Result<(Latencies, f64)> {
    let mut latencies = Latencies::default();
    let begun = Instant::now();
    while begun.elapsed() < time {
        let start = Instant::now();
        commit(subject, source, group)?;
        latencies.add(start.elapsed());
    }
    let transactions = latencies.len() as f64 * group as f64;
    Ok((latencies, transactions / begun.elapsed().as_secs_f64()))
}

fn tell(what: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(what)?)?;
    Ok(out.flush()?)
}

/// A process that tells what it has done, a line each.
struct Process {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Process {
    fn start(work: &Work) -> Result<Self> {
        let side = work.side.to_possible_value().context("it has a name")?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("backend-work")
            .args(["--side", side.get_name()])
            .args(["--adapter", &work.adapter])
            .args(["--database", &work.database])
            .args(["--megabytes", &work.megabytes.to_string()])
            .args(["--seconds", &work.seconds.to_string()]);
        if let Some(directory) = &work.directory {
            command.arg("--directory").arg(directory);
        }
        if let Some(after) = work.after {
            command.args(["--after", &after.to_string()]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().context("stdout is piped")?;
        let lines = BufReader::new(out);
        Ok(Self { child, lines })
    }

    fn line<T: for<'de> Deserialize<'de>>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        serde_json::from_str(&line).context("the process of a database ended")
    }

    fn end(mut self) -> Result<()> {
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "the process of a database: {status}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
