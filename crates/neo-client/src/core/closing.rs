//! The end of a client.

use neo_proto::Effect;

use super::effect::{ReplyId, TxnKey};
use super::{ClientCore, Timer};
use crate::error::Error;

impl ClientCore {
    /// What is being committed goes on; the rest ends now.
    pub(super) fn close(&mut self) {
        if self.closing {
            return;
        }
        self.closing = true;
        let keys: Vec<TxnKey> = self.txns.keys().copied().collect();
        for key in keys {
            self.fail_txn(key, Error::Closed);
            self.abort(key);
        }
        self.set_timer(self.settings.operation_timeout, Timer::Close);
        self.stop_when_idle();
    }

    pub(super) fn stop_when_idle(&mut self) {
        if self.closing && self.txns.is_empty() {
            self.stop();
        }
    }

    pub(super) fn stop(&mut self) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        for reply in self.everybody_who_waits() {
            self.reply(reply, Err(Error::Closed));
        }
        let conns = self.storage_conns.keys().copied();
        for conn in conns.chain(self.master.conn()) {
            self.out.close(conn, "the client is closed");
        }
        self.out.push(Effect::Stop { failure: None });
    }

    fn everybody_who_waits(&mut self) -> Vec<ReplyId> {
        let mut waiting = Vec::new();
        for (_, call) in std::mem::take(&mut self.calls) {
            waiting.extend(call.kind.reply());
        }
        self.loads.clear();
        for (_, read) in std::mem::take(&mut self.reads) {
            waiting.extend(read.waiters);
        }
        for (_, txn) in std::mem::take(&mut self.txns) {
            waiting.extend(txn.everybody_who_waits());
        }
        for (_, import) in std::mem::take(&mut self.imports) {
            waiting.extend(import.everybody_who_waits());
        }
        waiting
    }
}
