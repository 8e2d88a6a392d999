//! SIGINT, SIGTERM and SIGHUP: the first asks to stop, the second is obeyed at once. The signals that NEO
//! has for its logs and its debugger end nothing: they say that they do nothing.

use std::io;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What comes so soon after a signal is the same one: a terminal, `timeout` or a supervisor may
/// send it to a process and to its group.
const SAME: Duration = Duration::from_millis(200);

/// What NEO does at SIGRTMIN and the three after it, and why it is not done here. A script that
/// rotates logs must not end a node.
const LACKING: [&str; 4] = [
    "there is no backlog of logs: every line is written at once",
    "there is no log file: logs go to the standard error",
    "the state of a node is not dumped in this version",
    "there is no debugger in this version",
];

/// Listens for both signals, from when it is made.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    last: Option<Instant>,
}

impl Signals {
    /// Starts listening; from now on neither ends the process by itself.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn new() -> io::Result<Self> {
        for (number, why) in (libc::SIGRTMIN()..).zip(LACKING) {
            let mut lacking = signal(SignalKind::from_raw(number))?;
            tokio::spawn(async move {
                while lacking.recv().await.is_some() {
                    tracing::warn!("signal {number} is ignored: {why}");
                }
            });
        }
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            last: None,
        })
    }

    /// The next one: its name and the status of a process that it ends.
    pub async fn next(&mut self) -> (&'static str, u8) {
        loop {
            let signal = tokio::select! {
                _ = self.interrupt.recv() => ("SIGINT", 130),
                _ = self.terminate.recv() => ("SIGTERM", 143),
                // The terminal is gone.
                _ = self.hang_up.recv() => ("SIGHUP", 129),
            };
            let now = Instant::now();
            let before = self.last.replace(now);
            if before.is_none_or(|before| now.duration_since(before) > SAME) {
                return signal;
            }
        }
    }
}
