//! Clusters of real processes: the project's programs, started, killed and started again.
//!
//! Everything that is started ends with the value that started it: by its pid, never by its name.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use neo_api::Address;

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
    child: Option<Child>,
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

/// What a cluster of processes is made of.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Where `neomaster`, `neostorage` and `neoadmin` are.
    pub programs: PathBuf,
    /// Where databases and logs go.
    pub dir: PathBuf,
    /// Storage nodes.
    pub storages: u32,
    /// Copies beside the first.
    pub replicas: u32,
    /// Partitions.
    pub partitions: u32,
}

/// A master, storage nodes on SQLite, and an admin node, each a process of its own.
#[derive(Debug)]
pub struct ProcessCluster {
    /// The master.
    pub master: Process,
    /// The admin node.
    pub admin: Process,
    /// The storage nodes; not in order of node id.
    pub storages: Vec<Process>,
    master_address: Address,
    admin_address: Address,
}

/// The name of every [`ProcessCluster`].
pub const CLUSTER: &str = "test";

impl ProcessCluster {
    /// Starts a fresh cluster; it is about to be RUNNING when this returns.
    ///
    /// # Errors
    /// When a program can't be started or ends at once, with what it said.
    pub fn start(options: &ClusterOptions) -> io::Result<Self> {
        fs::create_dir_all(&options.dir)?;
        let program = |name: &str| options.programs.join(name);
        let log = |name: &str| options.dir.join(format!("{name}.log"));
        let text = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();

        let mut arguments = text(&["-c", CLUSTER, "-b", "127.0.0.1:0"]);
        for (option, value) in [
            ("-A", options.storages),
            ("-r", options.replicas),
            ("-p", options.partitions),
        ] {
            arguments.extend([option.to_owned(), value.to_string()]);
        }
        let mut master = Process::new(program("neomaster"), arguments, log("master"));
        master.start()?;
        let master_address = listening(&mut master)?;
        // From now on at the port that the others know.
        master.set_option("-b", &master_address.to_string());

        let masters = master_address.to_string();
        let arguments = text(&["-c", CLUSTER, "-m", &masters, "-b", "127.0.0.1:0"]);
        let mut admin = Process::new(program("neoadmin"), arguments, log("admin"));
        admin.start()?;
        let admin_address = listening(&mut admin)?;
        admin.set_option("-b", &admin_address.to_string());

        let mut storages = Vec::new();
        for n in 1..=options.storages {
            let database = options
                .dir
                .join(format!("s{n}.sqlite"))
                .display()
                .to_string();
            let bind = "127.0.0.1:0";
            let arguments = text(&[
                "-c", CLUSTER, "-m", &masters, "-b", bind, "-a", "SQLite", "-d", &database,
            ]);
            let mut storage = Process::new(program("neostorage"), arguments, log(&format!("s{n}")));
            storage.start()?;
            storages.push(storage);
        }
        Ok(Self {
            master,
            admin,
            storages,
            master_address,
            admin_address,
        })
    }

    /// Where clients connect.
    #[must_use]
    pub const fn master_address(&self) -> &Address {
        &self.master_address
    }

    /// Where `neoctl` connects.
    #[must_use]
    pub const fn admin_address(&self) -> &Address {
        &self.admin_address
    }

    /// Every process.
    pub fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        [&mut self.master, &mut self.admin]
            .into_iter()
            .chain(&mut self.storages)
    }

    /// SIGKILL to all, one right after the other, before any of them is waited for.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill_all(&mut self) -> io::Result<()> {
        for process in self.processes() {
            if let Some(child) = &mut process.child {
                child.kill()?;
            }
        }
        self.processes().try_for_each(Process::kill)
    }

    /// Starts every process that does not run.
    ///
    /// # Errors
    /// When one can't be started.
    pub fn start_all(&mut self) -> io::Result<()> {
        for process in self.processes() {
            if !process.is_running() {
                process.start()?;
            }
        }
        Ok(())
    }

    /// Stops every process cleanly: the master first, as an operator would.
    ///
    /// # Errors
    /// When one does not end in time.
    pub fn stop(&mut self) -> io::Result<()> {
        self.processes()
            .try_for_each(|process| process.stop().map(drop))
    }
}

/// The address that a program says it listens at.
fn listening(process: &mut Process) -> io::Result<Address> {
    let line = process.wait_for("listening address=")?;
    let address = line.split("listening address=").nth(1).unwrap_or_default();
    address
        .trim()
        .parse()
        .map_err(|error| io::Error::other(format!("{line:?}: {error}")))
}

/// The directory of the programs that Cargo built with a test or an example: its own, or the one
/// above.
///
/// # Errors
/// When the programs are not there.
pub fn programs_beside_this_one() -> io::Result<PathBuf> {
    let here = std::env::current_exe()?;
    here.ancestors()
        .skip(1)
        .take(2)
        .find(|dir| dir.join("neomaster").exists())
        .map(Path::to_path_buf)
        .ok_or_else(|| {
            io::Error::other("the programs are not built: run `cargo build -p neo-cli --bins`")
        })
}
