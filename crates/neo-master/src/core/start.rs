//! The start of a cluster: a reign, a table, and an epoch where one is opened.

use std::collections::BTreeSet;

use neo_api::{Epoch, NodeId, Now, Ptid, Reign, TableVersion, Tid};
use neo_proto::{ClusterIdentity, Packet};

use super::effect::Out;
use super::partition_table::Table;
use super::recovery::{Recovering, Start, names};
use super::verification::Verifying;
use super::{MasterCore, Phase};

impl MasterCore {
    /// Takes the next reign, and goes on to verification with the nodes that are there.
    pub(super) fn recovery_begin(&mut self, now: Now, start: Start, out: &mut Out) {
        let Phase::Recovering(recovering) = &mut self.phase else {
            return;
        };
        let Recovering {
            answers,
            start: order,
            ..
        } = std::mem::take(&mut **recovering);
        let versions = answers.values().filter_map(|answer| answer.version);
        let ptid_max = versions
            .map(|version| version.ptid)
            .max()
            .unwrap_or_default();
        if start != Start::Create {
            self.reign = self.reign.next();
        }
        let here: BTreeSet<NodeId> = answers.keys().copied().collect();
        let message = match (start, self.table.take()) {
            (Start::Complete, Some(table)) => self.start_complete(table),
            (Start::Forced(base), Some(table)) => {
                let missing = table.get().readable_nodes();
                let missing = missing.difference(&here).copied().collect();
                self.start_forced(table, &missing, ptid_max, base)
            }
            (_, _) => self.create_table(&here),
        };
        self.table_epochs = self.epochs();
        tracing::info!(reign = %self.reign, "{message}");
        if let Some((conn, id)) = order
            && self.peers.contains_key(&conn)
        {
            out.send(conn, id, Packet::AnswerDone { message });
        }
        let chosen = here
            .into_iter()
            .filter(|nid| start == Start::Create || self.has_cells(*nid));
        let verifying = Verifying::new(chosen.collect(), &answers);
        self.phase = Phase::Verifying(Box::new(verifying));
        self.enter_verifying(now, out);
    }

    fn has_cells(&self, nid: NodeId) -> bool {
        self.table.as_ref().is_some_and(|table| table.has_node(nid))
    }

    fn start_complete(&mut self, mut table: Table) -> String {
        table.set_version(TableVersion {
            reign: self.reign,
            ptid: table.version().ptid,
        });
        self.table = Some(table);
        "the cluster starts: every readable cell is there".to_owned()
    }

    fn start_forced(
        &mut self,
        mut table: Table,
        missing: &BTreeSet<NodeId>,
        ptid_max: Ptid,
        base_tid: Tid,
    ) -> String {
        let base = table.version();
        let changes = table.outdate(missing);
        // The side that is left behind counts on from the same reign: it must not come to the names
        // of transactions of this side, about which a client that was there may ask here.
        let reigns_before = Reign((self.epochs() as u64) << Reign::EPOCH_SHIFT);
        self.reign = self.reign.max(reigns_before);
        let version = TableVersion {
            reign: self.reign,
            ptid: ptid_max.max(base.ptid).next(),
        };
        let replicas = table.get().replicas;
        table.apply(version, replicas, &changes);
        self.table = Some(table);
        self.open_epoch(base, base_tid);
        let missing: Vec<NodeId> = missing.iter().copied().collect();
        let names = names(&missing);
        format!(
            "the cluster starts without {names}, by force: what is on {names} only is lost, and \
             {} back out of date",
            if missing.len() == 1 {
                "it comes"
            } else {
                "they come"
            }
        )
    }

    pub(super) fn open_epoch(&mut self, base: TableVersion, base_tid: Tid) {
        let id = self.random.epoch_id();
        let mut identity = match self.identity.take() {
            Some(identity) => identity,
            None => ClusterIdentity {
                id: self.random.cluster_id(),
                epochs: Vec::new(),
            },
        };
        identity.epochs.push(Epoch {
            number: identity.epochs.len() as u64 + 1,
            id,
            parent: identity.epochs.last().map(|epoch| epoch.id),
            base_reign: base.reign,
            base_ptid: base.ptid,
            base_tid,
        });
        self.identity = Some(identity);
    }
}
