//! Clusters of real processes: the project's programs, started, killed and started again.
//!
//! Everything that is started ends with the value that started it: by its pid, never by its name.

mod program;
mod view;

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use neo_api::{Address, NodeId, NodeType};
use neo_backends::DEFAULT_ADAPTER;

pub use program::Process;
pub use view::{View, Watcher};

/// What a cluster of processes is made of.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Where `neomaster`, `neostorage` and `neoadmin` are.
    pub programs: PathBuf,
    /// Where databases and logs go.
    pub dir: PathBuf,
    /// Masters.
    pub masters: u32,
    /// Storage nodes.
    pub storages: u32,
    /// Copies beside the first.
    pub replicas: u32,
    /// Partitions.
    pub partitions: u32,
    /// What keeps the data of storage nodes.
    pub adapter: String,
    /// The names of the first storage nodes' databases; those of others are paths in `dir`.
    pub databases: Vec<String>,
    /// What runs the nodes in place of their programs, if anything does.
    pub runner: Option<Runner>,
}

/// A program that runs any node, in a way of its own. Its arguments are `words`, a name for the
/// node (`master`, `master2`, `admin`, `s1`), the name of the node's program (`neomaster`, ...), and
/// that program's arguments.
#[derive(Debug, Clone)]
pub struct Runner {
    /// Where it is.
    pub program: PathBuf,
    /// Its first arguments.
    pub words: Vec<String>,
}

impl ClusterOptions {
    /// One master, and two storage nodes on SQLite that have 12 partitions both.
    #[must_use]
    pub fn new(programs: impl Into<PathBuf>, dir: impl Into<PathBuf>) -> Self {
        Self {
            programs: programs.into(),
            dir: dir.into(),
            masters: 1,
            storages: 2,
            replicas: 1,
            partitions: 12,
            adapter: DEFAULT_ADAPTER.to_owned(),
            databases: Vec::new(),
            runner: None,
        }
    }

    fn process(&self, node: &str, program: &str, arguments: Vec<String>) -> Process {
        // No database has that name, whatever its adapter is called.
        let log = self.dir.join(format!("{node}-log.txt"));
        let Some(Runner {
            program: runner,
            words,
        }) = &self.runner
        else {
            return Process::new(self.programs.join(program), arguments, log);
        };
        let mut all = words.clone();
        all.extend(text(&[node, program]));
        all.extend(arguments);
        Process::new(runner.clone(), all, log)
    }

    /// The database of a storage node, counted from 0, as `neo_backends::open` takes it.
    #[must_use]
    pub fn database(&self, storage: usize) -> String {
        if let Some(name) = self.databases.get(storage) {
            return name.clone();
        }
        let extension = self.adapter.to_lowercase();
        let file = format!("s{}.{extension}", storage + 1);
        self.dir.join(file).display().to_string()
    }
}

/// Masters, storage nodes and an admin node, each a process of its own.
#[derive(Debug)]
pub struct ProcessCluster {
    /// The masters; which of them is the primary, they decide.
    pub masters: Vec<Process>,
    /// The admin node.
    pub admin: Process,
    /// The storage nodes, in order of node id: S1 first.
    pub storages: Vec<Process>,
    master_addresses: Vec<Address>,
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
        if options.masters == 0 {
            return Err(io::Error::other("a cluster has a master at least"));
        }
        fs::create_dir_all(&options.dir)?;
        let ports = free_ports(options.masters)?;
        let local = |port: &u16| Address::new("127.0.0.1", *port);
        let master_addresses: Vec<Address> = ports.iter().map(local).collect();
        let list = list(&master_addresses);

        let mut masters = Vec::new();
        for (n, address) in (1..).zip(&master_addresses) {
            let bind = address.to_string();
            let mut arguments = text(&["-c", CLUSTER, "-m", &list, "-b", &bind]);
            for (option, value) in [
                ("-A", options.storages),
                ("-r", options.replicas),
                ("-p", options.partitions),
            ] {
                arguments.extend([option.to_owned(), value.to_string()]);
            }
            // A cluster has mostly one.
            let name = if n == 1 {
                "master".to_owned()
            } else {
                format!("master{n}")
            };
            let mut master = options.process(&name, "neomaster", arguments);
            master.start()?;
            masters.push(master);
        }
        for master in &mut masters {
            listening(master)?;
        }

        let arguments = text(&["-c", CLUSTER, "-m", &list, "-b", "127.0.0.1:0"]);
        let mut admin = options.process("admin", "neoadmin", arguments);
        admin.start()?;
        let admin_address = listening(&mut admin)?;
        // From now on at the port that the others know.
        admin.set_option("-b", &admin_address.to_string());

        let mut cluster = Self {
            masters,
            admin,
            storages: Vec::new(),
            master_addresses,
            admin_address,
        };
        for _ in 0..options.storages {
            cluster.add_storage(options)?;
        }
        Ok(cluster)
    }

    /// Starts one more storage node, with an empty database, unless there is one of its name.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn add_storage(&mut self, options: &ClusterOptions) -> io::Result<()> {
        let at = self.storages.len();
        let number = u32::try_from(at + 1).map_err(io::Error::other)?;
        let nid = NodeId::new(NodeType::Storage, number)
            .ok_or_else(|| io::Error::other(format!("there can be no storage node {number}")))?;
        let masters = list(&self.master_addresses);
        let (nid, database) = (nid.to_string(), options.database(at));
        let (bind, adapter) = ("127.0.0.1:0", options.adapter.as_str());
        let arguments = text(&[
            "-c", CLUSTER, "-m", &masters, "-b", bind, "-i", &nid, "-a", adapter, "-d", &database,
        ]);
        let mut storage = options.process(&format!("s{number}"), "neostorage", arguments);
        storage.start()?;
        self.storages.push(storage);
        Ok(())
    }

    /// Where clients connect: the first master.
    #[must_use]
    pub fn master_address(&self) -> &Address {
        &self.master_addresses[0]
    }

    /// Where clients connect: every master.
    #[must_use]
    pub fn master_addresses(&self) -> &[Address] {
        &self.master_addresses
    }

    /// Where `neoctl` connects.
    #[must_use]
    pub const fn admin_address(&self) -> &Address {
        &self.admin_address
    }

    /// Every process.
    pub fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        self.masters
            .iter_mut()
            .chain([&mut self.admin])
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

    /// Stops every process cleanly: the masters first, as an operator would.
    ///
    /// # Errors
    /// When one does not end in time.
    pub fn stop(&mut self) -> io::Result<()> {
        self.processes()
            .try_for_each(|process| process.stop().map(drop))
    }
}

fn text(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// The masters, as the programs are told of them.
fn list(masters: &[Address]) -> String {
    let masters: Vec<String> = masters.iter().map(ToString::to_string).collect();
    masters.join(" ")
}

/// Where the search for free ports goes on, in this process.
static NEXT_PORT: AtomicU32 = AtomicU32::new(0);

/// Ports that nobody listens at, and that the system gives to nobody who asks for any port, as
/// Linux is set: a master that is killed gets its own again. Processes that look for some at the
/// same time look at different ones.
fn free_ports(count: u32) -> io::Result<Vec<u16>> {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    const STEP: u32 = 16;
    let mine = std::process::id().wrapping_mul(STEP);
    let mut ports = Vec::new();
    for _ in 0..COUNT {
        if ports.len() == count as usize {
            return Ok(ports);
        }
        let n = mine.wrapping_add(NEXT_PORT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + n).map_err(io::Error::other)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
    }
    Err(io::Error::other(format!(
        "there are no {count} free ports for masters"
    )))
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
