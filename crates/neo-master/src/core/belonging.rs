//! Whether a storage node's database is that of the node whose id it comes with.
//!
//! An id says nothing by itself: a disk comes back long after its place was taken, a database is
//! copied, an older one is put back. A database notes its id with the first partition table in
//! which the node has cells (or with the draft of a new cluster), and says of which version its
//! table is. A cell is counted on only if that is not older than the assignment of the cell: a
//! database can't have what it never heard of. And ids that had cells are not given again.

use neo_api::{NodeId, TableVersion};

use super::creation::is_draft;
use super::partition_table::Table;

/// Why a database is not taken for that of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Foreign {
    /// It has had no cells, and the id is that of a node that has, or had, some: it gets another.
    New,
    /// It was named by an attempt to create the cluster that was given up.
    Draft,
    /// Its partition table is older than cells that are complete on the node.
    Older,
}

impl Foreign {
    /// What to do about it, in words.
    pub(super) fn words(self, nid: NodeId) -> String {
        match self {
            Self::New => format!(
                "its database is empty, but it came as {nid}, whose cells the partition table \
                 has, or had: it gets another id"
            ),
            Self::Draft => format!(
                "its database was made {nid} by an attempt to create the cluster that was given \
                 up, and another node has, or had, cells under this id: give it an empty database"
            ),
            Self::Older => format!(
                "its database says that it is {nid}, but is from before {nid} got the cells that \
                 the partition table says are complete there: it is an older copy, or that of \
                 another node that had this id. Start {nid} with its right database, and give \
                 this one, if it is to be another node, an empty one"
            ),
        }
    }
}

/// Whether a database may be that of a node, as far as a partition table tells. `noted` is the
/// version of the table in the database, if the id is noted there.
pub(super) fn belongs(
    table: &Table,
    nid: NodeId,
    noted: Option<TableVersion>,
) -> Result<(), Foreign> {
    let was_given = nid.number() <= table.get().last_storage;
    match noted {
        None if was_given => Err(Foreign::New),
        None => Ok(()),
        Some(version) if is_draft(version) => {
            // Of a node without cells this holds too: then nothing is counted on.
            if table.is_assigned_in(nid, version.reign) {
                Ok(())
            } else {
                Err(Foreign::Draft)
            }
        }
        Some(version) => match table.newest_readable(nid) {
            Some(assigned) if assigned > version => Err(Foreign::Older),
            _ => Ok(()),
        },
    }
}

/// The greatest number of a storage node that is not given to another one any more.
pub(super) fn last_given(table: Option<&Table>) -> u32 {
    table.map_or(0, |table| table.get().last_storage)
}
