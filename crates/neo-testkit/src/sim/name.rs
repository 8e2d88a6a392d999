//! Who is who in a world.

use std::fmt;

use neo_api::Address;

/// A node of a world, whatever node id the cluster gives it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// A master, from 1.
    Master(u8),
    /// A storage node, from 1.
    Storage(u8),
    /// A client, from 1.
    Client(u8),
    /// A node that a test speaks for, from 1.
    Puppet(u8),
}

impl Name {
    /// Where it listens, if it is a node that does.
    #[must_use]
    pub fn address(self) -> Address {
        Address::new(self.to_string().to_lowercase(), 1)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master(n) => write!(f, "M{n}"),
            Self::Storage(n) => write!(f, "S{n}"),
            Self::Client(n) => write!(f, "C{n}"),
            Self::Puppet(n) => write!(f, "P{n}"),
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The `n`-th master.
#[must_use]
pub const fn m(n: u8) -> Name {
    Name::Master(n)
}

/// The `n`-th storage node.
#[must_use]
pub const fn s(n: u8) -> Name {
    Name::Storage(n)
}

/// The `n`-th client.
#[must_use]
pub const fn c(n: u8) -> Name {
    Name::Client(n)
}

/// The `n`-th puppet.
#[must_use]
pub const fn p(n: u8) -> Name {
    Name::Puppet(n)
}
