//! Deadlines of reads, and cells that do not answer soon.

use neo_api::NodeId;

use super::hedge::Slow;
use super::query::Query;
use super::{ReadId, State};
use crate::core::{ClientCore, Timer};

impl ClientCore {
    /// Sets the timer to what comes first.
    pub(super) fn arm_read(&mut self, id: ReadId) {
        let Some(read) = self.reads.get_mut(&id) else {
            return;
        };
        let at = read
            .look_at
            .map_or(read.deadline, |at| at.min(read.deadline));
        if let Some(timer) = read.timer {
            if timer.at() <= at {
                return;
            }
            self.timers.cancel(timer);
        }
        read.timer = Some(self.timers.set(at, Timer::Read(id)));
    }

    pub(in crate::core) fn read_timer(&mut self, id: ReadId) {
        let now = self.now.mono;
        let Some(read) = self.reads.get_mut(&id) else {
            return;
        };
        read.timer = None;
        if now >= read.deadline {
            self.read_timed_out(id);
            return;
        }
        if let Some(due) = read.look_at.filter(|at| *at <= now) {
            let patience = &self.patience[read.kind()];
            if patience.was_asleep(now.since(due)) {
                read.look_at = Some(now + patience.delay());
            } else {
                self.read_is_slow(id);
            }
        }
        self.arm_read(id);
    }

    /// No cell that was asked has answered within the delay: another one is asked too, if there is
    /// one, and if not too many reads are hedged.
    fn read_is_slow(&mut self, id: ReadId) {
        let now = self.now.mono;
        let Some(read) = self.reads.get_mut(&id) else {
            return;
        };
        let patience = &mut self.patience[read.kind()];
        let delay = patience.delay();
        let mut avoided = read.tried.clone();
        for asked in read.asked() {
            avoided.insert(asked.nid);
            if !std::mem::replace(&mut asked.is_late, true) && asked.is_timed {
                patience.exceeded();
                if let Some(link) = self.storages.get_mut(&asked.nid) {
                    link.slow = Some(Slow::noted(link.slow, now));
                }
            }
        }
        if read.is_hedged || !matches!(read.state, State::Asked(..)) {
            read.look_at = None;
            return;
        }
        // Once more later, if none can be asked now: the table may change, and reads earn hedges.
        read.look_at = Some(now + delay.max(now.since(read.asked_at())));
        let partition = self.partition_of_query(&self.reads[&id].query);
        let Some(nid) = self.choose_cell(partition, &avoided) else {
            return;
        };
        if self.hedges.spend()
            && let Some(asked) = self.ask_cell(id, nid)
            && let Some(read) = self.reads.get_mut(&id)
            && let State::Asked(_, second) = &mut read.state
        {
            tracing::debug!(%nid, "a read is slow: another replica is asked too");
            *second = Some(asked);
            read.is_hedged = true;
            read.look_at = Some(now + delay);
        }
    }

    /// A node has answered; whether in time was seen before.
    pub(super) fn note_speed(&mut self, id: ReadId, nid: Option<NodeId>) {
        let now = self.now.mono;
        let Some(read) = self.reads.get_mut(&id) else {
            return;
        };
        let kind = read.kind();
        if let Some(asked) = read.asked().find(|asked| Some(asked.nid) == nid)
            && asked.is_timed
            && !asked.is_late
        {
            let nid = asked.nid;
            self.patience[kind].answered(now.since(asked.at));
            if let Some(link) = self.storages.get_mut(&nid) {
                link.slow = None;
            }
        }
    }

    fn read_timed_out(&mut self, id: ReadId) {
        let Some(read) = self.reads.get(&id) else {
            return;
        };
        let what = match &read.query {
            Query::Load { oid, .. } => format!("object {oid}"),
            Query::Page(_) => "a page of history".to_owned(),
        };
        let from = match read.state {
            State::Asked(first, None) => format!(" from {}", first.nid),
            State::Asked(first, Some(second)) => format!(" from {} or {}", first.nid, second.nid),
            State::Waiting => " (waiting for the primary master)".to_owned(),
            State::Pause if read.trouble.is_empty() => {
                " (no readable replica is running)".to_owned()
            }
            State::Pause => format!(" (no replica answers; the last said: {})", read.trouble),
        };
        let error = self.timeout_error(&format!("{what}{from}"));
        self.drop_calls_of_read(id);
        self.read_ends_badly(id, &error);
    }
}
