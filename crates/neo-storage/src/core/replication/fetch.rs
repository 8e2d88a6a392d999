//! One pass over a partition: what is here is compared with what a source has, and made the same.
//!
//! It goes in windows of tids, as wide as a page of transactions: first the transactions of the
//! window, then its revisions, so that all before a position is complete. What is here is read before
//! the source is asked: a revision that is here then is committed, so the source has it when it
//! answers, or waits until it has it. Where nothing is here, values are fetched without comparing.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use neo_api::{
    Oid, Order, PageLimit, Partition, Partitioning, RevisionId, TableVersion, Tid, WriteBatch,
    WriteOp,
};
use neo_proto::Packet;

use super::page::{
    Bad, Named, Run, after, check_ids, check_transactions, compare_ids, compare_transactions,
    end_of, start_of, write_revisions,
};
use super::progress::set_progress;
use super::step::Page;
use crate::core::effect::{Query, QueryResult};
use crate::core::io::Jobs;
use crate::core::pace::Clients;
use crate::core::packing::{OBJECTS_MAX, Packed};

/// Transactions of a window.
const TRANSACTIONS: u32 = 1_000;
/// Bytes of metadata that are read here at once.
const METADATA_BYTES: usize = 4 << 20;
/// Names of revisions that are compared at once.
const IDS: u32 = 10_000;
/// How often a pass lists names again: the source may be packed meanwhile.
const RELISTED_MAX: u32 = 1_000;
/// Bytes of values that are asked for at once: while no client is at work, and while some are.
const VALUE_BYTES: (u32, u32) = (1 << 20, 256 << 10);

/// What a pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To make the cell complete up to a tid.
    CatchUp,
    /// To remove what the source does not have, and nobody will ever have: leftovers of an import
    /// that was given up while the node was away.
    Sweep,
}

/// What a pass wants next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// To read what is here.
    Read(Query),
    /// To ask the source.
    Ask(Packet),
    /// Nothing more: all is handed out to be written.
    End,
}

#[derive(Debug)]
enum Step {
    /// How far the cell is packed here is looked up.
    BeginState,
    OwnState,
    /// And how far it is at the source; at the end of the pass, again.
    AskState {
        is_last: bool,
    },
    State {
        is_last: bool,
    },
    /// A window begins.
    Begin,
    OwnTransactions,
    AskTransactions {
        own: Vec<Named>,
        end: Tid,
    },
    Transactions {
        own: Vec<Named>,
        end: Tid,
    },
    /// The transactions of the window are the same.
    BeginRevisions {
        from: RevisionId,
    },
    OwnRevisions {
        from: RevisionId,
    },
    AskIds {
        own: Vec<RevisionId>,
        from: RevisionId,
        end: RevisionId,
    },
    Ids {
        own: Vec<RevisionId>,
        from: RevisionId,
        end: RevisionId,
    },
    /// Revisions are missing up to this name.
    AskRun {
        end: RevisionId,
    },
    Run {
        end: RevisionId,
    },
    End,
}

/// A pass over a partition.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) partition: Partition,
    pub(super) assigned: TableVersion,
    pub(super) purpose: Purpose,
    partitioning: Partitioning,
    /// The window begins here.
    min: Tid,
    /// And ends here, once its transactions are the same.
    window: Tid,
    /// The last window ends here.
    pub(super) max: Tid,
    step: Step,
    runs: VecDeque<Run>,
    ops: Vec<WriteOp>,
    progress: Option<Tid>,
    /// How far the cell is packed.
    packed: Packed,
    /// What the source had removed when the pass began.
    source_removals: u64,
    /// Names that were listed again, since the source lacked some of them.
    relisted: u32,
}

impl Fetch {
    /// A pass from one tid to another, both included.
    pub(super) fn new(
        (partition, assigned): (Partition, TableVersion),
        partitioning: Partitioning,
        purpose: Purpose,
        (min, max): (Tid, Tid),
    ) -> Self {
        Self {
            partition,
            assigned,
            purpose,
            partitioning,
            min,
            window: min,
            max,
            step: match purpose {
                Purpose::CatchUp => Step::BeginState,
                Purpose::Sweep => Step::Begin,
            },
            runs: VecDeque::new(),
            ops: Vec::new(),
            progress: None,
            packed: Packed::default(),
            source_removals: 0,
            relisted: 0,
        }
    }

    /// Whether the next thing that it wants is to read what is here.
    pub(super) const fn is_about_to_read(&self) -> bool {
        matches!(
            self.step,
            Step::BeginState | Step::Begin | Step::BeginRevisions { .. }
        )
    }

    /// Whether the next thing that it wants is to ask the source.
    pub(super) const fn is_about_to_ask(&self) -> bool {
        matches!(
            self.step,
            Step::AskState { .. }
                | Step::AskTransactions { .. }
                | Step::AskIds { .. }
                | Step::AskRun { .. }
        )
    }

    /// What it wants next; `None` while it waits for that.
    pub(super) fn next(&mut self, clients: Clients) -> Option<Want> {
        let partition = self.partition;
        let (step, want) = match std::mem::replace(&mut self.step, Step::End) {
            Step::BeginState => {
                let partitions = vec![partition];
                (Step::OwnState, Want::Read(Query::PackStates { partitions }))
            }
            Step::AskState { is_last } => {
                let packet = Packet::AskPackState { partition };
                (Step::State { is_last }, Want::Ask(packet))
            }
            Step::Begin => {
                let query = Query::Transactions {
                    partition,
                    min: self.min,
                    max: self.max,
                    order: Order::Ascending,
                    limit: PageLimit {
                        entries: TRANSACTIONS as usize,
                        bytes: METADATA_BYTES,
                    },
                };
                (Step::OwnTransactions, Want::Read(query))
            }
            Step::AskTransactions { own, end } => {
                let packet = Packet::AskTransactions {
                    partition,
                    min: self.min,
                    max: end,
                    entries: TRANSACTIONS,
                    order: Order::Ascending,
                };
                (Step::Transactions { own, end }, Want::Ask(packet))
            }
            Step::BeginRevisions { from } => {
                let query = Query::Revisions {
                    partition,
                    min: from,
                    max: self.window,
                    limit: IDS as usize,
                };
                (Step::OwnRevisions { from }, Want::Read(query))
            }
            Step::AskIds { own, from, end } => {
                let packet = Packet::AskRevisionIds {
                    partition,
                    min: from,
                    max: end.tid,
                    entries: IDS,
                };
                (Step::Ids { own, from, end }, Want::Ask(packet))
            }
            Step::AskRun { end } => {
                let Some(run) = self.runs.front() else {
                    self.covered(end);
                    return self.next(clients);
                };
                let packet = Packet::AskRevisions {
                    partition,
                    min: run.from,
                    max: run.last.tid,
                    bytes: match clients {
                        Clients::Away => VALUE_BYTES.0,
                        Clients::About | Clients::Waiting => VALUE_BYTES.1,
                    },
                };
                (Step::Run { end }, Want::Ask(packet))
            }
            Step::End => (Step::End, Want::End),
            waiting => {
                self.step = waiting;
                return None;
            }
        };
        self.step = step;
        Some(want)
    }

    /// What is here.
    pub(super) fn own(&mut self, found: QueryResult) {
        match (std::mem::replace(&mut self.step, Step::End), found) {
            (Step::OwnState, QueryResult::PackStates(states)) => {
                let values = states.first();
                let packed = values.map(|values| Packed::of(values, self.assigned));
                self.packed = packed.unwrap_or_default();
                self.step = Step::AskState { is_last: false };
            }
            (Step::OwnTransactions, QueryResult::Transactions { page, complete }) => {
                let own: Vec<Named> = page.iter().map(Named::of).collect();
                let end = own.last().map(|last| last.tid).filter(|_| !complete);
                let end = end.unwrap_or(self.max);
                if own.is_empty() && self.purpose == Purpose::Sweep {
                    self.window = end;
                    let from = start_of(self.min);
                    self.step = Step::BeginRevisions { from };
                } else {
                    self.step = Step::AskTransactions { own, end };
                }
            }
            (Step::OwnRevisions { from }, QueryResult::Revisions(own)) => {
                let last = end_of(self.window);
                let is_full = own.len() >= IDS as usize;
                let end = own.last().copied().filter(|_| is_full).unwrap_or(last);
                if !own.is_empty() {
                    self.step = Step::AskIds { own, from, end };
                } else if self.purpose == Purpose::Sweep {
                    self.covered(last);
                } else {
                    let expected = None;
                    self.runs.push_back(Run {
                        from,
                        last,
                        expected,
                    });
                    self.step = Step::AskRun { end: last };
                }
            }
            (step, _) => self.step = step,
        }
    }

    /// What the source has.
    pub(super) fn answered(
        &mut self,
        jobs: &mut Jobs,
        packet: Packet,
        payload: &Bytes,
        object_bytes_max: usize,
    ) -> Result<(), Bad> {
        let place = (self.partitioning, self.partition);
        let partition = self.partition;
        match (std::mem::replace(&mut self.step, Step::End), packet) {
            (Step::State { is_last }, Packet::AnswerPackState { state, objects }) => {
                let is_own = |(oid, _): &(Oid, Tid)| self.partitioning.of_oid(*oid) == partition;
                if objects.len() > OBJECTS_MAX || !objects.iter().all(is_own) {
                    return Err(Bad::Answer("objects that are packed, and can't be"));
                }
                let objects = Arc::new(objects.into_iter().collect());
                self.note_packed(Packed { state, objects }, is_last);
            }
            (
                Step::Transactions { own, end },
                Packet::AnswerTransactions {
                    transactions,
                    complete,
                },
            ) => {
                check_transactions(&transactions, place, (self.min, end))?;
                let last = transactions.last().map(|last| last.tid);
                if last.is_none() && !complete {
                    return Err(Bad::Answer("a page without transactions, and more to come"));
                }
                self.window = last.filter(|_| !complete).unwrap_or(end);
                let (missing, surplus) = compare_transactions(&own, transactions, self.window);
                let delete = |tid| WriteOp::DeleteTransaction { partition, tid };
                self.ops.extend(surplus.into_iter().map(delete));
                if self.purpose == Purpose::CatchUp {
                    let put = |record| WriteOp::PutTransaction { partition, record };
                    self.ops.extend(missing.into_iter().map(put));
                }
                let from = start_of(self.min);
                self.step = Step::BeginRevisions { from };
            }
            (Step::Ids { own, from, end }, Packet::AnswerRevisionIds { ids, complete }) => {
                check_ids(ids.iter().copied(), place, (from, end.tid))?;
                let end = if complete {
                    end
                } else {
                    let last = ids.last().copied();
                    let last = last.ok_or(Bad::Answer("a page without names, and more to come"))?;
                    last.min(end)
                };
                let (runs, surplus) = compare_ids(&own, &ids, end);
                let delete = |id| WriteOp::DeleteObject { partition, id };
                self.ops.extend(surplus.into_iter().map(delete));
                if runs.is_empty() || self.purpose == Purpose::Sweep {
                    self.covered(end);
                } else {
                    self.runs = runs;
                    self.step = Step::AskRun { end };
                }
            }
            (
                Step::Run { end },
                Packet::AnswerRevisions {
                    revisions,
                    complete,
                },
            ) => {
                let Some(run) = self.runs.front_mut() else {
                    return Err(Bad::Answer("revisions that were not asked for"));
                };
                let mut ids = revisions.iter().map(|revision| revision.id);
                check_ids(ids.clone(), place, (run.from, run.last.tid))?;
                let page = (&revisions[..], payload);
                let ops = write_revisions(jobs, partition, page, run.last, object_bytes_max)?;
                self.ops.extend(ops);
                if let Some(expected) = &mut run.expected {
                    let found = ids.clone().filter(|id| *id <= run.last).count();
                    let left = expected.checked_sub(found);
                    *expected = left.ok_or(Bad::Answer("more revisions than it named"))?;
                }
                match ids.next_back() {
                    _ if complete => self.end_run(end)?,
                    Some(last) if last >= run.last => self.end_run(end)?,
                    Some(last) => {
                        run.from = after(last);
                        self.reached(last);
                        self.step = Step::AskRun { end };
                    }
                    None => {
                        return Err(Bad::Answer("a page without revisions, and more to come"));
                    }
                }
            }
            _ => return Err(Bad::Answer("an answer to another question")),
        }
        Ok(())
    }

    /// What is to be written, if anything is.
    pub(super) fn take_page(&mut self) -> Option<Page> {
        let progress = self.progress.take();
        let mut ops = std::mem::take(&mut self.ops);
        ops.extend(progress.map(|tid| set_progress(self.partition, self.assigned, tid)));
        Page::new(ops, progress)
    }

    fn end_run(&mut self, end: RevisionId) -> Result<(), Bad> {
        let run = self.runs.pop_front();
        if let Some(run) = run
            && run.expected.is_some_and(|left| left > 0)
        {
            // A pack may have removed them after it named them.
            self.relisted += 1;
            if self.relisted > RELISTED_MAX {
                return Err(Bad::Answer("fewer revisions than it named"));
            }
            self.runs.clear();
            self.step = Step::BeginRevisions { from: run.from };
            return Ok(());
        }
        match run {
            Some(run) if !self.runs.is_empty() => {
                self.reached(run.last);
                self.step = Step::AskRun { end };
            }
            _ => self.covered(end),
        }
        Ok(())
    }

    /// All up to this name is the same; of its transaction, more may follow.
    fn reached(&mut self, id: RevisionId) {
        if self.purpose == Purpose::CatchUp
            && let Some(before) = id.tid.0.checked_sub(1).map(Tid)
            && before >= self.min
        {
            self.progress = Some(before);
        }
    }

    /// All up to this name is the same.
    fn covered(&mut self, end: RevisionId) {
        if end < end_of(self.window) {
            self.reached(end);
            let from = after(end);
            self.step = Step::BeginRevisions { from };
            return;
        }
        if self.purpose == Purpose::CatchUp {
            self.progress = Some(self.window);
        }
        match self.window.checked_next().filter(|next| *next <= self.max) {
            Some(next) => {
                self.min = next;
                self.window = next;
                self.step = Step::Begin;
            }
            None if self.purpose == Purpose::Sweep => self.step = Step::End,
            None => self.step = Step::AskState { is_last: true },
        }
    }

    /// What is fetched from the start is as the source's; else, what is gone from one of the two may
    /// be gone, and what one has not done is left to do.
    ///
    /// What the source has removed for an order that is not done here is surplus, wherever it is: of
    /// an object that was deleted, the deletion may be gone there, and what it deleted still be here.
    /// So all is compared, and once more when the source has removed something meanwhile.
    fn note_packed(&mut self, source: Packed, is_last: bool) {
        let is_again = is_last && source.state.removals != self.source_removals;
        self.source_removals = source.state.removals;
        let begins = !is_last || is_again;
        let is_behind = source.state.begun > self.packed.state.done;
        if is_again || (begins && is_behind && self.min != Tid::ZERO) {
            (self.min, self.window) = (Tid::ZERO, Tid::ZERO);
            self.progress = Some(Tid::ZERO);
        }
        let is_whole = begins && self.min == Tid::ZERO;
        let mut packed = self.packed.clone();
        packed.merge(&source);
        if is_whole {
            packed.copy(source);
        }
        let kept = |packed: &Packed| {
            let state = packed.state;
            (state.done, state.at, state.whole_at)
        };
        let is_other = kept(&packed) != kept(&self.packed) || packed.objects != self.packed.objects;
        if is_whole || is_other {
            let mut batch = WriteBatch::new();
            packed.write(&mut batch, (self.partition, self.assigned), &self.packed);
            self.packed = packed;
            self.ops.extend(batch.ops);
        }
        self.step = if begins { Step::Begin } else { Step::End };
    }
}
