//! Taking a step: the state after it.

use crate::master::Which;
use crate::message::Message;
use crate::network::End;
use crate::options::Options;
use crate::set::Set;
use crate::state::{Client, Master, Role, Rows, State};
use crate::step::Step;

impl State {
    /// The state after an enabled step, checked.
    pub(crate) fn after(&self, step: Step, options: &Options) -> Self {
        let mut next = self.clone();
        next.receive(step, options);
        next.check(options);
        next
    }

    fn receive(&mut self, step: Step, options: &Options) {
        let network = &mut self.network;
        match step {
            Step::MasterReceivesFromStorage {
                master,
                storage,
                message,
            } => {
                network.storage_master[master][storage].take_first(End::Accepting);
                self.master_receives_from_storage(master, storage, message, options);
            }
            Step::StorageReceivesFromMaster {
                master,
                storage,
                message,
            } => {
                network.storage_master[master][storage].take_first(End::Connecting);
                self.storage_receives_from_master(storage, message, options);
            }
            Step::MasterReceivesFromClient {
                master,
                client,
                message,
            } => {
                network.client_master[master][client].take_first(End::Accepting);
                self.master_receives_from_client(master, client, message, Which::Present, options);
            }
            Step::MasterReceivesOnOldConnection {
                master,
                client,
                message,
            } => {
                network.client_master_old[master][client].take_first(End::Accepting);
                self.master_receives_from_client(master, client, message, Which::Old, options);
            }
            Step::ClientReceivesFromMaster {
                master,
                client,
                message,
            } => {
                network.client_master[master][client].take_first(End::Connecting);
                self.client_receives_from_master(client, message);
            }
            Step::ClientBegins {
                master,
                client,
                storages,
                base,
            } => {
                network.client_master[master][client].take_first(End::Connecting);
                self.client_stores(client, storages, base, options);
            }
            Step::StorageReceivesFromClient {
                storage,
                client,
                message,
            } => {
                network.client_storage[client][storage].take_first(End::Accepting);
                self.storage_receives_from_client(storage, client, message, options);
            }
            Step::ClientReceivesFromStorage {
                storage,
                client,
                message,
            } => {
                network.client_storage[client][storage].take_first(End::Connecting);
                self.client_receives_from_storage(client, storage, message, options);
            }
            _ => self.notice(step, options),
        }
    }

    fn notice(&mut self, step: Step, options: &Options) {
        match step {
            Step::MasterLosesStorage { master, storage } => {
                self.master_loses_storage(master, storage, options);
            }
            Step::StorageLosesMaster { storage, .. } => {
                self.storage_leaves_master(storage, options)
            }
            Step::MasterLosesClient { master, client } => {
                self.network.client_master[master][client].close(End::Accepting);
                self.master_aborts(master, client);
            }
            Step::MasterLosesOldConnection { master, client } => {
                self.network.client_master_old[master][client].close(End::Accepting);
                self.master_aborts(master, client);
            }
            Step::ClientLosesMaster { client, .. } => self.client_loses_master(client),
            Step::StorageLosesClient { storage, client } => {
                self.storage_loses_client(storage, client);
            }
            Step::ClientLosesStorage { storage, client } => {
                self.client_loses_storage(client, storage, options);
            }
            _ => self.act(step, options),
        }
    }

    fn act(&mut self, step: Step, options: &Options) {
        match step {
            Step::StorageConnects { master, storage } => self.storage_connects(master, storage),
            Step::ClientConnects { master, client } => self.client_connects(master, client),
            Step::ClientAsksStorage { storage, client } => {
                self.client_asks_storage(client, storage);
            }
            Step::ClientLeavesStorage { storage, client } => {
                self.network.client_storage[client][storage].close(End::Connecting);
            }
            Step::ClientFinishesEarly { client } => self.client_finishes(client, Set::EMPTY),
            Step::ClientStartsOver { client } => self.client_starts_over(client),
            Step::ClientGivesUpStore { client, .. } => self.client_aborts(client),
            Step::StorageRetriesStore {
                storage,
                client,
                base,
            } => {
                self.store(storage, client, base, options);
            }
            Step::StorageReplicates {
                storage,
                partition,
                source,
            } => {
                self.replicate(storage, partition, source);
            }
            Step::StorageHasReplicated { storage, partition } => {
                self.finish_replication(storage, partition, options);
            }
            Step::StorageSyncsTable { storage } => {
                self.storages[storage].durable_table = self.storages[storage].table;
            }
            Step::StartVerification { master } => self.start_verification(master),
            Step::MasterGivesWay { master } => {
                self.master_closes_all(master);
                self.masters[master] = Master {
                    role: Role::Secondary,
                    ..Master::default()
                };
            }
            Step::SecondaryTakesOver { master } | Step::MasterRestarts { master } => {
                self.master_recovers(master);
            }
            Step::StorageRestarts { storage } => self.storages[storage].up = true,
            _ => self.fault(step, options),
        }
    }

    fn fault(&mut self, step: Step, options: &Options) {
        match step {
            Step::CrashStorage { .. } | Step::CrashMaster { .. } | Step::CrashClient { .. } => {
                self.budget.crashes -= 1;
            }
            Step::OperatorStarts { .. } => self.budget.forced -= 1,
            Step::OperatorCopiesDisk { .. } => self.budget.copies -= 1,
            Step::OperatorPutsDiskBack { .. } => {}
            _ => self.budget.breaks -= 1,
        }
        match step {
            Step::CrashStorage { storage } => self.crash_storage(storage, options),
            Step::CrashMaster { master } => {
                self.master_closes_all(master);
                self.masters[master] = Master::default();
            }
            Step::CrashClient { client } => {
                self.client_leaves_master(client);
                self.client_leaves_storages(client);
                self.clients[client] = Client::Dead;
            }
            Step::BreakSeenByStorage { storage, .. } => {
                self.storage_leaves_master(storage, options)
            }
            Step::BreakSeenByMaster { master, storage } => {
                self.master_loses_storage(master, storage, options);
            }
            Step::BreakMasterSeenByClient { client, .. } => self.client_loses_master(client),
            Step::BreakStorageSeenByClient { storage, client } => {
                self.client_loses_storage(client, storage, options);
            }
            Step::BreakClientSeenByStorage { storage, client } => {
                self.storage_loses_client(storage, client);
            }
            Step::SecondaryRises { master } => self.master_recovers(master),
            Step::OperatorStarts { master } => self.force_start(master, options),
            Step::OperatorCopiesDisk { storage } => self.copy_disk(storage, options),
            Step::OperatorPutsDiskBack { storage } => self.put_disk_back(storage),

            _ => unreachable!("{step} is no fault"),
        }
    }

    fn storage_connects(&mut self, master: usize, storage: usize) {
        self.network.storage_master[master][storage].open_both();
        let node = &self.storages[storage];
        let reached = node.rows.iter().map(Rows::reached).max().unwrap_or(0);
        let table = node.durable_table;
        let message = Message::Recovery {
            table,
            reign: node.reign,
            reached,
        };
        self.network.storage_to_master(master, storage, message);
    }

    fn client_connects(&mut self, master: usize, client: usize) {
        let connection = &mut self.network.client_master[master][client];
        if connection.is_open(End::Accepting) {
            self.network.client_master_old[master][client] = connection.split_off(End::Accepting);
        }
        connection.open_both();
        let (state, message) = if self.clients[client] == Client::Idle {
            (Client::Beginning, Message::BeginTransaction)
        } else {
            (Client::AskingMaster, Message::AskFinalTid)
        };
        self.clients[client] = state;
        self.client_epochs[client] = self.masters[master].current_table().epoch;
        self.network.client_to_master(client, message);
    }

    fn master_recovers(&mut self, master: usize) {
        self.masters[master] = Master {
            role: Role::Recovering,
            ..Master::default()
        };
    }
}
