//! Which nodes that died are started again, and when: each waits longer than the time before, and
//! one that keeps dying is given up.

use std::collections::BTreeMap;
use std::time::Duration;

use neo_api::Address;
use tokio::time::Instant;

use super::nodes::NodePlan;
use crate::config::NodeKind;

/// First pause before a node is started again; it doubles with every death that comes soon.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// A death is soon when the node lived shorter than this.
pub(super) const SOON: Duration = Duration::from_secs(10);

/// A node is given up when it dies soon so many times in a row.
pub(super) const DEATHS_MAX: u32 = 6;

/// Every node that was started, with what happened to it.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    nodes: BTreeMap<String, Node>,
}

#[derive(Debug)]
struct Node {
    plan: NodePlan,
    started: Instant,
    /// How many times in a row it died soon.
    deaths: u32,
    /// When it is started again.
    due: Option<Instant>,
    /// It is not started again.
    is_given_up: bool,
}

impl Restarts {
    /// A node is started: for the first time, or again.
    pub(super) fn started(&mut self, plan: &NodePlan, now: Instant) {
        let deaths = self.nodes.get(&plan.name).map_or(0, |node| node.deaths);
        let node = Node {
            plan: plan.clone(),
            started: now,
            deaths,
            due: None,
            is_given_up: false,
        };
        self.nodes.insert(plan.name.clone(), node);
    }

    /// A node listens: it is to be there again.
    pub(super) fn listens(&mut self, name: &str, at: &Address) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.plan.bind = at.clone();
        }
    }

    /// A node died: after which pause it is started again; `None`: it is given up.
    pub(super) fn died(&mut self, name: &str, now: Instant) -> Option<Duration> {
        let node = self.nodes.get_mut(name)?;
        node.deaths = if now.duration_since(node.started) < SOON {
            node.deaths + 1
        } else {
            1
        };
        if node.deaths >= DEATHS_MAX {
            node.is_given_up = true;
            return None;
        }
        let pause = PAUSE_MIN * (1 << (node.deaths - 1));
        node.due = Some(now + pause);
        Some(pause)
    }

    /// When a node is to be started again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.nodes.values().filter_map(|node| node.due).min()
    }

    /// A node that is to be started again now.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<NodePlan> {
        let is_due = |node: &&mut Node| node.due.is_some_and(|due| due <= now);
        let node = self.nodes.values_mut().find(is_due)?;
        node.due = None;
        Some(node.plan.clone())
    }

    /// Whether a node of this kind will be started again.
    pub(super) fn waits(&self, kind: NodeKind) -> bool {
        let mut nodes = self.nodes.values();
        nodes.any(|node| node.plan.kind == kind && node.due.is_some())
    }

    /// Nothing is started again: the cluster ends.
    pub(super) fn cancel(&mut self) {
        for node in self.nodes.values_mut() {
            node.due = None;
        }
    }

    /// Names of the nodes that are given up.
    pub(super) fn given_up(&self) -> Vec<&str> {
        let nodes = self.nodes.iter().filter(|(_, node)| node.is_given_up);
        nodes.map(|(name, _)| name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(name: &str) -> NodePlan {
        NodePlan {
            name: name.to_owned(),
            kind: NodeKind::Storage,
            bind: Address::new("host", 0),
            masters: Vec::new(),
            args: Vec::new(),
        }
    }

    #[test]
    fn a_node_that_keeps_dying_waits_longer_each_time_and_is_given_up() {
        let mut restarts = Restarts::default();
        let mut now = Instant::now();
        restarts.started(&plan("storage1"), now);
        let mut pauses = Vec::new();
        while let Some(pause) = restarts.died("storage1", now) {
            assert!(restarts.waits(NodeKind::Storage) && !restarts.waits(NodeKind::Master));
            assert!(restarts.take_due(now).is_none());
            pauses.push(pause.as_millis());
            now += pause;
            assert_eq!(restarts.due(), Some(now));
            let again = restarts.take_due(now).unwrap();
            restarts.started(&again, now);
            assert_eq!(restarts.due(), None);
        }
        assert_eq!(pauses, [200, 400, 800, 1600, 3200]);
        assert_eq!(restarts.given_up(), ["storage1"]);
        assert_eq!(restarts.due(), None);
    }

    #[test]
    fn a_node_that_lived_for_a_while_starts_anew_where_it_was() {
        let mut restarts = Restarts::default();
        let mut now = Instant::now();
        restarts.started(&plan("storage1"), now);
        restarts.listens("storage1", &Address::new("host", 7));
        for _ in 0..3 * DEATHS_MAX {
            now += SOON;
            assert_eq!(restarts.died("storage1", now), Some(PAUSE_MIN));
            now += PAUSE_MIN;
            let again = restarts.take_due(now).unwrap();
            assert_eq!(again.bind, Address::new("host", 7));
            restarts.started(&again, now);
        }
        assert_eq!(restarts.given_up(), [""; 0]);
        restarts.died("storage1", now);
        restarts.cancel();
        assert_eq!(
            (restarts.due(), restarts.take_due(now + SOON).is_none()),
            (None, true)
        );
    }
}
