//! Rows of sled's tree.
//!
//! | key | value |
//! | --- | --- |
//! | `space u8, key` | `00, value`; or `01, length u64`, when it is cut in pieces |
//! | `80 + space u8, key, n u32` | the n-th piece of that value, 3 KiB but for the last |
//! | `ff` | the format |
//!
//! Integers are big-endian.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use neo_api::{BackendError, BackendResult, KeyRange, KvBatch, KvOp, Space};

/// Bytes of a piece. A page of sled has some twenty rows, and has to fit into a quarter of a
/// segment of its log, 128 KiB: what does not goes to a file of its own, which sled does not sync.
const PIECE_BYTES: usize = 3 << 10;

/// The key of the format.
pub(super) const FORMAT_KEY: &[u8] = &[0xff];

/// Set in the space of pieces.
const PIECE: u8 = 0x80;

const WHOLE: u8 = 0;
const IN_PIECES: u8 = 1;

/// What a row has.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Row<'a> {
    Whole(&'a [u8]),
    /// So many bytes, in pieces.
    Pieces(u64),
}

pub(super) fn key(space: Space, key: &[u8]) -> Vec<u8> {
    [&[space as u8], key].concat()
}

pub(super) fn piece_key(space: Space, key: &[u8], n: u32) -> Vec<u8> {
    [&[PIECE | space as u8], key, &n.to_be_bytes()].concat()
}

/// Rows of the keys of a range; `None` when there can be none.
pub(super) fn range(space: Space, (from, to): KeyRange) -> Option<KeyRange> {
    if let (Bound::Excluded(from), Bound::Excluded(to) | Bound::Included(to))
    | (Bound::Included(from), Bound::Excluded(to)) = (&from, &to)
        && from >= to
    {
        return None;
    }
    let from = match from {
        Bound::Unbounded => Bound::Included(key(space, &[])),
        bound => bound.map(|bound| key(space, &bound)),
    };
    let to = match to {
        Bound::Unbounded => Bound::Excluded(vec![space as u8 + 1]),
        bound => bound.map(|bound| key(space, &bound)),
    };
    Some((from, to))
}

/// How many pieces a value of so many bytes has that is cut.
pub(super) fn pieces(length: u64) -> u32 {
    u32::try_from(length.div_ceil(PIECE_BYTES as u64)).unwrap_or(u32::MAX)
}

pub(super) fn decode(row: &[u8]) -> BackendResult<Row<'_>> {
    match row.split_first() {
        Some((&WHOLE, value)) => return Ok(Row::Whole(value)),
        Some((&IN_PIECES, length)) => {
            if let Ok(length) = length.try_into() {
                return Ok(Row::Pieces(u64::from_be_bytes(length)));
            }
        }
        _ => {}
    }
    Err(BackendError::Corrupt("a row of no known kind".to_owned()))
}

pub(super) fn lost_piece(space: Space, n: u32) -> BackendError {
    let space = space.name();
    BackendError::Corrupt(format!("piece {n} of a value in {space} is missing"))
}

/// The last write of each key of a batch.
pub(super) fn last_of_each(batch: KvBatch) -> BTreeMap<(Space, Vec<u8>), Option<Bytes>> {
    let pair = |op| match op {
        KvOp::Put(space, key, value) => ((space, key), Some(value)),
        KvOp::Delete(space, key) => ((space, key), None),
    };
    batch.ops.into_iter().map(pair).collect()
}

/// Adds what makes a value that of a key, which has some pieces before.
pub(super) fn write(
    rows: &mut sled::Batch,
    space: Space,
    name: &[u8],
    value: Option<Bytes>,
    pieces_before: u32,
) {
    let mut count = 0;
    match value {
        None => rows.remove(key(space, name)),
        Some(value) if value.len() <= PIECE_BYTES => {
            rows.insert(key(space, name), [&[WHOLE], &value[..]].concat());
        }
        Some(value) => {
            let length = (value.len() as u64).to_be_bytes();
            rows.insert(key(space, name), [&[IN_PIECES][..], &length].concat());
            for piece in value.chunks(PIECE_BYTES) {
                rows.insert(piece_key(space, name, count), piece);
                count += 1;
            }
        }
    }
    for n in count..pieces_before {
        rows.remove(piece_key(space, name, n));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_makes_no_sense_is_damage() {
        assert_eq!(decode(&[WHOLE, 7]).unwrap(), Row::Whole(&[7]));
        assert_eq!(
            decode(&[1, 0, 0, 0, 0, 0, 0, 1, 2]).unwrap(),
            Row::Pieces(258)
        );
        for row in [&[][..], &[2], &[1], &[1, 0, 0, 0, 0, 0, 0, 0, 1, 2]] {
            let error = decode(row).unwrap_err();
            assert!(
                matches!(error, BackendError::Corrupt(_)),
                "{row:?}: {error}"
            );
        }
    }

    #[test]
    fn pieces_of_two_keys_are_never_the_same() {
        let (short, long) = (vec![1], vec![1, 0, 0, 0, 5]);
        assert_ne!(
            piece_key(Space::Data, &short, 5),
            piece_key(Space::Data, &long, 5)
        );
        assert!(Space::ALL.iter().all(|space| (*space as u8) < PIECE - 1));
    }
}
