//! Maximum flow, by Dinic's algorithm: which cells can stay is a question of it.

/// A directed graph with capacities. Edges come in pairs: `e ^ 1` goes back.
#[derive(Debug, Default)]
pub(super) struct Network {
    edges_of: Vec<Vec<usize>>,
    to: Vec<usize>,
    capacity: Vec<u32>,
}

const UNREACHED: usize = usize::MAX;

impl Network {
    pub(super) fn add_vertex(&mut self) -> usize {
        self.edges_of.push(Vec::new());
        self.edges_of.len() - 1
    }

    /// Adds an edge; its number.
    pub(super) fn add_edge(&mut self, from: usize, to: usize, capacity: u32) -> usize {
        let edge = self.to.len();
        for (from, to, capacity) in [(from, to, capacity), (to, from, 0)] {
            self.edges_of[from].push(self.to.len());
            self.to.push(to);
            self.capacity.push(capacity);
        }
        edge
    }

    /// How much flows through an edge.
    pub(super) fn flow(&self, edge: usize) -> u32 {
        self.capacity[edge ^ 1]
    }

    /// How much more may flow through an edge.
    pub(super) fn left(&self, edge: usize) -> u32 {
        self.capacity[edge]
    }

    /// Lets one more flow through an edge, which must have that left.
    pub(super) fn push(&mut self, edge: usize) {
        self.capacity[edge] -= 1;
        self.capacity[edge ^ 1] += 1;
    }

    /// Lets as much more flow as can.
    pub(super) fn augment(&mut self, source: usize, sink: usize) {
        while let Some(mut levels) = self.levels(source, sink) {
            let mut next = vec![0; self.edges_of.len()];
            while self.augment_once(source, sink, &mut levels, &mut next) {}
        }
    }

    /// Distances from the source; `None` when the sink can't be reached.
    fn levels(&self, source: usize, sink: usize) -> Option<Vec<usize>> {
        let mut levels = vec![UNREACHED; self.edges_of.len()];
        levels[source] = 0;
        let mut queue = vec![source];
        let mut at = 0;
        while let Some(&vertex) = queue.get(at) {
            at += 1;
            for &edge in &self.edges_of[vertex] {
                let to = self.to[edge];
                if self.capacity[edge] > 0 && levels[to] == UNREACHED {
                    levels[to] = levels[vertex] + 1;
                    queue.push(to);
                }
            }
        }
        (levels[sink] != UNREACHED).then_some(levels)
    }

    /// Finds a shortest path, and lets as much flow as it takes. What leads nowhere is not tried
    /// again: `levels` and `next` remember it.
    fn augment_once(
        &mut self,
        source: usize,
        sink: usize,
        levels: &mut [usize],
        next: &mut [usize],
    ) -> bool {
        let mut path: Vec<usize> = Vec::new();
        let mut vertex = source;
        while vertex != sink {
            let edge = self.edges_of[vertex].get(next[vertex]).copied();
            match edge {
                Some(edge)
                    if self.capacity[edge] > 0 && levels[self.to[edge]] == levels[vertex] + 1 =>
                {
                    path.push(edge);
                    vertex = self.to[edge];
                }
                Some(_) => next[vertex] += 1,
                None => {
                    levels[vertex] = UNREACHED;
                    let Some(edge) = path.pop() else {
                        return false;
                    };
                    vertex = self.to[edge ^ 1];
                    next[vertex] += 1;
                }
            }
        }
        let least = path.iter().map(|edge| self.capacity[*edge]).min();
        let least = least.unwrap_or(0);
        for edge in path {
            self.capacity[edge] -= least;
            self.capacity[edge ^ 1] += least;
        }
        least > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_flows_can_be_led_another_way() {
        let mut network = Network::default();
        let [source, sink, a, b, x, y] = [(); 6].map(|()| network.add_vertex());
        for (from, to) in [(source, a), (source, b), (x, sink), (y, sink)] {
            network.add_edge(from, to, 1);
        }
        let first = network.add_edge(a, x, 1);
        network.augment(source, sink);
        assert_eq!(network.flow(first), 1);
        // The second can use x only; the first gives it up for y.
        let other = network.add_edge(a, y, 1);
        let second = network.add_edge(b, x, 1);
        network.augment(source, sink);
        let flows = [first, other, second].map(|edge| network.flow(edge));
        assert_eq!(flows, [0, 1, 1]);
        assert_eq!(network.left(other), 0);
    }
}
