//! Requests of this master that are not answered yet.

use std::collections::{BTreeMap, BTreeSet};

use neo_api::TxnId;
use neo_proto::{ConnId, MsgId, Packet};

use super::effect::Out;

/// What a storage node was asked, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Another master, to accept this one.
    Identification,
    /// What it remembers.
    Recovery,
    /// A step of its way into a cluster that runs.
    Join,
    /// Its partition table.
    PartitionTable,
    /// How far it went: greatest ids, for the survey.
    SurveyIds,
    /// How far it went: a page of locked transactions, for the survey.
    SurveyLocked,
    /// To obey this primary.
    StartReign,
    /// A page of its unfinished transactions, for verification.
    Locked,
    /// The tid of a transaction that it did not report.
    FinalTid(TxnId),
    /// To complete a transaction.
    Validate(TxnId),
    /// To remove what an import left.
    TruncateImport,
    /// To forget an import that was truncated.
    ClearImport,
    /// Its greatest ids, for verification.
    LastIds,
    /// To note up to where oids are handed out.
    OidMark,
    /// Whether it has voted for a transaction: what it told before the answer counts.
    Vote(TxnId),
    /// To lock a transaction.
    Lock(TxnId),
    /// Orders to pack; the number tells gatherings apart.
    PackOrders(u64),
    /// What is left of revisions; the number tells questions apart.
    Remaining(u64),
    /// A step of the import; the number tells steps apart.
    Import(u64),
}

/// Requests in flight, by id and by connection.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    last: u64,
    asks: BTreeMap<MsgId, (ConnId, Ask)>,
    by_conn: BTreeMap<ConnId, BTreeSet<MsgId>>,
}

impl Requests {
    /// Sends a request.
    pub(crate) fn send(&mut self, conn: ConnId, ask: Ask, packet: Packet, out: &mut Out) {
        self.last += 1;
        let id = MsgId(self.last);
        self.asks.insert(id, (conn, ask));
        self.by_conn.entry(conn).or_default().insert(id);
        out.send(conn, id, packet);
    }

    /// The request that an answer is for; `None` when this connection owes no such answer.
    pub(crate) fn answered(&mut self, conn: ConnId, id: MsgId) -> Option<Ask> {
        let (asked, ask) = *self.asks.get(&id)?;
        if asked != conn {
            return None;
        }
        self.asks.remove(&id);
        if let Some(ids) = self.by_conn.get_mut(&conn) {
            ids.remove(&id);
        }
        Some(ask)
    }

    /// Forgets what a connection owes.
    pub(crate) fn drop_conn(&mut self, conn: ConnId) {
        for id in self.by_conn.remove(&conn).unwrap_or_default() {
            self.asks.remove(&id);
        }
    }
}
