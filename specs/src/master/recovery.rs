//! RECOVERING: the newest table is looked for, and all of its readable cells.

use crate::message::Message;
use crate::options::{Options, Rule};
use crate::set::Set;
use crate::state::{Role, STORAGES, State, Tid};
use crate::table::Table;
use crate::truth::Epoch;

// More than there can be without a forced start.
const REIGNS_PER_EPOCH: u8 = 64;

/// How the chain of epochs of a storage relates to a master's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kinship {
    Same,
    /// It missed the opening of an epoch, the first of which took over all up to this tid.
    Ancestor(Tid),
    Descendant,
    Stranger,
}

impl State {
    /// A storage says what it remembers, to a master that is RECOVERING or RUNNING.
    pub(super) fn storage_answers_recovery(
        &mut self,
        number: usize,
        storage: usize,
        theirs: (Table, u8, Tid),
        options: &Options,
    ) {
        let (table, reign, reached) = theirs;
        let recovering = self.masters[number].role == Role::Recovering;
        let kinship = match self.masters[number].table {
            Some(own) => self.kinship(own.epoch, table.epoch),
            None => Kinship::Same,
        };
        match kinship {
            Kinship::Ancestor(base) if reached > base && options.has(Rule::OwnWaysAreRefused) => {
                self.refuse_storage(number, storage);
            }
            Kinship::Stranger => self.refuse_storage(number, storage),
            Kinship::Descendant if !recovering => self.fall_back(number, options),
            _ if recovering => {
                if options.forced > 0 {
                    self.masters[number].reached[storage] = reached;
                }
                self.note_recovery(number, storage, table, reign, options);
            }
            _ => self.storage_joins(number, storage),
        }
    }

    fn kinship(&self, ours: usize, theirs: usize) -> Kinship {
        let truth = &self.truth;
        if ours == theirs {
            Kinship::Same
        } else if truth.is_in_chain(theirs, ours) {
            let missed = truth
                .chain(ours)
                .take_while(|&epoch| epoch != theirs)
                .last();
            Kinship::Ancestor(
                missed
                    .and_then(|epoch| truth.epochs[epoch])
                    .map_or(0, |e| e.base),
            )
        } else if truth.is_in_chain(ours, theirs) {
            Kinship::Descendant
        } else {
            Kinship::Stranger
        }
    }

    fn refuse_storage(&mut self, number: usize, storage: usize) {
        self.network
            .master_to_storage(number, storage, Message::OtherCluster);
        self.forget_storage(number, storage);
    }

    fn note_recovery(
        &mut self,
        number: usize,
        storage: usize,
        table: Table,
        reign: u8,
        options: &Options,
    ) {
        let master = &mut self.masters[number];
        master.reign = master.reign.max(reign);
        master.answered[storage] = Some(table.epoch);
        if options.has(Rule::TablesByReign) {
            master.ptid_max = master.ptid_max.max(table.ptid);
        }
        if master
            .table
            .is_none_or(|own| table.is_newer_than(&own, options))
        {
            master.table = Some(table);
            master.ptid_max = master.ptid_max.max(table.ptid);
            self.refuse_own_ways(number, table.epoch, options);
        }
    }

    /// With a longer chain, some of those that answered before turn out to have missed an epoch.
    fn refuse_own_ways(&mut self, number: usize, epoch: usize, options: &Options) {
        for storage in 0..STORAGES {
            let master = &self.masters[number];
            let reached = master.reached[storage];
            let refused = match master.answered[storage].map(|theirs| self.kinship(epoch, theirs)) {
                Some(Kinship::Ancestor(base)) => {
                    reached > base && options.has(Rule::OwnWaysAreRefused)
                }
                Some(Kinship::Stranger) => true,
                _ => false,
            };
            if refused {
                self.refuse_storage(number, storage);
            }
        }
    }

    /// A storage that comes to a running cluster serves at once; its cells catch up.
    fn storage_joins(&mut self, number: usize, storage: usize) {
        let master = &mut self.masters[number];
        let table = master.current_table();
        let reign = master.reign;
        master.starting.insert(storage);
        self.check_joining(storage, table.epoch);
        let message = Message::StartOperation { table, reign };
        self.network.master_to_storage(number, storage, message);
    }

    /// A start needs every readable cell of the newest table: any of them may have committed
    /// without the others, if the table does not say otherwise.
    pub(crate) fn can_start(&self, number: usize, options: &Options) -> bool {
        let master = &self.masters[number];
        let Some(table) = master.table else {
            return false;
        };
        let answered = self.answered(number);
        let all = answered.includes(table.readable_storages());
        let short_cut = !options.has(Rule::StrictStart) && master.stayed;
        table.is_operational(answered) && (all || short_cut)
    }

    /// The operator starts the cluster without those that are missing.
    pub(crate) fn can_be_forced(&self, number: usize, options: &Options) -> bool {
        let operational = |table: Table| table.is_operational(self.answered(number));
        self.masters[number].table.is_some_and(operational) && !self.can_start(number, options)
    }

    /// A new epoch takes over what the readable cells that are here have reached.
    pub(crate) fn force_start(&mut self, number: usize, options: &Options) {
        let master = &mut self.masters[number];
        let mut table = master.current_table();
        let here: Set = table
            .readable_storages()
            .members()
            .filter(|&s| master.answered[s].is_some())
            .collect();
        let base = here
            .members()
            .map(|storage| master.reached[storage])
            .max()
            .unwrap_or(0);
        if options.has(Rule::EpochsAreOpened) {
            let epoch = Epoch {
                parent: table.epoch,
                base,
            };
            let free = self.truth.epochs.iter().skip(1).position(Option::is_none);
            let opened = 1 + free.expect("there are as many as the operator may open");
            self.truth.epochs[opened] = Some(epoch);
            table.epoch = opened;
            self.masters[number].table = Some(table);
        }
        if options.has(Rule::ForcedReignIsAlone) {
            let master = &mut self.masters[number];
            let epoch = master.current_table().epoch;
            let opened = self.truth.chain(epoch).skip(1).count() as u8;
            master.reign = master.reign.max(REIGNS_PER_EPOCH * opened);
        }
        self.start_verification(number);
    }

    fn answered(&self, number: usize) -> Set {
        (0..STORAGES)
            .filter(|&s| self.masters[number].answered[s].is_some())
            .collect()
    }

    /// The new reign is one more than any seen; the table is verified in it.
    pub(crate) fn start_verification(&mut self, number: usize) {
        let chosen = self.answered(number);
        let master = &mut self.masters[number];
        let before = master.current_table();
        let mut table = before;
        for storage in (0..STORAGES).filter(|&storage| !chosen.has(storage)) {
            table.outdate(storage);
        }
        master.reign += 1;
        table.reign = master.reign;
        master.ptid_max = master.ptid_max.max(table.ptid);
        if table.cells == before.cells {
            master.table = Some(table);
        } else {
            table = master.change_table(table);
        }
        master.role = Role::Verifying;
        master.chosen = chosen;
        master.awaiting = chosen;
        master.validating = false;
        master.last_tid = 0;
        master.stayed = false;
        master.reached = [0; STORAGES];
        let reign = master.reign;
        for storage in chosen.members() {
            let message = Message::StartReign { table, reign };
            self.network.master_to_storage(number, storage, message);
        }
    }
}
