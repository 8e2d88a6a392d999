//! Every option that a node of NEO has, for which nodes, and whether this version has it.

/// What kind of node a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// `neomaster`.
    Master,
    /// `neostorage`.
    Storage,
    /// `neoadmin`.
    Admin,
}

impl NodeKind {
    /// Its section in a configuration file, unless another is chosen.
    #[must_use]
    pub const fn section(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Storage => "storage",
            Self::Admin => "admin",
        }
    }

    /// The program that runs it.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Master => "neomaster",
            Self::Storage => "neostorage",
            Self::Admin => "neoadmin",
        }
    }
}

/// Whether this version has an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It does.
    Yes,
    /// It does not; what to say.
    No(&'static str),
}

/// An option of a node, as a file spells it.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The long option, with `_` for `-`.
    pub name: &'static str,
    /// The short option.
    pub short: Option<char>,
    /// Whose option it is.
    pub kinds: &'static [NodeKind],
    /// Whether it is a switch, without a value on the command line.
    pub flag: bool,
    /// Whether this version has it.
    pub support: Support,
}

use NodeKind::{Admin, Master, Storage};

const ALL: &[NodeKind] = &[Master, Storage, Admin];

const fn key(name: &'static str, short: char, kinds: &'static [NodeKind]) -> Key {
    Key {
        name,
        short: match short {
            ' ' => None,
            short => Some(short),
        },
        kinds,
        flag: false,
        support: Support::Yes,
    }
}

impl Key {
    const fn lacks(self, why: &'static str) -> Self {
        Self {
            support: Support::No(why),
            ..self
        }
    }

    const fn flag(self) -> Self {
        Self { flag: true, ..self }
    }

    /// The option of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// How the command line spells it, for messages.
    #[must_use]
    pub fn usage(&self) -> String {
        let long = self.name.replace('_', "-");
        self.short
            .map_or_else(|| format!("--{long}"), |short| format!("-{short}/--{long}"))
    }

    /// What to say of a name that is no option.
    #[must_use]
    pub fn unknown(name: &str) -> String {
        let near = KEYS
            .iter()
            .map(|key| (distance(name, key.name), key.name))
            .min()
            .filter(|(distance, key)| *distance <= 2 && *distance < key.len() / 2);
        match near {
            Some((_, key)) => {
                format!("{name} is no option of any node (did you mean {key}?)")
            }
            None => format!("{name} is no option of any node"),
        }
    }
}

const NO_TLS: &str = "TLS is not available in this version";
const NO_BACKUP: &str = "backup clusters are not available in this version";
const NO_PACK: &str = "every node takes part in a pack: replicas have to agree";
const NO_MONITORING: &str = "monitoring is not available in this version";

/// Every option of a node, but the choice of the file itself.
pub const KEYS: &[Key] = &[
    key("cluster", 'c', ALL),
    key("masters", 'm', ALL),
    key("bind", 'b', ALL),
    key("nid", 'i', ALL),
    key("logfile", 'l', ALL)
        .lacks("log files are not available in this version, logs go to stderr"),
    key("ca", ' ', ALL).lacks(NO_TLS),
    key("cert", ' ', ALL).lacks(NO_TLS),
    key("key", ' ', ALL).lacks(NO_TLS),
    key("dynamic_master_list", 'D', ALL),
    key("autostart", 'A', &[Master]),
    key("replicas", 'r', &[Master]),
    key("partitions", 'p', &[Master]),
    key("auto_tweak", ' ', &[Master]),
    key("upstream_cluster", 'C', &[Master]).lacks(NO_BACKUP),
    key("upstream_masters", 'M', &[Master]).lacks(NO_BACKUP),
    key("backup", 'B', &[Master]).flag().lacks(NO_BACKUP),
    key("adapter", 'a', &[Storage]),
    key("database", 'd', &[Storage]),
    key("wait", 'w', &[Storage]),
    key("engine", 'e', &[Storage]),
    key("disable_pack", ' ', &[Storage]).flag().lacks(NO_PACK),
    key("disable_drop_partitions", ' ', &[Storage]).flag(),
    key("replication_min_rate", ' ', &[Storage]),
    key("new_nid", ' ', &[Storage])
        .flag()
        .lacks("only on the command line: from a file it would take a new id at each start"),
    key("dedup", ' ', &[Storage]).flag(),
    key("reset", ' ', &[Storage])
        .flag()
        .lacks("only on the command line: from a file it would erase the database at each start"),
    key("monitor_email", ' ', &[Admin]).lacks(NO_MONITORING),
    key("monitor_backup", ' ', &[Admin]).lacks(NO_MONITORING),
    key("monitor_maxlag", ' ', &[Admin]).lacks(NO_MONITORING),
    key("smtp", ' ', &[Admin]).lacks(NO_MONITORING),
    key("smtp_tls", ' ', &[Admin]).flag().lacks(NO_MONITORING),
    key("smtp_auth", ' ', &[Admin]).lacks(NO_MONITORING),
];

/// Levenshtein's distance of two short words.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replace = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_letters_are_unique_for_each_node() {
        for kind in ALL {
            let of_kind: Vec<_> = KEYS.iter().filter(|k| k.kinds.contains(kind)).collect();
            for (n, key) in of_kind.iter().enumerate() {
                for other in &of_kind[n + 1..] {
                    assert_ne!(key.name, other.name);
                    assert!(
                        key.short.is_none() || key.short != other.short,
                        "{}",
                        key.name
                    );
                }
            }
        }
    }

    #[test]
    fn near_names_are_offered() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert!(Key::unknown("partitons").ends_with("(did you mean partitions?)"));
        assert!(!Key::unknown("x").contains("mean"));
    }
}
