//! Removal of what transactions wrote that were not committed: those aborted now, and those that
//! an earlier period of service left behind.

use std::collections::VecDeque;
use std::time::Duration;

use neo_api::{BackendResult, DataId, Durability, Instant, Reign, TxnId, WriteBatch, WriteOp};

use crate::core::effect::{Query, QueryResult};
use crate::core::io::{AfterPersist, AfterRead, Io, words};

/// Values removed by one write.
const PAGE: usize = 1_000;
/// The pause after what was left could not be listed.
const PAUSE: Duration = Duration::from_secs(1);

/// What is to be removed. One page is written at a time; nobody waits for it.
#[derive(Debug)]
pub(super) struct Garbage {
    /// Transactions of reigns below it are garbage, all of them.
    below: Reign,
    data: VecDeque<DataId>,
    rows: VecDeque<TxnId>,
    /// What an earlier period of service left; done when `None`.
    left: Option<Left>,
    /// It is not listed before.
    list_at: Option<Instant>,
    busy: bool,
}

/// Values first, then rows: a value whose row is gone would never be found again.
#[derive(Debug)]
enum Left {
    Data(Option<(TxnId, DataId)>),
    Rows(Option<TxnId>),
}

impl Garbage {
    pub(super) const fn new(reign: Reign) -> Self {
        Self {
            below: reign,
            data: VecDeque::new(),
            rows: VecDeque::new(),
            left: None,
            list_at: None,
            busy: false,
        }
    }

    pub(super) fn data(&mut self, id: DataId) {
        self.data.push_back(id);
    }

    pub(super) fn rows(&mut self, txn: TxnId) {
        self.rows.push_back(txn);
    }

    /// Starts to look for what periods of service in reigns below this one left.
    pub(super) fn collect(&mut self, below: Reign, io: &mut Io<'_>) {
        self.below = below;
        self.left = Some(Left::Data(None));
        self.pump(io);
    }

    pub(super) fn pump(&mut self, io: &mut Io<'_>) {
        if self.busy {
            return;
        }
        let mut batch = WriteBatch::new();
        if !self.data.is_empty() {
            let ids = self.data.drain(..self.data.len().min(PAGE)).collect();
            batch.push(WriteOp::DeleteData { ids });
        }
        if self.data.is_empty() {
            let rows = self.rows.drain(..self.rows.len().min(PAGE));
            batch
                .ops
                .extend(rows.map(|txn| WriteOp::DropUnfinished { txn }));
        }
        if !batch.is_empty() {
            self.busy = true;
            io.persist_surely(batch, Durability::Buffered, AfterPersist::Clean);
            return;
        }
        if self.list_at.is_some() {
            return;
        }
        let limit = PAGE;
        let query = match &self.left {
            None => return,
            Some(Left::Data(after)) => Query::LooseData {
                after: *after,
                limit,
            },
            Some(Left::Rows(after)) => Query::Unfinished {
                after: *after,
                limit,
            },
        };
        self.busy = true;
        io.read(query, AfterRead::Clean);
    }

    /// Whether nothing is left to remove.
    pub(super) fn is_done(&self) -> bool {
        self.left.is_none() && self.data.is_empty() && self.rows.is_empty() && !self.busy
    }

    pub(super) fn persisted(&mut self, io: &mut Io<'_>) {
        self.busy = false;
        self.pump(io);
    }

    /// A page of what was left, perhaps with some of a transaction that is open now.
    pub(super) fn found(
        &mut self,
        io: &mut Io<'_>,
        page: BackendResult<QueryResult>,
        is_open: impl Fn(TxnId) -> bool,
    ) {
        self.busy = false;
        match page {
            Err(error) => {
                tracing::warn!(error = %words(&error), "cannot list what is left to clean up");
                self.list_at = Some(io.now.mono + PAUSE);
            }
            Ok(QueryResult::LooseData(page)) => {
                let last = page.last().copied();
                // Names are in order: those of later reigns, which are in use, come last.
                let old = page
                    .into_iter()
                    .filter(|(txn, _)| txn.reign < self.below && !is_open(*txn));
                let old: Vec<_> = old.map(|(_, id)| id).collect();
                self.left = Some(match last.filter(|(txn, _)| txn.reign < self.below) {
                    Some(last) => Left::Data(Some(last)),
                    None => Left::Rows(None),
                });
                self.data.extend(old);
            }
            Ok(QueryResult::Unfinished(page)) => {
                let last = page.last().map(|unfinished| unfinished.txn);
                let old = page.into_iter().map(|unfinished| unfinished.txn);
                let old = old.filter(|txn| txn.reign < self.below && !is_open(*txn));
                self.rows.extend(old);
                self.left = last
                    .filter(|txn| txn.reign < self.below)
                    .map(|last| Left::Rows(Some(last)));
            }
            Ok(_) => self.left = None,
        }
        self.pump(io);
    }
}

impl super::Transactions {
    /// Drops what earlier periods of service left unfinished. All that could be committed was, in
    /// verification; the names of new transactions are of a later reign, so that nothing of theirs
    /// can be taken for it.
    ///
    /// A node that has served in this reign before may have left some with such names: they must be
    /// gone before it takes part in new ones.
    pub(crate) fn collect_garbage(&mut self, served_before: bool, io: &mut Io<'_>) {
        let below = if served_before {
            self.reign.next()
        } else {
            self.reign
        };
        self.garbage.collect(below, io);
    }

    /// Whether nothing is left of earlier periods of service.
    pub(crate) fn is_clean(&self) -> bool {
        self.garbage.is_done()
    }

    /// When something is due.
    pub(crate) const fn timeout(&self) -> Option<Instant> {
        self.garbage.list_at
    }

    /// Does what is due.
    pub(crate) fn expire(&mut self, io: &mut Io<'_>) {
        if self.garbage.list_at.is_some_and(|at| at <= io.now.mono) {
            self.garbage.list_at = None;
            self.garbage.pump(io);
        }
    }

    pub(crate) fn garbage_persisted(&mut self, io: &mut Io<'_>) {
        self.garbage.persisted(io);
    }

    pub(crate) fn garbage_found(&mut self, io: &mut Io<'_>, page: BackendResult<QueryResult>) {
        let txns = &self.txns;
        self.garbage.found(io, page, |txn| txns.contains_key(&txn));
    }
}
