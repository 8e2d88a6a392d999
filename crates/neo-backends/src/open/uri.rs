//! How an operator names an SQLite database: a path, or `file:PATH?NAME=VALUE&…`.

use std::path::PathBuf;

use neo_api::{BackendError, BackendResult};

use crate::sqlite::{SqliteSettings, Synchronous};

const SQLITE_SETTINGS: &str =
    "readers, cache_bytes, max_database_bytes, reserve_bytes and synchronous=full or off";

/// The settings of an SQLite database that an operator named.
pub(super) fn sqlite_settings(database: &str) -> BackendResult<SqliteSettings> {
    let (path, query) = match database.strip_prefix("file:") {
        Some(uri) => uri.split_once('?').unwrap_or((uri, "")),
        None => (database, ""),
    };
    let mut settings = SqliteSettings::new(expand_home(path)?);
    for setting in query.split('&').filter(|setting| !setting.is_empty()) {
        let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
        let wrong = || {
            BackendError::Unsupported(format!(
                "{setting:?} in the database's URI; it may have {SQLITE_SETTINGS}"
            ))
        };
        match name {
            "readers" => settings.readers = value.parse().map_err(|_| wrong())?,
            "cache_bytes" => settings.cache_bytes = value.parse().map_err(|_| wrong())?,
            "reserve_bytes" => settings.reserve_bytes = value.parse().map_err(|_| wrong())?,
            "max_database_bytes" => {
                settings.max_database_bytes = Some(value.parse().map_err(|_| wrong())?);
            }
            "synchronous" if value.eq_ignore_ascii_case("full") => {
                settings.synchronous = Synchronous::Full;
            }
            "synchronous" if value.eq_ignore_ascii_case("off") => {
                settings.synchronous = Synchronous::Off;
            }
            _ => return Err(wrong()),
        }
    }
    Ok(settings)
}

fn expand_home(path: &str) -> BackendResult<PathBuf> {
    let Some(rest) = path.strip_prefix('~') else {
        return Ok(path.into());
    };
    // `~someone` is a name like any other.
    if !rest.is_empty() && !rest.starts_with('/') {
        return Ok(path.into());
    }
    match std::env::home_dir() {
        Some(home) => Ok(home.join(rest.trim_start_matches('/'))),
        None => Err(BackendError::Unsupported(format!(
            "{path}, since the home directory is not known"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Engine;
    use super::*;

    #[test]
    fn a_home_is_expanded_only_at_the_start() {
        let home = std::env::home_dir().unwrap();
        assert_eq!(expand_home("~/x/y.db").unwrap(), home.join("x/y.db"));
        assert_eq!(expand_home("~").unwrap(), home);
        for path in ["a/~/b", "~someone/b", "/~/b", ""] {
            assert_eq!(expand_home(path).unwrap(), PathBuf::from(path));
        }
    }

    #[test]
    fn a_uri_carries_settings() {
        let settings =
            sqlite_settings("file:a.db?readers=3&synchronous=OFF&max_database_bytes=9").unwrap();
        assert_eq!(settings.path, PathBuf::from("a.db"));
        assert_eq!(
            (settings.readers, settings.synchronous),
            (3, Synchronous::Off)
        );
        assert_eq!(settings.max_database_bytes, Some(9));
        assert_eq!(
            sqlite_settings("file:a.db").unwrap(),
            SqliteSettings::new("a.db")
        );
        // Without the scheme, a question mark is part of the name.
        let settings = sqlite_settings("a.db?x=1").unwrap();
        assert_eq!(settings.path, PathBuf::from("a.db?x=1"));
        for wrong in ["readers", "readers=x", "journal=wal", "synchronous=maybe"] {
            let error = sqlite_settings(&format!("file:a.db?{wrong}"))
                .unwrap_err()
                .to_string();
            assert!(error.contains(wrong), "{error}");
            assert!(
                error.contains("it may have readers, cache_bytes"),
                "{error}"
            );
        }
        let file = Engine::Sqlite.file("file:a.db?readers=3").unwrap();
        assert_eq!(file, Some(PathBuf::from("a.db")));
    }
}
