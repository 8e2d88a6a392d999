//! Which fault is next, and to whom.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use neo_api::NodeId;
use neo_testkit::process::View;
use neo_testkit::seed::Rng;

use super::args::Kind;
use super::hub::{Hub, Way};
use super::nodes::{Node, Nodes, Party, Sort};

/// Longer than a node may be silent, 10 s as the nodes are started here.
const SILENCE_MS: (u64, u64) = (11_000, 14_000);
/// Shorter than that.
const PAUSE_MS: (u64, u64) = (100, 5_000);
/// Until what was killed is started again.
const RESTART_MS: (u64, u64) = (0, 3_000);
/// After a connection between storage nodes began.
const AMBUSH_MS: (u64, u64) = (0, 200);
/// Between faults.
const BETWEEN_MS: (u64, u64) = (100, 1_500);

/// How often a kind is tried, beside the others.
const fn weight(kind: Kind) -> u64 {
    match kind {
        Kind::Kill | Kind::Reset => 10,
        Kind::Switch => 4,
        Kind::Pause => 3,
        Kind::Stall | Kind::Split => 2,
        Kind::Freeze | Kind::Coma | Kind::Outage | Kind::Blackout => 1,
    }
}

/// Whether everybody waits until it is over, or noticed. Several at a time are made rarely, or
/// nothing would be committed between them.
const fn is_silence(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Pause | Kind::Freeze | Kind::Stall | Kind::Split | Kind::Coma
    )
}

/// Makes faults.
#[derive(Debug)]
pub(super) struct Faults {
    rng: Rng,
    kinds: Vec<Kind>,
    hub: Hub,
    clients: u32,
    /// Where nothing passes, until when.
    stalled: Vec<(Instant, BTreeSet<Way>)>,
    /// When which new connection between storage nodes is struck, and how.
    ambushes: Vec<(Instant, Kind, u64, Way)>,
    /// Connections of lesser numbers are not new.
    seen: u64,
    next: Instant,
    /// How many were made.
    pub(super) made: BTreeMap<Kind, u64>,
    /// How often connections between which sorts were reset or stalled.
    pub(super) struck: BTreeMap<Between, u64>,
}

/// Two sorts, the lesser one first.
type Between = (Sort, Sort);

/// Where the connections between two sorts are struck.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Spot {
    /// One connection, if not all there.
    only: Option<u64>,
    /// Both ways of each pair.
    ways: BTreeSet<Way>,
}

impl Faults {
    pub(super) fn new(rng: Rng, kinds: Vec<Kind>, hub: Hub, clients: u32) -> Self {
        Self {
            rng,
            kinds,
            hub,
            clients,
            stalled: Vec::new(),
            ambushes: Vec::new(),
            seen: 0,
            next: Instant::now(),
            made: BTreeMap::new(),
            struck: BTreeMap::new(),
        }
    }

    fn millis(&mut self, (least, most): (u64, u64)) -> Duration {
        Duration::from_millis(self.rng.between(least, most))
    }

    /// Ends stalls whose time has come; all, when it is over.
    pub(super) fn open(&mut self, all: bool) {
        let now = Instant::now();
        let before = self.stalled.len();
        self.stalled.retain(|(until, _)| !all && *until > now);
        if self.stalled.len() < before {
            self.block();
        }
    }

    /// Has nothing pass where something is stalled.
    fn block(&self) {
        let ways = self.stalled.iter().flat_map(|(_, ways)| ways);
        self.hub.block(ways.copied().collect());
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
            Kind::Split => self.split(nodes),
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
            Kind::Blackout => {
                let after = self.millis(RESTART_MS);
                nodes.kill_all(after)?
            }
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
        let connections = self.hub.connections();
        let Some(spot) = self.spot(&connections) else {
            return 0;
        };
        let chosen = connections.iter().filter(|(number, way)| match spot.only {
            Some(only) => *number == only,
            None => spot.ways.contains(way),
        });
        let chosen: Vec<u64> = chosen.map(|(number, _)| *number).collect();
        chosen.iter().for_each(|number| self.hub.reset(*number));
        chosen.len()
    }

    /// Strikes connections between storage nodes: they last no longer than a cell catches up, and
    /// would hardly ever be there when a fault is due.
    pub(super) fn ambush(&mut self) {
        for (number, way) in self.hub.connections() {
            if number < self.seen || between(way) != Some((Sort::Storage, Sort::Storage)) {
                continue;
            }
            self.seen = number + 1;
            let kind = [Kind::Reset, Kind::Stall][self.rng.below(2) as usize];
            if self.kinds.contains(&kind) && self.rng.below(2) == 0 {
                let at = Instant::now() + self.millis(AMBUSH_MS);
                self.ambushes.push((at, kind, number, way));
            }
        }
        let now = Instant::now();
        let due: Vec<_> = self
            .ambushes
            .extract_if(.., |(at, ..)| *at <= now)
            .collect();
        for (_, kind, number, way) in due {
            if kind == Kind::Reset {
                self.hub.reset(number);
            } else {
                self.hold_up([way, (way.1, way.0)].into());
            }
            tracing::info!(fault = kind.name(), from = %way.0, to = %way.1, "replication");
            *self.made.entry(kind).or_default() += 1;
            let between = (Sort::Storage, Sort::Storage);
            *self.struck.entry(between).or_default() += 1;
        }
    }

    fn stall(&mut self) -> usize {
        let connections = self.hub.connections();
        let Some(spot) = self.spot(&connections) else {
            return 0;
        };
        // From the lesser to the greater, the other way, or both.
        let which = self.rng.below(3);
        let mut ways = spot.ways;
        ways.retain(|(from, to)| match which {
            0 => true,
            1 => from < to,
            _ => from > to,
        });
        self.hold_up(ways);
        1
    }

    /// Parts everybody into two groups that do not hear each other, or one the other.
    fn split(&mut self, nodes: &Nodes) -> usize {
        let clients = (0..self.clients).map(Party::Client);
        let all = nodes.all().into_iter().map(Party::Node).chain(clients);
        let all: Vec<Party> = all.filter(|party| party.sort().is_some()).collect();
        let (left, right): (Vec<Party>, Vec<Party>) =
            all.into_iter().partition(|_| self.rng.below(2) == 0);
        let both = self.rng.below(3) > 0;
        let mut ways = BTreeSet::new();
        for from in &left {
            for to in &right {
                ways.insert((*from, *to));
                if both {
                    ways.insert((*to, *from));
                }
            }
        }
        if ways.is_empty() {
            return 0;
        }
        tracing::info!(?left, ?right, both, "split");
        self.hold_up(ways);
        1
    }

    /// Nothing passes for a while.
    fn hold_up(&mut self, ways: BTreeSet<Way>) {
        let is_long = self.rng.below(4) == 0;
        let time = self.millis(if is_long { SILENCE_MS } else { PAUSE_MS });
        self.stalled.push((Instant::now() + time, ways));
        self.block();
    }

    /// Chooses where to strike: each two sorts as often, whatever the number of their connections.
    fn spot(&mut self, connections: &[(u64, Way)]) -> Option<Spot> {
        let mut sorts: BTreeMap<Between, Vec<(u64, Way)>> = BTreeMap::new();
        for (number, way) in connections {
            let Some(between) = between(*way) else {
                continue;
            };
            sorts.entry(between).or_default().push((*number, *way));
        }
        let sorts: Vec<_> = sorts.into_iter().collect();
        let (sort, open) = self.pick(&sorts)?;
        let (number, (from, to)) = *self.pick(open)?;
        *self.struck.entry(*sort).or_default() += 1;
        let scope = self.rng.below(4);
        let pairs = open.iter().map(|(_, way)| *way);
        let ways = pairs.filter(|(a, b)| match scope {
            // Everything of the one that was reached, with others of the sort.
            0 => *b == to,
            _ => [(from, to), (to, from)].contains(&(*a, *b)),
        });
        Some(Spot {
            only: (scope > 1).then_some(number),
            ways: ways.flat_map(|(a, b)| [(a, b), (b, a)]).collect(),
        })
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.rng.below(of.len() as u64) as usize)
    }

    /// Kills everything of a kind, or any nodes.
    fn outage(&mut self, nodes: &mut Nodes) -> io::Result<usize> {
        let which = self.rng.below(3);
        let mut chosen = nodes.all();
        chosen.retain(|node| {
            let is_chosen = match which {
                0 => matches!(node, Node::Storage(_)),
                1 => matches!(node, Node::Master(_)),
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

/// The sorts of two who are connected; none, if one is not to be struck.
fn between((one, other): Way) -> Option<Between> {
    let (one, other) = (one.sort()?, other.sort()?);
    Some((one.min(other), one.max(other)))
}
