//! Identifiers: newtypes over integers, printed as operators read them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::state::NodeType;

/// A string that is not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
#[non_exhaustive]
pub struct ParseIdError {
    /// What was given.
    pub text: String,
    /// What it should have looked like.
    pub expected: &'static str,
}

impl ParseIdError {
    pub(crate) fn new(text: &str, expected: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            expected,
        }
    }
}

macro_rules! id64 {
    ($(#[$meta:meta])* $name:ident, $expected:literal) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The least value.
            pub const ZERO: Self = Self(0);

            /// 8 bytes, big-endian: the order of the bytes is the order of the numbers.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; 8] {
                self.0.to_be_bytes()
            }

            /// From 8 bytes, big-endian.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 8]) -> Self {
                Self(u64::from_be_bytes(bytes))
            }

            /// The next value, or `None` past the greatest.
            #[must_use]
            pub const fn checked_next(self) -> Option<Self> {
                match self.0.checked_add(1) {
                    Some(n) => Some(Self(n)),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:016x})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            /// Hexadecimal, up to 16 digits, with or without `0x`.
            fn from_str(s: &str) -> Result<Self, ParseIdError> {
                let digits = s.strip_prefix("0x").unwrap_or(s);
                if digits.is_empty() || digits.starts_with('+') {
                    return Err(ParseIdError::new(s, $expected));
                }
                u64::from_str_radix(digits, 16)
                    .map(Self)
                    .map_err(|_| ParseIdError::new(s, $expected))
            }
        }
    };
}

id64! {
    /// Object id: 64 bits, allocated by the primary master; 0 is ZODB's root object.
    Oid, "an oid (up to 16 hexadecimal digits)"
}

id64! {
    /// Transaction id: 64 bits, strictly increasing over the life of a cluster.
    ///
    /// Arithmetic on it is plain integer arithmetic. Reading it as a ZODB time stamp is only a
    /// reading: see [`Tid::to_timestamp`].
    Tid, "a tid (up to 16 hexadecimal digits)"
}

impl Tid {
    /// The greatest usable tid: SQL backends have signed 64-bit integers.
    pub const MAX: Self = Self(0x7fff_ffff_ffff_ffff);
}

macro_rules! counter {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The next value.
            ///
            /// # Panics
            /// After 2^64 - 1 steps, which no cluster lives to see.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }
    };
}

macro_rules! shown_as_number {
    ($($name:ident)+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    )+};
}

shown_as_number! { Ptid DataId SessionId }

counter! {
    /// Version of the partition table, within a [`Reign`]; 1 at creation.
    Ptid
}
counter! {
    /// Number of a primary master's rule: one more than any seen before; 0 before the first.
    Reign
}
counter! {
    /// Key of a raw value in one storage node's backend; it means nothing elsewhere.
    DataId
}
counter! {
    /// Number of one identification of a node at the primary master, never given twice in a
    /// reign: it tells two lives of a node apart, also when both have the same [`NodeId`].
    SessionId
}

impl Reign {
    /// Each forced start moves the reigns up by 2 to this power: a side of the cluster that knows
    /// nothing of it never gets as far.
    pub const EPOCH_SHIFT: u32 = 32;
}

/// `7`; after forced starts `2/7`: how many there were, then the number since.
impl fmt::Display for Reign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (epoch, number) = (self.0 >> Self::EPOCH_SHIFT, self.0 & u64::from(u32::MAX));
        match epoch {
            0 => write!(f, "{number}"),
            _ => write!(f, "{epoch}/{number}"),
        }
    }
}

/// Name of a transaction before it has a tid: ttids alone can repeat after a fail-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(Reign, Tid)", into = "(Reign, Tid)")]
pub struct TxnId {
    /// The reign in which it began.
    pub reign: Reign,
    /// Temporary tid; the final tid has the same remainder modulo the number of partitions.
    pub ttid: Tid,
}

impl From<(Reign, Tid)> for TxnId {
    fn from((reign, ttid): (Reign, Tid)) -> Self {
        Self { reign, ttid }
    }
}

impl From<TxnId> for (Reign, Tid) {
    fn from(txn: TxnId) -> Self {
        (txn.reign, txn.ttid)
    }
}

impl fmt::Display for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.reign, self.ttid)
    }
}

/// A partition's number, from 0.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Partition(pub u32);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where objects and transactions live: the one place that knows the mapping.
///
/// An object is in partition `oid % np`, a transaction's metadata in `tid % np`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Partitioning {
    np: u32,
}

impl Partitioning {
    /// Most partitions that a cluster can have.
    pub const MAX: u32 = 65_535;

    /// `np` partitions, or `None` unless `1 <= np <= 65535`.
    #[must_use]
    pub const fn new(np: u32) -> Option<Self> {
        if np == 0 || np > Self::MAX {
            None
        } else {
            Some(Self { np })
        }
    }

    /// How many partitions there are.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.np
    }

    /// All partitions, in order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Partition> + ExactSizeIterator {
        (0..self.np).map(Partition)
    }

    /// Where the revisions of an object live.
    #[must_use]
    pub const fn of_oid(self, oid: Oid) -> Partition {
        Partition((oid.0 % self.np as u64) as u32)
    }

    /// Where the metadata of a transaction lives; a ttid maps as its final tid does.
    #[must_use]
    pub const fn of_tid(self, tid: Tid) -> Partition {
        Partition((tid.0 % self.np as u64) as u32)
    }
}

/// A node's id: 32 bits, the type in the highest byte, a number from 1 in the others.
///
/// Printed as letter and number: `S1`, `M1`, `C3`, `A1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct NodeId(u32);

impl NodeId {
    /// The greatest number of a node within its type.
    pub const NUMBER_MAX: u32 = 0x00ff_ffff;

    /// The `number`-th id of a type, or `None` unless `1 <= number <= NUMBER_MAX`.
    #[must_use]
    pub const fn new(node_type: NodeType, number: u32) -> Option<Self> {
        if number == 0 || number > Self::NUMBER_MAX {
            return None;
        }
        Some(Self(((node_type as u32) << 24) | number))
    }

    /// The type that the id belongs to.
    #[must_use]
    pub const fn node_type(self) -> NodeType {
        match self.0 >> 24 {
            0 => NodeType::Storage,
            1 => NodeType::Master,
            2 => NodeType::Client,
            _ => NodeType::Admin,
        }
    }

    /// The number within the type, from 1.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0 & Self::NUMBER_MAX
    }
}

impl TryFrom<u32> for NodeId {
    type Error = ParseIdError;

    fn try_from(n: u32) -> Result<Self, ParseIdError> {
        if n >> 24 > 3 || n & Self::NUMBER_MAX == 0 {
            return Err(ParseIdError::new(&format!("{n:#x}"), "a node id"));
        }
        Ok(Self(n))
    }
}

impl From<NodeId> for u32 {
    fn from(id: NodeId) -> Self {
        id.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.node_type().letter(), self.number())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for NodeId {
    type Err = ParseIdError;

    fn from_str(s: &str) -> Result<Self, ParseIdError> {
        let error =
            || ParseIdError::new(s, "a node id (a letter S, M, C or A and a number, as S1)");
        let mut chars = s.chars();
        let node_type = chars
            .next()
            .and_then(NodeType::from_letter)
            .ok_or_else(error)?;
        let digits = chars.as_str();
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        digits
            .parse()
            .ok()
            .and_then(|n| Self::new(node_type, n))
            .ok_or_else(error)
    }
}

macro_rules! random_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(#[serde(with = "serde_bytes")] pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(s: &str) -> Result<Self, ParseIdError> {
                let error = || ParseIdError::new(s, "32 hexadecimal digits");
                if s.len() != 32 || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(error());
                }
                u128::from_str_radix(s, 16).map(|n| Self(n.to_be_bytes())).map_err(|_| error())
            }
        }
    };
}

random_id! {
    /// Random id of a cluster, minted when it is created: two clusters of one name differ in it.
    ClusterId
}
random_id! {
    /// Random id of an [`Epoch`].
    EpochId
}

/// One link of the chain of epochs: a forced start opens a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// Position in the chain, from 1.
    pub number: u64,
    /// Random.
    pub id: EpochId,
    /// The epoch before, if any.
    pub parent: Option<EpochId>,
    /// Reign of the partition table that this epoch started from.
    pub base_reign: Reign,
    /// Version of the partition table that this epoch started from.
    pub base_ptid: Ptid,
    /// Last committed tid when it was opened: a node of the parent epoch that went further is
    /// refused.
    pub base_tid: Tid,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reign_after_a_forced_start_is_short() {
        for (reign, text) in [
            (0, "0"),
            (u64::from(u32::MAX), "4294967295"),
            (1 << Reign::EPOCH_SHIFT, "1/0"),
            ((3 << Reign::EPOCH_SHIFT) + 27, "3/27"),
        ] {
            assert_eq!(Reign(reign).to_string(), text);
        }
    }

    #[test]
    fn node_ids_print_and_parse() {
        for text in ["S1", "M1", "C42", "A16777215"] {
            let id: NodeId = text.parse().unwrap();
            assert_eq!(id.to_string(), text);
            assert_eq!(NodeId::try_from(u32::from(id)), Ok(id));
        }
        for text in ["", "S", "S0", "X1", "S16777216", "S-1", "S+1", "S1x", "é1"] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
        assert!(NodeId::try_from(0x0400_0001).is_err());
        assert!(NodeId::try_from(0).is_err());
    }

    #[test]
    fn the_final_tid_lives_where_its_ttid_did() {
        let p = Partitioning::new(12).unwrap();
        assert_eq!(
            p.of_tid(Tid(0x040d_2bd6_91f0_e299)),
            p.of_tid(Tid(0x040d_2bd6_91f0_e299 + 24))
        );
        assert_eq!(p.of_oid(Oid(25)), Partition(1));
        assert!(Partitioning::new(0).is_none());
        assert!(Partitioning::new(65_536).is_none());
    }

    #[test]
    fn hexadecimal_ids() {
        assert_eq!("0x1f".parse(), Ok(Oid(31)));
        assert_eq!(Oid(31).to_string(), "000000000000001f");
        for text in ["", "0x", "+1", "g", "00000000000000001"] {
            let parsed = text.parse::<Oid>();
            assert!(parsed.is_err() || text.len() == 17, "{text}");
        }
        let id = ClusterId([7; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("07".parse::<ClusterId>().is_err());
    }
}
