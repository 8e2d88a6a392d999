//! Starts programs, reads what they say, and never leaves one behind.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for anything: machines that test are busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Path of one of the programs.
pub(crate) fn program(name: &str) -> PathBuf {
    PathBuf::from(match name {
        "neoadmin" => env!("CARGO_BIN_EXE_neoadmin"),
        "neoctl" => env!("CARGO_BIN_EXE_neoctl"),
        "neomaster" => env!("CARGO_BIN_EXE_neomaster"),
        "neomigrate" => env!("CARGO_BIN_EXE_neomigrate"),
        "neosimple" => env!("CARGO_BIN_EXE_neosimple"),
        "neostorage" => env!("CARGO_BIN_EXE_neostorage"),
        other => panic!("{other} is not a program"),
    })
}

/// A database that ZODB wrote.
pub(crate) fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(name)
}

/// A program that runs; killed by its pid when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    /// What was read of stderr.
    said: Vec<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = sync_channel(100_000);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

impl Running {
    pub(crate) fn start(name: &str, args: &[&str]) -> Self {
        let mut child = Command::new(program(name))
            .args(args)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Self {
            child,
            stdout,
            stderr,
            said: Vec::new(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of stdout.
    pub(crate) fn stdout_line(&mut self) -> String {
        match self.stdout.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(_) => panic!("no line on stdout; stderr: {:#?}", self.stderr_rest()),
        }
    }

    /// Waits for a line of stderr that contains a text.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.stderr.recv_timeout(left) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("{text:?} was not said: {:#?}", self.said),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ended without {text:?}: {:#?}", self.said)
                }
            }
        }
    }

    fn stderr_rest(&mut self) -> Vec<String> {
        let _ = self.child.kill();
        self.said.extend(self.stderr.iter());
        self.said.clone()
    }

    pub(crate) fn signal(&self, signal: &str) {
        signal_pid(self.pid(), signal);
    }

    /// Waits for the end: the status, and all of stderr.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "it does not end: {:#?}",
                self.stderr_rest()
            );
            thread::park_timeout(Duration::from_millis(2));
        };
        self.said.extend(self.stderr.iter());
        (status, self.said.join("\n"))
    }

    /// Stops it by a signal, cleanly.
    pub(crate) fn stop(self, signal: &str) -> String {
        self.signal(signal);
        let (status, said) = self.wait();
        assert!(status.success(), "{status}: {said}");
        said
    }
}

/// Sends a signal to one process, by its pid.
pub(crate) fn signal_pid(pid: u32, signal: &str) {
    let status = Command::new("kill")
        .args([&format!("-{signal}"), &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Runs a program to its end.
pub(crate) fn run(name: &str, args: &[&str]) -> Output {
    Command::new(program(name))
        .args(args)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Stdout of a program that must succeed.
pub(crate) fn run_ok(name: &str, args: &[&str]) -> String {
    let output = run(name, args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name} {args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Stderr of a program that must fail with a status.
pub(crate) fn run_err(name: &str, args: &[&str], status: i32) -> String {
    let output = run(name, args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        output.status.code(),
        Some(status),
        "{name} {args:?}: {stderr}"
    );
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

/// A cluster of `neosimple`, once it has said that it is ready.
#[derive(Debug)]
pub(crate) struct Simple {
    pub(crate) process: Running,
    pub(crate) masters: String,
    pub(crate) admin: String,
}

impl Simple {
    pub(crate) fn start(dir: &Path, more: &[&str]) -> Self {
        let dir = dir.to_str().unwrap();
        let mut args = vec!["--dir", dir];
        args.extend(more);
        let mut process = Running::start("neosimple", &args);
        let line = process.stdout_line();
        let words: Vec<&str> = line.split(' ').collect();
        let ["RUNNING", cluster, masters, admin] = words.as_slice() else {
            panic!("{line}");
        };
        assert_eq!(*cluster, "cluster=main");
        let masters = masters.strip_prefix("masters=").unwrap().to_owned();
        let admin = admin.strip_prefix("admin=").unwrap().to_owned();
        for address in [&masters, &admin] {
            assert!(address.starts_with("127.0.0.1:"), "{line}");
        }
        Self {
            process,
            masters,
            admin,
        }
    }

    pub(crate) fn ctl(&self, words: &str) -> String {
        let args: Vec<&str> = ["-a", &self.admin]
            .into_iter()
            .chain(words.split(' '))
            .collect();
        run_ok("neoctl", &args)
    }

    pub(crate) fn ctl_err(&self, words: &str) -> String {
        let args: Vec<&str> = ["-a", &self.admin]
            .into_iter()
            .chain(words.split(' '))
            .collect();
        run_err("neoctl", &args, 1)
    }
}

/// Pids of the processes that a process started.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut children = Vec::new();
    for task in tasks {
        let path = task.unwrap().path().join("children");
        let list = std::fs::read_to_string(path).unwrap_or_default();
        children.extend(
            list.split_whitespace()
                .map(|pid| pid.parse::<u32>().unwrap()),
        );
    }
    children
}
