//! The default election: masters elect the primary among themselves.
//!
//! Every master keeps a connection to every other one that it knows, and tells each what it does:
//! it seeks, follows or leads. Who seeks and sees a primary follows it; when nobody leads, the one
//! with the smallest address does. Two that lead and meet compare themselves, and one gives up.
//!
//! # Source
//! NEO: masters challenge each other while RECOVERING, and a primary beyond that is not deposed. In
//! NEO each master leads first and compares the moments at which they began; here it looks around
//! first, so that a cluster does not change its primary because another master came.
//!
//! # Two for ever can't be
//! Masters that can reach each other are connected at last, since attempts go on, and each has what
//! the other said last. Of two that lead, by [`Lead::rank`], which is a total order, the same one is
//! less for both: it follows. Masters of two sides of a cluster that were both started by force do
//! not become connected: they are two clusters then, which is for the operator to decide.
//!
//! Two for a while can be, and is harmless: see [`Election`].

mod claim;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use neo_api::{Address, Election, ElectionEffect, ElectionInput, Instant, Reign};

use self::claim::{Claim, Lead, PEERS_MAX, Saying, Stage};

/// Elects the primary among the masters.
#[derive(Debug)]
pub struct PeerElection {
    own: Option<Address>,
    /// How long masters that do not answer are waited for.
    patience: Duration,
    peers: BTreeMap<Address, Peer>,
    role: Role,
    /// The greatest that was heard of.
    since: u64,
    /// What all connected masters were told last.
    told: Bytes,
}

/// Another master.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Peer {
    /// Whether it is there is not known: the attempt to connect goes on.
    Tried,
    /// It was not there when last looked.
    Away,
    /// Connected, with what it said last.
    Up(Option<Claim>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Role {
    /// It was not started.
    None,
    Seeks {
        /// Others are waited for until then.
        until: Instant,
        /// That is over.
        has_waited: bool,
        /// It leads then, whatever others say.
        last: Instant,
    },
    Follows {
        primary: Address,
        direct: bool,
    },
    Leads(Lead),
}

/// Who seeks leads in the end whatever others say, after so many times its patience: one that should
/// lead may hang.
const LAST_RESORT: u32 = 5;

impl PeerElection {
    /// An election that waits so long for masters that don't answer, when it finds no primary; a
    /// master that refuses connections is not waited for. 200 ms is a good choice.
    #[must_use]
    pub const fn new(patience: Duration) -> Self {
        Self {
            own: None,
            patience,
            peers: BTreeMap::new(),
            role: Role::None,
            since: 0,
            told: Bytes::new(),
        }
    }

    /// Notes a master; `true`: it was not known.
    fn learn(&mut self, address: Address, out: &mut Vec<ElectionEffect>) -> bool {
        let is_new = Some(&address) != self.own.as_ref()
            && self.peers.len() < PEERS_MAX
            && !self.peers.contains_key(&address);
        if is_new {
            out.push(ElectionEffect::Connect(address.clone()));
            self.peers.insert(address, Peer::Tried);
        }
        is_new
    }

    fn heard(&mut self, from: &Address, message: &[u8], out: &mut Vec<ElectionEffect>) {
        let Some(Saying { claim, peers }) = Saying::decode(message) else {
            tracing::warn!(%from, "the election of another master says what makes no sense here");
            return;
        };
        if let Claim::Leads(lead) = &claim {
            self.since = self.since.max(lead.since);
        }
        if let Claim::Follows { primary, .. } = &claim {
            self.learn(primary.clone(), out);
        }
        for peer in peers {
            self.learn(peer, out);
        }
        if let Some(Peer::Up(said)) = self.peers.get_mut(from) {
            *said = Some(claim);
        }
    }

    /// The best of those that lead, itself included.
    fn best(&self) -> Option<(&Address, Lead)> {
        let own = match (&self.role, &self.own) {
            (Role::Leads(lead), Some(own)) => Some((own, *lead)),
            _ => None,
        };
        let others = self.peers.iter().filter_map(|(address, peer)| match peer {
            Peer::Up(Some(Claim::Leads(lead))) => Some((address, *lead)),
            _ => None,
        });
        let all = others.chain(own);
        all.max_by(|(a, one), (b, other)| one.rank(a).cmp(&other.rank(b)))
    }

    /// A primary that another master is connected to, and this one is not.
    fn beyond_reach(&self) -> Option<Address> {
        let named = self.peers.values().find_map(|peer| match peer {
            Peer::Up(Some(Claim::Follows {
                primary,
                direct: true,
            })) => Some(primary),
            _ => None,
        })?;
        // What is said of a connected one is late: it speaks for itself.
        let is_up = matches!(self.peers.get(named), Some(Peer::Up(Some(_))));
        (!is_up && Some(named) != self.own.as_ref()).then(|| named.clone())
    }

    /// Does what follows from what is known.
    fn decide(&mut self, now: Instant, out: &mut Vec<ElectionEffect>) {
        let Some(own) = self.own.clone() else { return };
        let best = self.best().map(|(address, _)| address.clone());
        let next = match best {
            Some(best) if best == own => self.role.clone(),
            Some(primary) => Role::Follows {
                primary,
                direct: true,
            },
            None => match self.beyond_reach() {
                Some(primary) => Role::Follows {
                    primary,
                    direct: false,
                },
                None => self.seek(now, &own),
            },
        };
        let before = std::mem::replace(&mut self.role, next);
        // The others hear of it before this master does what may change it again.
        self.tell(out);
        let followed = |role: &Role| match role {
            Role::Follows { primary, .. } => Some(primary.clone()),
            _ => None,
        };
        match &self.role {
            Role::Leads(lead) if !matches!(before, Role::Leads(_)) => {
                self.since = lead.since;
                out.push(ElectionEffect::Lead);
            }
            Role::Follows { primary, .. } if followed(&before).as_ref() != Some(primary) => {
                out.push(ElectionEffect::Follow(primary.clone()));
            }
            Role::Seeks { .. } if matches!(before, Role::Follows { .. }) => {
                out.push(ElectionEffect::StepDown);
            }
            _ => {}
        }
    }

    /// Nobody leads, as far as is known.
    fn seek(&self, now: Instant, own: &Address) -> Role {
        let (until, last) = match self.role {
            Role::Seeks { until, last, .. } => (until, last),
            _ => (now + self.patience, now + self.patience * LAST_RESORT),
        };
        let has_waited = now >= until;
        if now >= last || self.is_first(own) && (has_waited || self.all_are_known()) {
            return self.lead();
        }
        Role::Seeks {
            until,
            has_waited,
            last,
        }
    }

    const fn lead(&self) -> Role {
        Role::Leads(Lead {
            since: self.since + 1,
            stage: Stage::Recovering,
            epoch: 0,
            reign: Reign(0),
        })
    }

    /// Whether nobody else that looks for a primary has a smaller address.
    fn is_first(&self, own: &Address) -> bool {
        let mut seeking = self
            .peers
            .iter()
            .filter(|(_, peer)| matches!(peer, Peer::Up(Some(Claim::Seeks))));
        seeking.all(|(address, _)| own < address)
    }

    /// Whether every master has answered, or is not there.
    fn all_are_known(&self) -> bool {
        let mut peers = self.peers.values();
        peers.all(|peer| matches!(peer, Peer::Away | Peer::Up(Some(Claim::Seeks))))
    }

    fn saying(&self) -> Bytes {
        let claim = match &self.role {
            Role::None | Role::Seeks { .. } => Claim::Seeks,
            Role::Follows { primary, direct } => Claim::Follows {
                primary: primary.clone(),
                direct: *direct,
            },
            Role::Leads(lead) => Claim::Leads(*lead),
        };
        let peers = self.connected().cloned().collect();
        Saying { claim, peers }.encode()
    }

    fn connected(&self) -> impl Iterator<Item = &Address> {
        let up = self.peers.iter();
        up.filter_map(|(address, peer)| matches!(peer, Peer::Up(_)).then_some(address))
    }

    /// Tells everybody what this master does, if that is new.
    fn tell(&mut self, out: &mut Vec<ElectionEffect>) {
        let message = self.saying();
        if message == self.told {
            return;
        }
        self.told = message.clone();
        out.extend(self.connected().map(|to| ElectionEffect::Send {
            to: to.clone(),
            message: message.clone(),
        }));
    }

    fn lost(&mut self, address: Address) {
        let was_primary =
            matches!(&self.role, Role::Follows { primary, direct: true } if *primary == address);
        // Perhaps the primary is there still, and only the connection is gone: one attempt is made
        // before another one takes over.
        let peer = if was_primary { Peer::Tried } else { Peer::Away };
        if let Some(known) = self.peers.get_mut(&address) {
            *known = peer;
        }
    }
}

impl Election for PeerElection {
    fn handle(&mut self, now: Instant, input: ElectionInput, out: &mut Vec<ElectionEffect>) {
        match input {
            ElectionInput::Started { own, peers } => {
                self.own = Some(own);
                for peer in peers {
                    self.learn(peer, out);
                }
            }
            ElectionInput::PeerUp(address) => {
                self.learn(address.clone(), out);
                if let Some(peer) = self.peers.get_mut(&address) {
                    *peer = Peer::Up(None);
                    // It was told nothing yet.
                    self.told = Bytes::new();
                }
            }
            ElectionInput::PeerLost(address) => self.lost(address),
            ElectionInput::Message { from, message } => self.heard(&from, &message, out),
            ElectionInput::Cluster {
                state,
                epoch,
                reign,
            } => {
                if let Role::Leads(lead) = &mut self.role {
                    lead.stage = Stage::from(state);
                    let is_beyond = lead.stage > Stage::Recovering;
                    (lead.epoch, lead.reign) = if is_beyond {
                        (epoch, reign)
                    } else {
                        (0, Reign(0))
                    };
                }
            }
            _ => {}
        }
        self.decide(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match &self.role {
            Role::Seeks {
                until, has_waited, ..
            } if !has_waited => Some(*until),
            Role::Seeks { last, .. } => Some(*last),
            _ => None,
        }
    }
}
