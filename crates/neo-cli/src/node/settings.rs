//! Settings of the nodes: command line and configuration file, merged.

use std::path::{Path, PathBuf};
use std::time::Duration;

use neo_api::{Address, NodeId, NodeType, Partitioning};
use neo_backends::{Engine, UnknownEngine};

use super::args::{AdminArgs, CommonArgs, MasterArgs, StorageArgs};
use super::database::Database;
use crate::config::{
    ADMIN_PORT, ConfigError, FromValue, HostPort, MASTER_PORT, MasterList, NodeKind, Setting,
    Settings, Size, Wait, expand_home,
};

/// Settings of every node, from wherever they came.
#[derive(Debug, Clone)]
pub struct Common {
    /// Name of the cluster.
    pub cluster: String,
    /// The masters; the one that reads this may be among them.
    pub masters: Setting<MasterList>,
    /// Where the masters that are learnt are kept.
    pub dynamic_master_list: Option<PathBuf>,
    /// Where to listen.
    pub bind: Setting<Address>,
    /// The id to ask for.
    pub nid: Option<NodeId>,
}

/// Settings of `neomaster`.
#[derive(Debug, Clone)]
pub struct MasterConfig {
    /// Of every node.
    pub common: Common,
    /// Storages to create a new cluster with, without being told.
    pub autostart: Option<u32>,
    /// After how many seconds the table is balanced without an operator.
    pub auto_tweak: Option<u32>,
    /// Of a new cluster.
    pub replicas: u32,
    /// Of a new cluster.
    pub partitions: u32,
}

/// Settings of `neostorage`.
#[derive(Debug, Clone)]
pub struct StorageConfig {
    /// Of every node.
    pub common: Common,
    /// What keeps the data, and where.
    pub database: Database,
    /// How long to try to open it.
    pub wait: Wait,
    /// Whether what is left of discarded cells stays.
    pub disable_drop_partitions: bool,
    /// Bytes per second that cells that catch up get at least.
    pub replication_min_rate: Option<Size>,
    /// Get an id of its own, for a copied database, and exit.
    pub new_nid: bool,
    /// Erase it and exit.
    pub reset: bool,
}

impl CommonArgs {
    fn settings(&self, kind: NodeKind) -> Result<Settings, ConfigError> {
        Settings::open(kind, self.file.as_deref(), self.section.as_deref())
    }

    fn resolve(
        &self,
        settings: &Settings,
        node_type: NodeType,
        host_port: (&str, u16),
        masters: &str,
    ) -> Result<Common, ConfigError> {
        let given = self.masters.iter().flat_map(|list| list.0.iter().cloned());
        let given: Vec<Address> = given.collect();
        let given = (!given.is_empty()).then_some(MasterList(given));
        let (host, port) = host_port;
        let bind = settings.with_default("bind", self.bind.clone(), || {
            HostPort::from_value(host).expect("a host")
        })?;
        let nid = settings.optional("nid", self.nid)?;
        let nid = nid.map(|setting| {
            let id = setting.value.of_type(node_type);
            id.map_err(|problem| ConfigError::Usage(format!("{}: {problem}", setting.origin())))
        });
        let list = self.dynamic_master_list.clone();
        let list = settings.optional("dynamic_master_list", list)?;
        Ok(Common {
            dynamic_master_list: list.map(|setting| expand_home(&setting.value)),
            cluster: settings.required("cluster", self.cluster.clone())?.value,
            masters: settings.with_default("masters", given, || {
                MasterList::from_value(masters).unwrap_or_default()
            })?,
            bind: Setting {
                key: bind.key,
                value: bind.value.or_port(port),
                source: bind.source,
            },
            nid: nid.transpose()?,
        })
    }
}

impl MasterArgs {
    /// Merges the file in.
    ///
    /// # Errors
    /// When the file, or what comes of both, makes no sense.
    pub fn resolve(&self) -> Result<MasterConfig, ConfigError> {
        let settings = self.common.settings(NodeKind::Master)?;
        let address = ("127.0.0.1", MASTER_PORT);
        let common = self
            .common
            .resolve(&settings, NodeType::Master, address, "")?;
        let partitions = settings.with_default("partitions", self.partitions, || 100)?;
        if Partitioning::new(partitions.value).is_none() {
            return Err(ConfigError::Usage(format!(
                "{}: a cluster has 1 to {} partitions, not {}",
                partitions.origin(),
                Partitioning::MAX,
                partitions.value
            )));
        }
        let autostart = settings.optional("autostart", self.autostart)?;
        if let Some(zero) = autostart.as_ref().filter(|setting| setting.value == 0) {
            return Err(ConfigError::Usage(format!(
                "{}: a cluster needs a storage node at least",
                zero.origin()
            )));
        }
        let auto_tweak = settings.optional("auto_tweak", self.auto_tweak)?;
        if let Some(zero) = auto_tweak.as_ref().filter(|setting| setting.value == 0) {
            return Err(ConfigError::Usage(format!(
                "{}: 1 s is the least; a storage node that restarts needs some seconds",
                zero.origin()
            )));
        }
        Ok(MasterConfig {
            common,
            auto_tweak: auto_tweak.map(|setting| setting.value),
            autostart: autostart.map(|setting| setting.value),
            replicas: settings
                .with_default("replicas", self.replicas, || 0)?
                .value,
            partitions: partitions.value,
        })
    }
}

/// Where a master is, unless one is named.
const DEFAULT_MASTERS: &str = "127.0.0.1:10000";

impl StorageArgs {
    /// Merges the file in.
    ///
    /// # Errors
    /// When the file, or what comes of both, makes no sense.
    pub fn resolve(&self) -> Result<StorageConfig, ConfigError> {
        let settings = self.common.settings(NodeKind::Storage)?;
        let address = ("127.0.0.1", 0);
        let common = self
            .common
            .resolve(&settings, NodeType::Storage, address, DEFAULT_MASTERS)?;
        let adapter = settings.with_default("adapter", self.adapter.clone(), || {
            Engine::Sqlite.to_string()
        })?;
        let engine = engine(&adapter)?;
        let location = if engine == Engine::Memory {
            settings.with_default("database", self.database.clone(), String::new)?
        } else {
            settings.required("database", self.database.clone())?
        };
        let location = location.value;
        let location = match engine {
            engine if engine.has_path() => expand_home(Path::new(&location)).display().to_string(),
            _ => location,
        };
        let tables = settings.optional("engine", self.engine.clone())?;
        let location = with_tables(engine, location, tables.as_ref())?;
        let wait = || Wait::AtMost(Duration::ZERO);
        Ok(StorageConfig {
            common,
            database: Database { engine, location },
            wait: settings.with_default("wait", self.wait, wait)?.value,
            disable_drop_partitions: settings
                .with_default(
                    "disable_drop_partitions",
                    self.disable_drop_partitions.then_some(true),
                    || false,
                )?
                .value,
            replication_min_rate: settings
                .optional("replication_min_rate", self.replication_min_rate)?
                .map(|setting| setting.value),
            new_nid: self.new_nid,
            reset: self.reset,
        })
    }
}

/// The database whose tables are to be of an engine, as an operator would have said it.
fn with_tables(
    engine: Engine,
    location: String,
    tables: Option<&Setting<String>>,
) -> Result<String, ConfigError> {
    let Some(tables) = tables else {
        return Ok(location);
    };
    let usage = |problem| ConfigError::Usage(format!("{}: {problem}", tables.origin()));
    if engine != Engine::MySql {
        return Err(usage(format!("{engine} has no engines, MySQL has")));
    }
    if !tables.value.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(usage(format!("{:?} is no name of an engine", tables.value)));
    }
    // A password may have one as well.
    let has_settings = location
        .rsplit('@')
        .next()
        .is_some_and(|what| what.contains('?'));
    let and = if has_settings { '&' } else { '?' };
    Ok(format!("{location}{and}engine={}", tables.value))
}

/// The engine of a name: it may not exist, or not be there in this version.
fn engine(adapter: &Setting<String>) -> Result<Engine, ConfigError> {
    let usage = |problem| ConfigError::Usage(format!("{}: {problem}", adapter.origin()));
    let engine: Engine = adapter
        .value
        .parse()
        .map_err(|error: UnknownEngine| usage(error.to_string()))?;
    if engine.is_available() {
        Ok(engine)
    } else {
        let problem = format!("the adapter {engine} is not available in this version");
        Err(usage(problem))
    }
}

impl AdminArgs {
    /// Merges the file in.
    ///
    /// # Errors
    /// When the file, or what comes of both, makes no sense.
    pub fn resolve(&self) -> Result<Common, ConfigError> {
        let settings = self.common.settings(NodeKind::Admin)?;
        let address = ("127.0.0.1", ADMIN_PORT);
        self.common
            .resolve(&settings, NodeType::Admin, address, DEFAULT_MASTERS)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::CommandFactory;

    use super::super::args::{lacks, parse};
    use super::*;
    use crate::config::KEYS;
    use crate::lacking;

    fn args(words: &str) -> Vec<OsString> {
        words.split_whitespace().map(OsString::from).collect()
    }

    fn master(words: &str) -> Result<MasterConfig, String> {
        let args = parse::<MasterArgs>(NodeKind::Master, args(words)).map_err(|e| e.to_string())?;
        args.resolve().map_err(|e| e.to_string())
    }

    fn storage(words: &str) -> Result<StorageConfig, String> {
        let args =
            parse::<StorageArgs>(NodeKind::Storage, args(words)).map_err(|e| e.to_string())?;
        args.resolve().map_err(|e| e.to_string())
    }

    #[test]
    fn the_command_lines_are_well_formed() {
        for (kind, command) in [
            (NodeKind::Master, MasterArgs::command()),
            (NodeKind::Storage, StorageArgs::command()),
            (NodeKind::Admin, AdminArgs::command()),
        ] {
            let command = lacking::with(command, lacks(kind));
            command.clone().debug_assert();
            // Every key of a file is an option of the command line, with the same letter.
            for key in KEYS.iter().filter(|key| key.kinds.contains(&kind)) {
                let long = key.name.replace('_', "-");
                let arg = command
                    .get_arguments()
                    .find(|a| a.get_long() == Some(&long));
                let arg = arg.unwrap_or_else(|| panic!("{kind:?} has no --{long}"));
                assert_eq!(arg.get_short(), key.short, "{long}");
            }
        }
    }

    #[test]
    fn defaults_are_those_of_neo() {
        let config = master("neomaster -c test").unwrap();
        assert_eq!(config.common.bind.value.to_string(), "127.0.0.1:10000");
        assert_eq!((config.replicas, config.partitions), (0, 100));
        assert!(config.common.masters.value.0.is_empty());
        let config = storage("neostorage -c test -d x").unwrap();
        assert_eq!(config.common.bind.value.to_string(), "127.0.0.1:0");
        assert_eq!(
            config.common.masters.value.0[0].to_string(),
            "127.0.0.1:10000"
        );
        assert_eq!(config.database.engine, Engine::Sqlite);
        let config = parse::<AdminArgs>(NodeKind::Admin, args("neoadmin -c test -b [::1]"))
            .unwrap()
            .resolve()
            .unwrap();
        assert_eq!(config.bind.value.to_string(), "[::1]:9999");
    }

    #[test]
    fn masters_are_a_list() {
        let mut words = args("neostorage -c test -d x -w -1 -m");
        words.push("a b:2".into());
        words.extend(args("-m c"));
        let parsed = parse::<StorageArgs>(NodeKind::Storage, words).unwrap();
        let masters = parsed.resolve().unwrap().common.masters.value.0;
        let texts: Vec<String> = masters.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["a:10000", "b:2", "c:10000"]);
        assert_eq!(parsed.wait, Some(Wait::Forever));
    }

    #[test]
    fn a_master_is_told_of_others_by_a_list_and_by_a_file() {
        let config = master("neomaster -c test -b 127.0.0.1:7 -m other:1 -D list.json").unwrap();
        let masters: Vec<String> = config
            .common
            .masters
            .value
            .0
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(masters, ["other:1"]);
        assert_eq!(
            config.common.dynamic_master_list,
            Some(PathBuf::from("list.json"))
        );
    }

    #[test]
    fn an_option_that_this_version_lacks_says_so() {
        for (words, text) in [
            (
                "neomaster -c t --ca x",
                "--ca: TLS is not available in this version",
            ),
            (
                "neomaster -c t -B",
                "--backup: backup clusters are not available",
            ),
            ("neomaster -l x", "--logfile: log files are not available"),
        ] {
            let error = master(words).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
        let error = storage("neostorage --dedup").unwrap_err();
        assert!(
            error.contains("--dedup: deduplication is not available"),
            "{error}"
        );
    }

    #[test]
    fn adapters_that_do_not_exist_differ_from_those_that_are_not_here() {
        let error = storage("neostorage -c t -d x -a Foo").unwrap_err();
        assert!(
            error.starts_with("--adapter: there is no adapter \"Foo\""),
            "{error}"
        );
        let error = storage("neostorage -c t -d x -a importer").unwrap_err();
        assert_eq!(
            error,
            "--adapter: the adapter Importer is not available in this version"
        );
        storage("neostorage -c t -a memory").unwrap();
        let error = storage("neostorage -c t").unwrap_err();
        assert!(error.starts_with("database is missing"), "{error}");
    }

    #[test]
    fn tables_have_an_engine_on_a_server_alone() {
        for (words, location) in [
            ("-d u:p?w@neo1", "u:p?w@neo1"),
            ("-d u:p?w@neo1 -e RocksDB", "u:p?w@neo1?engine=RocksDB"),
            (
                "-d neo1/x?readers=2 --engine InnoDB",
                "neo1/x?readers=2&engine=InnoDB",
            ),
        ] {
            let config = storage(&format!("neostorage -c t -a mariadb {words}")).unwrap();
            assert_eq!(config.database.engine, Engine::MySql);
            assert_eq!(config.database.location, location);
        }
        for (words, problem) in [
            (
                "-d x -e InnoDB",
                "--engine: SQLite has no engines, MySQL has",
            ),
            (
                "-a mysql -d x -e a;b",
                "--engine: \"a;b\" is no name of an engine",
            ),
        ] {
            let error = storage(&format!("neostorage -c t {words}")).unwrap_err();
            assert_eq!(error, problem);
        }
    }

    #[test]
    fn replication_has_a_rate_and_discarded_cells_may_stay() {
        let config = storage("neostorage -c t -a memory").unwrap();
        assert_eq!(config.replication_min_rate, None);
        assert!(!config.disable_drop_partitions && !config.new_nid);
        let words = "neostorage -c t -a memory --disable-drop-partitions --new-nid \
                     --replication-min-rate";
        for (rate, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("512k", 512 << 10),
            ("2G", 2 << 30),
        ] {
            let config = storage(&format!("{words} {rate}")).unwrap();
            assert_eq!(config.replication_min_rate, Some(Size(bytes)));
            assert!(config.disable_drop_partitions && config.new_nid);
        }
        for rate in ["x", "8X", "-1", "99999999999G"] {
            let error = storage(&format!("{words}={rate}")).unwrap_err();
            assert!(error.contains("is not a number of bytes"), "{error}");
        }
    }

    #[test]
    fn numbers_that_can_not_be_are_named() {
        for (words, text) in [
            (
                "neomaster -c t -p 0",
                "--partitions: a cluster has 1 to 65535 partitions, not 0",
            ),
            (
                "neomaster -c t -A 0",
                "--autostart: a cluster needs a storage node at least",
            ),
            ("neomaster -c t -r x", "\"x\" is not a number"),
            (
                "neomaster -c t -i S1",
                "--nid: S1 is the id of a STORAGE node",
            ),
            ("neomaster", "cluster is missing: give -c/--cluster"),
        ] {
            let error = master(words).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
