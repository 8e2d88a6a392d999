//! Storage nodes that come to a cluster that runs.
//!
//! ```text
//!  (knows fewer epochs: survey) ──▶ Remembers ──▶ Cleaning ──▶ has it cells? ─no─▶ PENDING
//!                                                                   │               │ neoctl add
//!                                                                   ▼               ▼
//!                                                Noting ──▶ RUNNING, starting ──▶ ready
//! ```
//!
//! What an import left on it is removed before it gets the partition table: with the table it
//! notes how far its cells are complete. The reign and the mark of oids are durable on it before it
//! serves, as on every other node. Nobody waits for a node before it is told to start; from then on
//! transactions begin when it is ready, but it has limited time for that. One that did not get ready
//! in time is not waited for again.

use std::collections::BTreeSet;

use neo_api::{Instant, NodeId, NodeState, NodeType, Now, Oid};
use neo_proto::{ClusterIdentity, Packet, Recovery};

use super::creation::is_draft;
use super::effect::Out;
use super::identification::Kinship;
use super::requests::Ask;
use super::survey::{Reached, base_after};
use super::{MasterCore, Phase};

/// How much longer than others a node may take that nobody waits for.
const LAGGARD_FACTOR: u32 = 10;

/// A node that is not told to start yet.
#[derive(Debug)]
pub(crate) struct Joining {
    stage: Stage,
    /// It is disconnected if it has not answered until then.
    deadline: Instant,
}

impl Joining {
    /// Whether it takes part in a moment.
    pub(crate) const fn is_admitted(&self) -> bool {
        matches!(self.stage, Stage::Noting { .. })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It missed the opening of an epoch, and knows so many.
    Surveyed { epochs: usize },
    /// It says what it remembers.
    Remembers,
    /// It removes what an import left; so many answers are missing.
    Cleaning { owed: u32 },
    /// It notes the reign and this mark of oids; so many answers are missing.
    Noting { owed: u32, mark: Oid },
}

/// A node that was told to start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Starting {
    pub(crate) deadline: Instant,
    /// Whether transactions begin only when it is ready.
    pub(crate) is_waited_for: bool,
}

impl MasterCore {
    /// A storage node came to a cluster that runs. What it has itself must not have gone its own
    /// way.
    pub(super) fn join_running(
        &mut self,
        now: Now,
        nid: NodeId,
        identity: Option<&ClusterIdentity>,
        out: &mut Out,
    ) {
        match identity.map(|theirs| (self.kinship(theirs), theirs.epochs.len())) {
            Some((Kinship::Ancestor, epochs)) => {
                self.set_joining(now, nid, Stage::Surveyed { epochs });
                self.start_survey(nid, out);
            }
            Some((Kinship::Stranger | Kinship::Descendant, _)) => {
                let words = "it belongs to a side of the cluster that went its own way";
                self.refuse_storage(now, nid, words, out);
            }
            Some((Kinship::Same, _)) | None => self.join_ask(now, nid, out),
        }
    }

    pub(super) fn join_surveyed(&mut self, now: Now, nid: NodeId, reached: Reached, out: &mut Out) {
        let joining = self.running().and_then(|r| r.joining.remove(&nid));
        let Some(Joining {
            stage: Stage::Surveyed { epochs },
            ..
        }) = joining
        else {
            return;
        };
        let base = base_after(self.identity.as_ref(), epochs);
        if reached.is_beyond(base) {
            self.refuse_own_way(now, nid, reached, base, out);
        } else {
            self.join_ask(now, nid, out);
        }
    }

    fn set_joining(&mut self, now: Now, nid: NodeId, stage: Stage) {
        let deadline = now.mono + self.settings.recovery_timeout();
        if let Some(running) = self.running() {
            running.joining.insert(nid, Joining { stage, deadline });
        }
    }

    fn join_send(&mut self, nid: NodeId, packet: Packet, out: &mut Out) {
        if let Some(conn) = self.nodes.conn(nid) {
            self.requests.send(conn, Ask::Join, packet, out);
        }
    }

    fn join_ask(&mut self, now: Now, nid: NodeId, out: &mut Out) {
        self.set_joining(now, nid, Stage::Remembers);
        self.join_send(nid, Packet::AskRecovery {}, out);
    }

    /// A joining node has answered what it was asked last.
    pub(super) fn join_answered(&mut self, now: Now, nid: NodeId, packet: &Packet, out: &mut Out) {
        let stage = self.running().and_then(|r| r.joining.get(&nid));
        match (stage.map(|joining| joining.stage), packet) {
            (Some(Stage::Remembers), Packet::AnswerRecovery { recovery }) => {
                self.join_remembered(now, nid, recovery, out);
            }
            (
                Some(Stage::Cleaning { owed }),
                Packet::AnswerTruncated { .. } | Packet::AnswerImportMark { .. },
            ) => match owed - 1 {
                0 => self.join_table(now, nid, out),
                owed => self.set_joining(now, nid, Stage::Cleaning { owed }),
            },
            (
                Some(Stage::Noting { owed, mark }),
                Packet::AnswerOidMarkStored { .. } | Packet::AnswerReignStarted { .. },
            ) => match owed - 1 {
                0 => self.join_noted(now, nid, mark, out),
                owed => self.set_joining(now, nid, Stage::Noting { owed, mark }),
            },
            (None, _) => {}
            (Some(_), other) => {
                let words = format!("{} is not what it was asked", other.name());
                self.refuse_storage(now, nid, &words, out);
            }
        }
    }

    fn join_remembered(&mut self, now: Now, nid: NodeId, recovery: &Recovery, out: &mut Out) {
        if recovery.reign > self.reign {
            // It can't be that this primary runs with every readable cell, and a later one ruled,
            // in this cluster.
            let words = format!(
                "it has obeyed reign {} already, and this is reign {}: it has been in a copy of \
                 this cluster; give it an empty database",
                recovery.reign, self.reign
            );
            self.refuse_storage(now, nid, &words, out);
            return;
        }
        match recovery.import_tid {
            Some(after) => {
                tracing::info!(%nid, %after, "removing what an import left");
                self.set_joining(now, nid, Stage::Cleaning { owed: 2 });
                self.join_send(nid, Packet::AskTruncate { after }, out);
                let packet = Packet::AskImportMark {
                    import: 0,
                    mark: None,
                };
                self.join_send(nid, packet, out);
            }
            None => self.join_table(now, nid, out),
        }
    }

    /// Gives it the partition table, which it follows from now on.
    fn join_table(&mut self, now: Now, nid: NodeId, out: &mut Out) {
        if let Some(running) = self.running() {
            running.joining.remove(&nid);
        }
        if let Some(conn) = self.nodes.conn(nid) {
            if let Some(node) = self.nodes.get_mut(nid) {
                node.has_table = true;
            }
            self.send_table(conn, out);
        }
        if self.table.as_ref().is_some_and(|table| table.has_node(nid)) {
            tracing::info!(%nid, "takes part again, out of date");
            self.admit_to_running(now, nid, out);
        } else if self.is_taken_back(nid) {
            tracing::info!(%nid, "takes part again: it had cells, which are elsewhere now");
            self.admit_to_running(now, nid, out);
        } else {
            tracing::info!(%nid, "stays PENDING until it is added: it has no cells");
        }
    }

    /// Whether a node without cells takes part without being added: the table is balanced without
    /// an operator, and its database says that it had some. So it is known to every primary.
    fn is_taken_back(&self, nid: NodeId) -> bool {
        let noted = self.nodes.get(nid).and_then(|node| node.noted);
        self.settings.auto_tweak().is_some() && noted.is_some_and(|version| !is_draft(version))
    }

    /// A node that has the partition table is to take part. While an import runs it waits for the
    /// end: it would not get what is imported.
    pub(super) fn admit_to_running(&mut self, now: Now, nid: NodeId, out: &mut Out) {
        let reign = self.reign;
        let Some(running) = self.running() else {
            return;
        };
        if running.import.is_some() {
            tracing::info!(%nid, "stays PENDING until the import is over");
            return;
        }
        let mark = running.oids.announced();
        self.set_joining(now, nid, Stage::Noting { owed: 2, mark });
        self.join_send(nid, Packet::AskStoreOidMark { mark }, out);
        self.join_send(nid, Packet::AskStartReign { reign }, out);
    }

    /// An import is over: nodes that came meanwhile take part now.
    pub(super) fn admit_waiting(&mut self, now: Now, out: &mut Out) {
        let online: Vec<NodeId> = self.nodes.online(NodeType::Storage).map(|o| o.0).collect();
        for nid in online {
            let has_cells = self.table.as_ref().is_some_and(|table| table.has_node(nid));
            if self.is_pending(nid) && (has_cells || self.is_taken_back(nid)) {
                self.admit_to_running(now, nid, out);
            }
        }
    }

    /// Whether a node is connected, follows the partition table and has no part in the service.
    pub(super) fn is_pending(&mut self, nid: NodeId) -> bool {
        let follows = self.nodes.get(nid).is_some_and(|node| node.has_table);
        follows
            && self.running().is_some_and(|running| {
                !running.operating.contains_key(&nid) && !running.joining.contains_key(&nid)
            })
    }

    /// It notes every raise of the mark from now on, if none was missed.
    fn join_noted(&mut self, now: Now, nid: NodeId, noted: Oid, out: &mut Out) {
        let mark = self.running().map(|running| running.oids.announced());
        match mark.filter(|mark| *mark > noted) {
            Some(mark) => {
                self.set_joining(now, nid, Stage::Noting { owed: 1, mark });
                self.join_send(nid, Packet::AskStoreOidMark { mark }, out);
            }
            None => self.start_storage(now, nid, out),
        }
    }

    fn start_storage(&mut self, now: Now, nid: NodeId, out: &mut Out) {
        let timeout = self.settings.starting_timeout();
        let Some(running) = self.running() else {
            return;
        };
        running.joining.remove(&nid);
        let operation = running.operation;
        let is_waited_for = !running.laggards.contains(&nid);
        let patience = if is_waited_for {
            timeout
        } else {
            timeout.saturating_mul(LAGGARD_FACTOR)
        };
        running.operating.insert(nid, None);
        running.starting.insert(
            nid,
            Starting {
                deadline: now.mono + patience,
                is_waited_for,
            },
        );
        self.nodes.set_state(nid, NodeState::Running);
        self.nodes.publish(out);
        if let Some(conn) = self.nodes.conn(nid) {
            out.notify(conn, Packet::StartOperation { operation });
        }
        self.added(nid, out);
    }

    pub(super) fn storage_ready(&mut self, now: Now, nid: NodeId, operation: u64, out: &mut Out) {
        let has_cells = self.table.as_ref().is_some_and(|table| table.has_node(nid));
        let is_bare = !has_cells && self.is_taken_back(nid);
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        if operation != running.operation || running.starting.remove(&nid).is_none() {
            return;
        }
        running.laggards.remove(&nid);
        running.auto_tweak.back(now, nid, is_bare, &self.settings);
        running.readiness += 1;
        let readiness = running.readiness;
        running.operating.insert(nid, Some(readiness));
        tracing::info!(%nid, "a storage node is ready");
        self.begin_waiting(now, out);
    }

    /// When the next node is late.
    pub(super) fn joining_deadline(running: &super::Running) -> Option<Instant> {
        let joining = running.joining.values().map(|joining| joining.deadline);
        let starting = running.starting.values().map(|starting| starting.deadline);
        joining.chain(starting).min()
    }

    pub(super) fn joining_timer(&mut self, now: Now, out: &mut Out) {
        let Some(running) = self.running() else {
            return;
        };
        let joining = running.joining.iter();
        let silent: Vec<NodeId> = joining
            .filter(|(_, joining)| joining.deadline <= now.mono)
            .map(|(nid, _)| *nid)
            .collect();
        let starting = running.starting.iter();
        let late: BTreeSet<NodeId> = starting
            .filter(|(_, starting)| starting.deadline <= now.mono)
            .map(|(nid, _)| *nid)
            .collect();
        for nid in silent {
            let words = "it does not say what it remembers, or does not note what it must";
            self.refuse_storage(now, nid, words, out);
        }
        if late.is_empty() {
            return;
        }
        if let Some(running) = self.running() {
            running.laggards.extend(late.iter().copied());
        }
        let words = "it was told to start and did not get ready in time (starting_timeout_ms)";
        self.expel(now, &late, words, out);
    }
}
