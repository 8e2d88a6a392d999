//! RECOVERING: the newest table is looked for, and all of its readable cells.

use crate::message::Message;
use crate::options::{Options, Rule};
use crate::set::Set;
use crate::state::{Role, STORAGES, State};
use crate::table::Table;

impl State {
    pub(super) fn storage_answers_recovery(
        &mut self,
        number: usize,
        storage: usize,
        table: Table,
        reign: u8,
        options: &Options,
    ) {
        let master = &mut self.masters[number];
        master.reign = master.reign.max(reign);
        master.answered[storage] = true;
        if options.has(Rule::TablesByReign) {
            master.ptid_max = master.ptid_max.max(table.ptid);
        }
        if master
            .table
            .is_none_or(|own| table.is_newer_than(&own, options))
        {
            master.table = Some(table);
            master.ptid_max = master.ptid_max.max(table.ptid);
        }
    }

    /// A storage that comes to a running cluster serves at once; its cell catches up.
    pub(super) fn storage_joins(&mut self, number: usize, storage: usize) {
        let master = &mut self.masters[number];
        let table = master.current_table();
        let reign = master.reign;
        master.starting.insert(storage);
        self.network
            .master_to_storage(number, storage, Message::StartOperation { table, reign });
    }

    /// A start needs every readable cell of the newest table: any of them may have committed
    /// without the others, if the table does not say otherwise.
    pub(crate) fn can_start(&self, number: usize, options: &Options) -> bool {
        let master = &self.masters[number];
        let Some(table) = master.table else {
            return false;
        };
        let readable = table.readable_cells();
        let answered = self.answered(number);
        let all = answered.includes(readable) && !readable.is_empty();
        let short_cut =
            !options.has(Rule::StrictStart) && master.stayed && !answered.and(readable).is_empty();
        all || short_cut
    }

    fn answered(&self, number: usize) -> Set {
        (0..STORAGES)
            .filter(|&s| self.masters[number].answered[s])
            .collect()
    }

    /// The new reign is one more than any seen; the table is verified in it.
    pub(crate) fn start_verification(&mut self, number: usize) {
        let chosen = self.answered(number);
        let master = &mut self.masters[number];
        let before = master.current_table();
        let mut table = before;
        for storage in 0..STORAGES {
            table.readable[storage] &= chosen.has(storage);
        }
        master.reign += 1;
        table.reign = master.reign;
        master.ptid_max = master.ptid_max.max(table.ptid);
        if table.readable == before.readable {
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
        let reign = master.reign;
        for storage in chosen.members() {
            let message = Message::StartReign { table, reign };
            self.network.master_to_storage(number, storage, message);
        }
    }
}
