//! What becomes of open transactions when cells are discarded.

use neo_api::Partition;

use super::{Stage, Transactions};
use crate::core::cells::Cells;
use crate::core::io::Io;

impl Transactions {
    /// These partitions (in order) are not here any more: what open transactions have of them is dropped, and
    /// who waits for a lock there is refused. What voted transactions have is left out when they are
    /// unlocked.
    pub(crate) fn discard(&mut self, cells: &Cells, io: &mut Io<'_>, gone: &[Partition]) {
        let Some(partitioning) = cells.partitioning() else {
            return;
        };
        let is_gone = |oid| gone.binary_search(&partitioning.of_oid(oid)).is_ok();
        if gone.is_empty() {
            return;
        }
        let mut dropped = Vec::new();
        for (txn, t) in &mut self.txns {
            if t.stage == Stage::Open {
                let its = t.objects.extract_if(.., |oid, _| is_gone(*oid));
                let its: Vec<_> = its.map(|(oid, object)| (*txn, oid, object.value)).collect();
                t.dropped += its.len();
                dropped.extend(its);
            }
        }
        for (txn, oid, value) in dropped {
            self.discard_value(txn, value);
            let granted = self.locks.release(txn, oid);
            self.ready.extend(granted);
        }
        let refused = self
            .requests
            .iter()
            .filter(|(_, request)| is_gone(request.oid));
        let refused: Vec<_> = refused
            .map(|(ticket, request)| (*ticket, request.oid))
            .collect();
        for (ticket, oid) in refused {
            self.not_here(io, ticket, oid);
        }
        for partition in gone {
            self.unchecked.remove(partition);
        }
        self.garbage.pump(io);
        self.run_ready(cells, io);
    }
}
