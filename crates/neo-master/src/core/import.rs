//! Import: an ordered bulk load, alone on the cluster.
//!
//! Storage nodes keep a durable mark: what is written after it does not count. The mark is raised
//! at each checkpoint, once every node has made durable what is below it; if the import breaks
//! off, what is above the mark is removed, here or by the verification of the next primary.

use std::collections::BTreeSet;
use std::time::Duration;

use neo_api::{NodeId, Now, Oid, Tid};
use neo_proto::{ErrorCode, Packet};

use super::effect::Out;
use super::oids::Waiting;
use super::requests::Ask;
use super::transaction_manager::Asker;
use super::{MasterCore, Phase};

/// The import that is running.
#[derive(Debug)]
pub(crate) struct Import {
    id: u64,
    /// Whose it is; `None` when it is gone: the import ends.
    client: Option<NodeId>,
    /// Everything up to it is committed.
    checkpoint: Tid,
    stage: Stage,
    /// Names the stage: answers to an earlier one are dropped.
    step: u64,
    /// Nodes that owe an answer in this stage.
    waiting: BTreeSet<NodeId>,
    /// Whom to answer when the stage is done.
    asker: Option<Asker>,
    /// It ends when what goes on now is done.
    ending: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The first mark is set.
    Beginning,
    /// The client loads.
    Open,
    /// A checkpoint: nodes make everything durable, and oids are covered by the mark of oids.
    Syncing { tid: Tid, oids_covered: bool },
    /// A checkpoint: the mark is raised. It can't be taken back.
    Raising { tid: Tid },
    /// What is above the checkpoint is removed.
    Truncating,
    /// The mark is removed.
    Clearing,
}

impl MasterCore {
    pub(super) fn begin_import(&mut self, asker: Asker, out: &mut Out) {
        let last_tid = self.tids.last();
        let reign = self.reign;
        let read_only = self.is_read_only(asker.nid);
        self.last_import += 1;
        // The reign in it: a late message of another primary's import is told by its number.
        let id = (reign.0 << 24) | (self.last_import & 0x00ff_ffff);
        let Some(running) = self.running() else {
            return;
        };
        let words = if read_only {
            "the client is read-only"
        } else if running.stopping.is_some() {
            "the cluster is stopping"
        } else if running.import.is_some() {
            "another import is running"
        } else if !running.txns.is_empty() || !running.begins.is_empty() {
            "transactions are pending: an import must be alone"
        } else if !running.starting.is_empty() {
            "storage nodes are starting"
        } else if !running.catching_up.is_empty() {
            "cells are being brought up to date: wait until there are none (neoctl print pt)"
        } else {
            running.import = Some(Import {
                id,
                client: Some(asker.nid),
                checkpoint: last_tid,
                stage: Stage::Beginning,
                step: 0,
                waiting: BTreeSet::new(),
                asker: Some(asker),
                ending: false,
            });
            tracing::info!(import = id, client = %asker.nid, after = %last_tid, "an import begins");
            let mark = Some(last_tid);
            self.import_ask(
                Stage::Beginning,
                |import| Packet::AskImportMark { import, mark },
                out,
            );
            return;
        };
        let code = if read_only {
            ErrorCode::ReadOnly
        } else {
            ErrorCode::NotReady
        };
        self.refuse(asker, code, words, out);
    }

    pub(super) fn checkpoint_import(
        &mut self,
        now: Now,
        asker: Asker,
        import: u64,
        tid: Tid,
        last_oid: Oid,
        out: &mut Out,
    ) {
        let checkpoint = match self.open_import(asker, import) {
            Ok(checkpoint) => checkpoint,
            Err(words) => {
                self.refuse(asker, ErrorCode::NotReady, words, out);
                return;
            }
        };
        if tid == checkpoint {
            out.send(
                asker.conn,
                asker.id,
                Packet::AnswerImportCheckpointed { tid },
            );
            return;
        }
        let ahead_max = Duration::from_secs(self.settings.imposed_tid_ahead_max_s);
        if let Err(words) = self.tids.check_imposed(tid, ahead_max, now) {
            self.refuse(asker, ErrorCode::Denied, words, out);
            return;
        }
        let Some(running) = self.running() else {
            return;
        };
        let oids_covered = running.oids.in_use(last_oid.0);
        if let Some(import) = &mut running.import {
            import.asker = Some(asker);
        }
        if !oids_covered {
            running.oids.wait(Waiting::Import);
        }
        let stage = Stage::Syncing { tid, oids_covered };
        self.import_ask(stage, |import| Packet::AskSyncImport { import }, out);
        self.raise_oid_mark(out);
    }

    pub(super) fn end_import(&mut self, asker: Asker, import: u64, out: &mut Out) {
        if let Err(words) = self.open_import(asker, import) {
            self.refuse(asker, ErrorCode::NotReady, words, out);
            return;
        }
        if let Some(import) = self.import() {
            import.asker = Some(asker);
        }
        self.import_truncate(out);
    }

    fn import(&mut self) -> Option<&mut Import> {
        self.running()?.import.as_mut()
    }

    /// The last checkpoint of a client's import, if the client may go on with it now.
    fn open_import(&mut self, asker: Asker, id: u64) -> Result<Tid, String> {
        match self.import() {
            Some(import) if import.id == id && import.client == Some(asker.nid) => {
                match import.stage {
                    Stage::Open => Ok(import.checkpoint),
                    _ => Err("the import has not answered the last request yet".to_owned()),
                }
            }
            _ => Err(format!(
                "import {id} is not running: it ended at its last checkpoint"
            )),
        }
    }

    /// Enters a stage by asking every node that takes part.
    fn import_ask(&mut self, stage: Stage, packet: impl Fn(u64) -> Packet, out: &mut Out) {
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        let Some(import) = &mut running.import else {
            return;
        };
        import.stage = stage;
        import.step += 1;
        import.waiting = running.operating.keys().copied().collect();
        let (step, packet) = (import.step, packet(import.id));
        for nid in running.operating.keys() {
            if let Some(conn) = self.nodes.conn(*nid) {
                self.requests
                    .send(conn, Ask::Import(step), packet.clone(), out);
            }
        }
    }

    pub(super) fn import_answered(&mut self, now: Now, nid: NodeId, step: u64, out: &mut Out) {
        if let Some(import) = self.import().filter(|import| import.step == step) {
            import.waiting.remove(&nid);
            self.import_step(now, out);
        }
    }

    pub(super) fn import_storages_lost(
        &mut self,
        now: Now,
        lost: &BTreeSet<NodeId>,
        out: &mut Out,
    ) {
        if let Some(import) = self.import() {
            import.waiting.retain(|nid| !lost.contains(nid));
            self.import_step(now, out);
        }
    }

    pub(super) fn import_oids_covered(&mut self, now: Now, out: &mut Out) {
        if let Some(Import {
            stage: Stage::Syncing { oids_covered, .. },
            ..
        }) = self.import()
        {
            *oids_covered = true;
            self.import_step(now, out);
        }
    }

    /// The oids of a checkpoint can't be covered: it is refused, the import goes on.
    pub(super) fn import_no_space(&mut self, words: &str, out: &mut Out) {
        let Some(import) = self.import() else { return };
        if matches!(import.stage, Stage::Syncing { .. }) {
            let asker = import.asker.take();
            import.stage = Stage::Open;
            import.step += 1;
            import.waiting.clear();
            let ending = import.ending;
            if let Some(asker) = asker {
                self.refuse(asker, ErrorCode::NoSpace, words, out);
            }
            if ending {
                self.import_truncate(out);
            }
        }
    }

    pub(super) fn import_client_gone(&mut self, now: Now, nid: NodeId, out: &mut Out) {
        let Some(import) = self.import() else { return };
        if import.client != Some(nid) {
            return;
        }
        tracing::info!(import = import.id, checkpoint = %import.checkpoint, "the importing client is gone");
        import.client = None;
        import.asker = None;
        import.ending = true;
        match import.stage {
            // Nothing of the checkpoint is durable yet: it is given up.
            Stage::Open | Stage::Syncing { .. } => self.import_truncate(out),
            _ => self.import_step(now, out),
        }
    }

    fn import_truncate(&mut self, out: &mut Out) {
        if let Some(import) = self.import() {
            let after = import.checkpoint;
            self.import_ask(Stage::Truncating, |_| Packet::AskTruncate { after }, out);
        }
    }

    /// Goes on when every node has answered.
    fn import_step(&mut self, now: Now, out: &mut Out) {
        let last_tid = self.tids.last();
        let Some(import) = self.import() else { return };
        if !import.waiting.is_empty() {
            return;
        }
        let id = import.id;
        match import.stage {
            Stage::Open
            | Stage::Syncing {
                oids_covered: false,
                ..
            } => {}
            Stage::Beginning => {
                let import = id;
                self.import_open(Packet::AnswerBeginImport { import, last_tid }, out);
            }
            Stage::Syncing { tid, .. } => {
                let mark = Some(tid);
                let packet = |import| Packet::AskImportMark { import, mark };
                self.import_ask(Stage::Raising { tid }, packet, out);
            }
            Stage::Raising { tid } => {
                import.checkpoint = tid;
                let client = import.client;
                self.invalidate_all(tid, client, out);
                self.tids.committed(tid);
                self.committed_in = self.reign;
                self.import_open(Packet::AnswerImportCheckpointed { tid }, out);
            }
            Stage::Truncating => {
                let packet = |import| Packet::AskImportMark { import, mark: None };
                self.import_ask(Stage::Clearing, packet, out);
            }
            Stage::Clearing => self.import_ended(now, out),
        }
    }

    /// The stage is done: the client may go on, if it is there.
    fn import_open(&mut self, answer: Packet, out: &mut Out) {
        let Some(import) = self.import() else { return };
        import.stage = Stage::Open;
        let (asker, ending) = (import.asker.take(), import.ending);
        if let Some(asker) = asker {
            self.reply(asker, answer, out);
        }
        if ending {
            self.import_truncate(out);
        }
    }

    fn import_ended(&mut self, now: Now, out: &mut Out) {
        let Some(import) = self.running().and_then(|running| running.import.take()) else {
            return;
        };
        tracing::info!(import = import.id, tid = %import.checkpoint, "the import ended");
        if let Some(asker) = import.asker {
            let tid = import.checkpoint;
            self.reply(asker, Packet::AnswerImportEnded { tid }, out);
        }
        self.register_held(now, out);
        self.admit_waiting(now, out);
        self.transaction_ended(now, out);
    }

    /// The cluster stops: an import that is not ended by its client ends at its last checkpoint.
    pub(super) fn import_give_up(&mut self, out: &mut Out) {
        let Some(import) = self.import() else { return };
        import.ending = true;
        if import.stage == Stage::Open {
            self.import_truncate(out);
        }
    }
}
