//! Where the settings of the nodes come from: command line, file, default.
//!
//! The options of `neomaster`, `neostorage` and `neoadmin` can be given on the command line and in
//! an INI file (see [`Ini`]), where the key is the long option with `_` for `-`. What the command
//! line says wins over the file, the file over the default. Each value remembers where it is from,
//! so that an error can say so.

mod ini;
mod keys;
mod value;

pub use ini::{DEFAULT_SECTION, FileError, Ini, Raw};
pub use keys::{KEYS, Key, NodeKind, Support};
pub use value::{
    ADMIN_PORT, FromValue, HostPort, MASTER_PORT, MasterList, Nid, Size, Wait, expand_home,
    parse_bool,
};

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `--option`.
    CommandLine,
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// Nobody said anything.
    Default,
}

/// A value, and where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The key, as in the file.
    pub key: &'static str,
    /// The value.
    pub value: T,
    /// Where it is from.
    pub source: Source,
}

impl<T> Setting<T> {
    /// What to call the setting in a message to the operator.
    #[must_use]
    pub fn origin(&self) -> String {
        let Self { key, source, .. } = self;
        match source {
            Source::CommandLine => format!("--{}", key.replace('_', "-")),
            Source::File { path, line } => format!("{key} in {}:{line}", path.display()),
            Source::Default => format!("the default of --{}", key.replace('_', "-")),
        }
    }
}

/// Settings that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file, or a value in it.
    #[error(transparent)]
    File(#[from] FileError),
    /// The command line, or nothing where something is needed.
    #[error("{0}")]
    Usage(String),
}

/// What the file says to one kind of node; hands out one setting after the other.
#[derive(Debug)]
pub struct Settings {
    kind: NodeKind,
    section: String,
    path: Option<PathBuf>,
    values: BTreeMap<&'static str, Raw>,
}

impl Settings {
    /// Reads the section of a file, if one is given, and checks its keys.
    ///
    /// # Errors
    /// When the file cannot be read, or has a key that no node knows or this version lacks.
    pub fn open(
        kind: NodeKind,
        file: Option<&Path>,
        section: Option<&str>,
    ) -> Result<Self, ConfigError> {
        let section = section.unwrap_or_else(|| kind.section());
        let Some(path) = file else {
            return Ok(Self {
                kind,
                section: section.to_owned(),
                path: None,
                values: BTreeMap::new(),
            });
        };
        Self::from_ini(kind, &Ini::read(&expand_home(path))?, section)
    }

    /// Checks the keys of a parsed file.
    ///
    /// # Errors
    /// As [`Settings::open`].
    pub fn from_ini(kind: NodeKind, ini: &Ini, section: &str) -> Result<Self, ConfigError> {
        let error = |line, problem| FileError {
            path: ini.path.clone(),
            line,
            problem,
        };
        if !ini.has_section(section) {
            let names: Vec<String> = ini.section_names().map(|n| format!("[{n}]")).collect();
            let problem = match names.as_slice() {
                [] => format!("there is no section [{section}], nor any other"),
                names => format!(
                    "there is no section [{section}], but {}: choose with --section",
                    names.join(", ")
                ),
            };
            return Err(error(None, problem).into());
        }
        let mut values = BTreeMap::new();
        for (name, (raw, inherited)) in ini.section(section) {
            let key = Key::find(name).ok_or_else(|| error(Some(raw.line), Key::unknown(name)))?;
            if !key.kinds.contains(&kind) {
                if !inherited {
                    tracing::warn!(
                        "{}:{}: {name} is no option of {}: ignored",
                        ini.path.display(),
                        raw.line,
                        kind.program()
                    );
                }
                continue;
            }
            match key.support {
                Support::Yes => {
                    values.insert(key.name, raw.clone());
                }
                // Switched off is what this version does anyway.
                Support::No(_) if key.flag && parse_bool(&raw.text()) == Ok(false) => {}
                Support::No(why) => {
                    return Err(error(Some(raw.line), format!("{name}: {why}")).into());
                }
            }
        }
        Ok(Self {
            kind,
            section: section.to_owned(),
            path: Some(ini.path.clone()),
            values,
        })
    }

    /// The value of a key: of the command line, else of the file.
    ///
    /// # Errors
    /// When the file's value is none.
    pub fn optional<T: FromValue>(
        &self,
        key: &'static str,
        command_line: Option<T>,
    ) -> Result<Option<Setting<T>>, ConfigError> {
        debug_assert!(
            Key::find(key).is_some_and(|k| k.kinds.contains(&self.kind)),
            "{key} is in the table of keys"
        );
        if let Some(value) = command_line {
            let source = Source::CommandLine;
            return Ok(Some(Setting { key, value, source }));
        }
        let Some((raw, path)) = self.values.get(key).zip(self.path.as_ref()) else {
            return Ok(None);
        };
        let value = T::from_value(&raw.text()).map_err(|problem| FileError {
            path: path.clone(),
            line: Some(line_of(raw, &problem)),
            problem: format!("{key}: {problem}"),
        })?;
        let source = Source::File {
            path: path.clone(),
            line: raw.line,
        };
        Ok(Some(Setting { key, value, source }))
    }

    /// The value of a key: of the command line, else of the file, else the default.
    ///
    /// # Errors
    /// When the file's value is none.
    pub fn with_default<T: FromValue>(
        &self,
        key: &'static str,
        command_line: Option<T>,
        default: impl FnOnce() -> T,
    ) -> Result<Setting<T>, ConfigError> {
        Ok(self
            .optional(key, command_line)?
            .unwrap_or_else(|| Setting {
                key,
                value: default(),
                source: Source::Default,
            }))
    }

    /// The value of a key that must be somewhere.
    ///
    /// # Errors
    /// When it is nowhere, or the file's value is none.
    pub fn required<T: FromValue>(
        &self,
        key: &'static str,
        command_line: Option<T>,
    ) -> Result<Setting<T>, ConfigError> {
        self.optional(key, command_line)?.ok_or_else(|| {
            let option = Key::find(key).map_or_else(String::new, Key::usage);
            ConfigError::Usage(match &self.path {
                Some(path) => format!(
                    "{key} is missing: give {option}, or {key} in section [{}] of {}",
                    self.section,
                    path.display()
                ),
                None => format!("{key} is missing: give {option}, or a file that has it by -f"),
            })
        })
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "[{}] of {}", self.section, path.display()),
            None => f.write_str("the command line"),
        }
    }
}

/// The line that a problem is in: of several, the one whose text the problem quotes.
fn line_of(raw: &Raw, problem: &str) -> usize {
    let quoted = raw.lines.iter().find(|(_, text)| {
        let mut words = text.split_whitespace();
        words.any(|word| problem.contains(&format!("{word:?}")))
    });
    let first = raw.lines.first();
    quoted.or(first).map_or(raw.line, |(line, _)| *line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(kind: NodeKind, text: &str) -> Result<Settings, String> {
        let ini = Ini::parse(Path::new("neo.conf"), text).map_err(|e| e.to_string())?;
        Settings::from_ini(kind, &ini, kind.section()).map_err(|e| e.to_string())
    }

    #[test]
    fn the_command_line_wins_over_the_file_and_the_file_over_the_default() {
        let settings = settings(
            NodeKind::Master,
            "[DEFAULT]\ncluster = of the file\n[master]\nreplicas = 2\n",
        )
        .unwrap();
        let cluster = settings.required("cluster", None::<String>).unwrap();
        assert_eq!(cluster.value, "of the file");
        assert_eq!(cluster.origin(), "cluster in neo.conf:2");
        let cluster = settings.required("cluster", Some("x".to_owned())).unwrap();
        assert_eq!(
            (cluster.value.as_str(), cluster.source),
            ("x", Source::CommandLine)
        );
        let replicas = settings.with_default("replicas", None, || 0_u32).unwrap();
        assert_eq!(replicas.value, 2);
        let partitions = settings
            .with_default("partitions", None, || 100_u32)
            .unwrap();
        assert_eq!(partitions.origin(), "the default of --partitions");
    }

    #[test]
    fn a_required_option_may_be_in_the_file_only_but_not_nowhere() {
        let error = settings(NodeKind::Storage, "[storage]\n")
            .unwrap()
            .required("database", None::<String>)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "database is missing: give -d/--database, or database in section [storage] of neo.conf"
        );
        let error = Settings::open(NodeKind::Storage, None, None)
            .unwrap()
            .required("cluster", None::<String>)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cluster is missing: give -c/--cluster, or a file that has it by -f"
        );
    }

    #[test]
    fn a_key_that_no_node_knows_is_an_error() {
        for (text, error) in [
            (
                "[DEFAULT]\nclustre = a\n[master]\n",
                "neo.conf:2: clustre is no option of any node (did you mean cluster?)",
            ),
            (
                "[master]\n\nfoobar: 1\n",
                "neo.conf:3: foobar is no option of any node",
            ),
        ] {
            assert_eq!(settings(NodeKind::Master, text).unwrap_err(), error);
        }
        // Of a section of another program nothing is said.
        settings(NodeKind::Master, "[master]\n[other]\nfoobar = 1\n").unwrap();
    }

    #[test]
    fn a_key_of_another_node_is_ignored() {
        let text = "[DEFAULT]\ndatabase = x\nautostart = 3\n[storage]\n[master]\n";
        let settings = settings(NodeKind::Master, text).unwrap();
        let autostart = settings.optional("autostart", None::<u32>).unwrap();
        assert_eq!(autostart.map(|a| a.value), Some(3));
        assert!(!settings.values.contains_key("database"));
    }

    #[test]
    fn a_key_that_this_version_lacks_says_so() {
        for (text, error) in [
            (
                "[DEFAULT]\nca = ~/ca.pem\n[storage]\n",
                "neo.conf:2: ca: TLS is not available in this version",
            ),
            (
                "[storage]\nlogfile = x\n",
                "neo.conf:2: logfile: log files are not available in this version, logs go to \
                 stderr",
            ),
            (
                "[storage]\ndisable_pack = yes\n",
                "neo.conf:2: disable_pack: every node takes part in a pack: replicas have to agree",
            ),
            (
                "[storage]\nreset = true\n",
                "neo.conf:2: reset: only on the command line: from a file it would erase the \
                 database at each start",
            ),
        ] {
            assert_eq!(settings(NodeKind::Storage, text).unwrap_err(), error);
        }
        settings(NodeKind::Storage, "[storage]\ndedup = off\n").unwrap();
        // Of another node's key nothing is said.
        settings(NodeKind::Storage, "[DEFAULT]\nbackup = 1\n[storage]\n").unwrap();
    }

    #[test]
    fn a_bad_value_is_named_with_its_line() {
        let text = "[master]\nreplicas = many\nbind = 1:2:3\nmasters =\n  a:1\n  b:x\nautostart=\n";
        let settings = settings(NodeKind::Master, text).unwrap();
        let error = settings.optional("replicas", None::<u32>).unwrap_err();
        assert_eq!(
            error.to_string(),
            "neo.conf:2: replicas: \"many\" is not a number from 0 to 4294967295"
        );
        let error = settings.optional("bind", None::<HostPort>).unwrap_err();
        assert_eq!(
            error.to_string(),
            "neo.conf:3: bind: \"1:2:3\" is not an address: an IPv6 address needs brackets (write \
             HOST:PORT or [IPV6]:PORT)"
        );
        let error = settings
            .optional("masters", None::<MasterList>)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "neo.conf:6: masters: \"b:x\" is not an address: the port is not a number (write \
             HOST:PORT or [IPV6]:PORT)"
        );
        let error = settings.optional("autostart", None::<u32>).unwrap_err();
        assert_eq!(
            error.to_string(),
            "neo.conf:7: autostart: the value is missing"
        );
    }

    #[test]
    fn a_missing_section_names_the_others() {
        let error = settings(NodeKind::Admin, "[master]\n[storage]\n").unwrap_err();
        assert_eq!(
            error,
            "neo.conf: there is no section [admin], but [master], [storage]: choose with --section"
        );
    }
}
