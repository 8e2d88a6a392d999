//! The changes of a batch as statements: of each table one, of many rows.

use std::collections::BTreeSet;

use neo_api::{ObjectData, TxnId};

use super::error::Failure;
use super::pieces::{self, Whose};
use super::plan::{KEYS_MAX, Plan, send};
use super::script::{hex, hex_or_null, list, name, or_null};
use super::shared;
use crate::pack;

impl Plan<'_> {
    /// Turns all changes of rows into statements. What is dropped comes first: nothing that was put
    /// before is left of it.
    pub(super) fn write(&mut self) -> Result<(), Failure> {
        self.write_dropped();
        self.write_values()?;
        self.write_revs()?;
        self.write_transactions()?;
        self.write_votes()?;
        for ((txn, oid), data) in std::mem::take(&mut self.pending) {
            let (kind, n) = match data {
                ObjectData::Deleted => (0, 0),
                ObjectData::Value(id) => (1, id.0),
                ObjectData::SameAs(tid) => (2, tid.0),
            };
            let row = format!("({},{oid},{kind},{n})", name(txn));
            self.script.row("REPLACE INTO pending VALUES ", "", &row);
            self.send_if_full()?;
        }
        Ok(())
    }

    fn write_dropped(&mut self) {
        let dropped: Vec<TxnId> = std::mem::take(&mut self.dropped).into_iter().collect();
        // Ranges of keys: many of them take long to plan.
        for some in dropped.chunks(KEYS_MAX / 5) {
            let any_of = |reign: &str, ttid: &str| {
                let one = |t: &TxnId| format!("({reign}={} AND {ttid}={})", t.reign.0, t.ttid.0);
                some.iter().map(one).collect::<Vec<_>>().join(" OR ")
            };
            let named = any_of("reign", "ttid");
            for table in ["unfinished", "pending", "loose"] {
                let delete = format!("DELETE FROM {table} WHERE {named}");
                self.script.statement(&delete);
            }
            let (kind, named) = (pieces::UNFINISHED, any_of("a", "b"));
            let delete = format!("DELETE FROM piece WHERE kind = {kind} AND ({named})");
            self.script.statement(&delete);
        }
    }

    fn write_values(&mut self) -> Result<(), Failure> {
        self.waiting_bytes = 0;
        let changed = std::mem::take(&mut self.values.changed);
        let (mut loose, mut claimed, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for id in changed {
            let Some(Some(value)) = self.values.known.get_mut(&id) else {
                gone.push(id);
                continue;
            };
            match value.loose {
                Some(txn) if !value.has_row => loose.push((id, txn)),
                None if value.has_row => claimed.push(id),
                _ => {}
            }
            value.has_row = value.loose.is_some();
            if let Some(record) = value.record.take() {
                if self.sharing.takes(&record) && !pieces::is_cut(pieces::VALUE, record.data.len())
                {
                    if self.script.is_full() {
                        send(&mut self.script, self.link)?;
                    }
                    // It may be the same write again.
                    self.sharing.release(&mut self.script, &id.to_string());
                    shared::put(&mut self.script, id, &record);
                    self.send_if_full()?;
                    continue;
                }
                pieces::put_value(&mut self.script, id, &record, |script| {
                    send(script, self.link).map(drop)
                })?;
                self.send_if_full()?;
            }
        }
        for (id, txn) in loose {
            let row = format!("({id},{})", name(txn));
            self.script.row("REPLACE INTO loose VALUES ", "", &row);
            self.send_if_full()?;
        }
        for ids in gone.chunks(KEYS_MAX) {
            let (kind, ids) = (pieces::VALUE, list(ids.iter().copied()));
            self.sharing.release(&mut self.script, &ids);
            for delete in [
                format!("DELETE FROM data WHERE id IN ({ids})"),
                format!("DELETE FROM loose WHERE id IN ({ids})"),
                format!("DELETE FROM piece WHERE kind = {kind} AND a IN ({ids})"),
            ] {
                self.script.statement(&delete);
            }
        }
        for ids in claimed.chunks(KEYS_MAX) {
            let ids = list(ids.iter().copied());
            let delete = format!("DELETE FROM loose WHERE id IN ({ids})");
            self.script.statement(&delete);
        }
        Ok(())
    }

    fn write_revs(&mut self) -> Result<(), Failure> {
        let mut gone = Vec::new();
        for key in std::mem::take(&mut self.revs.changed) {
            let (part, oid, tid) = key;
            let Some(rev) = self.revs.known.get(&key).copied().flatten() else {
                gone.push(format!("({part},{oid},{tid})"));
                continue;
            };
            let (data, data_tid) = (or_null(rev.data), or_null(rev.data_tid));
            let shared = u8::from(rev.shared);
            let row = format!("({part},{oid},{tid},{data},{data_tid},{shared})");
            self.script.row("REPLACE INTO obj VALUES ", "", &row);
            self.send_if_full()?;
        }
        self.delete_all("DELETE FROM obj WHERE (part, oid, tid) IN (", &gone)
    }

    /// Rows by their keys.
    fn delete_all(&mut self, head: &'static str, keys: &[String]) -> Result<(), Failure> {
        for key in keys {
            self.script.row(head, ")", key);
            self.send_if_full()?;
        }
        Ok(())
    }

    fn write_transactions(&mut self) -> Result<(), Failure> {
        let transactions = std::mem::take(&mut self.transactions);
        // Those that were there before may have had pieces, or an order.
        let keys = transactions.keys();
        let keys: Vec<String> = keys.map(|(part, tid)| format!("({part},{tid})")).collect();
        self.delete_all("DELETE FROM pack_order WHERE (part, tid) IN (", &keys)?;
        let kind = pieces::TRANSACTION;
        self.delete_pieces(
            transactions
                .keys()
                .map(|(part, tid)| (kind, u64::from(*part), *tid)),
        )?;
        let mut gone = Vec::new();
        for ((part, tid), record) in transactions {
            let Some(record) = record else {
                gone.push(format!("({part},{tid})"));
                continue;
            };
            let txn = record.txn;
            let oids = pieces::oid_bytes(&record.oids);
            let inline = self.put_pieces((kind, u64::from(part), tid), &oids)?;
            let row = format!(
                "({part},{tid},{},{},{},{},{},{},{},{})",
                or_null(txn.map(|txn| txn.reign.0)),
                or_null(txn.map(|txn| txn.ttid.0)),
                u8::from(record.packed),
                hex(&record.meta.user),
                hex(&record.meta.description),
                hex(&record.meta.extension),
                oids.len(),
                hex(inline)
            );
            self.script.row("REPLACE INTO trans VALUES ", "", &row);
            if let Some(order) = &record.pack {
                let row = format!("({part},{tid},{})", hex(&pack::encode_order(order)));
                self.script.row("REPLACE INTO pack_order VALUES ", "", &row);
            }
            self.send_if_full()?;
        }
        self.delete_all("DELETE FROM trans WHERE (part, tid) IN (", &gone)
    }

    fn write_votes(&mut self) -> Result<(), Failure> {
        let votes = std::mem::take(&mut self.votes);
        let kind = pieces::UNFINISHED;
        let with_record = votes.iter().filter(|(_, vote)| vote.record.is_some());
        let with_record = with_record.map(|(txn, _)| (kind, txn.reign.0, txn.ttid.0));
        self.delete_pieces(with_record.collect::<BTreeSet<_>>())?;
        for (txn, vote) in &votes {
            let Some(record) = &vote.record else {
                continue;
            };
            let record = record.as_ref();
            let oids = record.map(|record| pieces::oid_bytes(&record.oids));
            let inline = match &oids {
                Some(oids) => Some(self.put_pieces((kind, txn.reign.0, txn.ttid.0), oids)?),
                None => None,
            };
            let meta = record.map(|record| &record.meta);
            let order = record.and_then(|record| record.pack.as_ref());
            let order = order.map(pack::encode_order);
            let row = format!(
                "({},{},{},{},{},{},{},{})",
                name(*txn),
                or_null(record.map(|record| u64::from(record.packed))),
                hex_or_null(meta.map(|meta| &meta.user[..])),
                hex_or_null(meta.map(|meta| &meta.description[..])),
                hex_or_null(meta.map(|meta| &meta.extension[..])),
                or_null(oids.as_ref().map(|oids| oids.len() as u64)),
                hex_or_null(inline),
                hex_or_null(order.as_deref())
            );
            self.script.row(
                "INSERT INTO unfinished (reign, ttid, packed, user, description, extension,
                     oid_bytes, oids, pack_order) VALUES ",
                " ON DUPLICATE KEY UPDATE packed = VALUES(packed), user = VALUES(user),
                     description = VALUES(description), extension = VALUES(extension),
                     oid_bytes = VALUES(oid_bytes), oids = VALUES(oids),
                     pack_order = VALUES(pack_order)",
                &row,
            );
            self.send_if_full()?;
        }
        for (txn, vote) in &votes {
            if vote.is_put && vote.record.is_none() {
                self.script.row(
                    "INSERT INTO unfinished (reign, ttid) VALUES ",
                    " ON DUPLICATE KEY UPDATE reign = VALUES(reign)",
                    &format!("({})", name(*txn)),
                );
            }
        }
        for (txn, vote) in &votes {
            if let Some(tid) = vote.tid {
                let (reign, ttid) = (txn.reign.0, txn.ttid.0);
                self.script.statement(&format!(
                    "UPDATE unfinished SET tid = {tid} WHERE reign = {reign} AND ttid = {ttid}"
                ));
                self.send_if_full()?;
            }
        }
        Ok(())
    }

    fn delete_pieces(&mut self, whose: impl IntoIterator<Item = Whose>) -> Result<(), Failure> {
        let keys = whose.into_iter();
        let keys: Vec<String> = keys
            .map(|(kind, a, b)| format!("({kind},{a},{b})"))
            .collect();
        self.delete_all("DELETE FROM piece WHERE (kind, a, b) IN (", &keys)
    }

    /// Writes bytes in pieces when they are too many for a row; gives what is in the row.
    fn put_pieces<'b>(&mut self, whose: Whose, bytes: &'b [u8]) -> Result<&'b [u8], Failure> {
        pieces::put(&mut self.script, whose, bytes, |script| {
            send(script, self.link).map(drop)
        })
    }
}
