//! Which nodes are to have which partitions: balanced, with as few new cells as there can be.
//!
//! Nodes get sizes that are equal but for one. Which of the present cells can stay then is a maximum
//! flow from partitions to nodes, with the sizes as capacities; where the data is (hosts, disks)
//! limits how many copies of a partition may flow into a place. What is missing then is dealt out
//! to the nodes that lack most, so each new cell is one that had to be made; in the rare case that
//! this gets stuck, the flow finds the way around.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::flow::Network;

/// Most pairs of a partition and a node that are considered at once.
const PAIRS_MAX: usize = 4_000_000;

/// What is known of a table and its nodes; nodes are numbers from 0.
#[derive(Debug)]
pub(super) struct Problem<'a> {
    /// Where each node is, coarsest first; empty when it is not known.
    pub(super) places: &'a [Vec<String>],
    /// Copies of each partition: at most as many as there are nodes.
    pub(super) copies: usize,
    /// The cells that there are, of each partition.
    pub(super) cells: Vec<Vec<Present>>,
}

/// A cell that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Present {
    pub(super) node: usize,
    /// It is to go, but is still readable.
    pub(super) is_feeding: bool,
}

/// Nodes of each partition.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) rows: Vec<BTreeSet<usize>>,
    /// Why copies are not in as many places as there are.
    pub(super) warnings: Vec<String>,
}

/// A place that limits how many copies of a partition it may have.
#[derive(Debug, Clone)]
struct Place {
    copies_max: u32,
}

/// Solves it.
pub(super) fn solve(problem: &Problem<'_>) -> Layout {
    let (places, of_node, mut warnings) = places(problem.places, problem.copies);
    if let Some(rows) = Solver::new(problem, &places, of_node).solve() {
        return Layout { rows, warnings };
    }
    warnings.push("where nodes are is not heeded: no balanced table can be made so".to_owned());
    let nowhere = vec![Vec::new(); problem.places.len()];
    let rows = Solver::new(problem, &[], nowhere).solve();
    let rows = rows.expect("without places every partition finds nodes: see `Solver::unblock`");
    Layout { rows, warnings }
}

/// Places with a limit, those of each node from coarse to fine, and what can't be helped.
fn places(paths: &[Vec<String>], copies: usize) -> (Vec<Place>, Vec<Vec<usize>>, Vec<String>) {
    let depth = paths.iter().map(Vec::len).max().unwrap_or(0);
    let mut places = Vec::new();
    let mut of_node = vec![Vec::new(); paths.len()];
    let mut warnings = Vec::new();
    for depth in 1..=depth {
        let mut groups: BTreeMap<&[String], Vec<usize>> = BTreeMap::new();
        let mut alone = 0;
        for (node, path) in paths.iter().enumerate() {
            match path.get(..depth) {
                Some(path) => groups.entry(path).or_default().push(node),
                None => alone += 1,
            }
        }
        let count = groups.len() + alone;
        for (path, nodes) in groups {
            let copies_max = (copies * nodes.len()).div_ceil(paths.len());
            if nodes.len() == 1 || copies_max >= copies.min(nodes.len()) && count == 1 {
                continue;
            }
            if copies_max > copies.div_ceil(count) {
                warnings.push(format!(
                    "{} has {} of {} storage nodes: some partitions have up to {copies_max} of \
                     {copies} copies there",
                    path.join("/"),
                    nodes.len(),
                    paths.len()
                ));
            }
            for node in nodes {
                of_node[node].push(places.len());
            }
            places.push(Place {
                copies_max: u32::try_from(copies_max).unwrap_or(u32::MAX),
            });
        }
    }
    (places, of_node, warnings)
}

/// The network, and what of it is used.
#[derive(Debug)]
struct Solver<'a> {
    problem: &'a Problem<'a>,
    places: &'a [Place],
    /// Places of each node, from coarse to fine.
    of_node: Vec<Vec<usize>>,
    network: Network,
    source: usize,
    sink: usize,
    /// From the source to each partition.
    partitions: Vec<(usize, usize)>,
    /// Each node, the edge to the sink for its size, and the edge for one more.
    nodes: Vec<(usize, usize, usize)>,
    /// For one more of any node.
    spare: usize,
    /// Places of partitions, with the edge into each.
    entries: BTreeMap<(usize, usize), (usize, usize)>,
    /// Pairs that are considered.
    pairs: BTreeMap<(usize, usize), usize>,
}

impl<'a> Solver<'a> {
    fn new(problem: &'a Problem<'a>, places: &'a [Place], of_node: Vec<Vec<usize>>) -> Self {
        let mut network = Network::default();
        let [source, sink, hub] = [(); 3].map(|()| network.add_vertex());
        let (np, n) = (problem.cells.len(), problem.places.len());
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mut partitions = vec![(0, 0); np];
        // Those come first that are considered first.
        for partition in scattered(np) {
            let vertex = network.add_vertex();
            let edge = network.add_edge(source, vertex, number(problem.copies));
            partitions[partition] = (vertex, edge);
        }
        let cells = np * problem.copies;
        let nodes = (0..n).map(|_| {
            let vertex = network.add_vertex();
            let size = network.add_edge(vertex, sink, number(cells / n));
            let more = network.add_edge(vertex, hub, 1);
            (vertex, size, more)
        });
        let nodes: Vec<_> = nodes.collect();
        let spare = network.add_edge(hub, sink, number(cells % n));
        Self {
            problem,
            places,
            of_node,
            network,
            source,
            sink,
            partitions,
            nodes,
            spare,
            entries: BTreeMap::new(),
            pairs: BTreeMap::new(),
        }
    }

    fn solve(mut self) -> Option<Vec<BTreeSet<usize>>> {
        let order = scattered(self.problem.cells.len());
        // Cells that stay anyway come first, then those that stay rather than to be made anew.
        for feeding in [false, true] {
            for &partition in &order {
                for cell in &self.problem.cells[partition] {
                    if cell.is_feeding == feeding {
                        self.consider(partition, cell.node);
                    }
                }
            }
            self.network.augment(self.source, self.sink);
        }
        let stuck = self.deal(&order);
        if !stuck.is_empty() {
            self.unblock(&stuck);
        }
        let full = self.partitions.iter();
        if { full }.any(|(_, edge)| self.network.left(*edge) > 0) {
            return None;
        }
        Some(self.rows())
    }

    /// Lets a node have a partition.
    fn consider(&mut self, partition: usize, node: usize) -> usize {
        if let Some(edge) = self.pairs.get(&(partition, node)) {
            return *edge;
        }
        let mut from = self.partitions[partition].0;
        for &place in &self.of_node[node] {
            let network = &mut self.network;
            let copies_max = self.places[place].copies_max;
            let (vertex, _) = *self.entries.entry((partition, place)).or_insert_with(|| {
                let vertex = network.add_vertex();
                (vertex, network.add_edge(from, vertex, copies_max))
            });
            from = vertex;
        }
        let edge = self.network.add_edge(from, self.nodes[node].0, 1);
        self.pairs.insert((partition, node), edge);
        edge
    }

    fn rows(&self) -> Vec<BTreeSet<usize>> {
        let mut rows = vec![BTreeSet::new(); self.partitions.len()];
        for ((partition, node), edge) in &self.pairs {
            if self.network.flow(*edge) > 0 {
                rows[*partition].insert(*node);
            }
        }
        rows
    }

    /// Deals out what is missing to the nodes that lack most, in turn. Partitions that could not be
    /// completed.
    fn deal(&mut self, order: &[usize]) -> Vec<usize> {
        let rows = self.rows();
        let lack = |solver: &Self, node: usize| solver.network.left(solver.nodes[node].1);
        let mut turn = 0usize;
        let mut waiting: BTreeSet<(Reverse<u32>, usize, usize)> = (0..self.nodes.len())
            .filter(|node| lack(self, *node) > 0 || self.network.left(self.nodes[*node].2) > 0)
            .map(|node| (Reverse(lack(self, node)), 0, node))
            .collect();
        let mut stuck = Vec::new();
        for &partition in order {
            let mut row = rows[partition].clone();
            while self.network.left(self.partitions[partition].1) > 0 {
                let is_free = |(Reverse(lack), _, node): &&(Reverse<u32>, usize, usize)| {
                    (*lack > 0 || self.network.left(self.spare) > 0)
                        && !row.contains(node)
                        && self.has_room(partition, *node)
                };
                let Some(entry) = waiting.iter().find(is_free).copied() else {
                    stuck.push(partition);
                    break;
                };
                waiting.remove(&entry);
                let (_, _, node) = entry;
                self.give(partition, node);
                row.insert(node);
                turn += 1;
                let left = lack(self, node);
                if left > 0 || self.network.left(self.nodes[node].2) > 0 {
                    waiting.insert((Reverse(left), turn, node));
                }
            }
        }
        stuck
    }

    /// Whether the places of a node have room for one more copy of a partition.
    fn has_room(&self, partition: usize, node: usize) -> bool {
        self.of_node[node].iter().all(|place| {
            let entry = self.entries.get(&(partition, *place));
            entry.is_none_or(|(_, edge)| self.network.left(*edge) > 0)
        })
    }

    /// Gives a partition to a node that has room for it.
    fn give(&mut self, partition: usize, node: usize) {
        let edge = self.consider(partition, node);
        let (_, size, more) = self.nodes[node];
        let mut path = vec![self.partitions[partition].1, edge];
        path.extend(
            self.of_node[node]
                .iter()
                .map(|place| self.entries[&(partition, *place)].1),
        );
        if self.network.left(size) > 0 {
            path.push(size);
        } else {
            path.extend([more, self.spare]);
        }
        for edge in path {
            self.network.push(edge);
        }
    }

    /// Partitions that are not complete have every node that still lacks something already, or in
    /// the same place. Some other partition has a node that the stuck one has not, and not the one
    /// that lacks: if all that have it had both, the one that lacks would be the fuller one. They
    /// swap. With places there may be no such pair; then everything is considered, if that can be
    /// afforded.
    fn unblock(&mut self, stuck: &[usize]) {
        let (np, n) = (self.partitions.len(), self.nodes.len());
        let lacking: Vec<usize> = (0..n)
            .filter(|node| {
                let (_, size, more) = self.nodes[*node];
                let may_have_more = self.network.left(self.spare).min(self.network.left(more));
                self.network.left(size) + may_have_more > 0
            })
            .take(PAIRS_MAX / np)
            .collect();
        for &partition in stuck {
            for node in 0..n {
                self.consider(partition, node);
            }
        }
        for partition in 0..np {
            for &node in &lacking {
                self.consider(partition, node);
            }
        }
        self.network.augment(self.source, self.sink);
        let is_full = |solver: &Self| {
            let mut edges = solver.partitions.iter();
            edges.all(|(_, edge)| solver.network.left(*edge) == 0)
        };
        if !is_full(self) && np * n <= PAIRS_MAX {
            for partition in 0..np {
                for node in 0..n {
                    self.consider(partition, node);
                }
            }
            self.network.augment(self.source, self.sink);
        }
    }
}

/// Every number below `n`, neighbours far from each other: what is taken from a node is taken here
/// and there, so that consecutive partitions, and so consecutive oids, hit different nodes.
fn scattered(n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    // Multiples of the golden ratio, of which the fractions are spread evenly.
    order.sort_by_key(|n| (*n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    order
}
