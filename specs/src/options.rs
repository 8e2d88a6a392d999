//! What to explore: the size of the cluster, the faults, the rules that are dropped.

/// A rule of the protocol, which a mutation drops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    /// A storage makes a change of the table durable before it answers what came after it.
    DurableTable,
    /// A vote is durable when it is answered.
    DurableVote,
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
    /// A primary asked about a transaction of a later reign is deposed.
    LaterReignDeposes,
}

impl Rule {
    pub(crate) const ALL: &[(&str, Self)] = &[
        ("durable-table", Self::DurableTable),
        ("durable-vote", Self::DurableVote),
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
        ("later-reign-deposes", Self::LaterReignDeposes),
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
    /// S1 is OUT_OF_DATE at the start.
    pub(crate) catching_up: bool,
    /// An unlock is not synced at once.
    pub(crate) deferred_unlock: bool,
    /// A client also writes to a storage that became ready after its transaction began.
    pub(crate) latecomers: bool,
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

/// Steps that an exploration starts after, so that it gets deeper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Prefix {
    None,
    /// The old primary keeps a table that nobody stored; another one takes both storages.
    TwoPrimaries,
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
            catching_up: false,
            deferred_unlock: false,
            latecomers: false,
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
            "catching-up" => self.catching_up = flag(value)?,
            "deferred-unlock" => self.deferred_unlock = flag(value)?,
            "latecomers" => self.latecomers = flag(value)?,
            "prefix" => {
                self.prefix = match value {
                    "two-primaries" => Prefix::TwoPrimaries,
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
