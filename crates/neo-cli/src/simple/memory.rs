//! What a directory of `neosimple` remembers of its cluster: `DIR/cluster.ini`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use neo_backends::{Adapter, DEFAULT_ADAPTER, Place};

use super::args::SimpleArgs;
use crate::config::{ConfigError, FromValue, Ini};
use crate::report::say;

/// Where a cluster's directory is, unless one is named.
const DEFAULT_DIR: &str = "neo-data";

const FILE: &str = "cluster.ini";
/// What it is called until it is whole.
const NEW_FILE: &str = "cluster.ini.new";
const LOCK: &str = "neosimple.lock";
const SECTION: &str = "cluster";

/// The key of the masters' ports.
pub(super) const MASTER_PORTS: &str = "master_port";

/// What a cluster was created with, and where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterPlan {
    /// Name of the cluster.
    pub name: String,
    /// Number of masters.
    pub masters: u32,
    /// Number of storages.
    pub storages: u32,
    /// Copies beside the first.
    pub replicas: u32,
    /// Number of partitions.
    pub partitions: u32,
    /// What keeps the data.
    pub adapter: String,
    /// Host that all listen at.
    pub bind: String,
    /// Ports of the masters, the first one first, as far as they are known.
    pub master_ports: Vec<u16>,
    /// Port of the admin node, once it is known.
    pub admin_port: Option<u16>,
    /// Whether it was RUNNING once: its databases are there, then.
    pub created: bool,
}

/// A directory that no other `neosimple` uses.
#[derive(Debug)]
pub struct ClusterDir {
    path: PathBuf,
    /// Held as long as the process lives.
    _lock: File,
}

impl ClusterDir {
    /// Opens a directory, and creates it if it does not exist.
    ///
    /// # Errors
    /// When it can't be, is used by another process, or has something else in it.
    pub fn open(dir: Option<&Path>) -> anyhow::Result<Self> {
        let path = dir.unwrap_or_else(|| Path::new(DEFAULT_DIR)).to_owned();
        let named = || format!("cannot use {} as the cluster's directory", path.display());
        std::fs::create_dir_all(&path).with_context(named)?;
        let foreign = std::fs::read_dir(&path)
            .with_context(named)?
            .filter_map(Result::ok)
            .find(|entry| {
                let name = entry.file_name();
                // What a creation leaves that was interrupted, and what a file system has.
                let own = [LOCK, NEW_FILE, "lost+found"];
                !own.iter().any(|own| name == *own)
            });
        if let Some(entry) = foreign
            && !path.join(FILE).exists()
        {
            bail!(
                "{} is no directory of neosimple: it has {} but no {FILE}; give another --dir",
                path.display(),
                entry.file_name().display()
            );
        }
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .with_context(named)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let owner = std::fs::read_to_string(path.join(LOCK)).unwrap_or_default();
                bail!(
                    "another neosimple{} runs the cluster of {}: stop it, or give another --dir",
                    match owner.trim() {
                        "" => String::new(),
                        pid => format!(" (process {pid})"),
                    },
                    path.display()
                );
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(error).with_context(named),
        }
        // Who it is, for the message above; a lock without is a lock all the same.
        let _ = lock
            .set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(Self { path, _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the remembered things are.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.path.join(FILE)
    }

    /// The database of a storage node, from 1.
    #[must_use]
    pub fn database(&self, storage: u32, adapter: &dyn Adapter) -> PathBuf {
        let extension = match adapter.name() {
            "SQLite" => "sqlite",
            _ => "db",
        };
        self.path.join(format!("storage{storage}.{extension}"))
    }

    /// What to run: what the directory remembers, or for a new cluster what is asked.
    ///
    /// # Errors
    /// When the two contradict each other, or the file makes no sense.
    pub fn plan(&self, args: &SimpleArgs) -> anyhow::Result<ClusterPlan> {
        let file = self.file();
        let mut plan = if file.exists() {
            let plan = ClusterPlan::read(&file)?;
            plan.check(args, &file)?;
            plan
        } else {
            ClusterPlan::new(args)
        };
        // Where it listens may change, what it is may not.
        if let Some(bind) = &args.bind {
            plan.bind.clone_from(bind);
        }
        if let Some(port) = args.port {
            match plan.master_ports.first_mut() {
                Some(first) => *first = port,
                None => plan.master_ports.push(port),
            }
        }
        Ok(plan)
    }

    /// Remembers a plan.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn remember(&self, plan: &ClusterPlan) -> anyhow::Result<()> {
        let file = self.file();
        let new = self.path.join(NEW_FILE);
        let write = || {
            let mut written = File::create(&new)?;
            written.write_all(plan.text().as_bytes())?;
            written.sync_all()?;
            std::fs::rename(&new, &file)?;
            File::open(&self.path)?.sync_all()
        };
        let written = write();
        if written.is_err() {
            // It may be what fills the disk.
            let _ = std::fs::remove_file(&new);
        }
        written.with_context(|| format!("cannot write {}", file.display()))
    }

    /// Whether the databases of a cluster that was RUNNING once are there.
    ///
    /// # Errors
    /// When none is: a new cluster would be made in the place of one that may be elsewhere.
    pub fn check_databases(&self, plan: &ClusterPlan, adapter: &dyn Adapter) -> anyhow::Result<()> {
        if !plan.created || adapter.place() == Place::Memory {
            return Ok(());
        }
        let all = (1..=plan.storages).map(|storage| self.database(storage, adapter));
        let missing: Vec<PathBuf> = all.filter(|path| !path.exists()).collect();
        let names: Vec<String> = missing.iter().map(|p| p.display().to_string()).collect();
        let names = names.join(", ");
        if missing.len() == plan.storages as usize {
            bail!(
                "the databases of the cluster are missing ({names}): bring them back, or remove {} \
                 to make a new cluster",
                self.file().display()
            );
        }
        if !missing.is_empty() {
            say(format_args!(
                "neosimple: warning: {names} is missing; its node starts without data"
            ));
        }
        Ok(())
    }
}

impl ClusterPlan {
    fn new(args: &SimpleArgs) -> Self {
        let storages = args.storages.unwrap_or(2);
        Self {
            name: args.name.clone().unwrap_or_else(|| "main".to_owned()),
            masters: args.masters.unwrap_or(1),
            storages,
            replicas: args.replicas.unwrap_or(if storages > 1 { 1 } else { 0 }),
            partitions: args.partitions.unwrap_or(12),
            adapter: args
                .adapter
                .clone()
                .unwrap_or_else(|| DEFAULT_ADAPTER.to_owned()),
            bind: args.bind.clone().unwrap_or_else(|| "127.0.0.1".to_owned()),
            master_ports: Vec::new(),
            admin_port: None,
            created: false,
        }
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let ini = Ini::read(path)?;
        let section = ini.section(SECTION);
        let text = |key: &str| section.get(key).map(|(raw, _)| (raw.line, raw.text()));
        let required =
            |key: &str| text(key).with_context(|| format!("{}: {key} is missing", path.display()));
        let string = |key: &str| required(key).map(|(_, text)| text);
        let number = |key: &str| {
            let (line, text) = required(key)?;
            u32::from_value(&text)
                .map_err(|e| anyhow::anyhow!("{}:{line}: {key}: {e}", path.display()))
        };
        let ports = |key: &str| {
            let (line, text) = text(key).unwrap_or_default();
            let ports = text.split_whitespace().map(|word| {
                word.parse::<u16>().map_err(|_| {
                    anyhow::anyhow!("{}:{line}: {key}: {word:?} is not a port", path.display())
                })
            });
            ports.collect::<Result<Vec<u16>, _>>()
        };
        Ok(Self {
            name: string("name")?,
            masters: number("masters")?,
            storages: number("storages")?,
            replicas: number("replicas")?,
            partitions: number("partitions")?,
            adapter: string("adapter")?,
            bind: string("bind")?,
            master_ports: ports(MASTER_PORTS)?,
            admin_port: ports("admin_port")?.first().copied(),
            created: text("created").is_some_and(|(_, text)| text == "yes"),
        })
    }

    fn text(&self) -> String {
        let mut text = String::from(
            "# Written by neosimple: what the cluster was created with, and where it listens.\n",
        );
        let _ = writeln!(text, "[{SECTION}]");
        let _ = writeln!(text, "name = {}", self.name);
        for (key, value) in [
            ("masters", self.masters),
            ("storages", self.storages),
            ("replicas", self.replicas),
            ("partitions", self.partitions),
        ] {
            let _ = writeln!(text, "{key} = {value}");
        }
        let _ = writeln!(text, "adapter = {}\nbind = {}", self.adapter, self.bind);
        if !self.master_ports.is_empty() {
            let ports: Vec<String> = self.master_ports.iter().map(u16::to_string).collect();
            let _ = writeln!(text, "{MASTER_PORTS} = {}", ports.join(" "));
        }
        if let Some(port) = self.admin_port {
            let _ = writeln!(text, "admin_port = {port}");
        }
        if self.created {
            text.push_str("created = yes\n");
        }
        text
    }

    /// Whether what is asked is what the cluster is.
    fn check(&self, args: &SimpleArgs, file: &Path) -> Result<(), ConfigError> {
        let text = |value: Option<u32>| value.map(|value| value.to_string());
        let lower = |name: &str| name.to_lowercase();
        let same_adapter = args.adapter.as_deref().map(lower) == Some(lower(&self.adapter));
        let adapter = args.adapter.clone().filter(|_| !same_adapter);
        let asked = [
            ("--name", args.name.clone(), self.name.clone()),
            ("--masters", text(args.masters), self.masters.to_string()),
            ("--storages", text(args.storages), self.storages.to_string()),
            ("--replicas", text(args.replicas), self.replicas.to_string()),
            (
                "--partitions",
                text(args.partitions),
                self.partitions.to_string(),
            ),
            ("--adapter", adapter, self.adapter.clone()),
        ];
        for (option, given, remembered) in asked {
            if let Some(given) = given
                && given != remembered
            {
                return Err(ConfigError::Usage(format!(
                    "{option} {given} contradicts {}: the cluster was created with {remembered}; \
                     leave {option} out, or give another --dir",
                    file.display()
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_directory_takes_what_is_asked_and_remembers_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let cluster = ClusterDir::open(Some(&path)).unwrap();
        let args = SimpleArgs {
            partitions: Some(5),
            port: Some(7000),
            ..SimpleArgs::default()
        };
        let mut plan = cluster.plan(&args).unwrap();
        assert_eq!(
            (plan.name.as_str(), plan.storages, plan.replicas),
            ("main", 2, 1)
        );
        assert_eq!(
            (plan.partitions, plan.master_ports.as_slice()),
            (5, &[7000][..])
        );
        plan.master_ports = vec![7000, 7003, 7004];
        plan.admin_port = Some(7001);
        cluster.remember(&plan).unwrap();
        assert_eq!(cluster.plan(&SimpleArgs::default()).unwrap(), plan);
        assert_eq!(cluster.plan(&args).unwrap(), plan);
        // Where it listens may change.
        let args = SimpleArgs {
            port: Some(7002),
            ..SimpleArgs::default()
        };
        assert_eq!(
            cluster.plan(&args).unwrap().master_ports,
            [7002, 7003, 7004]
        );
    }

    #[test]
    fn a_contradiction_names_option_and_values() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = ClusterDir::open(Some(dir.path())).unwrap();
        let plan = cluster.plan(&SimpleArgs::default()).unwrap();
        cluster.remember(&plan).unwrap();
        let args = SimpleArgs {
            storages: Some(3),
            adapter: Some("sqlite".to_owned()),
            ..SimpleArgs::default()
        };
        let error = cluster.plan(&args).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "--storages 3 contradicts {}: the cluster was created with 2; leave --storages \
                 out, or give another --dir",
                cluster.file().display()
            )
        );
    }

    #[test]
    fn a_directory_has_one_user_and_nothing_else_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = ClusterDir::open(Some(dir.path())).unwrap();
        let error = ClusterDir::open(Some(dir.path())).unwrap_err().to_string();
        let own = format!("another neosimple (process {}) runs", std::process::id());
        assert!(error.contains(&own), "{error}");
        drop(cluster);
        ClusterDir::open(Some(dir.path())).unwrap();

        std::fs::write(dir.path().join("thesis.tex"), "").unwrap();
        let error = ClusterDir::open(Some(dir.path())).unwrap_err().to_string();
        assert!(
            error.contains("it has thesis.tex but no cluster.ini"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = ClusterDir::open(Some(dir.path())).unwrap();
        let text = ClusterPlan::new(&SimpleArgs::default()).text();
        for (text, problem) in [
            (
                text.replace("= 12", "= dozen"),
                "partitions: \"dozen\" is not a number",
            ),
            (text.replace("storages", "stores"), "storages is missing"),
            (
                text.replace("bind", "admin_port = 70000\nbind"),
                "\"70000\" is not a port",
            ),
            (
                text.replace("bind", "master_port = 7000 x\nbind"),
                "master_port: \"x\" is not a port",
            ),
        ] {
            std::fs::write(cluster.file(), text).unwrap();
            let error = cluster
                .plan(&SimpleArgs::default())
                .unwrap_err()
                .to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
