//! The partition table: which cells there are, and which of two tables is the newer one.

use crate::options::{Options, Rule};
use crate::set::Set;
use crate::state::{PARTITIONS, STORAGES};

/// One partition on one storage.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Cell {
    #[default]
    Absent,
    OutOfDate,
    UpToDate,
}

/// A version of the partition table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Table {
    /// The last epoch of the chain that is stored with it.
    pub(crate) epoch: usize,
    /// The reign of the primary that last verified or changed it.
    pub(crate) reign: u8,
    pub(crate) ptid: u8,
    /// `[partition][storage]`.
    pub(crate) cells: [[Cell; STORAGES]; PARTITIONS],
}

impl Table {
    pub(crate) fn is_readable(&self, partition: usize, storage: usize) -> bool {
        self.cells[partition][storage] == Cell::UpToDate
    }

    pub(crate) fn is_out_of_date(&self, partition: usize, storage: usize) -> bool {
        self.cells[partition][storage] == Cell::OutOfDate
    }

    /// The partitions of which a storage has a cell: all are written to.
    pub(crate) fn writable_on(&self, storage: usize) -> Set {
        self.partitions_where(|partition| self.cells[partition][storage] != Cell::Absent)
    }

    pub(crate) fn readable_on(&self, storage: usize) -> Set {
        self.partitions_where(|partition| self.is_readable(partition, storage))
    }

    pub(crate) fn out_of_date_on(&self, storage: usize) -> Set {
        self.partitions_where(|partition| self.is_out_of_date(partition, storage))
    }

    /// The storages that have a readable cell of a partition.
    pub(crate) fn readable_of(&self, partition: usize) -> Set {
        (0..STORAGES)
            .filter(|&storage| self.is_readable(partition, storage))
            .collect()
    }

    /// The storages that have any readable cell.
    pub(crate) fn readable_storages(&self) -> Set {
        (0..STORAGES)
            .filter(|&storage| !self.readable_on(storage).is_empty())
            .collect()
    }

    /// Whether every partition has a readable cell on one of these storages.
    pub(crate) fn is_operational(&self, storages: Set) -> bool {
        (0..PARTITIONS)
            .filter(|&partition| self.cells[partition] != [Cell::Absent; STORAGES])
            .all(|partition| !self.readable_of(partition).and(storages).is_empty())
    }

    pub(crate) fn outdate(&mut self, storage: usize) {
        for partition in self.readable_on(storage).members() {
            self.cells[partition][storage] = Cell::OutOfDate;
        }
    }

    fn partitions_where(&self, is: impl Fn(usize) -> bool) -> Set {
        (0..PARTITIONS).filter(|&partition| is(partition)).collect()
    }

    /// Tables are ordered by the length of their chain of epochs, then by (reign, ptid). By ptid
    /// alone, a deposed primary's table that nobody stored can win over its successor's.
    pub(crate) fn is_newer_than(&self, other: &Self, options: &Options) -> bool {
        let reigns = if options.has(Rule::TablesByReign) {
            [self.reign, other.reign]
        } else {
            [0, 0]
        };
        (self.epoch, reigns[0], self.ptid) > (other.epoch, reigns[1], other.ptid)
    }
}
