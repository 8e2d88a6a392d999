//! The configurations that are checked, and what is expected of each.

/// One configuration.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) words: &'static str,
    pub(crate) expected: Expected,
    /// Too long for the tests.
    pub(crate) long: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Expected {
    Clean,
    /// The promise that is broken, by the start of its name.
    Broken(&'static str),
}

/// Makes the list, and a test of each case that is not long.
macro_rules! cases {
    (
        clean { $($clean:ident: $clean_words:literal,)* }
        broken { $($broken:ident: $promise:literal, $broken_words:literal,)* }
        long { $($long_words:literal => $expected:expr,)* }
    ) => {
        pub(crate) const CASES: &[Case] = &[
            $(Case { words: $clean_words, expected: Expected::Clean, long: false },)*
            $(Case { words: $broken_words, expected: Expected::Broken($promise), long: false },)*
            $(Case { words: $long_words, expected: $expected, long: true },)*
        ];

        #[cfg(test)]
        mod keeps_promises {
            $(#[test]
            fn $clean() {
                super::tests::check($clean_words);
            })*
        }

        #[cfg(test)]
        mod needs {
            $(#[test]
            fn $broken() {
                super::tests::check($broken_words);
            })*
        }
    };
}

cases! {
    clean {
        without_faults: "clients=2 crashes=0",
        two_crashes: "crashes=2 crash=storages,masters",
        a_crash_and_a_break: "breaks=1 crash=storages",
        a_cell_that_catches_up: "catching-up=all latecomers=1 deferred-unlock=1",
        unchecked_stores: "clients=2 crashes=0 breaks=1 catching-up=all prefix=one-commit",
        two_masters: "masters=2 crashes=0 breaks=2",
        metadata_apart: "partitions=2 replicated=0 objects-everywhere=0 crashes=2",
        partitions_apart: "partitions=2 replicated=0 crashes=2 deferred-unlock=1",
        partitions_that_catch_up: "partitions=2 crash=storages catching-up=all",
        a_forced_start: "masters=2 crashes=0 breaks=2 forced=1",
        an_older_copy: "copies=1 crash=storages",
        votes_that_come_late: "crashes=0 hasty=1",
    }
    broken {
        durable_table: "1/7",
            "crashes=2 crash=storages,masters catching-up=all without=durable-table",
        durable_vote: "1/7", "crashes=2 crash=storages,masters without=durable-vote,older-copies-are-outdated",
        durable_tid: "1/7", "crashes=2 crash=storages,masters without=durable-tid",
        wait_for_pending: "1/7", "crash=storages without=wait-for-pending",
        source_waits: "1/7", "crash=storages without=source-waits",
        registered_are_bound: "1/7", "crash=storages without=registered-are-bound",
        late_votes_are_forgotten: "8:",
            "catching-up=all latecomers=1 without=late-votes-are-forgotten",
        unchecked_are_compared: "3:",
            "clients=2 crashes=0 breaks=1 catching-up=all prefix=one-commit \
             without=unchecked-are-compared",
        promotion_in_two_steps: "1/7",
            "crashes=2 crash=storages,masters catching-up=all without=promotion-in-two-steps",
        fence: "4:", "crashes=0 breaks=1 without=fence",
        votes_are_told: "9:", "crashes=0 hasty=1 without=votes-are-told",
        reign_in_name: "4:",
            "clients=2 same-object=0 crash=masters check-stuck=0 without=reign-in-name",
        stores_of_own_reign: "8:",
            "crash=masters without=stores-of-own-reign,late-votes-are-forgotten",
        floor_and_strict_start: "1/7", "crashes=3 crash=storages without=floor,strict-start",
        strict_start: "1/7", "crashes=2 crash=storages catching-up=all without=strict-start",
        tables_by_reign: "1/7",
            "masters=2 crashes=2 breaks=3 crash=storages,masters prefix=two-primaries \
             without=tables-by-reign",
        epochs_are_opened: "1/7", "crashes=2 forced=1 without=epochs-are-opened",
        own_ways_are_refused: "6:", "crashes=2 forced=1 without=own-ways-are-refused",
        older_copies_are_outdated: "1/7",
            "copies=1 crashes=2 crash=storages,masters without=older-copies-are-outdated",
    }
    long {
        "crashes=3 crash=storages,masters catching-up=all states=20000000" => Expected::Clean,
        "masters=2 crashes=0 breaks=3" => Expected::Clean,
        "masters=2 crashes=0 breaks=3 catching-up=all states=14000000" => Expected::Clean,
        "masters=2 crashes=1 breaks=2 crash=storages,masters states=14000000" => Expected::Clean,
        "masters=2 crashes=2 breaks=3 crash=storages,masters prefix=two-primaries states=9000000"
            => Expected::Clean,
        "crashes=3 crash=storages,masters deferred-unlock=1 states=9000000" => Expected::Clean,
        "crashes=2 breaks=1 states=9000000" => Expected::Clean,
        "crashes=2 catching-up=all latecomers=1 deferred-unlock=1" => Expected::Clean,
        "clients=2 same-object=0 crash=masters" => Expected::Clean,
        "clients=2 crash=storages states=9000000" => Expected::Clean,
        "clients=2 crashes=0 breaks=1 states=9000000" => Expected::Clean,
        "clients=2 crashes=0 catching-up=all" => Expected::Clean,
        "partitions=2 crashes=2 crash=storages,masters states=9000000" => Expected::Clean,
        "partitions=2 catching-up=all" => Expected::Clean,
        "partitions=2 replicated=0 clients=2 states=9000000" => Expected::Clean,
        "crashes=2 forced=1" => Expected::Clean,
        "crashes=1 breaks=1 forced=1" => Expected::Clean,
        "masters=2 crashes=0 breaks=3 forced=1 states=14000000" => Expected::Clean,
        "copies=1 crashes=2 crash=storages,masters" => Expected::Clean,
        // The floor alone is not missed: with the strict start, whatever was relied on is durable
        // on a cell that a start waits for.
        "crashes=3 crash=storages without=floor" => Expected::Clean,
        // Nor is this one: the vote of an earlier reign is one that comes too late.
        "crashes=2 without=stores-of-own-reign" => Expected::Clean,
        "crash=masters without=late-votes-are-forgotten" => Expected::Clean,
        // Nor is the check by the client: a cell that the master counts on has compared.
        "clients=2 crashes=0 breaks=1 catching-up=all prefix=one-commit without=one-cell-checks"
            => Expected::Clean,
        "partitions=2 crashes=2 crash=storages catching-up=last without=tids-of-readable-cells"
            => Expected::Broken("1/7"),
        "crashes=3 crash=storages,masters without=verification-goes-back"
            => Expected::Broken("1/7"),
        "masters=2 crashes=0 breaks=3 catching-up=all without=later-reign-deposes"
            => Expected::Broken("4:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::explore;

    pub(super) fn check(words: &str) {
        let case = CASES
            .iter()
            .find(|case| case.words == words)
            .expect("it is in the list");
        let report = explore(&case.options());
        assert!(
            case.is_as_expected(&report.outcome),
            "{words}: {:#?}",
            report.outcome
        );
    }
}
