//! zlib streams.

use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

thread_local! {
    // Their tables are large; a value is short.
    static COMPRESS: RefCell<Option<(u32, Compress)>> = const { RefCell::new(None) };
    static DECOMPRESS: RefCell<Option<Decompress>> = const { RefCell::new(None) };
}

/// `None`: it does not become smaller.
pub(super) fn compress(value: &[u8], level: u32) -> Option<Bytes> {
    COMPRESS.with_borrow_mut(|slot| {
        let compress = match slot {
            Some((of, compress)) if *of == level => {
                compress.reset();
                compress
            }
            _ => {
                &mut slot
                    .insert((level, Compress::new(flate2::Compression::new(level), true)))
                    .1
            }
        };
        // No room for what is not smaller.
        let mut out = Vec::with_capacity(value.len() - 1);
        let status = compress
            .compress_vec(value, &mut out, FlushCompress::Finish)
            .ok()?;
        (status == Status::StreamEnd).then(|| {
            out.shrink_to_fit();
            Bytes::from(out)
        })
    })
}

/// `None`: no valid stream, or of more than `bytes_max`.
pub(super) fn decompress(data: &[u8], bytes_max: usize) -> Option<Bytes> {
    DECOMPRESS.with_borrow_mut(|slot| {
        let decompress = match slot {
            Some(decompress) => {
                decompress.reset(true);
                decompress
            }
            None => slot.insert(Decompress::new(true)),
        };
        let mut out = Vec::with_capacity(data.len().saturating_mul(4).clamp(64, 1 << 20));
        loop {
            let (read, written) = (decompress.total_in(), decompress.total_out());
            let rest = data.get(usize::try_from(read).ok()?..)?;
            let status = decompress.decompress_vec(rest, &mut out, FlushDecompress::Finish);
            match status.ok()? {
                Status::StreamEnd
                    if decompress.total_in() == data.len() as u64 && out.len() <= bytes_max =>
                {
                    return Some(Bytes::from(out));
                }
                Status::StreamEnd => return None,
                Status::Ok | Status::BufError => {
                    let full = out.len() == out.capacity();
                    let stuck = (read, written) == (decompress.total_in(), decompress.total_out());
                    if (stuck && !full) || out.len() > bytes_max {
                        return None;
                    }
                    // One byte more than can be: where the stream ends may show only there.
                    let room = (bytes_max - out.len()).saturating_add(1);
                    out.reserve_exact(out.len().max(64).min(room));
                }
            }
        }
    })
}
