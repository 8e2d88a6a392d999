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
        two_crashes: "crashes=2",
        one_crash_and_one_break: "breaks=1",
        crashes_while_a_cell_catches_up: "crashes=2 catching-up=1 latecomers=1 deferred-unlock=1",
        two_masters: "masters=2 crashes=0 breaks=2",
    }
    broken {
        durable_table: "1/7",
            "crashes=2 crash=storages,masters catching-up=1 without=durable-table",
        durable_vote: "1/7", "crashes=2 crash=storages,masters without=durable-vote",
        wait_for_pending: "1/7", "crash=storages,masters without=wait-for-pending",
        source_waits: "1/7", "crash=storages,masters without=source-waits",
        fence: "4:", "crashes=0 breaks=1 without=fence",
        reign_in_name: "4:",
            "clients=2 same-object=0 crash=masters check-stuck=0 without=reign-in-name",
        floor_and_strict_start: "1/7", "crashes=3 crash=storages without=floor,strict-start",
        strict_start: "1/7", "crashes=2 crash=storages catching-up=1 without=strict-start",
        promotion_in_two_steps: "1/7",
            "crashes=2 crash=storages,masters catching-up=1 without=promotion-in-two-steps",
        stores_of_own_reign: "8:", "without=stores-of-own-reign",
        verification_goes_back: "1/7",
            "crashes=3 crash=storages,masters without=verification-goes-back",
        tables_by_reign: "1/7",
            "masters=2 crashes=2 breaks=3 crash=storages,masters prefix=two-primaries \
             without=tables-by-reign",
    }
    long {
        "crashes=3 crash=storages,masters catching-up=1" => Expected::Clean,
        "masters=2 crashes=0 breaks=3" => Expected::Clean,
        "masters=2 crashes=0 breaks=3 catching-up=1 states=14000000" => Expected::Clean,
        "masters=2 crashes=1 breaks=2 crash=storages,masters states=14000000" => Expected::Clean,
        "masters=2 crashes=2 breaks=3 crash=storages,masters prefix=two-primaries states=9000000"
            => Expected::Clean,
        "crashes=3 crash=storages,masters deferred-unlock=1 states=9000000" => Expected::Clean,
        "crashes=2 breaks=1 states=9000000" => Expected::Clean,
        "clients=2 crash=storages states=9000000" => Expected::Clean,
        "clients=2 crashes=0 breaks=1 states=9000000" => Expected::Clean,
        // The floor alone is not missed: with the strict start, whatever was relied on is durable
        // on a cell that a start waits for.
        "crashes=3 crash=storages without=floor" => Expected::Clean,
        "masters=2 crashes=0 breaks=3 catching-up=1 without=later-reign-deposes"
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
