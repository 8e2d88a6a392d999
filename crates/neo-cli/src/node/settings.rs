//! Settings of the nodes: command line and configuration file, merged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use neo_api::{Address, NodeId, NodeType, Partitioning};
use neo_backends::{Adapter, Adapters, DEFAULT_ADAPTER, DatabaseOptions, Place};

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
    pub fn resolve(&self, adapters: &Adapters) -> Result<StorageConfig, ConfigError> {
        let settings = self.common.settings(NodeKind::Storage)?;
        let address = ("127.0.0.1", 0);
        let common = self
            .common
            .resolve(&settings, NodeType::Storage, address, DEFAULT_MASTERS)?;
        let database = self.resolve_database(&settings, adapters)?;
        let wait = || Wait::AtMost(Duration::ZERO);
        Ok(StorageConfig {
            common,
            database,
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

    fn resolve_database(
        &self,
        settings: &Settings,
        adapters: &Adapters,
    ) -> Result<Database, ConfigError> {
        let name = || DEFAULT_ADAPTER.to_owned();
        let name = settings.with_default("adapter", self.adapter.clone(), name)?;
        let adapter = adapters
            .find(&name.value)
            .map_err(|error| ConfigError::Usage(format!("{}: {error}", name.origin())))?;
        let given = self.database.clone();
        let database = match adapter.place() {
            Place::Memory => settings.with_default("database", given, String::new)?.value,
            Place::Path => {
                let path = settings.required("database", given)?.value;
                expand_home(Path::new(&path)).display().to_string()
            }
            _ => settings.required("database", given)?.value,
        };
        let mut options = DatabaseOptions::new(database);
        let engine = settings.optional("engine", self.engine.clone())?;
        options.engine = engine
            .map(|engine| check_engine(adapters, &**adapter, engine))
            .transpose()?;
        let dedup = settings.optional("dedup", self.dedup.then_some(true))?;
        if let Some(dedup) = dedup.filter(|dedup| dedup.value) {
            if !adapter.can_dedup() {
                let (name, origin) = (adapter.name(), dedup.origin());
                let problem = format!("{origin}: {name} keeps equal values as often as they come");
                return Err(ConfigError::Usage(problem));
            }
            options.dedup = true;
        }
        Ok(Database {
            adapter: Arc::clone(adapter),
            options,
        })
    }
}

/// The engine of tables, where there can be one.
fn check_engine(
    adapters: &Adapters,
    adapter: &dyn Adapter,
    engine: Setting<String>,
) -> Result<String, ConfigError> {
    let usage = |problem| {
        Err(ConfigError::Usage(format!(
            "{}: {problem}",
            engine.origin()
        )))
    };
    if !adapter.has_engines() {
        let with = adapters.iter().filter(|other| other.has_engines());
        let with: Vec<&str> = with.map(|other| other.name()).collect();
        let (name, with) = (adapter.name(), with.join(", "));
        return usage(format!("{name} has no engines, {with} has"));
    }
    if !engine.value.chars().all(|c| c.is_ascii_alphanumeric()) {
        return usage(format!("{:?} is no name of an engine", engine.value));
    }
    Ok(engine.value)
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
    use neo_api::{BackendError, BackendResult, StorageBackend};

    use super::super::args::{lacks, parse, parse_storage};
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
        let adapters = Adapters::default();
        let args = parse_storage(&adapters, args(words)).map_err(|e| e.to_string())?;
        args.resolve(&adapters).map_err(|e| e.to_string())
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
        assert_eq!(config.database.adapter.name(), "SQLite");
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
        let adapters = Adapters::default();
        let parsed = parse_storage(&adapters, words).unwrap();
        let masters = parsed.resolve(&adapters).unwrap().common.masters.value.0;
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
        let error = storage("neostorage --disable-pack").unwrap_err();
        let words = "--disable-pack: every node takes part in a pack";
        assert!(error.contains(words), "{error}");
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

    /// Of a program that has one more.
    #[derive(Debug)]
    struct Tape;

    impl Adapter for Tape {
        fn name(&self) -> &str {
            "Tape"
        }

        fn place(&self) -> Place {
            Place::Path
        }

        fn database_help(&self) -> &str {
            "the path of a tape"
        }

        fn open(&self, _: &DatabaseOptions) -> BackendResult<Arc<dyn StorageBackend>> {
            Err(BackendError::Unavailable("it is being rewound".into()))
        }
    }

    #[test]
    fn an_adapter_of_ones_own_is_one_like_the_others() {
        let adapters = Adapters::default().with(Tape);
        let config = |words: &str| {
            let args = parse_storage(&adapters, args(words)).map_err(|e| e.to_string())?;
            args.resolve(&adapters).map_err(|e| e.to_string())
        };
        let help = config("neostorage --help").unwrap_err();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let words = "Memory, SQLite, Redb, Sled, MySQL (or MariaDB, MySQLdb, PyMySQL), Tape [default: SQLite]";
        assert!(help.contains(words), "{help}");
        assert!(help.contains("with Tape, the path of a tape"), "{help}");
        let error = config("neostorage -c t -d x -a Foo").unwrap_err();
        let words = "--adapter: there is no adapter \"Foo\"; the adapters are: Memory, SQLite, Redb, Sled, MySQL, Tape";
        assert_eq!(error, words);
        let error = config("neostorage -c t -a tape").unwrap_err();
        assert!(error.starts_with("database is missing"), "{error}");
        let error = config("neostorage -c t -a tape -d x -e InnoDB").unwrap_err();
        assert_eq!(error, "--engine: Tape has no engines, MySQL has");
        let error = config("neostorage -c t -a tape -d x --dedup").unwrap_err();
        let words = "--dedup: Tape keeps equal values as often as they come";
        assert_eq!(error, words);
        let database = config("neostorage -c t -a TAPE -d ~/x").unwrap().database;
        assert_eq!(database.adapter.name(), "Tape");
        let home = std::env::home_dir().unwrap().join("x");
        assert_eq!(database.options.database, home.display().to_string());
    }

    #[test]
    fn equal_values_are_kept_once_if_asked() {
        for adapter in ["sqlite", "sled", "mysql", "memory"] {
            for (words, dedup) in [("", false), ("--dedup", true)] {
                let line = format!("neostorage -c t -a {adapter} -d x {words}");
                assert_eq!(storage(&line).unwrap().database.options.dedup, dedup);
            }
        }
    }

    #[test]
    fn tables_have_an_engine_on_a_server_alone() {
        for (words, engine) in [
            ("", None),
            ("-e RocksDB", Some("RocksDB")),
            ("--engine InnoDB", Some("InnoDB")),
        ] {
            let config = storage(&format!("neostorage -c t -a mariadb -d u:p@x {words}")).unwrap();
            assert_eq!(config.database.adapter.name(), "MySQL");
            assert_eq!(config.database.options.database, "u:p@x");
            assert_eq!(config.database.options.engine.as_deref(), engine);
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
