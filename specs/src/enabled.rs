//! Which steps can be taken in a state.

use crate::message::Message;
use crate::network::End;
use crate::options::{Options, Rule};
use crate::state::{Client, Replication, Role, STORAGES, State, WriteLock};
use crate::step::Step;

impl State {
    pub(crate) fn enabled(&self, options: &Options, steps: &mut Vec<Step>) {
        for master in 0..options.masters {
            for storage in 0..STORAGES {
                self.between_storage_and_master(master, storage, steps);
            }
            for client in 0..options.clients {
                self.between_client_and_master(master, client, options, steps);
            }
            self.of_master(master, options, steps);
        }
        for client in 0..options.clients {
            for storage in 0..STORAGES {
                self.between_client_and_storage(client, storage, options, steps);
            }
            self.of_client(client, options, steps);
        }
        for storage in 0..STORAGES {
            self.of_storage(storage, options, steps);
        }
    }

    fn between_storage_and_master(&self, master: usize, storage: usize, steps: &mut Vec<Step>) {
        let connection = &self.network.storage_master[master][storage];
        let role = self.masters[master].role;
        if let Some(message) = connection.first(End::Accepting)
            && (!matches!(message, Message::Recovery { .. })
                || matches!(role, Role::Recovering | Role::Running))
        {
            steps.push(Step::MasterReceivesFromStorage {
                master,
                storage,
                message,
            });
        }
        if let Some(message) = connection.first(End::Connecting) {
            steps.push(Step::StorageReceivesFromMaster {
                master,
                storage,
                message,
            });
        }
        if connection.is_lost(End::Accepting) {
            steps.push(Step::MasterLosesStorage { master, storage });
        }
        if connection.is_lost(End::Connecting) {
            steps.push(Step::StorageLosesMaster { master, storage });
        }
        if connection.is_whole() && self.budget.breaks > 0 {
            steps.push(Step::BreakSeenByStorage { master, storage });
            steps.push(Step::BreakSeenByMaster { master, storage });
        }
        if self.storages[storage].up
            && !self.storages[storage].refused
            && self.network.master_of_storage(storage).is_none()
            && connection.is_closed()
            && matches!(role, Role::Recovering | Role::Verifying | Role::Running)
        {
            steps.push(Step::StorageConnects { master, storage });
        }
    }

    fn between_client_and_master(
        &self,
        master: usize,
        client: usize,
        options: &Options,
        steps: &mut Vec<Step>,
    ) {
        let connection = &self.network.client_master[master][client];
        if let Some(message) = connection.first(End::Accepting)
            && (message != Message::BeginTransaction || self.masters[master].starting.is_empty())
        {
            steps.push(Step::MasterReceivesFromClient {
                master,
                client,
                message,
            });
        }
        if connection.is_lost(End::Accepting) {
            steps.push(Step::MasterLosesClient { master, client });
        }
        let old = &self.network.client_master_old[master][client];
        if let Some(message) = old.first(End::Accepting) {
            steps.push(Step::MasterReceivesOnOldConnection {
                master,
                client,
                message,
            });
        }
        if old.is_open(End::Accepting) {
            steps.push(Step::MasterLosesOldConnection { master, client });
        }
        match connection.first(End::Connecting) {
            Some(Message::TransactionBegun { storages }) => {
                self.ways_to_begin(master, client, storages, options, steps);
            }
            Some(message) => {
                steps.push(Step::ClientReceivesFromMaster {
                    master,
                    client,
                    message,
                });
            }
            None => {}
        }
        if connection.is_lost(End::Connecting) {
            steps.push(Step::ClientLosesMaster { master, client });
        }
        if connection.is_whole() && self.budget.breaks > 0 {
            steps.push(Step::BreakMasterSeenByClient { master, client });
        }
        if matches!(self.clients[client], Client::Idle | Client::InDoubt)
            && self.network.master_of_client(client).is_none()
            && self.admits_client(master, client)
            && !(connection.is_open(End::Accepting) && old.is_open(End::Accepting))
        {
            steps.push(Step::ClientConnects { master, client });
        }
    }

    // A client that has been on a side which was started later, by force, is not let in.
    fn admits_client(&self, master: usize, client: usize) -> bool {
        let node = &self.masters[master];
        node.role == Role::Running
            && self
                .truth
                .is_in_chain(self.client_epochs[client], node.current_table().epoch)
    }

    // A client has seen the object before the other transaction, or after it.
    fn ways_to_begin(
        &self,
        master: usize,
        client: usize,
        storages: crate::set::Set,
        options: &Options,
        steps: &mut Vec<Step>,
    ) {
        let other = self.truth.tids(1 - client).next().unwrap_or(0);
        let seen = (options.same_object && other != 0).then_some(other);
        let node = &self.masters[master];
        let all = storages.or(node.ready);
        let more =
            (options.latecomers && node.role == Role::Running && all != storages).then_some(all);
        for base in [Some(0), seen].into_iter().flatten() {
            for storages in [Some(storages), more].into_iter().flatten() {
                steps.push(Step::ClientBegins {
                    master,
                    client,
                    storages,
                    base,
                });
            }
        }
    }

    fn between_client_and_storage(
        &self,
        client: usize,
        storage: usize,
        options: &Options,
        steps: &mut Vec<Step>,
    ) {
        let connection = &self.network.client_storage[client][storage];
        if let Some(message) = connection.first(End::Accepting) {
            steps.push(Step::StorageReceivesFromClient {
                storage,
                client,
                message,
            });
        }
        if let Some(message) = connection.first(End::Connecting) {
            steps.push(Step::ClientReceivesFromStorage {
                storage,
                client,
                message,
            });
        }
        if connection.is_lost(End::Accepting) {
            steps.push(Step::StorageLosesClient { storage, client });
        }
        if connection.is_lost(End::Connecting) {
            steps.push(Step::ClientLosesStorage { storage, client });
        }
        let at_work = matches!(
            self.clients[client],
            Client::Storing { .. } | Client::Voting { .. } | Client::AskingStorage(_)
        );
        if connection.is_whole() && self.budget.breaks > 0 && at_work {
            steps.push(Step::BreakStorageSeenByClient { storage, client });
            steps.push(Step::BreakClientSeenByStorage { storage, client });
        }
        let node = &self.storages[storage];
        if let Client::Choosing(readable) = self.clients[client]
            && readable.has(storage)
        {
            if !node.up || !node.operational {
                steps.push(Step::ClientStartsOver { client });
            } else if connection.is_closed() {
                steps.push(Step::ClientAsksStorage { storage, client });
            } else if connection.is_open(End::Connecting) {
                steps.push(Step::ClientLeavesStorage { storage, client });
            }
        }
        if let WriteLock::Waiting { base } = node.locks[client]
            && node.operational
        {
            if !self.is_locked_by_another(storage, client, options) {
                steps.push(Step::StorageRetriesStore {
                    storage,
                    client,
                    base,
                });
            } else if matches!(self.clients[client], Client::Storing { .. }) {
                steps.push(Step::ClientGivesUpStore { storage, client });
            }
        }
    }

    fn of_client(&self, client: usize, options: &Options, steps: &mut Vec<Step>) {
        let state = self.clients[client];
        if matches!(state, Client::Choosing(readable) if readable.is_empty()) {
            steps.push(Step::ClientStartsOver { client });
        }
        if options.hasty && matches!(state, Client::Voting { .. }) {
            steps.push(Step::ClientFinishesEarly { client });
        }
        let over = matches!(
            state,
            Client::Dead | Client::ToldCommitted(_) | Client::ToldAborted | Client::Idle
        );
        if self.budget.crashes > 0 && options.clients_crash && !over {
            steps.push(Step::CrashClient { client });
        }
    }

    fn of_storage(&self, storage: usize, options: &Options, steps: &mut Vec<Step>) {
        let node = &self.storages[storage];
        for partition in 0..options.partitions {
            if let Replication::Running {
                up_to,
                fetched: false,
                ..
            } = node.replication[partition]
            {
                let others = (0..STORAGES).filter(|&other| other != storage);
                let sources = others
                    .filter(|&other| self.can_replicate_from(other, partition, up_to, options));
                let replicate = |source| Step::StorageReplicates {
                    storage,
                    partition,
                    source,
                };
                steps.extend(sources.map(replicate));
            }
            if self.has_replicated_all(storage, partition, options) {
                steps.push(Step::StorageHasReplicated { storage, partition });
            }
        }
        if !options.has(Rule::DurableTable) && node.up && node.durable_table != node.table {
            steps.push(Step::StorageSyncsTable { storage });
        }
        if node.up && storage == 1 && self.budget.copies > 0 {
            steps.push(Step::OperatorCopiesDisk { storage });
        }
        if self.can_put_back(storage) {
            steps.push(Step::OperatorPutsDiskBack { storage });
        }
        if !node.up {
            steps.push(Step::StorageRestarts { storage });
        } else if self.budget.crashes > 0 && options.storages_crash {
            steps.push(Step::CrashStorage { storage });
        }
    }

    fn of_master(&self, master: usize, options: &Options, steps: &mut Vec<Step>) {
        let other = self.masters[1 - master].role;
        let role = self.masters[master].role;
        match role {
            Role::Down => steps.push(Step::MasterRestarts { master }),
            Role::Secondary if matches!(other, Role::Down | Role::Secondary) => {
                steps.push(Step::SecondaryTakesOver { master });
            }
            Role::Secondary if self.budget.breaks > 0 => {
                steps.push(Step::SecondaryRises { master });
            }
            Role::Recovering => {
                if self.can_start(master, options) {
                    steps.push(Step::StartVerification { master });
                }
                if self.budget.forced > 0 && self.can_be_forced(master, options) {
                    steps.push(Step::OperatorStarts { master });
                }
                let primary = matches!(other, Role::Recovering | Role::Verifying | Role::Running);
                if options.masters > 1 && primary {
                    steps.push(Step::MasterGivesWay { master });
                }
            }
            _ => {}
        }
        let can_crash = !matches!(role, Role::Down | Role::Secondary);
        if self.budget.crashes > 0 && options.masters_crash && can_crash {
            steps.push(Step::CrashMaster { master });
        }
    }
}
