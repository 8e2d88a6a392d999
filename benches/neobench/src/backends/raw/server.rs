//! A MariaDB server, in SQL: a text of statements for each batch.

use std::fmt::Write;

use anyhow::{Context, Result};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use tokio::runtime::{Builder, Runtime};

use super::{Raw, Rows};
use crate::backends::subject::{PARTITIONS, Revision};

#[derive(Debug)]
pub(super) struct Server {
    runtime: Runtime,
    connection: Conn,
}

impl Server {
    /// `root@DATABASE/SOCKET?engine=ENGINE`, as the testkit and neo name it.
    pub(super) fn open(database: &str) -> Result<Self> {
        let (place, engine) = database.split_once("?engine=").context("no engine")?;
        let (user, place) = place.split_once('@').context("no user")?;
        let socket = place.find('/').context("no socket")?;
        let (name, socket) = place.split_at(socket);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let options = OptsBuilder::default()
            .user(Some(user))
            .db_name(Some(name))
            .socket(Some(socket));
        let mut connection = runtime.block_on(Conn::new(options))?;
        let tables = [
            "value (id BIGINT PRIMARY KEY, value LONGBLOB)",
            "revision (part INT, oid BIGINT, tid BIGINT, value BIGINT, PRIMARY KEY (part, oid, tid),
                 KEY history (part, tid, oid))",
            "trans (part INT, tid BIGINT, oids MEDIUMBLOB, PRIMARY KEY (part, tid))",
        ];
        for table in tables {
            let text = format!("CREATE TABLE IF NOT EXISTS raw_{table} ENGINE={engine}");
            runtime.block_on(connection.query_drop(text))?;
        }
        Ok(Self {
            runtime,
            connection,
        })
    }
}

/// Adds a statement that inserts rows, if there are any.
fn insert<T>(text: &mut String, table: &str, rows: &[T], row: impl Fn(&T) -> String) {
    if rows.is_empty() {
        return;
    }
    let rows: Vec<String> = rows.iter().map(row).collect();
    let _ = write!(text, "INSERT INTO raw_{table} VALUES {};", rows.join(","));
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len() + 3);
    text.push_str("x'");
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text.push('\'');
    text
}

impl Raw for Server {
    /// Every commit is synced: a server has one setting for all.
    fn write(&mut self, rows: &Rows<'_>, _: bool) -> Result<()> {
        let mut text = "START TRANSACTION;".to_owned();
        insert(&mut text, "value", &rows.values, |revision: &&Revision| {
            format!("({},{})", revision.data, hex(&revision.value))
        });
        insert(
            &mut text,
            "revision",
            &rows.revisions,
            |revision: &&Revision| {
                let Revision { oid, tid, data, .. } = revision;
                format!("({},{oid},{tid},{data})", oid % PARTITIONS)
            },
        );
        insert(&mut text, "trans", &rows.transactions, |(tid, oids)| {
            format!("({},{tid},{})", tid % PARTITIONS, hex(oids))
        });
        text.push_str("COMMIT");
        Ok(self.runtime.block_on(self.connection.query_drop(text))?)
    }

    fn load(&mut self, oid: u64) -> Result<usize> {
        let text = format!(
            "SELECT v.value FROM raw_revision r JOIN raw_value v ON v.id = r.value
             WHERE part = {} AND oid = {oid} ORDER BY tid DESC LIMIT 1",
            oid % PARTITIONS
        );
        let found = self.connection.query_first(text);
        let value: Option<Vec<u8>> = self.runtime.block_on(found)?;
        Ok(value.context("the object is not there")?.len())
    }

    fn scan(&mut self, partition: u64) -> Result<u64> {
        let text = format!(
            "SELECT v.value FROM raw_revision r JOIN raw_value v ON v.id = r.value
             WHERE part = {partition} ORDER BY tid, oid"
        );
        let sum = |bytes: u64, value: Vec<u8>| bytes + value.len() as u64;
        let sum = self.connection.query_fold(text, 0, sum);
        Ok(self.runtime.block_on(sum)?)
    }
}
