//! Points of a run, and the faults that are placed at them.

use std::fmt;
use std::time::Duration;

use super::name::Name;
use super::network::{LinkId, Side};

/// Something that a fault can be placed before or after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Which, from 0.
    pub index: u64,
    /// When: nanoseconds of virtual time.
    pub at: u64,
    /// What happens.
    pub what: Happens,
}

/// What happens at a point.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Happens {
    /// A message arrives. Heartbeats and credits are no points.
    Delivery {
        /// On which connection.
        link: LinkId,
        /// To which of its ends.
        side: Side,
        /// From whom.
        from: Name,
        /// To whom.
        to: Name,
        /// Name of the message.
        packet: &'static str,
    },
    /// A group of writes is durable, or just done when nobody asked for durability; then the node
    /// hears of it.
    Write {
        /// Whose.
        node: Name,
        /// Whether it is durable.
        synced: bool,
    },
}

impl fmt::Debug for Happens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivery {
                from, to, packet, ..
            } => write!(f, "{from}->{to} {packet}"),
            Self::Write { node, synced } => {
                let how = if *synced { "synced" } else { "buffered" };
                write!(f, "{node} write, {how}")
            }
        }
    }
}

/// On which side of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// It has not happened.
    Before,
    /// It has happened, and the node has done all that follows at once.
    After,
}

/// How many of the batches that were written and never synced a crash leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// None.
    None,
    /// The first so many.
    First(usize),
    /// All.
    All,
}

/// What becomes of what is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InFlight {
    /// It is lost.
    Lost,
    /// It arrives, then the end is seen.
    Delivered,
    /// Of a cut: it arrives just before the end is seen, when the other end has long given up.
    Late,
}

/// Something bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nodes crash at the same moment. Their peers see their connections end.
    Crash {
        /// Which.
        nodes: Vec<Name>,
        /// What their disks keep.
        keep: Keep,
        /// What becomes of what they had sent.
        in_flight: InFlight,
    },
    /// Every connection between two nodes is cut.
    Cut {
        /// Who sees it first.
        first: Name,
        /// Who sees it later.
        second: Name,
        /// How much later; what is sent meanwhile is lost.
        gap: Duration,
        /// What becomes of what is on its way.
        in_flight: InFlight,
    },
    /// The message of the point, and those behind it on its connection, arrive later. Only before
    /// a delivery.
    Delay(Duration),
}

/// A fault with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Index of the point.
    pub point: u64,
    /// On which side of it.
    pub when: When,
    /// What.
    pub fault: Fault,
}

/// Points by what happens there, for faults whose place is not counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    node: Name,
    /// From whom, and the message's name; `None`: a write of `node`.
    message: Option<(Name, &'static str)>,
    nth: u32,
}

impl Pattern {
    /// The next arrival of a message.
    #[must_use]
    pub const fn arrival(from: Name, to: Name, packet: &'static str) -> Self {
        Self {
            node: to,
            message: Some((from, packet)),
            nth: 1,
        }
    }

    /// The end of the next write of a node.
    #[must_use]
    pub const fn write(node: Name) -> Self {
        Self {
            node,
            message: None,
            nth: 1,
        }
    }

    /// Not the next one, but the n-th.
    #[must_use]
    pub const fn nth(mut self, nth: u32) -> Self {
        self.nth = nth;
        self
    }

    /// Whether it is met by what happens.
    pub(super) fn meets(&mut self, what: &Happens) -> bool {
        let fits = match (*what, self.message) {
            (
                Happens::Delivery {
                    from, to, packet, ..
                },
                Some(message),
            ) => to == self.node && (from, packet) == message,
            (Happens::Write { node, .. }, None) => node == self.node,
            _ => false,
        };
        if fits {
            self.nth = self.nth.saturating_sub(1);
        }
        fits && self.nth == 0
    }
}
