//! What the application asks for.

use super::call::CallKind;
use super::effect::{Command, ReplyId};
use super::{ClientCore, Timer};
use crate::error::Error;

impl ClientCore {
    pub(super) fn command(&mut self, command: Command) {
        if self.closing && !matches!(command, Command::Abort { .. } | Command::Close) {
            for reply in replies_of(&command) {
                self.reply(reply, Err(Error::Closed));
            }
            return;
        }
        match command {
            Command::WaitReady { reply, timeout } => self.wait_ready(reply, timeout),
            Command::Sync { reply } => self.call(CallKind::Sync(reply)),
            Command::Sleep { reply, duration } => {
                self.set_timer(duration, Timer::Sleep(reply));
            }
            Command::NewOids { reply, count } => {
                self.call(CallKind::NewOids { reply, count });
            }
            Command::Load { reply, oid, at } => self.load(reply, oid, at),
            Command::LoadMany { loads } => {
                for (reply, oid, at) in loads {
                    self.load(reply, oid, at);
                }
            }
            Command::Page { reply, page } => self.page(reply, page),
            Command::Begin { txn, reply, tid } => self.begin(txn, reply, tid),
            Command::Store {
                txn,
                reply,
                oid,
                serial,
                change,
            } => self.store(txn, reply, oid, serial, change),
            Command::Changes { txn, reply, oids } => self.changes(txn, reply, &oids),
            Command::Vote { txn, reply, record } => self.vote(txn, reply, record),
            Command::Resolve {
                txn,
                oid,
                version,
                serial,
                record,
            } => self.resolve(txn, oid, version, serial, record),
            Command::Finish { txn, reply } => self.finish(txn, reply),
            Command::Abort { txn } => self.abort(txn),
            Command::BeginImport { import, reply } => self.begin_import(import, reply),
            Command::ImportBatch {
                import,
                reply,
                transactions,
                revisions,
            } => self.import_batch(import, reply, transactions, revisions),
            Command::CheckpointImport {
                import,
                reply,
                tid,
                last_oid,
            } => self.checkpoint_import(import, reply, tid, last_oid),
            Command::EndImport { import, reply } => self.end_import(import, reply),
            Command::WaitPack { reply, id } => {
                self.call_patiently(CallKind::WaitPack { reply, id })
            }
            Command::PackProgress { reply } => self.call(CallKind::PackProgress(reply)),
            Command::Close => self.close(),
        }
    }
}

/// Who waits for a command.
pub(super) fn replies_of(command: &Command) -> Vec<ReplyId> {
    let one = match command {
        Command::WaitReady { reply, .. }
        | Command::Sync { reply }
        | Command::Sleep { reply, .. }
        | Command::NewOids { reply, .. }
        | Command::Load { reply, .. }
        | Command::Page { reply, .. }
        | Command::Begin { reply, .. }
        | Command::Store { reply, .. }
        | Command::Changes { reply, .. }
        | Command::Vote { reply, .. }
        | Command::Finish { reply, .. }
        | Command::BeginImport { reply, .. }
        | Command::ImportBatch { reply, .. }
        | Command::CheckpointImport { reply, .. }
        | Command::WaitPack { reply, .. }
        | Command::PackProgress { reply } => Some(*reply),
        Command::EndImport { reply, .. } => *reply,
        Command::LoadMany { loads } => return loads.iter().map(|(reply, ..)| *reply).collect(),
        Command::Resolve { .. } | Command::Abort { .. } | Command::Close => None,
    };
    one.into_iter().collect()
}
