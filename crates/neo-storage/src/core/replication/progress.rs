//! How far a cell was replicated, as it is written in the database's configuration: the assignment,
//! and the tid up to which nothing is missing.

use bytes::Bytes;
use neo_api::{Partition, Ptid, Reign, TableVersion, Tid, WriteOp};

use crate::core::initialization::set;
use crate::core::progress_key;

/// Writes how far a cell is complete.
pub(crate) fn set_progress(partition: Partition, assigned: TableVersion, tid: Tid) -> WriteOp {
    let TableVersion { reign, ptid } = assigned;
    let value = format!("{reign} {ptid} {tid}");
    set(&progress_key(partition), Some(value))
}

/// Forgets how far a cell was complete.
pub(crate) fn drop_progress(partition: Partition) -> WriteOp {
    set(&progress_key(partition), None)
}

/// What was written of this assignment; what makes no sense counts for nothing, as the cell can be
/// replicated from the start.
pub(super) fn read_progress(value: Option<&Bytes>, assigned: TableVersion) -> Option<Tid> {
    let text = std::str::from_utf8(value?).ok()?;
    let mut words = text.split(' ');
    let written = TableVersion {
        reign: Reign(words.next()?.parse().ok()?),
        ptid: Ptid(words.next()?.parse().ok()?),
    };
    let tid = words.next()?.parse().ok()?;
    (written == assigned && words.next().is_none()).then_some(tid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_of_one_assignment() {
        let assigned = TableVersion {
            reign: Reign(3),
            ptid: Ptid(14),
        };
        let WriteOp::SetConfig { key, value } = set_progress(Partition(7), assigned, Tid(0x1234))
        else {
            panic!("a configuration key");
        };
        assert_eq!(key, "replicated/7");
        assert_eq!(read_progress(value.as_ref(), assigned), Some(Tid(0x1234)));
        let later = TableVersion {
            ptid: Ptid(15),
            ..assigned
        };
        assert_eq!(read_progress(value.as_ref(), later), None);
        for odd in ["", "3 14", "x y z", "3 14 12 9"] {
            assert_eq!(read_progress(Some(&Bytes::from(odd)), assigned), None);
        }
    }
}
