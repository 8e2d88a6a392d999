//! The connection that writes, and the right to: see the module.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use neo_api::{BackendError, BackendResult, WriteBatch};

use super::error::{Broken, FENCE, Failure};
use super::link::{Link, Role, Row};
use super::plan::Plan;
use super::read::RETRY;
use super::script::hex;
use super::shared::Sharing;
use super::{MySqlSettings, Server, schema};

/// Says that a node has the database, as long as its connection lasts.
const LOCK: &str = "CONCAT('neo.', MD5(DATABASE()))";

const CLOSED: &str = "whether the last batch is there is unknown";

/// The connection that writes.
#[derive(Debug)]
pub(super) struct Writer {
    link: Link,
    settings: MySqlSettings,
    sharing: Sharing,
    broken: Arc<Broken>,
    /// What the row of the owner has, as far as is known.
    owner: Bytes,
    /// The last batch that is known to be durable.
    seq: u64,
    /// The greatest number that the row may have, after commits whose outcome is unknown.
    reach: u64,
    /// The server's number of the connection before this one: it may not know yet that it is over.
    before: Option<u64>,
}

impl Writer {
    /// Takes the database.
    pub(super) fn open(settings: &MySqlSettings, broken: &Arc<Broken>) -> BackendResult<Self> {
        let mut link = Link::new(settings, Role::Writer)?;
        link.connect()?;
        let mut writer = Self {
            link,
            settings: settings.clone(),
            sharing: Sharing::default(),
            broken: Arc::clone(broken),
            owner: Bytes::new(),
            seq: 0,
            reach: 0,
            before: None,
        };
        if let Some(holder) = writer.lock()? {
            return Err(BackendError::InUse(writer.in_use(holder)));
        }
        schema::open(&mut writer.link, settings)?;
        writer.sharing = Sharing::open(&mut writer.link, settings.dedup_bytes_min)?;
        let sets = writer.link.ask(
            "taking the database",
            "START TRANSACTION;
             UPDATE neo SET owner = UNHEX(REPLACE(UUID(), '-', '')), seq = seq + 1 WHERE id = 1;
             SELECT owner, seq FROM neo WHERE id = 1; COMMIT",
        )?;
        (writer.owner, writer.seq) = owner(sets)?;
        writer.reach = writer.seq;
        Ok(writer)
    }

    /// Host and disk of the server's data.
    pub(super) fn topology(&mut self) -> BackendResult<Vec<String>> {
        let text = "SELECT @@hostname, @@datadir";
        let sets = self.link.ask("asking where the data is", text)?;
        let Some(row) = sets.iter().flatten().next() else {
            return Ok(Vec::new());
        };
        let (host, directory) = (row.text(0)?, row.text(1)?);
        let disk = match &self.settings.server {
            // As other backends of this machine tell it.
            Server::Socket(_) => std::fs::metadata(&directory).ok(),
            Server::Host { .. } => None,
        };
        let disk = disk.map(|directory| directory.dev().to_string());
        Ok(vec![host, disk.unwrap_or(directory)])
    }

    /// Keeps other nodes out; or tells which connection has the database, 0 if it is not known.
    fn lock(&mut self) -> BackendResult<Option<u64>> {
        // One that has just ended may still be on the server for a moment.
        let text = format!("SELECT GET_LOCK({LOCK}, 1), IS_USED_LOCK({LOCK})");
        let sets = self.link.ask("locking the database", &text)?;
        let Some(row) = sets.iter().flatten().next() else {
            return Ok(Some(0));
        };
        if row.maybe(0)? == Some(1) {
            return Ok(None);
        }
        Ok(Some(row.maybe(1)?.unwrap_or(0)))
    }

    fn in_use(&self, holder: u64) -> String {
        format!(
            "{} (by connection {holder} of the server: KILL {holder} there if its node is gone)",
            self.settings.database
        )
    }

    /// Applies a batch. What was lost with the connection is done again over the next one, unless
    /// the row of the owner tells that it was done.
    pub(super) fn apply(&mut self, batch: &WriteBatch) -> BackendResult<()> {
        self.broken.check()?;
        batch.check()?;
        // What was applied is durable already.
        if batch.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        let patience = Duration::from_secs(self.settings.reconnect_s);
        loop {
            let was_connected = self.link.is_connected();
            let error = match self.attempt(batch) {
                Ok(outcome) => return outcome,
                Err(undecided) => undecided,
            };
            let may_be_done = self.reach > self.seq;
            tracing::warn!(%error, may_be_done, "a batch has no outcome yet");
            // The server may be there again since long.
            if was_connected && !self.link.is_connected() {
                continue;
            }
            if begun.elapsed() < patience {
                self.link.pause(RETRY);
            } else if may_be_done {
                let why = format!("{CLOSED}, since the server is away: {error}");
                return Err(self.broken.set(why));
            } else {
                return Err(BackendError::Unavailable(Box::new(error)));
            }
        }
    }

    /// One attempt: the outcome, or why there is none yet.
    fn attempt(&mut self, batch: &WriteBatch) -> Result<BackendResult<()>, BackendError> {
        let mut at = self.seq;
        if !self.link.is_connected() {
            at = match self.connect()? {
                Ok(seq) => seq,
                Err(error) => return Ok(Err(error)),
            };
            if !(self.seq..=self.reach).contains(&at) {
                let why = format!(
                    "the server has not what it acknowledged: its last batch is {at}, and was {}",
                    self.seq
                );
                return Ok(Err(self.broken.set(why)));
            }
        }
        self.reach = at;
        let committed = if at == self.seq {
            self.commit(at, batch)
        } else {
            // It is there, and may not be durable yet. What is committed after it is not durable
            // without it.
            self.commit(at, &WriteBatch::new())
        };
        match committed {
            Ok(()) => Ok(Ok(())),
            Err(failure) => self.settle(at, failure),
        }
    }

    /// Connects again; gives the number of the last batch, unless the database is not ours any more.
    fn connect(&mut self) -> BackendResult<BackendResult<u64>> {
        self.link.connect()?;
        let row = "SELECT owner, seq FROM neo WHERE id = 1";
        let whose = self.link.ask("reading who has the database", row)?;
        if owner(whose)?.0 != self.owner {
            return Ok(Err(self.fenced()));
        }
        let mut holder = self.lock()?;
        if holder.is_some() && holder == self.before {
            // It is over, and the server has not noticed.
            let kill = format!("KILL {}", holder.unwrap_or(0));
            self.link.ask("ending the last connection", &kill)?;
            holder = self.lock()?;
        }
        if let Some(holder) = holder {
            let in_use = self.in_use(holder);
            return Err(BackendError::Unavailable(in_use.into()));
        }
        match schema::open(&mut self.link, &self.settings) {
            Err(error) if !error.is_retryable() => {
                return Ok(Err(self.broken.set(error.to_string())));
            }
            opened => opened?,
        };
        // It waits until the last connection has committed, or given up.
        let locked = format!("START TRANSACTION; {row} FOR UPDATE; COMMIT");
        let (owner, seq) = owner(self.link.ask("reading who has the database", &locked)?)?;
        if owner == self.owner {
            return Ok(Ok(seq));
        }
        Ok(Err(self.fenced()))
    }

    fn fenced(&self) -> BackendError {
        let why = format!(
            "another storage node has taken the database {} meanwhile",
            self.settings.database
        );
        self.broken.set(why)
    }

    /// Writes a batch, and that it is the next one after another.
    fn commit(&mut self, at: u64, batch: &WriteBatch) -> Result<(), Failure> {
        self.before = self.link.id().map(u64::from);
        let owner = hex(&self.owner);
        let next = at + 1;
        // Whoever is not the owner, or is at another batch, fails: the column takes no NULL.
        let begin = format!(
            "START TRANSACTION; UPDATE neo SET {FENCE} = \
             IF(owner = {owner} AND seq = {at}, {next}, NULL) WHERE id = 1"
        );
        let mut plan = Plan::new(&mut self.link, self.sharing, &begin);
        plan.apply(batch)?;
        self.reach = next;
        plan.finish("COMMIT")?;
        self.seq = next;
        Ok(())
    }

    /// What a failure of the batch after `at` means: the outcome, or why there is none yet.
    fn settle(&mut self, at: u64, failure: Failure) -> Result<BackendResult<()>, BackendError> {
        let away = |error| BackendError::Unavailable(Box::new(error));
        let (error, again) = match failure {
            Failure::Lost(error) => return Err(away(error)),
            Failure::Fenced => return Ok(Err(self.fenced())),
            Failure::Busy(error) => (away(error), true),
            Failure::Refused(error) => (error, false),
        };
        // A refusal can be of the commit itself: the row tells what has become of it.
        let undo = "ROLLBACK; SELECT owner, seq FROM neo WHERE id = 1";
        let row = self.link.ask("undoing a batch", undo).and_then(owner);
        let (owner, seq) = match row {
            Ok(row) => row,
            Err(error) => {
                self.link.disconnect();
                return Err(error);
            }
        };
        if owner != self.owner {
            return Ok(Err(self.fenced()));
        }
        if seq != at {
            let why = format!("a commit failed, and batch {seq} is there: {error}");
            return Ok(Err(self.broken.set(why)));
        }
        self.reach = at;
        if again {
            return Err(error);
        }
        if at != self.seq {
            let why = format!("batch {seq} is there, and can't be made durable: {error}");
            return Ok(Err(self.broken.set(why)));
        }
        Ok(Err(error))
    }

    /// Removes all tables.
    pub(super) fn erase(mut self) -> BackendResult<()> {
        schema::erase(&mut self.link)
    }

    /// The last that is done.
    pub(super) fn finish(&mut self) -> BackendResult<()> {
        self.broken.check()?;
        if self.link.is_connected() {
            // The server would do it as well, a moment later.
            let _ = self
                .link
                .ask("unlocking", &format!("DO RELEASE_LOCK({LOCK})"));
        }
        self.link.disconnect();
        Ok(())
    }
}

/// The row of the owner, the only one that was asked for.
fn owner(sets: Vec<Vec<Row>>) -> BackendResult<(Bytes, u64)> {
    match sets.into_iter().flatten().next() {
        Some(mut row) => Ok((row.bytes(0)?, row.int(1)?)),
        None => Err(BackendError::Corrupt(
            "the row that tells who has the database is gone".to_owned(),
        )),
    }
}
