//! What the back pointers of records lead to.

use std::io::{Read, Seek};

use super::Reader;
use crate::filestorage::error::Error;
use crate::filestorage::format::{BACK_POINTER_LEN, MAGIC_LEN, RECORD_HEADER_LEN, RecordHeader};
use crate::filestorage::record::Data;

impl<S: Read + Seek> Reader<S> {
    /// Follows the back pointer of the record at `position`. Every step goes to a whole record
    /// before the last one, so that there is an end to it.
    ///
    /// A pointer names a transaction in what this gives: only if the record that it points to is
    /// the object's last one there. ZODB writes no others; what one of them gives is told as new
    /// data, and not as the state that another record has.
    pub(super) fn resolve(
        &mut self,
        position: u64,
        header: &RecordHeader,
        first_pointer: u64,
    ) -> Result<Data, Error> {
        const LEN: usize = RECORD_HEADER_LEN + BACK_POINTER_LEN;
        let (oid, mut pointer) = (header.oid, first_pointer);
        let (mut bound, mut tid, mut data_tid) = (position, header.tid, None);
        while pointer != 0 {
            if pointer < MAGIC_LEN || pointer >= bound.saturating_sub(RECORD_HEADER_LEN as u64) {
                let what = format!("object {oid} points to {pointer}, which is no earlier record");
                return Err(self.corrupt(position, what));
            }
            // Also behind a target of less than a back pointer's length there are that many bytes:
            // the record at `bound`.
            let bytes: [u8; LEN] = self.source.look(pointer).map_err(|e| self.io(pointer, e))?;
            let (target, after) = split_header(&bytes);
            let start = pointer + RECORD_HEADER_LEN as u64;
            let fits = target.payload_len() <= bound - start;
            if target.oid != oid || target.tid > tid || target.version_len != 0 || !fits {
                let what = format!("object {oid} points to {pointer}, which is no record of it");
                return Err(self.corrupt(position, what));
            }
            let first = *data_tid.get_or_insert(target.tid);
            if target.data_len > 0 {
                let len = self.to_len(pointer, target.data_len)?;
                let data = self.source.look_bytes(start, len);
                let data = data.map_err(|e| self.io(start, e))?;
                return Ok(if self.is_linked(header, first_pointer)? {
                    Data::BackPointer {
                        data_tid: first,
                        data,
                    }
                } else {
                    Data::Data(data)
                });
            }
            (bound, tid, pointer) = (pointer, target.tid, after);
        }
        if data_tid.is_some() && !self.is_linked(header, first_pointer)? {
            data_tid = None;
        }
        Ok(Data::Deleted { data_tid })
    }

    /// Whether the chain of an object's records leads from this one to the one at `position`: it
    /// has the last one of each transaction.
    fn is_linked(&mut self, header: &RecordHeader, position: u64) -> Result<bool, Error> {
        let mut at = header.previous;
        while at > position {
            let bytes = self.source.look(at).map_err(|e| self.io(at, e))?;
            let earlier = RecordHeader::parse(&bytes);
            if earlier.oid != header.oid || earlier.previous >= at {
                return Ok(false);
            }
            at = earlier.previous;
        }
        Ok(at == position)
    }
}

/// A record's header and the back pointer behind it.
fn split_header(bytes: &[u8; RECORD_HEADER_LEN + BACK_POINTER_LEN]) -> (RecordHeader, u64) {
    let mut header = [0; RECORD_HEADER_LEN];
    let mut pointer = [0; BACK_POINTER_LEN];
    header.copy_from_slice(&bytes[..RECORD_HEADER_LEN]);
    pointer.copy_from_slice(&bytes[RECORD_HEADER_LEN..]);
    (RecordHeader::parse(&header), u64::from_be_bytes(pointer))
}
