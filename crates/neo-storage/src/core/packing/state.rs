//! How far a cell is packed, as it is written in the database's configuration: the assignment, and
//! the fields of [`PackState`] in their order.

use bytes::Bytes;
use neo_api::{Partition, Ptid, Reign, TableVersion, WriteOp};
use neo_proto::PackState;

use crate::core::initialization::set;
use crate::core::pack_key;

/// Writes how far a cell is packed.
pub(crate) fn set_pack_state(
    partition: Partition,
    assigned: TableVersion,
    state: PackState,
) -> WriteOp {
    let TableVersion { reign, ptid } = assigned;
    let PackState {
        done,
        begun,
        at,
        removed,
        emptied,
        removals,
    } = state;
    let value = format!("{reign} {ptid} {done} {begun} {at} {removed} {emptied} {removals}");
    set(&pack_key(partition), Some(value))
}

/// What was written, with the assignment that it is of; what makes no sense counts for nothing, as
/// the cell can be packed from the start.
pub(crate) fn read_pack_state(value: Option<&Bytes>) -> Option<(TableVersion, PackState)> {
    let text = std::str::from_utf8(value?).ok()?;
    let mut words = text.split(' ');
    let written = TableVersion {
        reign: Reign(words.next()?.parse().ok()?),
        ptid: Ptid(words.next()?.parse().ok()?),
    };
    let state = PackState {
        done: words.next()?.parse().ok()?,
        begun: words.next()?.parse().ok()?,
        at: words.next()?.parse().ok()?,
        removed: words.next()?.parse().ok()?,
        emptied: words.next()?.parse().ok()?,
        removals: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some((written, state))
}

/// What was written of this assignment: a cell that is a new one has done nothing.
pub(crate) fn pack_state_of(value: Option<&Bytes>, assigned: TableVersion) -> PackState {
    read_pack_state(value)
        .filter(|(written, _)| *written == assigned)
        .map_or_else(PackState::default, |(_, state)| state)
}

#[cfg(test)]
mod tests {
    use neo_api::Tid;

    use super::*;

    #[test]
    fn a_state_is_of_one_assignment() {
        let assigned = TableVersion {
            reign: Reign(3),
            ptid: Ptid(14),
        };
        let state = PackState {
            done: Tid(0x99),
            begun: Tid(0x9a),
            at: Tid(0x90),
            removed: Tid(0x80),
            emptied: Tid(0x70),
            removals: 17,
        };
        let WriteOp::SetConfig { key, value } = set_pack_state(Partition(7), assigned, state)
        else {
            panic!("a configuration key");
        };
        assert_eq!(key, "packed/7");
        assert_eq!(pack_state_of(value.as_ref(), assigned), state);
        let later = TableVersion {
            ptid: Ptid(15),
            ..assigned
        };
        assert_eq!(pack_state_of(value.as_ref(), later), PackState::default());
        for odd in [
            "",
            "3 14",
            "3 14 1 2 3 4 5",
            "x y z a b c d e",
            "3 14 1 2 3 4 5 6 7",
        ] {
            assert_eq!(read_pack_state(Some(&Bytes::from(odd))), None);
        }
    }
}
