//! What is so, whether or not a node knows it: which transactions are committed, in which epoch.
//!
//! A forced start takes over what was committed before it up to its base; what its other side has
//! beyond that, or commits later, is lost by the operator's choice, and must not come back.

use crate::state::{CLIENTS, Client, EPOCHS, State, TRANSACTIONS, Tid};

/// A link of the chain of forced starts. The first epoch, number 0, is that of the creation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Epoch {
    pub(crate) parent: usize,
    /// The greatest tid that it took over.
    pub(crate) base: Tid,
}

/// What the checks compare with.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Truth {
    /// The reign and ttid that each transaction was given.
    pub(crate) names: [(u8, Tid); TRANSACTIONS],
    /// The serials that they are based on.
    pub(crate) bases: [Tid; TRANSACTIONS],
    /// Those that were opened; what a node knows of them is the last one of its own chain.
    pub(crate) epochs: [Option<Epoch>; EPOCHS],
    /// The tid with which each was committed in an epoch; 0: not (yet).
    committed: [[Tid; TRANSACTIONS]; EPOCHS],
    /// The latest reign in which something was committed, by epoch.
    commit_reign: [u8; EPOCHS],
    /// The epoch of the node that told a client last that its transaction is not committed.
    told_in: [Option<usize>; CLIENTS],
    /// The first promise that was broken.
    pub(crate) broken: Option<&'static str>,
}

impl Truth {
    /// The tid of a transaction, for those who know the chain up to this epoch; 0: not committed.
    pub(crate) fn committed_for(&self, transaction: usize, epoch: usize) -> Tid {
        let (mut epoch, mut base) = (epoch, Tid::MAX);
        loop {
            let tid = self.committed[epoch][transaction];
            if tid != 0 && tid <= base {
                return tid;
            }
            let Some(opened) = self.epochs[epoch] else {
                return 0;
            };
            base = base.min(opened.base);
            epoch = opened.parent;
        }
    }

    /// The tids of a transaction on all sides, without those who have none.
    pub(crate) fn tids(&self, transaction: usize) -> impl Iterator<Item = Tid> {
        self.committed
            .iter()
            .map(move |tids| tids[transaction])
            .filter(|&tid| tid != 0)
    }

    /// The chain that ends with this epoch, from the end.
    pub(crate) fn chain(&self, epoch: usize) -> impl Iterator<Item = usize> {
        let parent = |epoch: &usize| self.epochs[*epoch].map(|opened| opened.parent);
        std::iter::successors(Some(epoch), parent)
    }

    pub(crate) fn is_in_chain(&self, ancestor: usize, epoch: usize) -> bool {
        self.chain(epoch).any(|epoch| epoch == ancestor)
    }
}

impl State {
    pub(crate) fn break_promise(&mut self, which: &'static str) {
        self.truth.broken.get_or_insert(which);
    }

    /// A primary says that the transaction is committed.
    pub(crate) fn primary_commits(&mut self, master: usize, transaction: usize, tid: Tid) {
        let reign = self.masters[master].reign;
        let epoch = self.masters[master].current_table().epoch;
        if self.truth.committed_for(transaction, epoch) == 0 {
            let mut others = (0..TRANSACTIONS).filter(|&other| other != transaction);
            if others.any(|other| self.truth.committed_for(other, epoch) >= tid) {
                self.break_promise("5: a tid does not increase");
            }
            if self.truth.commit_reign[epoch] > reign {
                self.break_promise("6: a primary commits after one of a later reign did");
            }
            let latest = &mut self.truth.commit_reign[epoch];
            *latest = reign.max(*latest);
        }
        self.is_committed(transaction, tid, epoch);
    }

    /// A primary, or verification, has decided.
    pub(crate) fn is_committed(&mut self, transaction: usize, tid: Tid, epoch: usize) {
        let known = self.truth.committed_for(transaction, epoch);
        if known != 0 && known != tid {
            self.break_promise("5: one transaction, two tids");
        }
        let mut others = (0..TRANSACTIONS).filter(|&other| other != transaction);
        if others.any(|other| self.truth.committed_for(other, epoch) == tid) {
            self.break_promise("5: one tid, two transactions");
        }
        if known == 0 {
            self.truth.committed[epoch][transaction] = tid;
        }
        if self.clients[transaction] == Client::ToldAborted {
            let told_in = self.truth.told_in[transaction];
            if told_in.is_none_or(|told_in| self.truth.is_in_chain(told_in, epoch)) {
                self.break_promise("4: told aborted, yet committed");
            }
        }
    }

    /// A node of this epoch answers a client that its transaction is not committed.
    pub(crate) fn tells_abort(&mut self, client: usize, epoch: usize) {
        // What the first epoch says is to stay so in all.
        self.truth.told_in[client] = (epoch != 0).then_some(epoch);
    }

    /// A client gives up by itself, before it asked for the commit.
    pub(crate) fn client_decides_abort(&mut self, client: usize) {
        self.truth.told_in[client] = None;
    }

    pub(crate) fn check_told(&mut self, client: usize, outcome: Client) {
        let truth = &self.truth;
        match outcome {
            Client::ToldAborted => {
                let is_committed = match truth.told_in[client] {
                    Some(epoch) => truth.committed_for(client, epoch) != 0,
                    None => truth.tids(client).next().is_some(),
                };
                if is_committed {
                    self.break_promise("4: told aborted, yet committed");
                }
            }
            Client::ToldCommitted(tid) => {
                let is_other = |known| known != tid;
                if truth.tids(client).next().is_some() && truth.tids(client).all(is_other) {
                    self.break_promise("4: told committed, wrongly");
                }
            }
            _ => {}
        }
    }

    /// A storage takes part in the cluster of this epoch: what was committed on it must be known
    /// there, since it is deleted otherwise.
    pub(crate) fn check_joining(&mut self, storage: usize, epoch: usize) {
        let lost = (0..TRANSACTIONS).any(|transaction| {
            let rows = &self.storages[storage].rows[transaction];
            let tid = rows.reached();
            tid != 0
                && self.truth.tids(transaction).any(|known| known == tid)
                && self.truth.committed_for(transaction, epoch) != tid
        });
        if lost {
            self.break_promise("6: a storage that went its own way is let in");
        }
    }
}
