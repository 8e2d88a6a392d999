//! Values and records: compression where it helps.

mod noise;

use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use neo_api::{Compression, Record};

/// How values are compressed before they are sent. Values that do not become smaller are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompressionSetting {
    /// Not at all.
    Off,
    /// zlib (RFC 1950); `level` from 1, fast, to 9, small.
    Zlib {
        /// 1 to 9; others are brought into the range.
        level: u32,
    },
}

impl Default for CompressionSetting {
    fn default() -> Self {
        Self::Zlib { level: 6 }
    }
}

/// Shorter values are sent as they are: there is nothing to win.
const COMPRESS_BYTES_MIN: usize = 64;

/// A value is not longer than this, whatever its compressed form claims: 1 GiB.
const VALUE_BYTES_MAX: usize = 1 << 30;

thread_local! {
    // Their tables are large; a value is short.
    static COMPRESS: RefCell<Option<(u32, Compress)>> = const { RefCell::new(None) };
    static DECOMPRESS: RefCell<Option<Decompress>> = const { RefCell::new(None) };
}

/// The stored form of a value.
pub(crate) fn encode(value: Bytes, setting: CompressionSetting) -> Record {
    match setting {
        CompressionSetting::Zlib { level }
            if value.len() >= COMPRESS_BYTES_MIN && !noise::is_noise(&value) =>
        {
            match deflate(&value, level.clamp(1, 9)) {
                Some(smaller) => Record::new(Compression::Zlib, smaller),
                None => Record::raw(value),
            }
        }
        _ => Record::raw(value),
    }
}

/// The value of a record whose checksum is right; `None`: it is no valid stream all the same.
pub(crate) fn decode(record: &Record) -> Option<Bytes> {
    match record.compression {
        Compression::None => Some(record.data.clone()),
        Compression::Zlib => inflate(&record.data),
    }
}

fn deflate(value: &[u8], level: u32) -> Option<Bytes> {
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

fn inflate(data: &[u8]) -> Option<Bytes> {
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
                Status::StreamEnd if decompress.total_in() == data.len() as u64 => {
                    return Some(Bytes::from(out));
                }
                Status::StreamEnd => return None,
                Status::Ok | Status::BufError => {
                    let full = out.len() == out.capacity();
                    let stuck = (read, written) == (decompress.total_in(), decompress.total_out());
                    if (stuck && !full) || out.len() >= VALUE_BYTES_MAX {
                        return None;
                    }
                    out.reserve(out.len().max(64));
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ON: CompressionSetting = CompressionSetting::Zlib { level: 6 };

    #[test]
    fn only_what_becomes_smaller_is_compressed() {
        let long = Bytes::from(vec![7; 1000]);
        let record = encode(long.clone(), ON);
        assert_eq!(record.compression, Compression::Zlib);
        assert!(record.data.len() < 100 && record.is_intact());
        assert_eq!(decode(&record), Some(long.clone()));
        assert_eq!(
            encode(long, CompressionSetting::Off).compression,
            Compression::None
        );
        let short = Bytes::from(vec![7; COMPRESS_BYTES_MIN - 1]);
        assert_eq!(encode(short, ON).compression, Compression::None);
        let noise: Vec<u8> = (0u32..400)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        assert_eq!(
            encode(Bytes::from(noise), ON).compression,
            Compression::None
        );
    }

    #[test]
    fn a_stream_that_is_cut_or_longer_is_refused() {
        let record = encode(Bytes::from(vec![1; 5000]), ON);
        let cut = record.data.slice(..record.data.len() - 1);
        assert_eq!(decode(&Record::new(Compression::Zlib, cut)), None);
        let mut longer = record.data.to_vec();
        longer.push(0);
        assert_eq!(decode(&Record::new(Compression::Zlib, longer.into())), None);
        assert_eq!(
            decode(&Record::new(
                Compression::Zlib,
                Bytes::from_static(b"nonsense")
            )),
            None
        );
        assert_eq!(decode(&Record::new(Compression::Zlib, Bytes::new())), None);
    }

    proptest! {
        #[test]
        fn values_come_back(seed in proptest::collection::vec(any::<u8>(), 0..200), times in 1usize..300, level in 0u32..12) {
            let value = Bytes::from(seed.repeat(times));
            let record = encode(value.clone(), CompressionSetting::Zlib { level });
            prop_assert!(record.data.len() <= value.len());
            prop_assert_eq!(decode(&record), Some(value));
        }
    }
}
