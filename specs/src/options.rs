//! What to explore: the size of the cluster, the faults, the rules that are dropped.

use crate::set::Set;
use crate::state::{EPOCHS, PARTITIONS, STORAGES, Tid};
use crate::table::Cell;

/// A rule of the protocol, which a mutation drops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    /// A storage makes a change of the table durable before it answers what came after it.
    DurableTable,
    /// A vote is durable when it is answered.
    DurableVote,
    /// A tid is durable, where the metadata is, when the lock is answered.
    DurableTid,
    /// A primary that falls back to RECOVERING keeps its table: none that is older is loaded.
    Floor,
    /// A start needs every readable cell of the newest table, also by a primary that was one before.
    StrictStart,
    /// A client's question for the final tid aborts what is only begun.
    Fence,
    /// A transaction is named by reign and ttid, not by its ttid alone.
    ReignInName,
    /// A cell that catches up waits for the transactions that were pending when it asked.
    WaitForPending,
    /// A source answers up to a tid when it has moved all that it locked up to there.
    SourceWaits,
    /// A cell becomes readable when the readable ones have stored the table that says so.
    PromotionInTwoSteps,
    /// A storage refuses stores and votes of another reign than its own.
    StoresOfOwnReign,
    /// Tables are ordered by (reign, ptid).
    TablesByReign,
    /// A readable node lost in VERIFYING is waited for, not outdated.
    VerificationGoesBack,
    /// In VERIFYING a tid counts if it comes from a readable cell of the metadata's partition.
    TidsOfReadableCells,
    /// A primary asked about a transaction of a later reign is deposed.
    LaterReignDeposes,
    /// A tid is given when every node that is to lock has told the master of its vote.
    VotesAreTold,
    /// A storage that tells of its vote when the transaction goes on, or has ended, without it is told
    /// to forget it.
    LateVotesAreForgotten,
    /// A cell that is registered takes part in every transaction that begins afterwards.
    RegisteredAreBound,
    /// Of each object, one cell at least has compared the serial.
    OneCellChecks,
    /// What was stored unchecked is compared when the cell has caught up.
    UncheckedAreCompared,
    /// A forced start opens an epoch, by which those who missed it are known.
    EpochsAreOpened,
    /// A forced start takes a reign that no side which goes on without it comes to.
    ForcedReignIsAlone,
    /// A storage that missed an epoch and went further than where it began is refused.
    OwnWaysAreRefused,
    /// In VERIFYING a readable cell that ends before another one becomes OUT_OF_DATE.
    OlderCopiesAreOutdated,
}

impl Rule {
    pub(crate) const ALL: &[(&str, Self)] = &[
        ("durable-table", Self::DurableTable),
        ("durable-vote", Self::DurableVote),
        ("durable-tid", Self::DurableTid),
        ("floor", Self::Floor),
        ("strict-start", Self::StrictStart),
        ("fence", Self::Fence),
        ("reign-in-name", Self::ReignInName),
        ("wait-for-pending", Self::WaitForPending),
        ("source-waits", Self::SourceWaits),
        ("promotion-in-two-steps", Self::PromotionInTwoSteps),
        ("stores-of-own-reign", Self::StoresOfOwnReign),
        ("tables-by-reign", Self::TablesByReign),
        ("verification-goes-back", Self::VerificationGoesBack),
        ("tids-of-readable-cells", Self::TidsOfReadableCells),
        ("later-reign-deposes", Self::LaterReignDeposes),
        ("votes-are-told", Self::VotesAreTold),
        ("late-votes-are-forgotten", Self::LateVotesAreForgotten),
        ("registered-are-bound", Self::RegisteredAreBound),
        ("one-cell-checks", Self::OneCellChecks),
        ("unchecked-are-compared", Self::UncheckedAreCompared),
        ("epochs-are-opened", Self::EpochsAreOpened),
        ("forced-reign-is-alone", Self::ForcedReignIsAlone),
        ("own-ways-are-refused", Self::OwnWaysAreRefused),
        ("older-copies-are-outdated", Self::OlderCopiesAreOutdated),
    ];
}

/// One configuration. On the command line: `masters=2 crashes=3 without=fence`.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) masters: usize,
    pub(crate) clients: usize,
    /// Both clients store the same object, or each its own.
    pub(crate) same_object: bool,
    pub(crate) crashes: u8,
    pub(crate) breaks: u8,
    pub(crate) storages_crash: bool,
    pub(crate) masters_crash: bool,
    pub(crate) clients_crash: bool,
    /// How often an operator may start the cluster by force.
    pub(crate) forced: u8,
    /// How often S1's disk is copied; the copy may be put back later.
    pub(crate) copies: u8,
    pub(crate) partitions: usize,
    /// Each partition on both storages, or each on its own.
    pub(crate) replicated: bool,
    /// Every transaction stores an object in each partition, or only in the first.
    pub(crate) objects_everywhere: bool,
    /// The tid before the first one: it decides where the first transaction's metadata is.
    pub(crate) first_tid: Tid,
    pub(crate) catching_up: CatchingUp,
    /// An unlock is not synced at once.
    pub(crate) deferred_unlock: bool,
    /// A client also writes to a storage that became ready after its transaction began.
    pub(crate) latecomers: bool,
    /// A client may ask to finish before all have voted.
    pub(crate) hasty: bool,
    /// Begin after this sequence of steps.
    pub(crate) prefix: Prefix,
    /// Whether states without a step left are checked for what is stuck.
    pub(crate) check_stuck: bool,
    /// A bit for each rule.
    dropped: u32,

    pub(crate) states_max: usize,
    pub(crate) seconds_max: u64,
    /// Random walks instead of all states.
    pub(crate) walks: u64,
}

/// Which cells of S1 are OUT_OF_DATE at the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CatchingUp {
    None,
    All,
    /// That of the last partition.
    Last,
}

/// Steps that an exploration starts after, so that it gets deeper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Prefix {
    None,
    /// The old primary keeps a table that nobody stored; another one takes both storages.
    TwoPrimaries,
    /// The second client has committed its transaction; nothing else was done.
    OneCommit,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            masters: 1,
            clients: 1,
            same_object: true,
            crashes: 1,
            breaks: 0,
            storages_crash: true,
            masters_crash: true,
            clients_crash: true,
            forced: 0,
            copies: 0,
            partitions: 1,
            replicated: true,
            objects_everywhere: true,
            first_tid: 0,
            catching_up: CatchingUp::None,
            deferred_unlock: false,
            latecomers: false,
            hasty: false,
            prefix: Prefix::None,
            check_stuck: true,
            dropped: 0,
            states_max: 60_000_000,
            seconds_max: 600,
            walks: 0,
        }
    }
}

impl Options {
    /// Whether the rule is kept.
    pub(crate) fn has(&self, rule: Rule) -> bool {
        self.dropped & (1 << rule as u32) == 0
    }

    /// The cells of the first table.
    pub(crate) fn cells(&self) -> [[Cell; STORAGES]; PARTITIONS] {
        let mut cells = [[Cell::Absent; STORAGES]; PARTITIONS];
        for (partition, row) in cells.iter_mut().take(self.partitions).enumerate() {
            for (storage, cell) in row.iter_mut().enumerate() {
                if self.replicated || partition == storage {
                    let complete = storage == 0
                        || match self.catching_up {
                            CatchingUp::None => true,
                            CatchingUp::All => false,
                            CatchingUp::Last => partition + 1 < self.partitions,
                        };
                    *cell = if complete {
                        Cell::UpToDate
                    } else {
                        Cell::OutOfDate
                    };
                }
            }
        }
        cells
    }

    /// Where every transaction has an object.
    pub(crate) fn object_partitions(&self) -> Set {
        (0..if self.objects_everywhere {
            self.partitions
        } else {
            1
        })
            .collect()
    }

    /// Reads words such as `masters=2`; the rest is as `default`.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let mut options = Self::default();
        for &word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, "1"));
            options
                .set(name, value)
                .ok_or_else(|| format!("what is {word:?}? See --help"))?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "masters" => self.masters = one_or_two(value)?,
            "clients" => self.clients = one_or_two(value)?,
            "same-object" => self.same_object = flag(value)?,
            "crashes" => self.crashes = value.parse().ok()?,
            "breaks" => self.breaks = value.parse().ok()?,
            "crash" => {
                let kinds: Vec<&str> = value.split(',').collect();
                let known = ["storages", "masters", "clients"];
                if !kinds.iter().all(|kind| known.contains(kind)) {
                    return None;
                }
                self.storages_crash = kinds.contains(&"storages");
                self.masters_crash = kinds.contains(&"masters");
                self.clients_crash = kinds.contains(&"clients");
            }
            "forced" => {
                self.forced = value
                    .parse()
                    .ok()
                    .filter(|&n: &u8| usize::from(n) < EPOCHS)?
            }
            "copies" => self.copies = value.parse().ok()?,
            "partitions" => self.partitions = one_or_two(value)?,
            "replicated" => self.replicated = flag(value)?,
            "objects-everywhere" => self.objects_everywhere = flag(value)?,
            "first-tid" => self.first_tid = value.parse().ok()?,
            "catching-up" => {
                self.catching_up = match value {
                    "all" => CatchingUp::All,
                    "last" => CatchingUp::Last,
                    _ => return None,
                }
            }
            "deferred-unlock" => self.deferred_unlock = flag(value)?,
            "latecomers" => self.latecomers = flag(value)?,
            "hasty" => self.hasty = flag(value)?,
            "prefix" => {
                self.prefix = match value {
                    "two-primaries" => Prefix::TwoPrimaries,
                    "one-commit" => Prefix::OneCommit,
                    _ => return None,
                }
            }
            "check-stuck" => self.check_stuck = flag(value)?,
            "without" => {
                for name in value.split(',') {
                    let (_, rule) = Rule::ALL.iter().find(|(known, _)| *known == name)?;
                    self.dropped |= 1 << *rule as u32;
                }
            }
            "states" => self.states_max = value.parse().ok()?,
            "seconds" => self.seconds_max = value.parse().ok()?,
            "walks" => self.walks = value.parse().ok()?,
            _ => return None,
        }
        Some(())
    }
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

fn one_or_two(value: &str) -> Option<usize> {
    value.parse().ok().filter(|number| (1..=2).contains(number))
}
