//! The partition table: a row for its head, and one for each cell.

use neo_api::{
    BackendError, BackendResult, Cell, CellChange, CellState, NodeId, PartitionTable, Ptid, Reign,
    TableVersion,
};

use super::link::{Link, Row};
use super::script::Script;
use crate::limits;

pub(super) fn set(script: &mut Script, table: &PartitionTable) {
    script.statement("DELETE FROM pt");
    let (np, version) = (table.rows.len(), table.version);
    let (reign, ptid) = (version.reign.0, version.ptid.0);
    let (replicas, last) = (table.replicas, table.last_storage);
    let head = format!("REPLACE INTO pt_head VALUES (1,{np},{reign},{ptid},{replicas},{last})");
    script.statement(&head);
    for (partition, row) in table.iter() {
        for cell in row {
            put_cell(
                script,
                &CellChange {
                    partition,
                    cell: *cell,
                },
            );
        }
    }
}

/// Changes cells of a table of `np` partitions, if there is one.
pub(super) fn change(
    script: &mut Script,
    np: Option<u32>,
    version: TableVersion,
    replicas: u32,
    changes: &[CellChange],
) -> BackendResult<()> {
    let Some(np) = np else {
        return limits::refuse("a change of a partition table that was not stored".to_owned());
    };
    // Whether they make sense depends on the number of partitions alone.
    let mut table = PartitionTable {
        version,
        replicas,
        last_storage: 0,
        rows: vec![Vec::new(); np as usize],
    };
    table
        .apply(version, replicas, changes)
        .or_else(|error| limits::refuse(error.to_string()))?;
    // The greatest storage node does not get smaller.
    script.statement(&format!(
        "UPDATE pt_head SET reign = {}, ptid = {}, replicas = {replicas},
             last_storage = GREATEST(last_storage, {}) WHERE id = 1",
        version.reign.0, version.ptid.0, table.last_storage
    ));
    changes.iter().for_each(|change| put_cell(script, change));
    Ok(())
}

fn put_cell(script: &mut Script, change: &CellChange) {
    let (partition, cell) = (change.partition.0, &change.cell);
    let nid = u32::from(cell.nid);
    if cell.state == CellState::Discarded {
        script.statement(&format!(
            "DELETE FROM pt WHERE part = {partition} AND nid = {nid}"
        ));
        return;
    }
    let (state, assigned) = (u8::from(cell.state), &cell.assigned);
    let row = format!(
        "({partition},{nid},{state},{},{})",
        assigned.reign.0, assigned.ptid.0
    );
    script.row("REPLACE INTO pt VALUES ", "", &row);
}

/// Reads it; what is read must be of one moment.
pub(super) fn read(link: &mut Link) -> BackendResult<Option<PartitionTable>> {
    let sets = link.ask(
        "reading the partition table",
        "SELECT np, reign, ptid, replicas, last_storage FROM pt_head WHERE id = 1;
         SELECT part, nid, state, reign, ptid FROM pt ORDER BY part, nid",
    )?;
    let [head, cells] = &sets[..] else {
        return Err(damaged("its rows are not there"));
    };
    let Some(head) = head.first() else {
        return Ok(None);
    };
    let mut table = PartitionTable {
        version: version(head, 1)?,
        replicas: head.int(3)?,
        last_storage: head.int(4)?,
        rows: vec![Vec::new(); usize::from(head.int::<u16>(0)?)],
    };
    for row in cells {
        let state: u8 = row.int(2)?;
        let cell = Cell {
            nid: NodeId::try_from(row.int::<u32>(1)?)
                .map_err(|error| damaged(&error.to_string()))?,
            state: CellState::try_from(state).map_err(|error| damaged(&error.to_string()))?,
            assigned: version(row, 3)?,
        };
        let cells = table.rows.get_mut(row.int::<u32>(0)? as usize);
        cells
            .ok_or_else(|| damaged("it has a partition too many"))?
            .push(cell);
    }
    table.check().map_err(|error| damaged(&error.to_string()))?;
    Ok(Some(table))
}

fn version(row: &Row, column: usize) -> BackendResult<TableVersion> {
    Ok(TableVersion {
        reign: Reign(row.int(column)?),
        ptid: Ptid(row.int(column + 1)?),
    })
}

fn damaged(how: &str) -> BackendError {
    BackendError::Corrupt(format!("the partition table cannot be read: {how}"))
}
