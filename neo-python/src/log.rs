//! The log of the clients of this process, in a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Stderr, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Where it goes.
static LOG: OnceLock<PathBuf> = OnceLock::new();

/// Opens the file anew for each entry: it may be moved away meanwhile, and a child process writes
/// to its end, too.
struct LogFile(PathBuf);

enum Output {
    File(File),
    /// There is no such directory any more, perhaps.
    Stderr(Stderr),
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stderr(stderr) => stderr.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stderr(stderr) => stderr.flush(),
        }
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = Output;

    fn make_writer(&'a self) -> Output {
        open(&self.0).map_or_else(|_| Output::Stderr(io::stderr()), Output::File)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Has the log written to the end of a file, by its absolute path: what happens, or as
/// `$RUST_LOG` says.
#[pyfunction]
#[pyo3(name = "_log_to")]
pub(crate) fn log_to(path: PathBuf) -> PyResult<()> {
    if let Some(before) = LOG.get().filter(|before| **before != path) {
        return Err(PyValueError::new_err(format!(
            "logfile is {}, but the log of this process goes to {} already: give all its storages \
             the same one, or none",
            path.display(),
            before.display(),
        )));
    }
    open(&path).map_err(|error| {
        let words = error.to_string();
        PyOSError::new_err((error.raw_os_error(), words, path.clone()))
    })?;
    if LOG.set(path.clone()).is_ok() {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            // A line about a line that can't be written, to a stderr that may not take it either,
            // would be a panic.
            .log_internal_errors(false)
            .with_writer(LogFile(path));
        // Nothing else in this module starts a log.
        let _ = subscriber.try_init();
    }
    Ok(())
}
