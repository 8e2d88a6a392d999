//! Which fault is next, and to whom.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use neo_api::{Address, NodeId};
use neo_testkit::process::View;
use neo_testkit::seed::Rng;

use super::args::Kind;
use super::nodes::{Node, Nodes};
use super::proxy::{Flow, Proxies};

/// Longer than a node may be silent, 10 s as the nodes are started here.
const SILENCE_MS: (u64, u64) = (11_000, 14_000);
/// Shorter than that.
const PAUSE_MS: (u64, u64) = (100, 5_000);
/// Until what was killed is started again.
const RESTART_MS: (u64, u64) = (0, 3_000);
/// Between faults.
const BETWEEN_MS: (u64, u64) = (100, 1_500);

/// How often a kind is tried, beside the others.
const fn weight(kind: Kind) -> u64 {
    match kind {
        Kind::Kill | Kind::Reset => 10,
        Kind::Switch => 4,
        Kind::Pause => 3,
        Kind::Stall => 2,
        Kind::Freeze | Kind::Coma | Kind::Outage => 1,
    }
}

/// Whether everybody waits until it is over, or noticed. Several at a time are made rarely, or
/// nothing would be committed between them.
const fn is_silence(kind: Kind) -> bool {
    matches!(kind, Kind::Pause | Kind::Freeze | Kind::Stall | Kind::Coma)
}

/// Makes faults.
#[derive(Debug)]
pub(super) struct Faults {
    rng: Rng,
    kinds: Vec<Kind>,
    proxies: Proxies,
    stalled: BTreeMap<Address, Instant>,
    next: Instant,
    /// How many were made.
    pub(super) made: BTreeMap<Kind, u64>,
}

impl Faults {
    pub(super) fn new(rng: Rng, kinds: Vec<Kind>, proxies: Proxies) -> Self {
        Self {
            rng,
            kinds,
            proxies,
            stalled: BTreeMap::new(),
            next: Instant::now(),
            made: BTreeMap::new(),
        }
    }

    fn millis(&mut self, (least, most): (u64, u64)) -> Duration {
        Duration::from_millis(self.rng.between(least, most))
    }

    /// Ends stalls whose time has come; all, when it is over.
    pub(super) fn open(&mut self, all: bool) {
        let now = Instant::now();
        let proxies = &self.proxies;
        self.stalled.retain(|node, until| {
            let goes_on = !all && *until > now;
            if !goes_on {
                proxies.set_flow(node, Flow::OPEN);
            }
            goes_on
        });
    }

    /// Whether it is time for another one.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    /// Makes one, if the one that it picks can be made to the cluster as it is.
    pub(super) fn make(&mut self, nodes: &mut Nodes, view: &View) -> io::Result<()> {
        let pause = self.millis(BETWEEN_MS);
        self.next = Instant::now() + pause;
        let sum = self.kinds.iter().map(|kind| weight(*kind)).sum();
        let mut at = self.rng.below(sum);
        let picked = self.kinds.iter().copied().find(|kind| {
            let is_it = at < weight(*kind);
            at = at.saturating_sub(weight(*kind));
            is_it
        });
        let Some(kind) = picked else {
            return Ok(());
        };
        let is_silent = nodes.is_any_frozen() || !self.stalled.is_empty();
        if is_silent && is_silence(kind) && self.rng.below(4) > 0 {
            return Ok(());
        }
        let made = match kind {
            Kind::Kill => {
                let chosen = self.spared(nodes, view);
                for node in &chosen {
                    let after = self.millis(RESTART_MS);
                    nodes.kill(*node, after)?;
                }
                chosen.len()
            }
            Kind::Pause | Kind::Freeze => {
                let mut chosen = self.spared(nodes, view);
                if kind == Kind::Freeze {
                    // All clients wait for it.
                    chosen.truncate(1);
                }
                let times = if kind == Kind::Pause {
                    PAUSE_MS
                } else {
                    SILENCE_MS
                };
                for node in &chosen {
                    let time = self.millis(times);
                    nodes.freeze(*node, time)?;
                }
                chosen.len()
            }
            Kind::Reset => self.reset(),
            Kind::Stall => self.stall(),
            Kind::Switch | Kind::Coma => {
                let primary = view.primary.as_ref().and_then(|at| nodes.master_at(at));
                match primary.filter(|node| nodes.is_well(*node)) {
                    Some(node) if kind == Kind::Switch => {
                        let after = self.millis(RESTART_MS);
                        nodes.kill(node, after)?;
                        1
                    }
                    Some(node) => {
                        let time = self.millis(SILENCE_MS);
                        nodes.freeze(node, time)?;
                        1
                    }
                    None => 0,
                }
            }
            Kind::Outage => self.outage(nodes)?,
        };
        if made > 0 {
            tracing::info!(fault = kind.name(), made, "{view}");
            *self.made.entry(kind).or_default() += made as u64;
        }
        Ok(())
    }

    /// Some storage nodes that the cluster goes on without; while it does not run, any one, now
    /// and then.
    fn spared(&mut self, nodes: &Nodes, view: &View) -> Vec<Node> {
        let well = nodes.storages().filter(|node| nodes.is_well(*node));
        let mut well: Vec<Node> = well.collect();
        self.shuffle(&mut well);
        if !view.is_running() {
            let rarely = self.rng.below(4) == 0;
            well.truncate(usize::from(rarely));
            return well;
        }
        let most = self.rng.between(1, 3) as usize;
        let ill = nodes.storages().filter(|node| !nodes.is_well(*node));
        let mut lost: BTreeSet<NodeId> = ill.filter_map(Node::nid).collect();
        let mut chosen = Vec::new();
        for node in well {
            let Some(nid) = node.nid() else { continue };
            lost.insert(nid);
            if chosen.len() < most && view.can_spare(&lost) {
                chosen.push(node);
            } else {
                lost.remove(&nid);
            }
        }
        chosen
    }

    fn shuffle(&mut self, nodes: &mut [Node]) {
        for at in (1..nodes.len()).rev() {
            nodes.swap(at, self.rng.below(at as u64 + 1) as usize);
        }
    }

    fn reset(&mut self) -> usize {
        let connected = self.proxies.connected();
        let Some((node, connections)) = self.pick(&connected) else {
            return 0;
        };
        let all = self.rng.below(3) == 0;
        let only = (!all).then(|| self.rng.below(*connections as u64) as usize);
        self.proxies.reset(node, only)
    }

    fn stall(&mut self) -> usize {
        let connected = self.proxies.connected();
        let Some((node, _)) = self.pick(&connected) else {
            return 0;
        };
        let flow = match self.rng.below(3) {
            0 => Flow {
                to_node: false,
                to_client: false,
            },
            1 => Flow {
                to_node: false,
                to_client: true,
            },
            _ => Flow {
                to_node: true,
                to_client: false,
            },
        };
        let is_long = self.rng.below(4) == 0;
        let time = self.millis(if is_long { SILENCE_MS } else { PAUSE_MS });
        self.proxies.set_flow(node, flow);
        self.stalled.insert(node.clone(), Instant::now() + time);
        1
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.rng.below(of.len() as u64) as usize)
    }

    /// Kills everything, or everything of a kind, or any nodes.
    fn outage(&mut self, nodes: &mut Nodes) -> io::Result<usize> {
        let which = self.rng.below(4);
        let mut chosen = nodes.all();
        chosen.retain(|node| {
            let is_chosen = match which {
                0 => true,
                1 => matches!(node, Node::Storage(_)),
                2 => matches!(node, Node::Master(_)),
                _ => self.rng.below(2) == 0,
            };
            is_chosen && nodes.is_well(*node)
        });
        // One right after the other: all at once, nearly.
        for node in &chosen {
            let after = self.millis(RESTART_MS);
            nodes.kill(*node, after)?;
        }
        Ok(chosen.len())
    }
}
