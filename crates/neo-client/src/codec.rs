//! Values and records: compression where it helps.

mod lz4;
mod noise;
mod zlib;

use std::str::FromStr;

use bytes::Bytes;
use neo_api::{Compression, OBJECT_BYTES_MAX, Oid, Record};

use crate::error::{Error, Result};

/// How values are compressed before they are sent. Values that do not become smaller are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CompressionSetting {
    /// Not at all.
    Off,
    /// LZ4: hardly slower than nothing, neither when it is written nor when it is read.
    #[default]
    Lz4,
    /// zlib (RFC 1950), which makes less of most values, and takes ten times as long; `level` from 1,
    /// fast, to 9, small.
    Zlib {
        /// 1 to 9; others are brought into the range.
        level: u32,
    },
}

/// A word that is no setting of compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no compression: use off, lz4, zlib, or zlib=1 (fast) to zlib=9 (small)")]
pub struct ParseCompressionError(String);

impl FromStr for CompressionSetting {
    type Err = ParseCompressionError;

    /// `off`, `lz4`, `zlib` (as `zlib=6`), `zlib=1` to `zlib=9`.
    fn from_str(word: &str) -> std::result::Result<Self, ParseCompressionError> {
        let level = word.strip_prefix("zlib=").map(str::parse);
        match (word, level) {
            ("off", _) => Ok(Self::Off),
            ("lz4", _) => Ok(Self::Lz4),
            ("zlib", _) => Ok(Self::Zlib { level: 6 }),
            (_, Some(Ok(level @ 1..=9))) => Ok(Self::Zlib { level }),
            _ => Err(ParseCompressionError(word.to_owned())),
        }
    }
}

/// Shorter values are sent as they are: there is nothing to win.
const COMPRESS_BYTES_MIN: usize = 64;

/// No value is longer than this, neither when it is stored nor by what its compressed form claims:
/// 1 GiB.
const VALUE_BYTES_MAX: usize = 1 << 30;

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
    if value.len() < COMPRESS_BYTES_MIN {
        return Record::raw(value);
    }
    let smaller = match setting {
        CompressionSetting::Off => None,
        CompressionSetting::Lz4 => lz4::compress(&value).map(|it| (Compression::Lz4, it)),
        CompressionSetting::Zlib { .. } if noise::is_noise(&value) => None,
        CompressionSetting::Zlib { level } => {
            zlib::compress(&value, level.clamp(1, 9)).map(|it| (Compression::Zlib, it))
        }
    };
    match smaller {
        Some((compression, smaller)) => Record::new(compression, smaller),
        None => Record::raw(value),
    }
}

/// The value of a record whose checksum is right; `None`: it is no valid stream all the same.
pub(crate) fn decode(record: &Record) -> Option<Bytes> {
    match record.compression {
        Compression::None => Some(record.data.clone()),
        Compression::Zlib => zlib::decompress(&record.data, VALUE_BYTES_MAX),
        Compression::Lz4 => lz4::decompress(&record.data, VALUE_BYTES_MAX),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn settings_have_words() {
        for (word, setting) in [
            ("off", CompressionSetting::Off),
            ("lz4", CompressionSetting::Lz4),
            ("zlib", CompressionSetting::Zlib { level: 6 }),
            ("zlib=9", CompressionSetting::Zlib { level: 9 }),
        ] {
            assert_eq!(word.parse(), Ok(setting));
        }
        for word in ["", "on", "zlib=", "zlib=0", "zlib=10", "gzip", "LZ4 "] {
            let error = word.parse::<CompressionSetting>().unwrap_err().to_string();
            assert!(error.contains("use off, lz4, zlib, or"), "{error}");
        }
    }

    const ON: [(CompressionSetting, Compression); 2] = [
        (CompressionSetting::Lz4, Compression::Lz4),
        (CompressionSetting::Zlib { level: 6 }, Compression::Zlib),
    ];

    #[test]
    fn only_what_becomes_smaller_is_compressed() {
        let long = Bytes::from(vec![7; 1000]);
        let short = Bytes::from(vec![7; COMPRESS_BYTES_MIN - 1]);
        let noise: Vec<u8> = (0u32..400)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        for (setting, compression) in ON {
            let record = pack(long.clone(), setting);
            assert_eq!(record.compression, compression);
            assert!(record.data.len() < 100 && record.is_intact());
            assert_eq!(decode(&record), Some(long.clone()));
            for value in [short.clone(), noise.clone().into()] {
                assert_eq!(pack(value, setting).compression, Compression::None);
            }
        }
        assert_eq!(
            pack(long.clone(), CompressionSetting::Off),
            Record::raw(long)
        );
    }

    #[test]
    fn a_stream_that_is_cut_or_longer_is_refused() {
        for (setting, compression) in ON {
            let record = pack(Bytes::from(vec![1; 5000]), setting);
            let refused = |data: Bytes| {
                assert_eq!(
                    decode(&Record::new(compression, data.clone())),
                    None,
                    "{data:?}"
                );
            };
            for len in 0..record.data.len() {
                refused(record.data.slice(..len));
            }
            let mut longer = record.data.to_vec();
            longer.push(0);
            refused(longer.into());
            refused(Bytes::from_static(b"nonsense"));
            // What would be very long.
            refused(Bytes::from(vec![255; 100]));
        }
    }

    #[test]
    fn what_is_as_long_as_can_be_comes_back() {
        for max in [64, 1 << 16, (1 << 16) + 1, 1 << 20] {
            for (len, fits) in [(max - 1, true), (max, true), (max + 1, false)] {
                let value = Bytes::from(vec![7; len]);
                let packed = [
                    zlib::decompress(&zlib::compress(&value, 6).unwrap(), max),
                    lz4::decompress(&lz4::compress(&value).unwrap(), max),
                ];
                for unpacked in packed {
                    assert_eq!(unpacked, fits.then(|| value.clone()), "{len} of {max}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn values_come_back(seed in proptest::collection::vec(any::<u8>(), 0..200), times in 1usize..300, level in 0u32..12) {
            let value = Bytes::from(seed.repeat(times));
            for setting in [CompressionSetting::Zlib { level }, CompressionSetting::Lz4] {
                let record = pack(value.clone(), setting);
                prop_assert!(record.data.len() <= value.len());
                prop_assert_eq!(decode(&record), Some(value.clone()));
            }
        }

        #[test]
        fn any_bytes_are_a_value_or_refused(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            for (_, compression) in ON {
                let _ = decode(&Record::new(compression, data.clone().into()));
            }
        }
    }
}
