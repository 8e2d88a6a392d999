//! Where a database is made, and how it is lost.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use neo_testkit::MariaDb;
use tempfile::TempDir;

use super::CACHE_BYTES;

/// What kind of place.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// The process.
    Memory,
    /// A file or a directory, opened with settings.
    Path(&'static str),
    /// A server of one's own, for tables of an engine.
    Server(&'static str),
}

/// A place for one database; gone when dropped.
#[derive(Debug)]
pub(super) enum Place {
    Memory,
    Path(TempDir, &'static str),
    Server(MariaDb, &'static str),
}

impl Place {
    /// Makes one, below a directory.
    pub(super) fn new(kind: Kind, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(match kind {
            Kind::Memory => Self::Memory,
            Kind::Path(settings) => Self::Path(tempfile::tempdir_in(dir)?, settings),
            Kind::Server(engine) => {
                let cache = match engine {
                    "RocksDB" => format!("--rocksdb-block-cache-size={CACHE_BYTES}"),
                    _ => format!("--innodb-buffer-pool-size={CACHE_BYTES}"),
                };
                // As large as a server has it that nobody has set up.
                let options = [&cache, "--innodb-log-file-size=96M"];
                // Its socket's path must be short.
                let dir = dir.canonicalize()?;
                Self::Server(MariaDb::start_in(&dir, engine, &options)?, engine)
            }
        })
    }

    /// What an adapter is told.
    pub(super) fn database(&self) -> Result<String> {
        Ok(match self {
            Self::Memory => String::new(),
            Self::Path(dir, settings) => {
                format!("file:{}?{settings}", dir.path().join("database").display())
            }
            Self::Server(server, engine) => {
                format!("{}?engine={engine}", server.database("bench")?)
            }
        })
    }

    /// What is on disk.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        match self {
            Self::Memory => None,
            Self::Path(dir, _) => Some(dir.path().to_owned()),
            Self::Server(server, _) => Some(server.data()),
        }
    }

    /// Most megabytes that a server had in memory.
    pub(super) fn server_memory(&self) -> Result<Option<f64>> {
        match self {
            Self::Server(server, _) => {
                let pid = server.pid().context("the server does not run")?;
                Ok(Some(memory(pid)?))
            }
            _ => Ok(None),
        }
    }

    /// Kills a server, and starts it again; the milliseconds until it answered.
    pub(super) fn crash(&mut self) -> Result<f64> {
        let Self::Server(server, _) = self else {
            return Ok(0.0);
        };
        server.kill()?;
        let start = Instant::now();
        server.restart()?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }
}

/// Most megabytes that a process had in memory.
pub(super) fn memory(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    let kilobytes: f64 = kilobytes.context("the kernel does not tell")?.parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}

/// Megabytes that the files below a directory have been given.
pub(super) fn disk(directory: &Path) -> Result<f64> {
    let mut megabytes = 0.0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(metadata) = entry.metadata() else {
            // Databases remove files as they like.
            continue;
        };
        megabytes += if metadata.is_dir() {
            disk(&entry.path())?
        } else {
            metadata.blocks() as f64 * 512.0 / 1e6
        };
    }
    Ok(megabytes)
}
