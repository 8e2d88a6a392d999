//! Values of options: from text, with an error that says what would be right.

use std::path::{Path, PathBuf};
use std::time::Duration;

use neo_api::{Address, NodeId, NodeType};

/// Port of a master, where an address leaves it out.
pub const MASTER_PORT: u16 = 10_000;

/// Port of an admin node, where an address leaves it out.
pub const ADMIN_PORT: u16 = 9999;

/// A value that can be given in a file as on the command line.
pub trait FromValue: Sized {
    /// Parses it.
    ///
    /// # Errors
    /// What is wrong, in words.
    fn from_value(text: &str) -> Result<Self, String>;
}

fn not_empty(text: &str) -> Result<&str, String> {
    match text.trim() {
        "" => Err("the value is missing".to_owned()),
        text => Ok(text),
    }
}

impl FromValue for String {
    fn from_value(text: &str) -> Result<Self, String> {
        not_empty(text).map(str::to_owned)
    }
}

impl FromValue for u32 {
    fn from_value(text: &str) -> Result<Self, String> {
        let text = not_empty(text)?;
        let wrong = |_| format!("{text:?} is not a number from 0 to {}", Self::MAX);
        text.parse().map_err(wrong)
    }
}

/// An address whose port may be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort(String);

impl HostPort {
    /// The address, with this port if it was left out.
    #[must_use]
    pub fn or_port(&self, port: u16) -> Address {
        Address::parse_with_default_port(&self.0, port).expect("it was parsed before")
    }
}

impl FromValue for HostPort {
    fn from_value(text: &str) -> Result<Self, String> {
        let text = not_empty(text)?;
        Address::parse_with_default_port(text, 0).map_err(|e| e.to_string())?;
        Ok(Self(text.to_owned()))
    }
}

/// Addresses of masters, separated by white space, or by commas as `neosimple` prints them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MasterList(pub Vec<Address>);

impl FromValue for MasterList {
    fn from_value(text: &str) -> Result<Self, String> {
        let parse = |word| Address::parse_with_default_port(word, MASTER_PORT);
        let words = not_empty(text)?.split(|c: char| c.is_whitespace() || c == ',');
        let words = words.filter(|word| !word.is_empty());
        let list: Result<Vec<_>, _> = words.map(parse).collect();
        match list {
            Ok(list) if list.is_empty() => Err(format!("{text:?} names no master")),
            Ok(list) => Ok(Self(list)),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl FromValue for PathBuf {
    fn from_value(text: &str) -> Result<Self, String> {
        Ok(expand_home(Path::new(not_empty(text)?)))
    }
}

impl FromValue for bool {
    fn from_value(text: &str) -> Result<Self, String> {
        parse_bool(not_empty(text)?)
    }
}

/// How long to wait for a database: seconds, for ever when negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// So long at most.
    AtMost(Duration),
    /// For ever.
    Forever,
}

impl FromValue for Wait {
    fn from_value(text: &str) -> Result<Self, String> {
        let text = not_empty(text)?;
        let seconds: f64 = text
            .parse()
            .ok()
            .filter(|seconds: &f64| seconds.is_finite())
            .ok_or_else(|| format!("{text:?} is not a number of seconds"))?;
        if seconds < 0.0 {
            return Ok(Self::Forever);
        }
        Duration::try_from_secs_f64(seconds)
            .map(Self::AtMost)
            .map_err(|_| format!("{text:?} is too many seconds; for ever is -1"))
    }
}

/// So many bytes: a number, with `K`, `M` or `G` for powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromValue for Size {
    fn from_value(text: &str) -> Result<Self, String> {
        let text = not_empty(text)?;
        let (number, shift) = match text.as_bytes().last() {
            Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
            Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
            Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
            _ => (text, 0),
        };
        let number: Option<u64> = number.trim().parse().ok();
        let bytes = number.and_then(|number| number.checked_mul(1 << shift));
        let wrong = || format!("{text:?} is not a number of bytes, as 4096, 512K, 8M or 1G");
        bytes.map(Self).ok_or_else(wrong)
    }
}

/// A node id, given as `S3` or, in a place that has one type of node only, as `3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nid {
    /// With its letter.
    Id(NodeId),
    /// Without.
    Number(u32),
}

impl Nid {
    /// The id, of a node of this type.
    ///
    /// # Errors
    /// When it is of another type, or no node has that number.
    pub fn of_type(self, node_type: NodeType) -> Result<NodeId, String> {
        match self {
            Self::Id(id) if id.node_type() == node_type => Ok(id),
            Self::Id(id) => Err(format!("{id} is the id of a {} node", id.node_type())),
            Self::Number(number) => NodeId::new(node_type, number).ok_or_else(|| {
                format!(
                    "{number} is not a node's number: 1 to {}",
                    NodeId::NUMBER_MAX
                )
            }),
        }
    }
}

impl FromValue for Nid {
    fn from_value(text: &str) -> Result<Self, String> {
        let text = not_empty(text)?;
        if let Ok(number) = text.parse() {
            return Ok(Self::Number(number));
        }
        text.parse()
            .map(Self::Id)
            .map_err(|e: neo_api::ParseIdError| e.to_string())
    }
}

/// A boolean as ConfigParser reads it.
///
/// # Errors
/// When it is none.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text.trim().to_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Ok(true),
        "0" | "no" | "false" | "off" => Ok(false),
        _ => Err(format!(
            "{text:?} is neither yes nor no (1/0, true/false, on/off)"
        )),
    }
}

/// A path with `~` or `~user` at its beginning replaced by that home directory, if there is one.
#[must_use]
pub fn expand_home(path: &Path) -> PathBuf {
    let Some(text) = path.to_str().and_then(|text| text.strip_prefix('~')) else {
        return path.to_owned();
    };
    let (user, rest) = text.split_at(text.find('/').unwrap_or(text.len()));
    let home = match user {
        "" => std::env::var("HOME").ok().filter(|home| !home.is_empty()),
        user => home_of(user),
    };
    home.map_or_else(|| path.to_owned(), |home| PathBuf::from(home + rest))
}

fn home_of(user: &str) -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(user)).then(|| fields.nth(4).map(str::to_owned))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_those_of_config_parser() {
        for text in ["1", "yes", "True", "ON"] {
            assert_eq!(parse_bool(text), Ok(true));
        }
        for text in ["0", "no", "false", "Off"] {
            assert_eq!(parse_bool(text), Ok(false));
        }
        assert!(parse_bool("2").is_err());
    }

    #[test]
    fn addresses_take_the_port_of_their_kind() {
        let list = MasterList::from_value("a  b:1\n[::1] [::2]:3").unwrap();
        let bind = HostPort::from_value("[::1]").unwrap();
        assert_eq!(bind.or_port(7).to_string(), "[::1]:7");
        assert_eq!(HostPort::from_value("a:0").unwrap().or_port(7).port(), 0);
        let texts: Vec<String> = list.0.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["a:10000", "b:1", "[::1]:10000", "[::2]:3"]);
        assert!(MasterList::from_value(" ").is_err());
        assert!(MasterList::from_value(",").is_err());
        let printed = MasterList::from_value("a:1,b:2").unwrap();
        assert_eq!(printed.0.len(), 2);
    }

    #[test]
    fn homes_are_expanded() {
        let home = std::env::var("HOME").unwrap();
        assert_eq!(
            expand_home(Path::new("~/a")),
            PathBuf::from(home.clone() + "/a")
        );
        assert_eq!(expand_home(Path::new("~")), PathBuf::from(home));
        assert_eq!(expand_home(Path::new("~root/x")), PathBuf::from("/root/x"));
        for path in ["/a/~", "a~b", "~no-such-user/x"] {
            assert_eq!(expand_home(Path::new(path)), PathBuf::from(path));
        }
    }

    #[test]
    fn waits_are_seconds() {
        assert_eq!(
            Wait::from_value("1.5"),
            Ok(Wait::AtMost(Duration::from_millis(1500)))
        );
        assert_eq!(Wait::from_value("-1"), Ok(Wait::Forever));
        for text in ["", "x", "nan", "inf", "1e300"] {
            assert!(Wait::from_value(text).is_err(), "{text}");
        }
    }

    #[test]
    fn node_ids_come_with_or_without_their_letter() {
        let s7 = "S7".parse();
        for text in ["7", "S7"] {
            assert_eq!(
                Nid::from_value(text)
                    .unwrap()
                    .of_type(NodeType::Storage)
                    .ok(),
                s7.clone().ok()
            );
        }
        let error = Nid::from_value("S7").unwrap().of_type(NodeType::Admin);
        assert_eq!(error.unwrap_err(), "S7 is the id of a STORAGE node");
        assert!(Nid::Number(0).of_type(NodeType::Storage).is_err());
        assert!(Nid::from_value("Q7").is_err());
    }
}
