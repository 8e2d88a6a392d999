//! The partition table: which cells are readable, and which of two tables is the newer one.

use crate::options::{Options, Rule};
use crate::set::Set;
use crate::state::STORAGES;

/// A version of the partition table. There is one partition, with a cell on every storage.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Table {
    /// The reign of the primary that last verified or changed it.
    pub(crate) reign: u8,
    pub(crate) ptid: u8,
    /// UP_TO_DATE, by storage; the others are OUT_OF_DATE.
    pub(crate) readable: [bool; STORAGES],
}

impl Table {
    pub(crate) fn readable_cells(&self) -> Set {
        (0..STORAGES)
            .filter(|&storage| self.readable[storage])
            .collect()
    }

    /// Tables are ordered by (reign, ptid). By ptid alone, a deposed primary's table that nobody
    /// stored can win over the one that its successor made.
    pub(crate) fn is_newer_than(&self, other: &Self, options: &Options) -> bool {
        if options.has(Rule::TablesByReign) {
            (self.reign, self.ptid) > (other.reign, other.ptid)
        } else {
            self.ptid > other.ptid
        }
    }
}
