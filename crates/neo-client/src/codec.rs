//! Values and records: compression where it helps.

mod noise;

use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use neo_api::{Compression, OBJECT_BYTES_MAX, Oid, Record};

use crate::error::{Error, Result};

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

/// No value is longer than this, neither when it is stored nor by what its compressed form claims:
/// 1 GiB.
const VALUE_BYTES_MAX: usize = 1 << 30;

thread_local! {
    // Their tables are large; a value is short.
    static COMPRESS: RefCell<Option<(u32, Compress)>> = const { RefCell::new(None) };
    static DECOMPRESS: RefCell<Option<Decompress>> = const { RefCell::new(None) };
}

/// The stored form of an object's value, within the limits of both forms.
pub(crate) fn encode(oid: Oid, value: Bytes, setting: CompressionSetting) -> Result<Record> {
    let len = value.len();
    // What is longer could not be read again, however short its stored form is.
    if len > VALUE_BYTES_MAX {
        return Err(Error::TooLarge(format!(
            "object {oid} has {len} bytes uncompressed, at most {VALUE_BYTES_MAX} can be: store it \
             in parts"
        )));
    }
    let record = pack(value, setting);
    let len = record.data.len();
    if len > OBJECT_BYTES_MAX {
        return Err(Error::TooLarge(format!(
            "object {oid} has {len} bytes, at most {OBJECT_BYTES_MAX} can be: store it in parts"
        )));
    }
    Ok(record)
}

fn pack(value: Bytes, setting: CompressionSetting) -> Record {
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
        Compression::Zlib => inflate(&record.data, VALUE_BYTES_MAX),
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

/// `None`: no valid stream, or of more than `bytes_max`.
fn inflate(data: &[u8], bytes_max: usize) -> Option<Bytes> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ON: CompressionSetting = CompressionSetting::Zlib { level: 6 };

    #[test]
    fn only_what_becomes_smaller_is_compressed() {
        let long = Bytes::from(vec![7; 1000]);
        let record = pack(long.clone(), ON);
        assert_eq!(record.compression, Compression::Zlib);
        assert!(record.data.len() < 100 && record.is_intact());
        assert_eq!(decode(&record), Some(long.clone()));
        assert_eq!(
            pack(long, CompressionSetting::Off).compression,
            Compression::None
        );
        let short = Bytes::from(vec![7; COMPRESS_BYTES_MIN - 1]);
        assert_eq!(pack(short, ON).compression, Compression::None);
        let noise: Vec<u8> = (0u32..400)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        assert_eq!(pack(Bytes::from(noise), ON).compression, Compression::None);
    }

    #[test]
    fn a_stream_that_is_cut_or_longer_is_refused() {
        let record = pack(Bytes::from(vec![1; 5000]), ON);
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

    #[test]
    fn what_is_as_long_as_can_be_comes_back() {
        for max in [64, 1 << 16, (1 << 16) + 1, 1 << 20] {
            for (len, fits) in [(max - 1, true), (max, true), (max + 1, false)] {
                let value = Bytes::from(vec![7; len]);
                let packed = deflate(&value, 6).unwrap();
                assert_eq!(
                    inflate(&packed, max),
                    fits.then_some(value),
                    "{len} of {max}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn values_come_back(seed in proptest::collection::vec(any::<u8>(), 0..200), times in 1usize..300, level in 0u32..12) {
            let value = Bytes::from(seed.repeat(times));
            let record = pack(value.clone(), CompressionSetting::Zlib { level });
            prop_assert!(record.data.len() <= value.len());
            prop_assert_eq!(decode(&record), Some(value));
        }
    }
}
