//! Which cell to read from.

use std::collections::BTreeSet;
use std::time::Duration;

use neo_api::{Instant, NodeId, Partition};

use super::ClientCore;

/// How long a node that could not be reached comes last.
pub(super) const FAILURE_REMEMBERED: Duration = Duration::from_secs(60);

/// A small generator with a seed: the simulator replays it.
#[derive(Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// # Source
    /// Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (SplitMix64).
    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What routing knows of a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) nid: NodeId,
    /// A connection is up.
    pub(super) connected: bool,
    /// When it was last found unreachable.
    pub(super) failed_at: Option<Instant>,
    /// It let a read wait, a while ago.
    pub(super) is_slow: bool,
}

/// The best of the candidates that were not tried: no recent failure, then not slow, then connected,
/// then by chance, so that readers spread over replicas.
pub(super) fn choose(
    candidates: impl Iterator<Item = Candidate>,
    tried: &BTreeSet<NodeId>,
    now: Instant,
    rng: &mut Rng,
) -> Option<NodeId> {
    candidates
        .filter(|candidate| !tried.contains(&candidate.nid))
        .min_by_key(|candidate| {
            let failing = candidate
                .failed_at
                .is_some_and(|at| now.since(at) < FAILURE_REMEMBERED);
            (failing, candidate.is_slow, !candidate.connected, rng.next())
        })
        .map(|candidate| candidate.nid)
}

impl ClientCore {
    /// The best readable cell of a partition.
    pub(super) fn choose_cell(
        &mut self,
        partition: Partition,
        tried: &BTreeSet<NodeId>,
    ) -> Option<NodeId> {
        let now = self.now.mono;
        let table = self.table.as_ref()?;
        let readable = table.readable(partition);
        let running = readable.filter(|cell| self.is_running(cell.nid));
        let candidates = running.map(|cell| {
            let link = self.storages.get(&cell.nid);
            Candidate {
                nid: cell.nid,
                connected: link.is_some_and(|link| link.conn().is_some()),
                failed_at: link.and_then(|link| link.failed_at),
                is_slow: link.is_some_and(|link| link.slow.is_some_and(|slow| slow.is_now(now))),
            }
        });
        let candidates: Vec<Candidate> = candidates.collect();
        choose(candidates.into_iter(), tried, now, &mut self.rng)
    }
}

#[cfg(test)]
mod tests {
    use neo_api::NodeType;

    use super::*;

    fn candidate(n: u32, connected: bool, failed_at: Option<u64>) -> Candidate {
        Candidate {
            nid: NodeId::new(NodeType::Storage, n).unwrap(),
            connected,
            failed_at: failed_at.map(Instant),
            is_slow: false,
        }
    }

    #[test]
    fn failing_nodes_come_last_slow_ones_before_and_connected_ones_first() {
        let mut slow = candidate(4, true, None);
        slow.is_slow = true;
        let all = [
            candidate(1, true, Some(5)),
            candidate(2, false, None),
            candidate(3, true, None),
            slow,
        ];
        let mut tried = BTreeSet::new();
        let mut rng = Rng::new(7);
        let mut order = Vec::new();
        while let Some(nid) = choose(all.into_iter(), &tried, Instant(9), &mut rng) {
            order.push(nid.number());
            tried.insert(nid);
        }
        assert_eq!(order, [3, 2, 4, 1]);
    }

    #[test]
    fn a_failure_is_forgotten_and_chance_decides_among_equals() {
        let all = [candidate(1, true, Some(0)), candidate(2, true, None)];
        let later = Instant(0) + FAILURE_REMEMBERED;
        let chosen: BTreeSet<_> = (0..20)
            .filter_map(|seed| {
                choose(
                    all.into_iter(),
                    &BTreeSet::new(),
                    later,
                    &mut Rng::new(seed),
                )
            })
            .collect();
        assert_eq!(chosen.len(), 2);
    }
}
