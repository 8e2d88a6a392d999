//! What a node remembers, and how it is written in its database's configuration: as text, so that
//! it can be read with the database's own tools.

use std::str::FromStr;

use bytes::Bytes;
use neo_api::{ClusterId, Epoch, NodeId, Oid, PartitionTable, Ptid, Reign, Tid, WriteOp};
use neo_proto::ClusterIdentity;

use super::effect::{
    CLUSTER, CLUSTER_ID, COMMITTED_IN, CONFIG_KEYS, EPOCHS, IMPORT_TID, NID, OID_MARK, REIGN,
    StartState,
};

/// What a node remembers beside its data.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) cluster: Option<String>,
    pub(crate) identity: Option<ClusterIdentity>,
    pub(crate) nid: Option<NodeId>,
    pub(crate) reign: Reign,
    pub(crate) oid_mark: Oid,
    pub(crate) import_tid: Option<Tid>,
    pub(crate) committed_in: Reign,
}

impl Memory {
    /// Reads what was written.
    ///
    /// # Errors
    /// When it makes no sense, or is of another cluster than the one asked for.
    pub(crate) fn load(start: &StartState, cluster: &str) -> Result<Self, String> {
        let mut memory = Self {
            cluster: value(start, CLUSTER)?,
            nid: value(start, NID)?,
            reign: Reign(value(start, REIGN)?.unwrap_or(0)),
            oid_mark: value(start, OID_MARK)?.unwrap_or_default(),
            import_tid: value(start, IMPORT_TID)?,
            committed_in: Reign(value(start, COMMITTED_IN)?.unwrap_or(0)),
            identity: None,
        };
        let id: Option<ClusterId> = value(start, CLUSTER_ID)?;
        let epochs: Option<String> = value(start, EPOCHS)?;
        if let Some(id) = id {
            let epochs = parse_epochs(&epochs.unwrap_or_default())
                .ok_or_else(|| "the database's epochs make no sense".to_owned())?;
            memory.identity = Some(ClusterIdentity { id, epochs });
        }
        if let Some(other) = memory.cluster.as_deref().filter(|other| *other != cluster) {
            return Err(format!(
                "the database belongs to cluster {other:?}, not {cluster:?}: give the right \
                 cluster name, or an empty database"
            ));
        }
        if let Some(table) = &start.table {
            PartitionTable::check(table)
                .map_err(|error| format!("the stored partition table makes no sense: {error}"))?;
        }
        Ok(memory)
    }
}

fn value<T: FromStr>(start: &StartState, key: &'static str) -> Result<Option<T>, String> {
    let at = CONFIG_KEYS.iter().position(|known| *known == key);
    let Some(bytes) = at.and_then(|at| start.config.get(at)).cloned().flatten() else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes).ok();
    match text.and_then(|text| text.parse().ok()) {
        Some(value) => Ok(Some(value)),
        None => Err(format!("the database's {key} makes no sense")),
    }
}

/// Sets one key.
pub(crate) fn set(key: &str, value: Option<String>) -> WriteOp {
    WriteOp::SetConfig {
        key: key.to_owned(),
        value: value.map(Bytes::from),
    }
}

/// Writes to which cluster the node belongs.
pub(crate) fn set_identity(cluster: &str, identity: Option<&ClusterIdentity>) -> Vec<WriteOp> {
    let mut ops = vec![set(CLUSTER, Some(cluster.to_owned()))];
    if let Some(identity) = identity {
        ops.push(set(CLUSTER_ID, Some(identity.id.to_string())));
        ops.push(set(EPOCHS, Some(format_epochs(&identity.epochs))));
    }
    ops
}

/// One epoch a line: number, id, parent or `-`, reign, ptid and tid of its base.
fn format_epochs(epochs: &[Epoch]) -> String {
    let line = |epoch: &Epoch| {
        let parent = epoch
            .parent
            .map_or_else(|| "-".to_owned(), |id| id.to_string());
        format!(
            "{} {} {parent} {} {} {}\n",
            epoch.number, epoch.id, epoch.base_reign, epoch.base_ptid, epoch.base_tid
        )
    };
    epochs.iter().map(line).collect()
}

fn parse_epochs(text: &str) -> Option<Vec<Epoch>> {
    let epoch = |line: &str| {
        let mut words = line.split(' ');
        let epoch = Epoch {
            number: words.next()?.parse().ok()?,
            id: words.next()?.parse().ok()?,
            parent: match words.next()? {
                "-" => None,
                id => Some(id.parse().ok()?),
            },
            base_reign: Reign(words.next()?.parse().ok()?),
            base_ptid: Ptid(words.next()?.parse().ok()?),
            base_tid: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(epoch)
    };
    text.lines().map(epoch).collect()
}

#[cfg(test)]
mod tests {
    use neo_api::{DataId, EpochId};

    use super::*;

    fn start(pairs: &[(&str, &str)]) -> StartState {
        let config = CONFIG_KEYS.iter().map(|key| {
            let found = pairs.iter().find(|(k, _)| k == key);
            found.map(|(_, v)| Bytes::copy_from_slice(v.as_bytes()))
        });
        StartState {
            config: config.collect(),
            table: None,
            next_data_id: DataId(1),
            object_bytes_max: 1 << 20,
        }
    }

    #[test]
    fn epochs_are_read_back() {
        let first = Epoch {
            number: 1,
            id: EpochId([1; 16]),
            parent: None,
            base_reign: Reign(1),
            base_ptid: Ptid(1),
            base_tid: Tid(0),
        };
        let second = Epoch {
            number: 2,
            id: EpochId([2; 16]),
            parent: Some(first.id),
            base_reign: Reign(7),
            base_ptid: Ptid(12),
            base_tid: Tid(0x1234),
        };
        let epochs = vec![first, second];
        assert_eq!(parse_epochs(&format_epochs(&epochs)), Some(epochs));
        assert_eq!(parse_epochs("1 2 3"), None);
    }

    #[test]
    fn a_database_of_another_cluster_is_refused() {
        let state = start(&[("cluster", "a"), ("nid", "S3"), ("reign", "4")]);
        let memory = Memory::load(&state, "a").unwrap();
        assert_eq!(memory.nid.unwrap().to_string(), "S3");
        assert_eq!(memory.reign, Reign(4));
        let error = Memory::load(&state, "b").unwrap_err();
        assert!(error.contains("belongs to cluster \"a\""), "{error}");
    }

    #[test]
    fn a_damaged_value_is_named() {
        let error = Memory::load(&start(&[("nid", "X")]), "a").unwrap_err();
        assert_eq!(error, "the database's nid makes no sense");
    }
}
