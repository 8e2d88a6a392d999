//! Circles of transactions that depend on each other.
//!
//! A transaction that took place at one moment is one node. One that changed what it did not check
//! is two: the moment of its reads, and that of its commit. All of a right history lies in the
//! order of these moments, so that a circle is an anomaly, whoever takes part in it; write skew
//! between transactions that do not check what they read is none.

use std::collections::{BTreeMap, VecDeque};

use super::versions::Versions;
use super::{Anomaly, History, Isolation, Key, Kind, Outcome};

/// Why one moment comes before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The next version of a list.
    Overwrote(Key),
    /// What was written was read.
    WasReadBy(Key),
    /// What was read was overwritten.
    DidNotSee(Key),
    /// The reads of a transaction come before its commit.
    Itself,
    /// One session, one transaction after the other.
    Session,
}

#[derive(Debug, Clone, Copy)]
struct Edge {
    to: usize,
    why: Why,
}

/// Moments: 2 i is that of the reads of transaction i, 2 i + 1 that of its commit, if it is another.
#[derive(Debug)]
struct Graph {
    edges: Vec<Vec<Edge>>,
}

/// Most circles that are told.
const CIRCLES_MAX: usize = 10;

pub(super) fn find(history: &History, versions: &Versions<'_>) -> Vec<Anomaly> {
    let graph = Graph::of(history, versions);
    let mut anomalies = Vec::new();
    for group in graph.groups().into_iter().take(CIRCLES_MAX) {
        if let Some((kind, circle)) = graph.circle(&group) {
            let what = graph.words(&circle);
            anomalies.push(Anomaly { kind, what });
        }
    }
    anomalies
}

impl Graph {
    fn of(history: &History, versions: &Versions<'_>) -> Self {
        let count = history.transactions.len();
        let mut graph = Self {
            edges: vec![Vec::new(); 2 * count],
        };
        let start = |txn: usize| 2 * txn;
        // Of a transaction that is not committed only the reads count.
        let commit = |txn: usize| {
            let seen = &history.transactions[txn];
            let is_split = seen.isolation == Isolation::Snapshot
                && !seen.appends.is_empty()
                && versions.committed[txn];
            2 * txn + usize::from(is_split)
        };
        for txn in 0..count {
            if commit(txn) != start(txn) {
                graph.add(start(txn), commit(txn), Why::Itself);
            }
        }
        for (key, list) in &versions.lists {
            let writer = |at: usize| versions.writers.get(&(*key, list[at])).copied();
            for at in 1..list.len() {
                if let (Some(a), Some(b)) = (writer(at - 1), writer(at))
                    && a != b
                {
                    // Who appends has seen what is before, or would have had a conflict.
                    graph.add(commit(a), start(b), Why::Overwrote(*key));
                }
            }
        }
        for (reader, txn) in history.transactions.iter().enumerate() {
            for (key, read) in &txn.reads {
                let list = versions.lists[key];
                let writer = |at: usize| {
                    let element = list.get(at)?;
                    versions.writers.get(&(*key, *element)).copied()
                };
                let last = read.len().checked_sub(1).and_then(writer);
                if let Some(last) = last.filter(|writer| *writer != reader) {
                    graph.add(commit(last), start(reader), Why::WasReadBy(*key));
                }
                if let Some(next) = writer(read.len()).filter(|writer| *writer != reader) {
                    graph.add(start(reader), commit(next), Why::DidNotSee(*key));
                }
            }
        }
        let mut sessions: BTreeMap<u64, usize> = BTreeMap::new();
        for (txn, seen) in history.transactions.iter().enumerate() {
            // What was unknown to its client may have been committed at any time after.
            let last = match seen.outcome {
                Outcome::Unknown => start(txn),
                Outcome::Committed | Outcome::Aborted => commit(txn),
            };
            if let Some(before) = sessions.insert(seen.session, last) {
                graph.add(before, start(txn), Why::Session);
            }
        }
        graph
    }

    fn add(&mut self, from: usize, to: usize, why: Why) {
        self.edges[from].push(Edge { to, why });
    }

    /// Groups of moments of which each is before each: Tarjan's strongly connected components.
    fn groups(&self) -> Vec<Vec<usize>> {
        const NEW: usize = usize::MAX;
        let count = self.edges.len();
        let (mut number, mut low) = (vec![NEW; count], vec![0; count]);
        let (mut is_open, mut open) = (vec![false; count], Vec::new());
        let mut groups = Vec::new();
        let mut last = 0;
        for root in 0..count {
            if number[root] != NEW {
                continue;
            }
            // A node with the edge that is next.
            let mut path = vec![(root, 0)];
            while let Some((node, next)) = path.pop() {
                if next == 0 {
                    number[node] = last;
                    low[node] = last;
                    last += 1;
                    open.push(node);
                    is_open[node] = true;
                }
                if let Some(edge) = self.edges[node].get(next) {
                    path.push((node, next + 1));
                    if number[edge.to] == NEW {
                        path.push((edge.to, 0));
                    } else if is_open[edge.to] {
                        low[node] = low[node].min(number[edge.to]);
                    }
                    continue;
                }
                if let Some((above, _)) = path.last() {
                    low[*above] = low[*above].min(low[node]);
                }
                if low[node] == number[node] {
                    let at = open.iter().rposition(|other| *other == node).unwrap_or(0);
                    let group = open.split_off(at);
                    for node in &group {
                        is_open[*node] = false;
                    }
                    if group.len() > 1 {
                        groups.push(group);
                    }
                }
            }
        }
        groups
    }

    /// The circle of a group that says most: of the simplest kind, and short.
    fn circle(&self, group: &[usize]) -> Option<(Kind, Vec<(usize, Why)>)> {
        let is_write = |why| matches!(why, Why::Overwrote(_) | Why::Itself);
        let is_known = |why| is_write(why) || matches!(why, Why::WasReadBy(_));
        let is_session = |why| is_known(why) || why == Why::Session;
        let is_missed = |why| matches!(why, Why::DidNotSee(_));
        type Test<'a> = &'a dyn Fn(Why) -> bool;
        let searches: [(Test<'_>, Test<'_>, Option<Kind>); 7] = [
            (
                &|why| matches!(why, Why::Overwrote(_)),
                &is_write,
                Some(Kind::WriteCycle),
            ),
            (
                &|why| matches!(why, Why::WasReadBy(_)),
                &is_known,
                Some(Kind::CircularInformation),
            ),
            (&is_missed, &is_known, None),
            (&is_missed, &|why| is_known(why) || is_missed(why), None),
            (
                &|why| why == Why::Session,
                &is_session,
                Some(Kind::CircularInformation),
            ),
            (&is_missed, &is_session, None),
            (&is_missed, &|_| true, None),
        ];
        for (first, rest, kind) in searches {
            let circles = group.iter().flat_map(|from| {
                let edges = self.edges[*from].iter().filter(|edge| first(edge.why));
                edges.filter_map(move |edge| {
                    let mut circle = vec![(*from, edge.why)];
                    circle.extend(self.path(edge.to, *from, rest)?);
                    Some(circle)
                })
            });
            if let Some(circle) = circles.min_by_key(Vec::len) {
                return Some((kind.unwrap_or_else(|| anti_dependency(&circle)), circle));
            }
        }
        None
    }

    /// The shortest way over edges that are allowed.
    fn path(
        &self,
        from: usize,
        to: usize,
        is_allowed: &dyn Fn(Why) -> bool,
    ) -> Option<Vec<(usize, Why)>> {
        let mut came: BTreeMap<usize, (usize, Why)> = BTreeMap::new();
        let mut next = VecDeque::from([from]);
        while let Some(node) = next.pop_front() {
            if node == to {
                let mut path = Vec::new();
                let mut at = to;
                while at != from {
                    let (before, why) = *came.get(&at)?;
                    path.push((before, why));
                    at = before;
                }
                path.reverse();
                return Some(path);
            }
            for edge in self.edges[node].iter().filter(|edge| is_allowed(edge.why)) {
                if edge.to != from && !came.contains_key(&edge.to) {
                    came.insert(edge.to, (node, edge.why));
                    next.push_back(edge.to);
                }
            }
        }
        None
    }

    fn words(&self, circle: &[(usize, Why)]) -> String {
        let mut words = String::new();
        for (node, why) in circle {
            let txn = node / 2;
            let why = match why {
                Why::Overwrote(key) => format!("overwritten in {key} by"),
                Why::WasReadBy(key) => format!("read in {key} by"),
                Why::DidNotSee(key) => format!("did not see in {key}"),
                Why::Itself => "commits as".to_owned(),
                Why::Session => "ended before".to_owned(),
            };
            words.push_str(&format!("T{txn} {why} "));
        }
        let first = circle.first().map_or(0, |(node, _)| node / 2);
        words + &format!("T{first}")
    }
}

/// Which anomaly a circle is in which somebody did not see what he should have.
fn anti_dependency(circle: &[(usize, Why)]) -> Kind {
    let whys: Vec<Why> = circle
        .iter()
        .map(|(_, why)| *why)
        .filter(|why| *why != Why::Itself)
        .collect();
    let missed = whys.iter().filter(|why| matches!(why, Why::DidNotSee(_)));
    match (missed.count(), whys.as_slice()) {
        (1, [Why::DidNotSee(missed), Why::Overwrote(key)]) if missed == key => Kind::LostUpdate,
        (1, [Why::DidNotSee(_), Why::WasReadBy(_)]) => Kind::FracturedRead,
        (1, _) => Kind::SingleAntiDependency,
        (
            2,
            [
                Why::DidNotSee(_),
                Why::WasReadBy(_),
                Why::DidNotSee(_),
                Why::WasReadBy(_),
            ],
        ) => Kind::LongFork,
        _ => Kind::AntiDependency,
    }
}
