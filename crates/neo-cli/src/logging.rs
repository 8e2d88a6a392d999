//! Logs, to stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging: at `level`, or more when asked by `-v`; `$RUST_LOG` overrides both.
///
/// A second call has no effect.
pub fn start(level: Level, verbose: u8) {
    let level = match level as u8 + verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let stderr = std::io::stderr();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr.is_terminal())
        // Where a line of the log can't be written, a line about that can't be either: it would end
        // the program, for a full disk that has nothing to do with it.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    // It fails when there is one already, which then has to do.
    let _ = subscriber.try_init();
}

/// What a program logs unless asked for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// What an operator should look at: for programs that a person waits for.
    Warn,
    /// And what happens: for daemons.
    Info,
}
