//! Rules that can be broken, to see that the checks see it.

use super::settings::RunSettings;

/// A rule that keeps data safe, and how to break it.
#[derive(Debug, Clone, Copy)]
pub struct Mutation {
    /// Its name.
    pub name: &'static str,
    /// Breaks it.
    pub tune: fn(&mut RunSettings),
}

/// Every rule that can be broken here.
pub const MUTATIONS: [Mutation; 5] = [
    Mutation {
        name: "durability",
        tune: |run| {
            run.world.tune_storage = |storage| {
                storage.mutations.vote_not_durable = true;
                storage.mutations.lock_not_durable = true;
            }
        },
    },
    Mutation {
        name: "read-lock",
        tune: |run| run.world.tune_storage = |storage| storage.mutations.no_read_lock = true,
    },
    Mutation {
        name: "conflicts",
        tune: |run| run.world.tune_storage = |storage| storage.mutations.no_conflicts = true,
    },
    Mutation {
        name: "replication",
        tune: |run| run.world.tune_storage = |storage| storage.mutations.no_pending_wait = true,
    },
    Mutation {
        name: "invalidation",
        tune: |run| run.world.tune_client = |client| client.mutations.no_invalidation = true,
    },
];
