//! How an operator names a database in files: a path, or `file:PATH?NAME=VALUE&…`.

use std::path::PathBuf;
use std::str::FromStr;

use neo_api::{BackendError, BackendResult};

#[cfg(feature = "sled")]
use crate::sled::SledSettings;
#[cfg(feature = "sqlite")]
use crate::sqlite::{SqliteSettings, Synchronous};

/// The settings of an SQLite database that an operator named.
#[cfg(feature = "sqlite")]
pub(super) fn sqlite_settings(database: &str) -> BackendResult<SqliteSettings> {
    const NAMES: &str =
        "readers, cache_bytes, max_database_bytes, reserve_bytes and synchronous=full or off";
    let (path, query) = split(database);
    let mut settings = SqliteSettings::new(expand_home(path)?);
    set_all(query, NAMES, |name, value| {
        match name {
            "readers" => settings.readers = number(value)?,
            "cache_bytes" => settings.cache_bytes = number(value)?,
            "reserve_bytes" => settings.reserve_bytes = number(value)?,
            "max_database_bytes" => settings.max_database_bytes = Some(number(value)?),
            "synchronous" if value.eq_ignore_ascii_case("full") => {
                settings.synchronous = Synchronous::Full;
            }
            "synchronous" if value.eq_ignore_ascii_case("off") => {
                settings.synchronous = Synchronous::Off;
            }
            _ => return None,
        }
        Some(())
    })?;
    Ok(settings)
}

/// The settings of a database of sled that an operator named.
#[cfg(feature = "sled")]
pub(super) fn sled_settings(database: &str) -> BackendResult<SledSettings> {
    let (path, query) = split(database);
    let mut settings = SledSettings::new(expand_home(path)?);
    set_all(
        query,
        "readers, cache_bytes and reserve_bytes",
        |name, value| {
            match name {
                "readers" => settings.readers = number(value)?,
                "cache_bytes" => settings.cache_bytes = number(value)?,
                "reserve_bytes" => settings.reserve_bytes = number(value)?,
                _ => return None,
            }
            Some(())
        },
    )?;
    Ok(settings)
}

/// A path, and what follows the question mark of a URI.
#[cfg(any(feature = "sqlite", feature = "sled"))]
fn split(database: &str) -> (&str, &str) {
    match database.strip_prefix("file:") {
        Some(uri) => uri.split_once('?').unwrap_or((uri, "")),
        None => (database, ""),
    }
}

pub(crate) fn number<N: FromStr>(value: &str) -> Option<N> {
    value.parse().ok()
}

/// Sets each setting of a query; one that gives `None` is refused.
pub(crate) fn set_all(
    query: &str,
    names: &str,
    mut set: impl FnMut(&str, &str) -> Option<()>,
) -> BackendResult<()> {
    for setting in query.split('&').filter(|setting| !setting.is_empty()) {
        let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
        set(name, value).ok_or_else(|| {
            BackendError::Unsupported(format!(
                "{setting:?} in the name of the database; it may have {names}"
            ))
        })?;
    }
    Ok(())
}

pub(crate) fn expand_home(path: &str) -> BackendResult<PathBuf> {
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
    #[cfg(feature = "sqlite")]
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

    #[cfg(feature = "sled")]
    #[test]
    fn a_uri_carries_settings_of_sled() {
        let settings = sled_settings("file:a.db?readers=3&reserve_bytes=9").unwrap();
        assert_eq!(settings.path, PathBuf::from("a.db"));
        assert_eq!((settings.readers, settings.reserve_bytes), (3, 9));
        assert_eq!(sled_settings("a.db").unwrap(), SledSettings::new("a.db"));
        let error = sled_settings("file:a.db?synchronous=off")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("may have readers, cache_bytes and"),
            "{error}"
        );
    }

    #[cfg(feature = "sqlite")]
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
