//! Pages, and the steps in which they are written: as large as what takes a moment, while clients are
//! at work, since a vote waits for the end of the step that is under way.

use std::collections::VecDeque;
use std::time::Duration;

use neo_api::{Tid, WriteBatch, WriteOp};

/// How long a step should take while clients are at work.
const STEP: Duration = Duration::from_millis(2);
/// Cost of a step, at least and at most.
const COST: (usize, usize) = (32 << 10, 2 << 20);
/// What a row costs, whatever its size, in bytes of values that take as long.
const ROW_COST: usize = 1 << 10;

/// What to write, and how far the cell is complete then.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    ops: VecDeque<WriteOp>,
    progress: Option<Tid>,
}

impl Page {
    /// A page, unless there is nothing to write.
    pub(super) fn new(ops: Vec<WriteOp>, progress: Option<Tid>) -> Option<Self> {
        let ops = VecDeque::from(ops);
        (!ops.is_empty()).then_some(Self { ops, progress })
    }

    /// Takes the next step of it: all that is left, or what costs about so much. The last one has
    /// the progress.
    pub(super) fn step(&mut self, cost_max: Option<usize>) -> (WriteBatch, Option<Tid>) {
        let (mut cost, mut batch) = (0, WriteBatch::new());
        while let Some(op) = self.ops.pop_front() {
            cost += ROW_COST + op.weight();
            // A value without its revision would never be found again after a crash.
            let is_whole = !matches!(op, WriteOp::PutData { .. });
            batch.push(op);
            if is_whole && cost_max.is_some_and(|max| cost >= max) {
                break;
            }
        }
        let progress = self.progress.take_if(|_| self.ops.is_empty());
        (batch, progress)
    }

    /// Whether all of it is taken.
    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

/// How much a step may cost while clients are at work: learnt from how long steps take.
#[derive(Debug)]
pub(super) struct StepCost(usize);

impl StepCost {
    pub(super) const fn new() -> Self {
        Self(COST.0)
    }

    pub(super) const fn max(&self) -> usize {
        self.0
    }

    /// A step took so long; `is_full`: it cost as much as it might.
    pub(super) fn took(&mut self, duration: Duration, is_full: bool) {
        let cost = match duration < STEP {
            true if is_full => self.0 * 2,
            true => self.0,
            false => self.0 / 2,
        };
        self.0 = cost.clamp(COST.0, COST.1);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use neo_api::{Checksum, Compression, DataId, ObjectData, Oid, Partition, Record, RevisionId};

    use super::*;

    fn revision(n: u64, bytes: usize) -> [WriteOp; 2] {
        let data = Bytes::from(vec![0; bytes]);
        let record = Record {
            compression: Compression::None,
            checksum: Checksum::of(&data),
            data,
        };
        let (id, owner) = (DataId(n), None);
        let put = WriteOp::PutObject {
            partition: Partition(0),
            id: RevisionId::from((Tid(n), Oid(1))),
            data: ObjectData::Value(id),
        };
        [WriteOp::PutData { id, owner, record }, put]
    }

    #[test]
    fn a_page_is_written_in_order_with_its_progress_last_and_no_value_alone() {
        let ops: Vec<WriteOp> = (0..100).flat_map(|n| revision(n, 4_096)).collect();
        let mut page = Page::new(ops.clone(), Some(Tid(9))).unwrap();
        let mut written = Vec::new();
        let mut steps = 0;
        while !page.is_empty() {
            let (batch, progress) = page.step(Some(32 << 10));
            let is_whole = |op: &WriteOp| matches!(op, WriteOp::PutObject { .. });
            assert!(batch.ops.last().is_some_and(is_whole));
            written.extend(batch.ops);
            assert_eq!(progress.is_some(), written.len() == ops.len());
            steps += 1;
        }
        assert_eq!(written, ops);
        assert_eq!(steps, 17);
        let mut whole = Page::new(ops.clone(), Some(Tid(9))).unwrap();
        assert_eq!(whole.step(None), (WriteBatch::from(ops), Some(Tid(9))));
        assert_eq!(Page::new(Vec::new(), None), None);
    }

    #[test]
    fn steps_become_as_large_as_what_takes_a_moment() {
        let mut cost = StepCost::new();
        for _ in 0..20 {
            // 32 MiB a second, and half a millisecond for the step itself.
            let nanos = 500_000 + cost.max() as u64 * 1_000_000_000 / (32 << 20);
            cost.took(Duration::from_nanos(nanos), true);
        }
        assert!(
            (32 << 10..=64 << 10).contains(&cost.max()),
            "{}",
            cost.max()
        );
        // The last step of a page says little.
        let before = cost.max();
        cost.took(Duration::ZERO, false);
        assert_eq!(cost.max(), before);
        for _ in 0..20 {
            cost.took(Duration::ZERO, true);
        }
        assert_eq!(cost.max(), COST.1);
    }
}
