//! Every backend, beside the database that it stands on, called without neo.
//!
//! Each is filled, used and killed in a process of its own, so that what it takes of memory is its
//! own, and SIGKILL is the end of it.

#[cfg(feature = "fjall")]
mod fjall;
mod neo;
mod place;
mod raw;
mod subject;
mod work;

use std::path::Path;

use anyhow::Result;
use clap::Args;

use crate::report::{Report, Want};
use place::{Kind, Place};
pub(crate) use work::Work;
use work::{Opened, Side};

/// Memory that each database has for what it reads.
const CACHE_BYTES: u64 = 64 << 20;
/// What neo should add to a database, in percent of the time that it takes.
const COST_MAX: f64 = 30.0;

/// Backends beside what they stand on.
#[derive(Debug, Clone, Args)]
pub(crate) struct Backends {
    /// Megabytes (MiB) of values.
    #[arg(long, default_value_t = 1024)]
    megabytes: u64,
    /// Seconds for each figure of commits.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Less of everything, to see that it works.
    #[arg(long)]
    short: bool,
    /// Only these, by their names in the table (default: all).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// Name, adapter, and where its databases are.
const BACKENDS: &[(&str, &str, Kind)] = &[
    ("Memory", "Memory", Kind::Memory),
    ("SQLite", "SQLite", Kind::Path("")),
    ("Redb", "Redb", Kind::Path("")),
    ("Redb/quick_repair", "Redb", Kind::Path("quick_repair=on")),
    ("Sled", "Sled", Kind::Path("")),
    #[cfg(feature = "fjall")]
    ("Fjall", "Fjall", Kind::Path("")),
    ("MariaDB/InnoDB", "MySQL", Kind::Server("InnoDB")),
    ("MariaDB/RocksDB", "MySQL", Kind::Server("RocksDB")),
];

const COLUMNS: [&str; 11] = [
    "1 us",
    "1 /s",
    "8 /s",
    "fill MB/s",
    "load us",
    "p99 us",
    "scan MB/s",
    "pack /s",
    "disk MB",
    "memory MB",
    "recovery ms",
];
/// Of these columns, what neo costs is told: whether they are times, and not rates.
const COMPARED: [(usize, bool); 5] = [(0, true), (2, false), (3, false), (4, true), (6, false)];

impl Backends {
    /// Measures.
    pub(crate) fn measure(&self, dir: &Path, report: &mut Report) -> Result<()> {
        let (mut with, mut without, mut costs) = (Vec::new(), Vec::new(), Vec::new());
        for &(name, adapter, kind) in BACKENDS {
            if !self.only.is_empty() && !self.only.iter().any(|only| only == name) {
                continue;
            }
            let neo = self.figures(dir, adapter, kind, Side::Neo)?;
            eprintln!("{name}: {neo:.1?}");
            let raw = self.figures(dir, adapter, kind, Side::Raw)?;
            eprintln!("{name}, without neo: {raw:.1?}");
            let cost = |&(at, is_time): &(usize, bool)| {
                let more: f64 = if is_time {
                    neo[at] / raw[at]
                } else {
                    raw[at] / neo[at]
                };
                (more - 1.0) * 100.0
            };
            let cost: Vec<f64> = COMPARED.iter().map(cost).collect();
            with.push((name.to_owned(), neo));
            without.push((name.to_owned(), raw));
            costs.push((name.to_owned(), cost));
        }
        let compared = COMPARED.map(|(at, _)| COLUMNS[at]);
        for (name, cost) in &costs {
            for (cost, column) in cost.iter().zip(compared) {
                let name = format!("{name}: what neo adds to {column}, %");
                report.target(name, *cost, COST_MAX, Want::AtMost);
            }
        }
        let (megabytes, _) = self.amount();
        let what = format!(
            "{megabytes} MiB of 4 KiB values; transactions of 4 objects of 1 KiB: one at a time \
             (half of them took so long, a second) and 8 in a group (a second)"
        );
        report.table(format!("backends of neo: {what}"), &COLUMNS, with);
        report.table("the same without neo".to_owned(), &COLUMNS, without);
        report.table("what neo adds, % of the time".to_owned(), &compared, costs);
        Ok(())
    }

    fn amount(&self) -> (u64, f64) {
        if self.short {
            (self.megabytes.min(32), self.seconds.min(0.3))
        } else {
            (self.megabytes, self.seconds)
        }
    }

    /// A row of the table.
    fn figures(&self, dir: &Path, adapter: &str, kind: Kind, side: Side) -> Result<Vec<f64>> {
        let mut place = Place::new(kind, dir)?;
        let (megabytes, seconds) = self.amount();
        let work = Work {
            side,
            adapter: adapter.to_owned(),
            database: place.database()?,
            directory: place.directory(),
            megabytes,
            seconds,
            after: None,
        };
        let (figures, opened, restart) = if let Kind::Memory = kind {
            let figures = work.run_once()?;
            (figures, None, 0.0)
        } else {
            let mut figures = work.run_until_killed()?;
            if let Some(memory) = place.server_memory()? {
                figures.memory = memory;
            }
            let restart = place.crash()?;
            let again = Work {
                after: Some(figures.last()),
                ..work
            };
            (figures, Some(again.open_again()?), restart)
        };
        let loads = opened.as_ref().map_or(figures.loads, |opened| opened.loads);
        let recovery = |opened: &Opened| restart + opened.ready_ms;
        Ok(vec![
            figures.one_us,
            figures.one_per_s,
            figures.eight_per_s,
            figures.fill,
            loads.0,
            loads.1,
            figures.scan,
            figures.pack.unwrap_or(f64::NAN),
            figures.disk.unwrap_or(f64::NAN),
            figures.memory,
            opened.as_ref().map_or(f64::NAN, recovery),
        ])
    }
}
