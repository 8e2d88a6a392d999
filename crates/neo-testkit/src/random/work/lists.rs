//! Lists that only grow, for the checker of histories.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use neo_api::{Oid, Tid};
use neo_client::Error;

use crate::history::{Element, History, Isolation, Outcome, Transaction};
use crate::seed::Rng;
use crate::sim::{Facts, SimClient};

pub(super) const LISTS: u32 = 5;
/// A list of so many elements is left alone, and another one begun.
const ELEMENTS_MAX: usize = 60;

/// Lists with the history of what was done to them.
#[derive(Debug)]
pub(in crate::random) struct Lists {
    /// Those that grow.
    lists: Vec<Oid>,
    /// All that there were.
    all: BTreeSet<Oid>,
    last_element: Element,
    transactions: Vec<Transaction>,
}

impl Lists {
    pub(super) fn new(lists: Vec<Oid>) -> Self {
        Self {
            all: lists.iter().copied().collect(),
            lists,
            last_element: 0,
            transactions: Vec::new(),
        }
    }

    fn begin(&mut self, session: u64, isolation: Isolation) -> usize {
        self.transactions.push(Transaction {
            session,
            isolation,
            reads: Vec::new(),
            appends: Vec::new(),
            outcome: Outcome::Aborted,
        });
        self.transactions.len() - 1
    }

    fn element(&mut self) -> Element {
        self.last_element += 1;
        self.last_element
    }

    fn pick(&self, rng: &mut Rng, count: u64) -> Vec<Oid> {
        let mut picked = BTreeSet::new();
        for _ in 0..count {
            picked.insert(self.lists[rng.below(self.lists.len() as u64) as usize]);
        }
        let mut picked: Vec<Oid> = picked.into_iter().collect();
        // Locked in different orders.
        let by = rng.below(picked.len() as u64) as usize;
        picked.rotate_left(by);
        picked
    }

    /// What is wrong in the end.
    pub(super) fn check(&self, facts: &Facts) -> Vec<String> {
        let mut lists = BTreeMap::new();
        for oid in &self.all {
            let list = facts.newest(*oid).map_or_else(Vec::new, decode);
            lists.insert(oid.0, list);
        }
        let history = History {
            transactions: self.transactions.clone(),
            lists,
        };
        let anomalies = history.anomalies();
        anomalies.iter().map(|it| format!("lists: {it}")).collect()
    }
}

/// What a transaction does with what it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Nothing more: there is no transaction.
    Reads,
    /// It changes some, and trusts the rest.
    Trusts,
    /// It changes some, and checks the rest.
    Checks,
}

/// A transaction over some lists.
pub(super) async fn round(
    client: &SimClient,
    lists: &RefCell<Lists>,
    session: u64,
    rng: &mut Rng,
) -> Result<(), Error> {
    let manner = match rng.below(10) {
        0..=2 => Manner::Reads,
        3..=5 => Manner::Trusts,
        _ => Manner::Checks,
    };
    let isolation = match manner {
        Manner::Checks => Isolation::Serialisable,
        Manner::Reads | Manner::Trusts => Isolation::Snapshot,
    };
    let count = rng.between(1, 4);
    let picked = lists.borrow().pick(rng, count);
    let changes = if rng.below(10) == 0 {
        0
    } else {
        rng.between(1, 2) as usize
    };
    if manner == Manner::Reads {
        let (index, _) = read(client, lists, (session, isolation), &picked).await?;
        lists.borrow_mut().transactions[index].outcome = Outcome::Committed;
        return Ok(());
    }
    let mut txn = client.begin().await?;
    let (index, found) = read(client, lists, (session, isolation), &picked).await?;
    for (at, (oid, (serial, list))) in picked.iter().zip(found).enumerate() {
        if at < changes {
            let element = lists.borrow_mut().element();
            let change = append(&list, element);
            let appended = (oid.0, element);
            lists.borrow_mut().transactions[index]
                .appends
                .push(appended);
            txn.store(*oid, serial, change).await?;
        } else if serial == Tid::ZERO {
            // What does not exist can't be checked.
            lists.borrow_mut().transactions[index].isolation = Isolation::Snapshot;
        } else if manner == Manner::Checks {
            txn.check(*oid, serial).await?;
        }
    }
    txn.vote().await?;
    lists.borrow_mut().transactions[index].outcome = Outcome::Unknown;
    let finished = txn.finish().await;
    lists.borrow_mut().transactions[index].outcome = match &finished {
        Ok(_) => Outcome::Committed,
        Err(Error::Unknown { .. } | Error::Closed) => Outcome::Unknown,
        Err(_) => Outcome::Aborted,
    };
    finished?;
    retire(client, lists, &picked).await
}

/// Reads lists as of one moment; where it is remembered, and each with its serial.
async fn read(
    client: &SimClient,
    lists: &RefCell<Lists>,
    (session, isolation): (u64, Isolation),
    picked: &[Oid],
) -> Result<(usize, Vec<(Tid, Bytes)>), Error> {
    let before = Tid(client.last_tid().0 + 1);
    let index = lists.borrow_mut().begin(session, isolation);
    let mut found = Vec::new();
    for oid in picked {
        let list = client.load_before(*oid, before).await?.unwrap_or_default();
        let read = (oid.0, decode(&list.1));
        lists.borrow_mut().transactions[index].reads.push(read);
        found.push(list);
    }
    Ok((index, found))
}

/// Begins another list in place of each that is long.
async fn retire(client: &SimClient, lists: &RefCell<Lists>, picked: &[Oid]) -> Result<(), Error> {
    for oid in picked {
        let is_long = {
            let lists = lists.borrow();
            let mut reads = lists.transactions.iter().rev().flat_map(|txn| &txn.reads);
            let last = reads.find(|(key, _)| *key == oid.0);
            last.is_some_and(|(_, list)| list.len() >= ELEMENTS_MAX)
        };
        if !is_long {
            continue;
        }
        let new = client.new_oids(1).await?;
        let mut lists = lists.borrow_mut();
        let at = lists.lists.iter().position(|list| list == oid);
        if let (Some(at), Some(new)) = (at, new.first()) {
            lists.lists[at] = *new;
            lists.all.insert(*new);
        }
    }
    Ok(())
}

fn append(list: &Bytes, element: Element) -> Bytes {
    let mut longer = BytesMut::from(&list[..]);
    longer.extend_from_slice(&element.to_be_bytes());
    longer.freeze()
}

fn decode(list: &Bytes) -> Vec<Element> {
    let (elements, _) = list.as_chunks::<4>();
    elements.iter().copied().map(u32::from_be_bytes).collect()
}
