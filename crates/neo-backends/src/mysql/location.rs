//! How an operator names a database on a server: as NEO does, `[user[:password]@]database[socket]`,
//! where a socket starts with `/`, `.` or `~`; or `[user[:password]@]database:host[:port]`. Settings
//! may follow: `?NAME=VALUE&…`.

use std::fmt;
use std::path::PathBuf;

use neo_api::{BackendError, BackendResult};

use super::{MySqlSettings, Server};
use crate::adapter::uri;

/// Where the server of a distribution listens, unless it was told otherwise.
const SOCKETS: [&str; 3] = [
    "/run/mysqld/mysqld.sock",
    "/var/lib/mysql/mysql.sock",
    "/tmp/mysql.sock",
];
const PORT: u16 = 3306;
const NAMES: &str = "engine, readers, reconnect_s, dedup_bytes_min and unsafe_flush=accept";

/// The parts, as they are written.
struct Parts<'a> {
    user: Option<&'a str>,
    password: Option<&'a str>,
    database: &'a str,
    /// What tells where the server is, from its first character on.
    server: &'a str,
    settings: &'a str,
}

impl<'a> Parts<'a> {
    fn split(location: &'a str) -> Self {
        // The last one: a password may have others.
        let (who, what) = match location.rfind('@') {
            Some(at) => (Some(&location[..at]), &location[at + 1..]),
            None => (None, location),
        };
        let (what, settings) = what.split_once('?').unwrap_or((what, ""));
        let end = what.find(['/', '.', '~', ':']).unwrap_or(what.len());
        let (database, server) = what.split_at(end);
        let (user, password) = match who.map(|who| who.split_once(':').ok_or(who)) {
            None => (None, None),
            Some(Ok((user, password))) => (Some(user), Some(password)),
            Some(Err(user)) => (Some(user), None),
        };
        Self {
            user,
            password,
            database,
            server,
            settings,
        }
    }
}

/// The settings of a database that an operator named.
pub(crate) fn settings(location: &str) -> BackendResult<MySqlSettings> {
    let parts = Parts::split(location);
    let refuse = |why: &str| {
        let shown = Shown(location);
        Err(BackendError::Unsupported(format!(
            "{shown} as the name of a database: {why}; \
             it is [user[:password]@]database[socket], or [user[:password]@]database:host[:port]"
        )))
    };
    if parts.database.is_empty() {
        return refuse("no database is named");
    }
    // The longest that the server takes, and what would need care to be quoted.
    if parts.database.len() > 64 || parts.database.contains(['`', '\0']) {
        return refuse("there is no such name");
    }
    if parts.user.is_some_and(str::is_empty) {
        return refuse("the user has no name");
    }
    let Some(server) = server(parts.server)? else {
        return refuse("the host, or its port, makes no sense");
    };
    let mut settings = MySqlSettings::new(parts.database, server);
    settings.user = parts.user.map(ToOwned::to_owned);
    settings.password = parts.password.map(ToOwned::to_owned);
    uri::set_all(parts.settings, NAMES, |name, value| {
        match name {
            "engine" if !value.is_empty() => settings.engine = Some(value.to_owned()),
            "readers" => settings.readers = uri::number(value)?,
            "reconnect_s" => settings.reconnect_s = uri::number(value)?,
            "dedup_bytes_min" => settings.dedup_bytes_min = Some(uri::number(value)?),
            "unsafe_flush" if value == "accept" => settings.unsafe_flush = true,
            _ => return None,
        }
        Some(())
    })?;
    Ok(settings)
}

/// `None` when it makes no sense.
fn server(text: &str) -> BackendResult<Option<Server>> {
    let Some(host) = text.strip_prefix(':') else {
        return Ok(Some(Server::Socket(if text.is_empty() {
            let there = SOCKETS.iter().find(|path| PathBuf::from(path).exists());
            PathBuf::from(there.unwrap_or(&SOCKETS[0]))
        } else {
            uri::expand_home(text)?
        })));
    };
    let (host, port) = match host.strip_prefix('[') {
        Some(v6) => match v6.split_once(']') {
            Some((host, port)) => (host, port),
            None => return Ok(None),
        },
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => uri::number(port),
        None if port.is_empty() => Some(PORT),
        None => None,
    };
    let port = port.filter(|port| *port != 0 && !host.is_empty());
    let name = host.to_owned();
    Ok(port.map(|port| Server::Host { name, port }))
}

/// A name of a database without the password in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = Parts::split(self.0);
        let Some(password) = parts.password else {
            return f.write_str(self.0);
        };
        let before = parts.user.map_or(0, |user| user.len() + 1);
        let (user, rest) = self.0.split_at(before);
        write!(f, "{user}***{}", &rest[password.len()..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(location: &str) -> String {
        let MySqlSettings {
            database,
            user,
            password,
            server,
            ..
        } = settings(location).unwrap();
        let [user, password] = [user, password].map(|text| text.unwrap_or_else(|| "-".to_owned()));
        format!("{user} {password} {database} {server}")
    }

    #[test]
    fn as_neo_writes_it() {
        for (location, parts) in [
            ("neo1/run/x.sock", "- - neo1 /run/x.sock"),
            ("neo1./x.sock", "- - neo1 ./x.sock"),
            ("root@neo1/x", "root - neo1 /x"),
            ("root:@neo1/x", "root  neo1 /x"),
            ("root:pw@neo1/x", "root pw neo1 /x"),
            ("root:p:w@/?x@neo1/x", "root p:w@/?x neo1 /x"),
            ("neo1:db", "- - neo1 db:3306"),
            ("u:p@neo1:db.example:99", "u p neo1 db.example:99"),
            ("neo-1_é:[::1]:99", "- - neo-1_é [::1]:99"),
            ("neo1:[::1]", "- - neo1 [::1]:3306"),
        ] {
            assert_eq!(parsed(location), parts, "{location}");
        }
        let home = std::env::home_dir().unwrap();
        let expected = format!("- - neo1 {}", home.join("x.sock").display());
        assert_eq!(parsed("neo1~/x.sock"), expected);
        assert!(parsed("neo1").starts_with("- - neo1 /"));
    }

    #[test]
    fn settings_follow() {
        let settings =
            settings("u@neo1/x?engine=RocksDB&readers=3&reconnect_s=0&unsafe_flush=accept");
        let settings = settings.unwrap();
        assert_eq!(settings.engine.as_deref(), Some("RocksDB"));
        assert_eq!((settings.readers, settings.reconnect_s), (3, 0));
        assert!(settings.unsafe_flush);
    }

    #[test]
    fn what_makes_no_sense_is_refused_without_the_password() {
        for (location, words) in [
            ("", "no database is named"),
            ("u:secret@", "no database is named"),
            ("u:secret@/x", "no database is named"),
            (":secret@neo1", "the user has no name"),
            ("u:secret@neo1:", "the host, or its port"),
            ("u:secret@neo1:h:0", "the host, or its port"),
            ("u:secret@neo1:h:1x", "the host, or its port"),
            ("u:secret@neo1:[::1", "the host, or its port"),
            ("u:secret@neo1:[::1]5", "the host, or its port"),
            ("u:secret@ne`o1", "no such name"),
            ("u:secret@neo1?unsafe_flush=on", "\"unsafe_flush=on\" in"),
            ("u:secret@neo1?x", "it may have engine, readers"),
        ] {
            let error = settings(location).unwrap_err().to_string();
            assert!(error.contains(words), "{location}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        for (location, shown) in [
            (
                "u:secret@neo1/x?engine=InnoDB",
                "u:***@neo1/x?engine=InnoDB",
            ),
            ("u:@neo1", "u:***@neo1"),
            ("u:a@b@neo1", "u:***@neo1"),
            ("u@neo1/a:b", "u@neo1/a:b"),
            ("neo1:host:1", "neo1:host:1"),
        ] {
            assert_eq!(Shown(location).to_string(), shown);
        }
    }
}
