//! Which messages ask for what.

use neo_proto::Packet;

use super::Wanted;

impl Wanted {
    /// What a client asks for.
    pub(crate) fn of(packet: &Packet) -> Option<Self> {
        Some(match *packet {
            Packet::AskObject { oid, at } => Self::Object { oid, at },
            Packet::AskObjects { ref objects } if !objects.is_empty() => Self::Objects {
                objects: objects.clone(),
            },
            Packet::AskObjectHistory {
                oid,
                before,
                entries,
            } => Self::History {
                oid,
                before,
                entries,
            },
            Packet::AskTransactionInformation { tid } => Self::Transaction { tid },
            Packet::AskCurrentRevisions {
                partition,
                min,
                at,
                bytes,
                values,
            } => Self::Current {
                partition,
                min,
                at,
                bytes,
                values,
            },
            Packet::AskUndoRevisions {
                partition,
                undone,
                before,
                ref oids,
            } => Self::Undo {
                partition,
                undone,
                before,
                oids: oids.0.clone(),
            },
            Packet::AskPartitionSize { partition } => Self::Size { partition },
            Packet::AskFinalTid { txn } => Self::FinalTid { txn },
            ref other => return Self::listing(other),
        })
    }

    /// What a storage node asks for.
    pub(crate) fn of_replica(packet: &Packet) -> Option<Self> {
        match *packet {
            Packet::AskRevisionIds {
                partition,
                min,
                max,
                entries,
            } => Some(Self::RevisionIds {
                partition,
                min,
                max,
                entries,
            }),
            Packet::AskPackState { partition } => Some(Self::PackState { partition }),
            ref other => Self::listing(other),
        }
    }

    /// What both may ask for.
    const fn listing(packet: &Packet) -> Option<Self> {
        Some(match *packet {
            Packet::AskTransactions {
                partition,
                min,
                max,
                entries,
                order,
            } => Self::Transactions {
                partition,
                min,
                max,
                entries,
                order,
            },
            Packet::AskRevisions {
                partition,
                min,
                max,
                bytes,
            } => Self::Revisions {
                partition,
                min,
                max,
                bytes,
            },
            _ => return None,
        })
    }
}
