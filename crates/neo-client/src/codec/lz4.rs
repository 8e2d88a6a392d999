//! LZ4 blocks, each after its length uncompressed.

use std::cell::RefCell;

use bytes::Bytes;
use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

const LENGTH_BYTES: usize = 4;
/// A block is never longer than this many times what it is compressed to.
const RATIO_MAX: usize = 255;
/// A buffer for longer values is not kept.
const KEPT_BYTES_MAX: usize = 1 << 20;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// `None`: it does not become smaller.
pub(super) fn compress(value: &[u8]) -> Option<Bytes> {
    let len = u32::try_from(value.len()).ok()?;
    BUFFER.with_borrow_mut(|buffer| {
        let room = LENGTH_BYTES + get_maximum_output_size(value.len());
        if buffer.len() < room {
            buffer.resize(room, 0);
        }
        let (prefix, block) = buffer.split_at_mut(LENGTH_BYTES);
        prefix.copy_from_slice(&len.to_le_bytes());
        let packed = LENGTH_BYTES + compress_into(value, block).ok()?;
        let smaller = (packed < value.len()).then(|| Bytes::copy_from_slice(&buffer[..packed]));
        if buffer.len() > KEPT_BYTES_MAX {
            *buffer = Vec::new();
        }
        smaller
    })
}

/// `None`: no valid block, or of more than `bytes_max`.
pub(super) fn decompress(data: &[u8], bytes_max: usize) -> Option<Bytes> {
    let (len, block) = data.split_first_chunk::<LENGTH_BYTES>()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    // No more room than what is there can fill.
    if len > bytes_max || len > block.len().saturating_mul(RATIO_MAX) {
        return None;
    }
    let mut value = vec![0; len];
    let unpacked = decompress_into(block, &mut value).ok()?;
    (unpacked == len).then(|| Bytes::from(value))
}
