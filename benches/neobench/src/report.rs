//! The table, and the same as JSON.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::cluster::Shape;
use crate::workload::{CommitLoad, Commits};

/// Which side of a bound is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Want {
    /// Less is better.
    AtMost,
    /// More is better.
    AtLeast,
}

#[derive(Debug, Serialize)]
struct Figure {
    name: String,
    value: f64,
    unit: String,
}

#[derive(Debug, Serialize)]
struct CommitRow {
    cluster: String,
    concurrency: usize,
    object_bytes: usize,
    objects: usize,
    p50_us: f64,
    p99_us: f64,
    commits_per_s: f64,
    megabytes_per_s: f64,
    cpu: Vec<(String, f64)>,
}

#[derive(Debug, Serialize)]
struct Target {
    name: String,
    value: f64,
    bound: f64,
    want: Want,
    met: bool,
}

/// Figures of several runs, a row each.
#[derive(Debug, Serialize)]
struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<(String, Vec<f64>)>,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: String,
    limits: Vec<Figure>,
    commits: Vec<CommitRow>,
    figures: Vec<Figure>,
    tables: Vec<Table>,
    targets: Vec<Target>,
}

/// How a cluster is called in the table.
pub(crate) fn name(shape: Shape) -> String {
    format!(
        "{} storage(s), {} replica(s)",
        shape.storages, shape.replicas
    )
}

impl Report {
    /// Nothing measured yet.
    pub(crate) fn new() -> Self {
        Self {
            machine: machine(),
            limits: Vec::new(),
            commits: Vec::new(),
            figures: Vec::new(),
            tables: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// A figure of the machine without neo.
    pub(crate) fn limit(&mut self, name: impl Into<String>, value: f64, unit: &str) {
        let name = name.into();
        eprintln!("{name}: {value:.1} {unit}");
        self.limits.push(Figure {
            name,
            value,
            unit: unit.into(),
        });
    }

    /// A figure of neo.
    pub(crate) fn line(&mut self, name: impl Into<String>, value: f64, unit: &str) {
        let name = name.into();
        eprintln!("{name}: {value:.1} {unit}");
        self.figures.push(Figure {
            name,
            value,
            unit: unit.into(),
        });
    }

    /// A row of the table of commits.
    pub(crate) fn commits(
        &mut self,
        shape: Shape,
        load: CommitLoad,
        done: &Commits,
        cpu: &[(String, Duration)],
    ) {
        let row = CommitRow {
            cluster: name(shape),
            concurrency: load.concurrency,
            object_bytes: load.object_bytes,
            objects: load.objects,
            p50_us: done.latencies.p50(),
            p99_us: done.latencies.p99(),
            commits_per_s: done.per_second,
            megabytes_per_s: done.per_second * (load.objects * load.object_bytes) as f64 / 1e6,
            cpu: cpu
                .iter()
                .map(|(role, time)| (role.clone(), time.as_secs_f64()))
                .collect(),
        };
        eprintln!("{row}");
        self.commits.push(row);
    }

    /// Figures that belong together: the names of the columns, and a name for each row.
    pub(crate) fn table(&mut self, title: String, columns: &[&str], rows: Vec<(String, Vec<f64>)>) {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        self.tables.push(Table {
            title,
            columns,
            rows,
        });
    }

    /// Where a figure should be.
    pub(crate) fn target(&mut self, name: String, value: f64, bound: f64, want: Want) {
        let met = match want {
            Want::AtMost => value <= bound,
            Want::AtLeast => value >= bound,
        };
        let target = Target {
            name,
            value,
            bound,
            want,
            met,
        };
        eprintln!("{target}");
        self.targets.push(target);
    }

    /// The same, for programs.
    pub(crate) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }
}

/// Processor and number of cores, as the system tells.
fn machine() -> String {
    let model = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{cores} cores, {}",
        model.as_deref().unwrap_or("unknown processor")
    )
}

impl fmt::Display for CommitRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<26} {:>4} {:>7} {:>5} {:>9.0} {:>9.0} {:>9.0} {:>8.1}  ",
            self.cluster,
            self.concurrency,
            self.object_bytes,
            self.objects,
            self.p50_us,
            self.p99_us,
            self.commits_per_s,
            self.megabytes_per_s
        )?;
        for (role, seconds) in &self.cpu {
            write!(f, " {role} {seconds:.2}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}\n{:<22}", self.title, "")?;
        for column in &self.columns {
            write!(f, "  {column:>8}")?;
        }
        for (name, figures) in &self.rows {
            write!(f, "\n{name:<22}")?;
            for (figure, column) in figures.iter().zip(&self.columns) {
                let width = column.len().max(8);
                if figure.is_nan() {
                    write!(f, "  {:>width$}", "-")?;
                } else {
                    write!(f, "  {figure:>width$.1}")?;
                }
            }
        }
        writeln!(f)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (met, sign) = match (self.met, self.want) {
            (true, Want::AtMost) => ("met   ", "<="),
            (true, Want::AtLeast) => ("met   ", ">="),
            (false, Want::AtMost) => ("MISSED", "<="),
            (false, Want::AtLeast) => ("MISSED", ">="),
        };
        write!(
            f,
            "{met}  {}: {:.1} {sign} {:.1}",
            self.name, self.value, self.bound
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "machine: {}", self.machine)?;
        if !self.limits.is_empty() {
            writeln!(f, "\nlimits")?;
        }
        for figure in &self.limits {
            writeln!(
                f,
                "  {:<50} {:>12.1} {}",
                figure.name, figure.value, figure.unit
            )?;
        }
        if !self.commits.is_empty() {
            writeln!(
                f,
                "\ncommits\n{:<26} {:>4} {:>7} {:>5} {:>9} {:>9} {:>9} {:>8}   processor seconds",
                "cluster", "conc", "bytes", "objs", "p50 us", "p99 us", "commit/s", "MB/s"
            )?;
            for row in &self.commits {
                writeln!(f, "{row}")?;
            }
        }
        if !self.figures.is_empty() {
            writeln!(f, "\nfigures")?;
        }
        for figure in &self.figures {
            writeln!(
                f,
                "  {:<50} {:>12.1} {}",
                figure.name, figure.value, figure.unit
            )?;
        }
        for table in &self.tables {
            write!(f, "{table}")?;
        }
        if !self.targets.is_empty() {
            writeln!(f, "\ntargets")?;
        }
        for target in &self.targets {
            writeln!(f, "  {target}")?;
        }
        Ok(())
    }
}
