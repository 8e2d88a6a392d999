//! Simulated connections: ordered in each direction, late, and lost when a test wants it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use neo_proto::frame::LENGTHS_BYTES;
use neo_proto::handshake::GREETING_BYTES;
use neo_proto::{ConnId, Packet};

use super::name::Name;

/// A connection of a world, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub usize);

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Who connected.
    Dialer,
    /// Who listens.
    Listener,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Listener,
            Self::Listener => Self::Dialer,
        }
    }
}

/// What travels.
#[derive(Debug)]
pub(super) enum Carried {
    /// A whole frame, or the greeting.
    Frame(Bytes),
    /// The end: of the stream, or an error.
    End(Option<String>),
}

/// One direction of a link.
#[derive(Debug, Default)]
pub(super) struct Direction {
    /// Bytes that are not a whole frame yet.
    partial: BytesMut,
    greeted: bool,
    /// In order, with the moment at which each arrives.
    pub(super) queue: VecDeque<(u64, Carried)>,
    /// When the last that was queued arrives.
    pub(super) last_arrival: u64,
    /// What was sent while the way is blocked: it goes when that ends, as TCP sends again.
    pub(super) held: VecDeque<Carried>,
    /// Nothing arrives any more.
    pub(super) lost: bool,
}

impl Carried {
    const fn bytes(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.len(),
            Self::End(_) => 0,
        }
    }
}

impl Direction {
    /// Queues what arrives at a moment, or after what is before it; when it does.
    pub(super) fn queue(&mut self, at: u64, carried: Carried) -> u64 {
        let at = at.max(self.last_arrival + 1);
        self.last_arrival = at;
        self.queue.push_back((at, carried));
        at
    }

    /// What is on its way is lost.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.held.clear();
    }

    /// Takes bytes and cuts whole frames: a delivery is one message.
    pub(super) fn cut(&mut self, bytes: Bytes) -> Vec<Bytes> {
        let mut frames = Vec::new();
        self.partial.extend_from_slice(&bytes);
        loop {
            let length = if self.greeted {
                match frame_length(&self.partial) {
                    Some(length) => length,
                    None => break,
                }
            } else {
                GREETING_BYTES
            };
            if self.partial.len() < length {
                break;
            }
            self.greeted = true;
            frames.push(self.partial.split_to(length).freeze());
        }
        frames
    }
}

/// A way that takes longer than it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slow {
    /// How many times as long.
    pub factor: u32,
    /// What it carries at most, in bytes a second.
    pub bytes_per_second: u64,
}

/// What is wrong with the ways between nodes, each way for itself: (from, to).
#[derive(Debug, Default)]
pub(super) struct Roads {
    /// By how many partitions.
    blocked: BTreeMap<(Name, Name), u32>,
    slow: BTreeMap<(Name, Name), Slow>,
}

impl Roads {
    pub(super) fn block(&mut self, way: (Name, Name)) {
        *self.blocked.entry(way).or_default() += 1;
    }

    /// Whether the way is free now, and was not.
    pub(super) fn unblock(&mut self, way: (Name, Name)) -> bool {
        let Some(times) = self.blocked.get_mut(&way) else {
            return false;
        };
        *times -= 1;
        let is_free = *times == 0;
        if is_free {
            self.blocked.remove(&way);
        }
        is_free
    }

    pub(super) fn is_blocked(&self, from: Name, to: Name) -> bool {
        !self.blocked.is_empty() && self.blocked.contains_key(&(from, to))
    }

    pub(super) fn blocked(&self) -> BTreeSet<(Name, Name)> {
        self.blocked.keys().copied().collect()
    }

    pub(super) fn slow(&mut self, way: (Name, Name), slow: Option<Slow>) {
        match slow {
            Some(slow) => self.slow.insert(way, slow),
            None => self.slow.remove(&way),
        };
    }

    pub(super) fn slow_ways(&self) -> BTreeSet<(Name, Name)> {
        self.slow.keys().copied().collect()
    }

    /// How long something travels that should take `latency`.
    pub(super) fn takes(&self, from: Name, to: Name, latency: u64, carried: &Carried) -> u64 {
        if self.slow.is_empty() {
            return latency;
        }
        let Some(slow) = self.slow.get(&(from, to)) else {
            return latency;
        };
        let second = Duration::from_secs(1).as_nanos() as u64;
        let bytes = carried.bytes() as u64 * second / slow.bytes_per_second.max(1);
        latency * u64::from(slow.factor.max(1)) + bytes
    }
}

/// One end's view.
#[derive(Debug)]
pub(super) struct End {
    pub(super) node: Name,
    pub(super) incarnation: u32,
    /// Its name at the node; `None` before it is accepted.
    pub(super) conn: Option<ConnId>,
    /// The node still holds it.
    pub(super) open: bool,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) dialer: End,
    pub(super) listener: End,
    to_listener: Direction,
    to_dialer: Direction,
}

impl Link {
    pub(super) fn new(dialer: End, listener: End) -> Self {
        Self {
            dialer,
            listener,
            to_listener: Direction::default(),
            to_dialer: Direction::default(),
        }
    }

    pub(super) const fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Dialer => &mut self.dialer,
            Side::Listener => &mut self.listener,
        }
    }

    /// What travels to a side.
    pub(super) const fn to(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Dialer => &mut self.to_dialer,
            Side::Listener => &mut self.to_listener,
        }
    }

    /// Whether one end, and only one, believes that it is connected.
    pub(super) const fn is_half_open(&self) -> bool {
        self.dialer.open != self.listener.open && self.listener.conn.is_some()
    }

    pub(super) fn joins(&self, a: Name, b: Name) -> bool {
        let ends = (self.dialer.node, self.listener.node);
        ends == (a, b) || ends == (b, a)
    }
}

fn frame_length(bytes: &[u8]) -> Option<usize> {
    let mut head = bytes.get(..LENGTHS_BYTES)?;
    let header = head.get_u32() as usize;
    let payload = head.get_u32() as usize;
    Some(LENGTHS_BYTES + header + payload)
}

/// The name of the message of a frame; `None` for a greeting. Without decoding it: the nodes do.
pub(super) fn packet_name(frame: &[u8]) -> Option<&'static str> {
    if frame.len() <= GREETING_BYTES {
        return None;
    }
    // An array's head, then an unsigned integer.
    let header = frame.get(LENGTHS_BYTES..)?;
    let at = match *header.first()? {
        0x98 => 2,
        _ => 1,
    };
    let code = match *header.get(at)? {
        small @ 0..=0x17 => u16::from(small),
        0x18 => u16::from(*header.get(at + 1)?),
        0x19 => u16::from_be_bytes([*header.get(at + 1)?, *header.get(at + 2)?]),
        _ => return None,
    };
    let known = Packet::CODES.iter().find(|(c, _)| *c == code);
    known.map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use neo_proto::MsgId;
    use neo_proto::frame::encode_head;

    use super::*;

    #[test]
    fn deliveries_are_whole_messages() {
        let mut direction = Direction::default();
        let mut bytes = vec![7; GREETING_BYTES];
        encode_head(MsgId(0), &Packet::Heartbeat {}, 0, &mut bytes).unwrap();
        encode_head(MsgId(300), &Packet::AskRecovery {}, 0, &mut bytes).unwrap();
        let bytes = Bytes::from(bytes);
        let split = bytes.len() - 2;
        let first = direction.cut(bytes.slice(..split));
        let names: Vec<_> = first.iter().map(|frame| packet_name(frame)).collect();
        assert_eq!(names, [None, Some("Heartbeat")]);
        let second = direction.cut(bytes.slice(split..));
        assert_eq!(packet_name(&second[0]), Some("AskRecovery"));
        assert_eq!(second.len(), 1);
    }
}
