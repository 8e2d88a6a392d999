//! How an operator names a database in files: a path, or `file:PATH?NAME=VALUE&…`.

use std::path::PathBuf;
use std::str::FromStr;

use neo_api::{BackendError, BackendResult};

#[cfg(feature = "redb")]
use crate::redb::RedbSettings;
#[cfg(feature = "sled")]
use crate::sled::SledSettings;
#[cfg(feature = "sqlite")]
use crate::sqlite::{SqliteSettings, Synchronous};

/// The settings of an SQLite database that an operator named.
#[cfg(feature = "sqlite")]
pub(super) fn sqlite_settings(database: &str) -> BackendResult<SqliteSettings> {
    const NAMES: &str = "readers, cache_bytes or SQLite's cache_size, max_database_bytes, \
        reserve_bytes, dedup_bytes_min, quick_check_bytes_max, check_every_s, journal_mode=wal (with another one \
        nobody could read during a write), and synchronous=full, extra or off (with normal, a \
        loss of power would lose commits)";
    let (path, query) = split(database);
    let mut settings = SqliteSettings::new(expand_home(path)?);
    set_all(query, NAMES, |name, value| {
        match name {
            "readers" => settings.readers = number(value)?,
            "cache_bytes" => settings.cache_bytes = number(value)?,
            "reserve_bytes" => settings.reserve_bytes = number(value)?,
            "max_database_bytes" => settings.max_database_bytes = Some(number(value)?),
            "dedup_bytes_min" => settings.dedup_bytes_min = Some(number(value)?),
            "cache_size" => settings.cache_bytes = cache_bytes(number(value)?),
            "quick_check_bytes_max" => settings.quick_check_bytes_max = number(value)?,
            "check_every_s" => settings.check_every_s = Some(number(value)?),
            "journal_mode" if value.eq_ignore_ascii_case("wal") => {}
            "synchronous" => match value.to_ascii_lowercase().as_str() {
                // With a log, the two are the same.
                "full" | "2" | "extra" | "3" => settings.synchronous = Synchronous::Full,
                "off" | "0" => settings.synchronous = Synchronous::Off,
                _ => return None,
            },
            _ => return None,
        }
        Some(())
    })?;
    Ok(settings)
}

/// What `PRAGMA cache_size` means: pages, or KiB when it is negative.
#[cfg(feature = "sqlite")]
const fn cache_bytes(size: i64) -> u64 {
    match size {
        0.. => size.unsigned_abs().saturating_mul(4096),
        _ => size.unsigned_abs().saturating_mul(1024),
    }
}

/// The settings of a database of redb that an operator named.
#[cfg(feature = "redb")]
pub(super) fn redb_settings(database: &str) -> BackendResult<RedbSettings> {
    const NAMES: &str =
        "readers, cache_bytes, reserve_bytes, dedup_bytes_min and quick_repair=on or off";
    let (path, query) = split(database);
    let mut settings = RedbSettings::new(expand_home(path)?);
    set_all(query, NAMES, |name, value| {
        match name {
            "readers" => settings.readers = number(value)?,
            "cache_bytes" => settings.cache_bytes = number(value)?,
            "reserve_bytes" => settings.reserve_bytes = number(value)?,
            "dedup_bytes_min" => settings.dedup_bytes_min = Some(number(value)?),
            "quick_repair" if value.eq_ignore_ascii_case("on") => settings.quick_repair = true,
            "quick_repair" if value.eq_ignore_ascii_case("off") => settings.quick_repair = false,
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
        "readers, cache_bytes, reserve_bytes and dedup_bytes_min",
        |name, value| {
            match name {
                "readers" => settings.readers = number(value)?,
                "cache_bytes" => settings.cache_bytes = number(value)?,
                "reserve_bytes" => settings.reserve_bytes = number(value)?,
                "dedup_bytes_min" => settings.dedup_bytes_min = Some(number(value)?),
                _ => return None,
            }
            Some(())
        },
    )?;
    Ok(settings)
}

/// A path, and what follows the question mark of a URI.
#[cfg(any(feature = "redb", feature = "sled", feature = "sqlite"))]
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

    #[cfg(feature = "redb")]
    #[test]
    fn a_uri_carries_settings_of_redb() {
        let settings = redb_settings("file:a.db?cache_bytes=9&quick_repair=On").unwrap();
        assert_eq!(settings.path, PathBuf::from("a.db"));
        assert_eq!((settings.cache_bytes, settings.quick_repair), (9, true));
        assert_eq!(redb_settings("a.db").unwrap(), RedbSettings::new("a.db"));
        let error = redb_settings("file:a.db?quick_repair=1").unwrap_err();
        assert!(
            error.to_string().contains("quick_repair=on or off"),
            "{error}"
        );
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
            error.contains("may have readers, cache_bytes, reserve"),
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
        let neo = "file:a.db?cache_size=-2000&journal_mode=WAL&synchronous=Extra";
        let settings = sqlite_settings(neo).unwrap();
        assert_eq!(settings.cache_bytes, 2000 << 10);
        assert_eq!(settings.synchronous, Synchronous::Full);
        let settings = sqlite_settings("file:a.db?cache_size=10&check_every_s=60").unwrap();
        assert_eq!(settings.cache_bytes, 40 << 10);
        assert_eq!(settings.check_every_s, Some(60));
        for wrong in [
            "readers",
            "readers=x",
            "journal=wal",
            "journal_mode=delete",
            "synchronous=normal",
            "synchronous=maybe",
            "cache_size=big",
            "check_every_s=-1",
        ] {
            let error = sqlite_settings(&format!("file:a.db?{wrong}"))
                .unwrap_err()
                .to_string();
            assert!(error.contains(wrong), "{error}");
            assert!(
                error.contains("it may have readers, cache_bytes or SQLite's"),
                "{error}"
            );
        }
    }
}
