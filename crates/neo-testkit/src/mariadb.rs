//! A MariaDB server of one's own: in a temporary directory, on a socket there, and gone with it.
//!
//! It needs Debian's `mariadb-server`, and `mariadb-plugin-rocksdb` for the engine RocksDB. Nothing
//! that the machine has for a server of its own is read or touched.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A server that takes longer to start does not start.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// What a server is told at each start.
const OPTIONS: &[&str] = &[
    // First: nothing of the machine's is read.
    "--no-defaults",
    "--skip-networking",
    // There are no users, and so no tables of the server's own.
    "--skip-grant-tables",
    "--performance-schema=OFF",
    "--skip-log-bin",
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-file-size=16M",
    "--innodb-autoextend-increment=1",
    "--innodb-temp-data-file-path=ibtmp1:1M:autoextend",
    "--aria-pagecache-buffer-size=1M",
    "--key-buffer-size=64K",
];

/// What it is told beside that for RocksDB.
const ROCKSDB: &[&str] = &[
    "--plugin-load-add=ha_rocksdb",
    "--rocksdb-block-cache-size=16M",
    "--rocksdb-error-on-suboptimal-collation=OFF",
];

/// Where Debian has the program: not among those of everybody.
const PROGRAMS: [&str; 2] = ["/usr/sbin/mariadbd", "mariadbd"];

/// A server that runs, or is to run again; ended, with its data, when this is dropped.
#[derive(Debug)]
pub struct MariaDb {
    directory: TempDir,
    options: Vec<String>,
    /// Blocks of 1 KiB that a file may have.
    file_blocks_max: Option<u64>,
    child: Option<Child>,
}

impl MariaDb {
    /// Starts a server for tables of an engine.
    ///
    /// # Errors
    /// What the system says; with what the server said, if it ended.
    pub fn start(engine: &str) -> io::Result<Self> {
        Self::start_with(engine, &[])
    }

    /// The same, with more options.
    ///
    /// # Errors
    /// As [`MariaDb::start`].
    pub fn start_with(engine: &str, options: &[&str]) -> io::Result<Self> {
        Self::start_in(&std::env::temp_dir(), engine, options)
    }

    /// The same, in a new directory in one that is there: on its disk.
    ///
    /// # Errors
    /// As [`MariaDb::start`].
    pub fn start_in(place: &Path, engine: &str, options: &[&str]) -> io::Result<Self> {
        let mut directory = tempfile::Builder::new();
        let directory = directory.prefix("neo-mariadb").tempdir_in(place)?;
        std::fs::create_dir(directory.path().join("data"))?;
        let own = if engine.eq_ignore_ascii_case("RocksDB") {
            ROCKSDB
        } else {
            &[]
        };
        let options = own.iter().chain(options).map(|option| (*option).to_owned());
        let mut server = Self {
            options: options.collect(),
            directory,
            file_blocks_max: None,
            child: None,
        };
        server.restart()?;
        Ok(server)
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path("socket")
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Where its data is.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Creates a database, unless it is there; gives its name as nodes are told it.
    ///
    /// # Errors
    /// What the server says.
    pub fn database(&self, name: &str) -> io::Result<String> {
        self.sql(&format!("CREATE DATABASE IF NOT EXISTS `{name}`"))?;
        Ok(format!("root@{name}{}", self.socket().display()))
    }

    /// Runs statements by Debian's client; gives what it prints, a line for each row.
    ///
    /// # Errors
    /// What the server says.
    pub fn sql(&self, text: &str) -> io::Result<String> {
        let output = self.client(text)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(failed(&String::from_utf8_lossy(&output.stderr)))
    }

    fn client(&self, text: &str) -> io::Result<Output> {
        Command::new("mariadb")
            .args(["--no-defaults", "--batch", "--skip-column-names"])
            .arg("--user=root")
            .arg("--socket")
            .arg(self.socket())
            .args(["--execute", text])
            .stdin(Stdio::null())
            .output()
    }

    /// Ends it as a crash does.
    ///
    /// # Errors
    /// What the system says.
    pub fn kill(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// From the next start on no file of it gets longer than so many KiB: a disk that is full.
    pub const fn limit_files(&mut self, kib: Option<u64>) {
        self.file_blocks_max = kib;
    }

    /// From the next start on it is told this as well.
    pub fn add_option(&mut self, option: &str) {
        self.options.push(option.to_owned());
    }

    /// Starts it again, after it was killed, with the data that it has.
    ///
    /// # Errors
    /// As [`MariaDb::start`].
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        // One that was killed leaves it.
        match std::fs::remove_file(self.socket()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))?;
        let mut command = self.command()?;
        command
            .arg(format!("--datadir={}", self.data().display()))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!("--pid-file={}", self.path("pid").display()))
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.child = Some(command.spawn()?);
        self.wait()
    }

    fn command(&self) -> io::Result<Command> {
        let found = PROGRAMS
            .into_iter()
            .find(|program| Command::new(program).arg("--version").output().is_ok());
        let Some(program) = found else {
            return Err(failed("no mariadbd: install mariadb-server"));
        };
        let mut command = match self.file_blocks_max {
            None => Command::new(program),
            Some(kib) => {
                // The shell gives its limits to the server, which takes its place.
                let mut shell = Command::new("bash");
                let script = format!("trap '' XFSZ; ulimit -f {kib} && exec \"$0\" \"$@\"");
                shell.args(["-c", &script, program]);
                shell
            }
        };
        command.args(OPTIONS);
        if is_root()? {
            command.arg("--user=root");
        }
        Ok(command)
    }

    /// Until it answers.
    fn wait(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                self.child = None;
                return Err(failed(&format!(
                    "the server ended, {status}: {}",
                    self.log()
                )));
            }
            let answers = self.socket().exists() && self.client("DO 1")?.status.success();
            if answers {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                self.kill()?;
                return Err(failed(&format!(
                    "the server does not answer: {}",
                    self.log()
                )));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The end of what it said.
    #[must_use]
    pub fn log(&self) -> String {
        const LINES: usize = 40;
        let text = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        // Its data goes as well: it need not come to rest.
        let _ = self.kill();
    }
}

fn failed(why: &str) -> io::Error {
    io::Error::other(why.trim().to_owned())
}

/// Who owns this process, by what it has of itself.
fn is_root() -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(Path::new("/proc/self").metadata()?.uid() == 0)
}
