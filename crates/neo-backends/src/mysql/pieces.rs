//! What is too large for a row: cut in pieces, rows of `piece` by (kind, a, b, n).
//!
//! | kind | what | a | b |
//! | --- | --- | --- | --- |
//! | 0 | a value | data id | 0 |
//! | 1 | the oids of a committed transaction | partition | tid |
//! | 2 | the oids of an unfinished one | reign | ttid |
//!
//! The row that they belong to tells how many bytes there are, and has none of them itself. So
//! neither a statement nor an answer is ever near the longest packet of a server as it is installed.

use bytes::Bytes;
use neo_api::{BackendError, BackendResult, Oid, Record};

use super::error::Failure;
use super::link::{Link, Row};
use super::script::{Script, hex};

pub(super) const VALUE: u8 = 0;
pub(super) const TRANSACTION: u8 = 1;
pub(super) const UNFINISHED: u8 = 2;

/// The longest piece, and the longest value in a row of its own.
pub(super) const PIECE_BYTES: usize = 4 << 20;
/// The longest list of oids in a row, beside metadata.
const OIDS_BYTES: usize = 1 << 20;

/// Kind, a and b.
pub(super) type Whose = (u8, u64, u64);

/// Whether bytes of a kind are in pieces.
pub(super) const fn is_cut(kind: u8, bytes: usize) -> bool {
    bytes
        > if kind == VALUE {
            PIECE_BYTES
        } else {
            OIDS_BYTES
        }
}

/// Adds bytes to a script when they are to be in pieces, with `send` wherever it is full; gives what
/// is in the row.
pub(super) fn put<'a>(
    script: &mut Script,
    (kind, a, b): Whose,
    bytes: &'a [u8],
    mut send: impl FnMut(&mut Script) -> Result<(), Failure>,
) -> Result<&'a [u8], Failure> {
    if !is_cut(kind, bytes.len()) {
        return Ok(bytes);
    }
    for (n, piece) in bytes.chunks(PIECE_BYTES).enumerate() {
        if script.is_full() {
            send(script)?;
        }
        let row = format!("({kind},{a},{b},{n},{})", hex(piece));
        script.row("REPLACE INTO piece VALUES ", "", &row);
    }
    if script.is_full() {
        send(script)?;
    }
    Ok(&[])
}

/// Adds a value.
pub(super) fn put_value(
    script: &mut Script,
    id: u64,
    record: &Record,
    send: impl FnMut(&mut Script) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let inline = put(script, (VALUE, id, 0), &record.data, send)?;
    let row = format!(
        "({id},{},{},{},{},NULL)",
        u8::from(record.compression),
        hex(&record.checksum.0),
        record.data.len(),
        hex(inline)
    );
    script.row("REPLACE INTO data VALUES ", "", &row);
    Ok(())
}

/// What a row has, or what its pieces have.
pub(super) fn whole(
    link: &mut Link,
    whose: Whose,
    bytes: usize,
    inline: Bytes,
) -> BackendResult<Bytes> {
    let (kind, a, b) = whose;
    let whole = if is_cut(kind, bytes) {
        read(link, whose, bytes)?
    } else {
        inline
    };
    if whole.len() == bytes {
        return Ok(whole);
    }
    let found = whole.len();
    Err(BackendError::Corrupt(format!(
        "of {bytes} bytes of kind {kind}, {a}, {b} there are {found}"
    )))
}

/// One after the other: an answer has to fit into a packet.
fn read(link: &mut Link, (kind, a, b): Whose, bytes: usize) -> BackendResult<Bytes> {
    let mut whole = Vec::new();
    for n in 0..bytes.div_ceil(PIECE_BYTES) {
        let text = format!(
            "SELECT value FROM piece WHERE kind = {kind} AND a = {a} AND b = {b} AND n = {n}"
        );
        let piece = link.ask("reading a piece", &text)?.pop();
        match piece.unwrap_or_default().first_mut() {
            Some(row) => whole.extend_from_slice(&Row::bytes(row, 0)?),
            None => break,
        }
    }
    Ok(whole.into())
}

pub(super) fn oid_bytes(oids: &[Oid]) -> Vec<u8> {
    oids.iter().flat_map(|oid| oid.to_bytes()).collect()
}

pub(super) fn oids(bytes: &[u8]) -> BackendResult<Vec<Oid>> {
    let (oids, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        let lost = "oids of a transaction cannot be read".to_owned();
        return Err(BackendError::Corrupt(lost));
    }
    Ok(oids.iter().copied().map(Oid::from_bytes).collect())
}
