//! Reads at any position of a file, through one buffer that follows the sequential ones.

use std::io::{self, Read, Seek, SeekFrom};

use bytes::Bytes;

/// Bytes read ahead: enough for the speed of a disk, little enough to be thrown away when
/// transactions are skipped.
const BUFFER_LEN: usize = 256 << 10;

/// A seekable source of bytes, of the length that it had when it was opened.
#[derive(Debug)]
pub(super) struct Source<S> {
    inner: S,
    len: u64,
    /// Where `inner` stands, if it is known.
    cursor: Option<u64>,
    buffer: Vec<u8>,
    /// Position of the buffer's first byte.
    start: u64,
}

impl<S: Read + Seek> Source<S> {
    pub(super) fn new(mut inner: S) -> io::Result<Self> {
        let len = inner.seek(SeekFrom::End(0))?;
        Ok(Self {
            inner,
            len,
            cursor: Some(len),
            buffer: Vec::new(),
            start: 0,
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Reads on from `position`, and ahead.
    pub(super) fn read<const N: usize>(&mut self, position: u64) -> io::Result<[u8; N]> {
        if self.buffered(position, N).is_none() {
            self.fill(position)?;
        }
        let bytes = self
            .buffered(position, N)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut out = [0; N];
        out.copy_from_slice(bytes);
        Ok(out)
    }

    /// Reads on from `position`, and ahead.
    ///
    /// The caller has checked that the source is long enough: `len` bytes are allocated.
    pub(super) fn read_bytes(&mut self, position: u64, len: usize) -> io::Result<Bytes> {
        if len == 0 {
            return Ok(Bytes::new());
        }
        if self.buffered(position, len).is_none() && len <= BUFFER_LEN / 4 {
            self.fill(position)?;
        }
        self.look_bytes(position, len)
    }

    /// Reads elsewhere, without losing what was read ahead.
    pub(super) fn look<const N: usize>(&mut self, position: u64) -> io::Result<[u8; N]> {
        let mut out = [0; N];
        if let Some(bytes) = self.buffered(position, N) {
            out.copy_from_slice(bytes);
            return Ok(out);
        }
        self.seek(position)?;
        self.inner.read_exact(&mut out)?;
        self.cursor = Some(position + N as u64);
        Ok(out)
    }

    /// Reads elsewhere, without losing what was read ahead.
    ///
    /// The caller has checked that the source is long enough: `len` bytes are allocated.
    pub(super) fn look_bytes(&mut self, position: u64, len: usize) -> io::Result<Bytes> {
        if let Some(bytes) = self.buffered(position, len) {
            return Ok(Bytes::copy_from_slice(bytes));
        }
        let mut out = Vec::with_capacity(len);
        self.seek(position)?;
        self.inner.by_ref().take(len as u64).read_to_end(&mut out)?;
        if out.len() < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.cursor = Some(position + len as u64);
        Ok(out.into())
    }

    /// Whether there is nothing but zeros from `position` to the end.
    pub(super) fn is_zero_from(&mut self, mut position: u64) -> io::Result<bool> {
        while position < self.len {
            self.fill(position)?;
            if self.buffer.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if self.buffer.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            position += self.buffer.len() as u64;
        }
        Ok(true)
    }

    fn buffered(&self, position: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(position.checked_sub(self.start)?).ok()?;
        self.buffer.get(from..from.checked_add(len)?)
    }

    /// Makes the buffer begin at `position`; it is shorter than usual at the end only.
    fn fill(&mut self, position: u64) -> io::Result<()> {
        self.buffer.clear();
        self.start = position;
        self.seek(position)?;
        self.buffer.reserve(BUFFER_LEN);
        self.inner
            .by_ref()
            .take(BUFFER_LEN as u64)
            .read_to_end(&mut self.buffer)?;
        self.cursor = Some(position + self.buffer.len() as u64);
        Ok(())
    }

    /// Leaves the cursor unknown, for the case that the read after it fails.
    fn seek(&mut self, position: u64) -> io::Result<()> {
        if self.cursor.take() != Some(position) {
            self.inner.seek(SeekFrom::Start(position))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn reads_in_any_order_agree() {
        let bytes: Vec<u8> = (0..2 * BUFFER_LEN as u32 + 999)
            .map(|n| (n % 251) as u8)
            .collect();
        let mut source = Source::new(Cursor::new(&bytes)).unwrap();
        assert_eq!(source.len(), bytes.len() as u64);
        for position in [
            5,
            BUFFER_LEN - 3,
            7,
            2 * BUFFER_LEN,
            BUFFER_LEN + 1,
            2 * BUFFER_LEN + 991,
        ] {
            let at = position as u64;
            assert_eq!(source.look::<8>(at).unwrap(), bytes[position..][..8]);
            assert_eq!(source.read::<8>(at).unwrap(), bytes[position..][..8]);
            let rest = bytes.len() - position;
            assert_eq!(source.read_bytes(at, rest).unwrap(), bytes[position..]);
            assert_eq!(source.look_bytes(at, 3).unwrap(), bytes[position..][..3]);
            assert!(source.read_bytes(at, rest + 1).is_err());
            assert!(source.look::<8>(at + rest as u64 - 7).is_err());
        }
        assert!(!source.is_zero_from(0).unwrap());
    }
}
