//! What a master says of itself to the others, and the order of those that lead.

use std::cmp::Reverse;

use bytes::Bytes;
use neo_api::{Address, ClusterState, Reign};
use serde::{Deserialize, Serialize};

/// Most masters that are known: more addresses are not taken from peers.
pub(super) const PEERS_MAX: usize = 100;

/// What a master does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Claim {
    /// It looks for a primary.
    Seeks,
    /// It follows one; `direct`: over a connection of its own, not because another one does.
    Follows { primary: Address, direct: bool },
    /// It is one.
    Leads(Lead),
}

/// How a master leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lead {
    /// One more than any that it had heard of when it took the lead: who leads for longer has the
    /// smaller number, among masters that have heard of each other. No clock is in it.
    pub(super) since: u64,
    /// How far its cluster is.
    pub(super) stage: Stage,
    /// Beyond RECOVERING: how many epochs its chain has, else 0.
    pub(super) epoch: u64,
    /// Beyond RECOVERING: its reign, else 0.
    pub(super) reign: Reign,
}

/// How far a cluster is on its way to service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Stage {
    Recovering,
    Verifying,
    Serving,
}

impl From<ClusterState> for Stage {
    fn from(state: ClusterState) -> Self {
        match state {
            ClusterState::Recovering => Self::Recovering,
            ClusterState::Verifying => Self::Verifying,
            _ => Self::Serving,
        }
    }
}

impl Lead {
    /// Of two primaries that meet, the one that is greater by this goes on.
    ///
    /// One that is beyond RECOVERING has every readable cell of the newest table that it could
    /// find; one that is not has nothing to lose, and gives way. If both are beyond, the later epoch
    /// and the later reign are the newer truth: its storage nodes have left the other one, which
    /// only has not noticed, or an operator has left that one behind. Among those that are
    /// RECOVERING, who leads for longer goes on.
    pub(super) fn rank<'a>(&self, address: &'a Address) -> impl Ord + use<'a> {
        (
            self.stage > Stage::Recovering,
            (self.epoch, self.reign),
            self.stage,
            Reverse((self.since, address)),
        )
    }
}

/// A message of one election to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saying {
    pub(super) claim: Claim,
    /// To whom it is connected: the receiver may not know them.
    pub(super) peers: Vec<Address>,
}

impl Saying {
    /// JSON: readable in a trace, and rare.
    pub(super) fn encode(&self) -> Bytes {
        let text = serde_json::to_vec(self).expect("addresses and numbers can be written");
        Bytes::from(text)
    }

    /// `None`: it is of another kind of election, or nonsense.
    pub(super) fn decode(message: &[u8]) -> Option<Self> {
        let saying: Self = serde_json::from_slice(message).ok()?;
        (saying.peers.len() <= PEERS_MAX).then_some(saying)
    }
}
