//! One program that runs.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for a program to say that it listens, or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// One program, which can be killed and started again with the same arguments.
#[derive(Debug)]
pub struct Process {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    /// How much of the log earlier lives wrote.
    log_start: u64,
    pub(super) child: Option<Child>,
}

impl Process {
    /// A program that is not started yet; what it prints goes to `log`.
    #[must_use]
    pub fn new(program: PathBuf, arguments: Vec<String>, log: PathBuf) -> Self {
        Self {
            program,
            arguments,
            log,
            log_start: 0,
            child: None,
        }
    }

    /// Gives an option that it has another value, from the next start on.
    ///
    /// # Panics
    /// When it does not have the option.
    pub fn set_option(&mut self, option: &str, value: &str) {
        let at = self.arguments.iter().position(|a| a == option);
        let value_at = at.expect("the option is one that it was made with") + 1;
        value.clone_into(&mut self.arguments[value_at]);
    }

    /// Gives another option, from the next start on.
    pub fn add_option(&mut self, option: &str, value: &str) {
        self.arguments.extend([option.to_owned(), value.to_owned()]);
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it runs already, or can't be started.
    pub fn start(&mut self) -> io::Result<()> {
        if self.is_running() {
            return Err(io::Error::other(format!(
                "{} runs already",
                self.program.display()
            )));
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        self.log_start = log.metadata()?.len();
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // It is waited for what it says at its own level.
            .env_remove("RUST_LOG")
            // ^C at the terminal is for whoever started it.
            .process_group(0)
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.program.display())))?;
        self.child = Some(child);
        Ok(())
    }

    /// Its pid, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether it was started and has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// SIGKILL: it has no chance to do anything more.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Sends a signal, named as `kill` names it.
    ///
    /// # Errors
    /// When it does not run, or `kill` fails.
    pub fn signal(&mut self, name: &str) -> io::Result<()> {
        let pid = self
            .pid()
            .ok_or_else(|| io::Error::other("it does not run"))?;
        let status = Command::new("kill")
            .args([&format!("-{name}"), &pid.to_string()])
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("kill: {status}")))
        }
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub fn stop(&mut self) -> io::Result<Option<ExitStatus>> {
        if !self.is_running() {
            return Ok(None);
        }
        self.signal("TERM")?;
        self.wait().map(Some)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        let child = self
            .child
            .as_mut()
            .ok_or_else(|| io::Error::other("it does not run"))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.kill()?;
                return Err(io::Error::other(format!(
                    "{} did not end within {PATIENCE:?}; it said:\n{}",
                    self.program.display(),
                    self.output()
                )));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// What it printed since its last start.
    #[must_use]
    pub fn output(&self) -> String {
        let all = fs::read(&self.log).unwrap_or_default();
        let from = usize::try_from(self.log_start).unwrap_or(0).min(all.len());
        String::from_utf8_lossy(&all[from..]).into_owned()
    }

    /// Waits until a line of its output has `text`, and gives that line.
    ///
    /// # Errors
    /// When it ends before, or does not print it in time.
    pub fn wait_for(&mut self, text: &str) -> io::Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let running = self.is_running();
            let output = self.output();
            if let Some(line) = output.lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            if !running || Instant::now() > deadline {
                let what = if running {
                    "did not say"
                } else {
                    "ended without saying"
                };
                return Err(io::Error::other(format!(
                    "{} {what} {text:?}; it said:\n{output}",
                    self.program.display()
                )));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing can be done about a process that can't be killed.
        let _ = self.kill();
    }
}
