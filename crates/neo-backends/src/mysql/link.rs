//! A connection to the server, on a thread of its own, and what is said over it: texts of several
//! statements, answered at once.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, OptsBuilder, Value};
use neo_api::{BackendError, BackendResult};
use tokio::runtime::Runtime;

use super::error::{self, Failure, failure};
use super::{MySqlSettings, Server};

/// A server that takes longer to greet is not there.
const CONNECT: Duration = Duration::from_secs(10);
/// The end of a connection is said, and not waited for any longer.
const DISCONNECT: Duration = Duration::from_secs(1);
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Of every connection. All text is binary, so that no character set is ever asked what it means;
/// a value that does not fit is an error.
const SESSION: &str = "SET NAMES binary;
    SET SESSION sql_mode = 'TRADITIONAL,NO_ENGINE_SUBSTITUTION', autocommit = 1,
        completion_type = 'NO_CHAIN', unique_checks = 1, sql_safe_updates = 0,
        sql_big_selects = 1, sql_select_limit = DEFAULT, wait_timeout = 31536000,
        max_statement_time = 0, innodb_lock_wait_timeout = 5, lock_wait_timeout = 5;
    SET SESSION TRANSACTION READ WRITE;";

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A batch sees what is there when it asks.
    Writer,
    /// What a transaction reads is of one moment.
    Reader,
}

/// A connection, or the place of one.
#[derive(Debug)]
pub(super) struct Link {
    runtime: Runtime,
    conn: Option<Conn>,
    settings: MySqlSettings,
    role: Role,
}

impl Link {
    pub(super) fn new(settings: &MySqlSettings, role: Role) -> BackendResult<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            runtime,
            conn: None,
            settings: settings.clone(),
            role,
        })
    }

    pub(super) const fn is_connected(&self) -> bool {
        self.conn.is_some()
    }

    /// The server's number of this connection.
    pub(super) fn id(&self) -> Option<u32> {
        self.conn.as_ref().map(Conn::id)
    }

    /// Connects anew.
    pub(super) fn connect(&mut self) -> BackendResult<()> {
        self.disconnect();
        let MySqlSettings {
            database,
            user,
            password,
            server,
            ..
        } = &self.settings;
        let user = match user {
            Some(user) => user.clone(),
            None => system_user()?,
        };
        let options = OptsBuilder::default()
            .user(Some(user))
            .pass(password.clone())
            .db_name(Some(database))
            .tcp_keepalive(Some(KEEPALIVE))
            .prefer_socket(false);
        let options = match server {
            Server::Socket(path) => {
                let Some(path) = path.to_str() else {
                    let what = "a socket whose path is not UTF-8".to_owned();
                    return Err(BackendError::Unsupported(what));
                };
                options.socket(Some(path))
            }
            Server::Host { name, port } => options.ip_or_hostname(name.as_str()).tcp_port(*port),
        };
        let connected = self.block_on(async {
            let connecting = tokio::time::timeout(CONNECT, Conn::new(options));
            connecting.await.unwrap_or_else(|_| {
                let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
                Err(Error::Io(mysql_async::IoError::Io(error)))
            })
        });
        self.conn = Some(connected.map_err(|error| self.refused(error))?);
        let isolation = match self.role {
            Role::Writer => "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            Role::Reader => "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        };
        self.ask("setting up a connection", &format!("{SESSION} {isolation}"))?;
        Ok(())
    }

    fn refused(&self, error: Error) -> BackendError {
        let MySqlSettings {
            database, server, ..
        } = &self.settings;
        let what = format!("connecting to {server}");
        match &error {
            Error::Server(refusal) if refusal.code == 1049 => error::told(
                &what,
                format_args!(
                    "the server has no database {database}: let it CREATE DATABASE `{database}`"
                ),
                Some(error),
            ),
            Error::Server(refusal) if refusal.code == 1044 => error::told(
                &what,
                format_args!(
                    "the user may not use the database {database}: \
                     let the server GRANT ALL ON `{database}`.* TO that user"
                ),
                Some(error),
            ),
            Error::Io(mysql_async::IoError::Io(cause)) => error::away(format_args!(
                "{what}: {cause}: is the server there, and is that where it listens?"
            )),
            _ => error::meaning(&what, error),
        }
    }

    /// Runs statements; gives the rows of each one but the last, which has none in it unless it is a
    /// query.
    pub(super) fn run(
        &mut self,
        what: &'static str,
        text: &[u8],
    ) -> Result<Vec<Vec<Row>>, Failure> {
        let Some(conn) = &mut self.conn else {
            let error = std::io::Error::from(std::io::ErrorKind::NotConnected);
            return Err(Failure::Lost(error.into()));
        };
        let outcome = self.runtime.block_on(sets(conn, text));
        outcome.map_err(|error| {
            let failure = failure(what, error);
            if matches!(failure, Failure::Lost(_)) {
                self.disconnect();
            }
            failure
        })
    }

    /// The same, where there is nothing to be done about a failure but to tell it.
    pub(super) fn ask(&mut self, what: &'static str, text: &str) -> BackendResult<Vec<Vec<Row>>> {
        self.run(what, text.as_bytes())
            .map_err(|failure| match failure {
                Failure::Lost(error) | Failure::Busy(error) => {
                    BackendError::Unavailable(Box::new(error))
                }
                Failure::Fenced => BackendError::InUse(self.settings.database.clone()),
                Failure::Refused(error) => error,
            })
    }

    /// Says that this connection ends. The server undoes what it has not committed.
    pub(super) fn disconnect(&mut self) {
        if let Some(conn) = self.conn.take() {
            let ended = async { tokio::time::timeout(DISCONNECT, conn.disconnect()).await };
            // One that is lost can't be told.
            let _ = self.block_on(ended);
        }
    }

    /// Waits.
    pub(super) fn pause(&self, time: Duration) {
        self.block_on(async { tokio::time::sleep(time).await });
    }

    fn block_on<R>(&self, future: impl Future<Output = R>) -> R {
        self.runtime.block_on(future)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.disconnect();
    }
}

async fn sets(conn: &mut Conn, text: &[u8]) -> Result<Vec<Vec<Row>>, Error> {
    let mut result = conn.query_iter(text).await?;
    let mut sets = Vec::new();
    while !result.is_empty() {
        let rows: Vec<mysql_async::Row> = result.collect().await?;
        sets.push(rows.into_iter().map(|row| Row(row.unwrap())).collect());
    }
    // What a statement after the first is refused for, the last one included, is told only here.
    result.drop_result().await?;
    Ok(sets)
}

/// Whose programs these are, as servers know them that ask the system.
fn system_user() -> BackendResult<String> {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    user.map_err(|_| {
        let what = "a connection of nobody: name the user, as in user@database".to_owned();
        BackendError::Unsupported(what)
    })
}

/// A row that was read, without trust.
#[derive(Debug)]
pub(super) struct Row(Vec<Value>);

impl Row {
    fn value(&self, column: usize) -> BackendResult<Option<&[u8]>> {
        match self.0.get(column) {
            Some(Value::NULL) => Ok(None),
            Some(Value::Bytes(bytes)) => Ok(Some(bytes)),
            _ => Err(damaged(column)),
        }
    }

    /// A number, or NULL.
    pub(super) fn maybe(&self, column: usize) -> BackendResult<Option<u64>> {
        let Some(digits) = self.value(column)? else {
            return Ok(None);
        };
        let number = str::from_utf8(digits)
            .ok()
            .and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(|| damaged(column))
    }

    /// A number.
    pub(super) fn int<N: TryFrom<u64>>(&self, column: usize) -> BackendResult<N> {
        let number = self
            .maybe(column)?
            .and_then(|number| number.try_into().ok());
        number.ok_or_else(|| damaged(column))
    }

    /// Bytes, or NULL.
    pub(super) fn maybe_bytes(&self, column: usize) -> BackendResult<Option<Bytes>> {
        Ok(self.value(column)?.map(Bytes::copy_from_slice))
    }

    /// Bytes, which are taken out of the row.
    pub(super) fn bytes(&mut self, column: usize) -> BackendResult<Bytes> {
        match self.0.get_mut(column) {
            Some(Value::Bytes(bytes)) => Ok(std::mem::take(bytes).into()),
            _ => Err(damaged(column)),
        }
    }

    /// Text of the server's own.
    pub(super) fn text(&self, column: usize) -> BackendResult<String> {
        let bytes = self.value(column)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

fn damaged(column: usize) -> BackendError {
    BackendError::Corrupt(format!("column {column} of a row cannot be read"))
}
