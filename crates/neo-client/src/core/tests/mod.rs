//! The core against a master and storages played by hand, packet by packet.

mod batch;
mod cells;
mod chaos;
mod cluster;
mod commit;
mod conflict;
mod hedge;
mod import;
mod link;
mod load;
mod losses;
mod outcome;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use neo_api::{
    Address, At, Cell, CellChange, CellState, Instant, NodeId, NodeState, NodeType, Now, Oid,
    Partition, PartitionTable, Partitioning, Ptid, Record, Reign, SessionId, TableVersion, Tid,
    TransactionMeta, TxnId, UnixMicros,
};
use neo_proto::{
    ConnId, Core, Effect, Effects, ErrorCode, Input, Message, MsgId, NodeInfo, Packet, StoreOutcome,
};

use super::*;
use cluster::*;
