//! Values that are kept once for all that are equal.
//!
//! The bytes lie apart, under the data id that they came with first, and are counted. They are found
//! by their checksum, and compared: a checksum can be the same by chance, or on purpose. The server
//! does it, in the text of the batch: nothing is read before.

use neo_api::{BackendResult, Record};

use super::link::Link;
use super::script::{Script, hex};
use crate::limits::SHARED_COMPARED_MAX;

/// Which values are kept once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sharing {
    /// Of those that are written, those with so many bytes.
    pub(super) bytes_min: Option<u32>,
    /// Whether there may be any.
    pub(super) any: bool,
}

impl Sharing {
    /// Of a database.
    pub(super) fn open(link: &mut Link, bytes_min: Option<u32>) -> BackendResult<Self> {
        let text = "SELECT EXISTS (SELECT 1 FROM shared)";
        let sets = link.ask("looking for shared values", text)?;
        let found = sets.iter().flatten().next();
        let found: Option<u8> = found.map(|row| row.int(0)).transpose()?;
        Ok(Self {
            bytes_min,
            any: bytes_min.is_some() || found == Some(1),
        })
    }

    /// Whether the bytes of a value that is to be written may be those of others.
    pub(super) fn takes(&self, record: &Record) -> bool {
        self.bytes_min
            .is_some_and(|min| record.data.len() >= min as usize)
    }

    /// Adds what follows from the end of values, before they are removed.
    pub(super) fn release(&self, script: &mut Script, ids: &str) {
        if !self.any {
            return;
        }
        script.statement(&format!(
            "UPDATE shared s JOIN
                 (SELECT shared AS id, COUNT(*) AS n FROM data
                  WHERE id IN ({ids}) AND shared IS NOT NULL GROUP BY shared) g
             ON g.id = s.id SET s.n = s.n - g.n"
        ));
        script.statement(&format!(
            "DELETE s FROM data d JOIN shared s ON s.id = d.shared
             WHERE d.id IN ({ids}) AND s.n = 0"
        ));
    }
}

/// Adds a value whose bytes others may have, or have.
pub(super) fn put(script: &mut Script, id: u64, record: &Record) {
    let checksum = hex(&record.checksum.0);
    script.statement(&format!("SET @value = {}", hex(&record.data)));
    // No table of the server's own is to have values: MariaDB 10.11 crashes now and then when it
    // drops one.
    script.statement(&format!(
        "SET @shared = (SELECT s.id FROM
             (SELECT id FROM shared FORCE INDEX (checksum) WHERE checksum = {checksum}
              ORDER BY id LIMIT {SHARED_COMPARED_MAX}) c
             JOIN shared s ON s.id = c.id WHERE s.value = @value LIMIT 1)"
    ));
    script.statement(&format!(
        "INSERT INTO shared SELECT {id}, 0, {checksum}, @value FROM DUAL WHERE @shared IS NULL"
    ));
    script.statement(&format!("SET @shared = COALESCE(@shared, {id})"));
    script.statement("UPDATE shared SET n = n + 1 WHERE id = @shared");
    script.statement(&format!(
        "REPLACE INTO data VALUES ({id},{},{checksum},{},x'',@shared)",
        u8::from(record.compression),
        record.data.len()
    ));
    script.statement("SET @value = NULL");
}
