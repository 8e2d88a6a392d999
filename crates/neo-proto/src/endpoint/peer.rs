//! What an endpoint remembers of a connection.

use std::time::Duration;

use neo_api::{Address, Instant};
use tracing::Span;

use crate::node::ConnectToken;
use crate::session::{Patience, Session};

#[derive(Debug)]
pub(super) enum Phase {
    /// No stream yet.
    Dialing { token: ConnectToken },
    /// The core does not know it yet; `token` of an attempt of its own.
    Greeting {
        token: Option<ConnectToken>,
        session: Session,
    },
    /// The core knows it.
    Open { session: Session },
    /// The core does not know it any more; what was sent is still on its way.
    Closing { session: Session },
}

/// What the core knows of a peer.
#[derive(Debug, Clone, Copy)]
pub(super) enum KnownAs {
    Attempt(ConnectToken),
    Stranger,
    Connection,
    Nothing,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: Address,
    /// Names the peer in whatever is logged because of it.
    pub(super) span: Span,
    pub(super) phase: Phase,
    /// How long the phase may last.
    pub(super) patience: Option<(Patience, Duration)>,
    /// Where it stands in `timers`.
    pub(super) scheduled: Option<Instant>,
    /// Whether `Output::Transmit` is under way.
    pub(super) is_dirty: bool,
    /// What the core was told of it, see [`Core::congested`](crate::Core::congested).
    pub(super) is_congested: bool,
}

impl Peer {
    pub(super) const fn known_as(&self) -> KnownAs {
        match self.phase {
            Phase::Dialing { token }
            | Phase::Greeting {
                token: Some(token), ..
            } => KnownAs::Attempt(token),
            Phase::Greeting { token: None, .. } => KnownAs::Stranger,
            Phase::Open { .. } => KnownAs::Connection,
            Phase::Closing { .. } => KnownAs::Nothing,
        }
    }

    /// Whether it connected to this node: its patience then ends before it said anything.
    pub(super) const fn is_accepted(&self) -> bool {
        matches!(
            self.phase,
            Phase::Greeting { token: None, .. } | Phase::Open { .. }
        )
    }

    pub(super) fn session(&mut self) -> Option<&mut Session> {
        match &mut self.phase {
            Phase::Dialing { .. } => None,
            Phase::Greeting { session, .. }
            | Phase::Open { session }
            | Phase::Closing { session } => Some(session),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let session = match &self.phase {
            Phase::Greeting { session, .. } | Phase::Open { session } => session.poll_timeout(),
            Phase::Dialing { .. } | Phase::Closing { .. } => None,
        };
        let phase = self.patience.as_ref().map(|(p, max)| p.deadline(*max));
        session.into_iter().chain(phase).min()
    }
}
