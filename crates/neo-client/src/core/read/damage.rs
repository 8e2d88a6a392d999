//! Data that matches its checksum on no replica: given out all the same, if the application wants it.

use bytes::Bytes;
use neo_api::{Loaded, Oid, Record, Revision, Tid};
use neo_proto::WireRevision;

use super::{Query, ReadId};
use crate::codec;
use crate::core::ClientCore;
use crate::core::effect::Reply;
use crate::core::page::is_damaged;

/// What a replica has that does not match.
#[derive(Debug)]
pub(super) enum Salvage {
    Loaded(Loaded),
    Page(Reply),
}

impl ClientCore {
    /// Keeps what a replica has, for when no other has it right.
    pub(super) fn keep_damaged(&mut self, id: ReadId, found: Option<Salvage>) {
        if !self.settings.ignore_wrong_checksum {
            return;
        }
        let (Some(read), Some(mut found)) = (self.reads.get_mut(&id), found) else {
            return;
        };
        if let Salvage::Loaded(Loaded::Found(revision)) = &mut found {
            // What was heard is forgotten when another node is asked.
            let serial = revision.serial;
            revision.next_serial = revision.next_serial.or_else(|| read.next_after(serial));
        }
        read.salvage = Some(found);
    }

    /// Answers with what was kept.
    pub(super) fn give_out(&mut self, id: ReadId, found: Salvage) {
        match found {
            Salvage::Page(reply) => self.read_ends(id, Ok(mended_page(reply))),
            Salvage::Loaded(loaded) => {
                let Some(read) = self.reads.get_mut(&id) else {
                    return;
                };
                let Query::Load { oid, .. } = read.query else {
                    return;
                };
                if let Loaded::Found(found) = &loaded {
                    // It was so when the node was asked; others were asked since.
                    read.gap = Some(found.serial);
                }
                self.loaded(id, oid, mended(oid, loaded));
            }
        }
    }
}

fn mended(oid: Oid, loaded: Loaded) -> Loaded {
    match loaded {
        Loaded::Found(found) => Loaded::Found(Revision {
            record: mended_record(oid, found.serial, found.record),
            ..found
        }),
        other => other,
    }
}

fn mended_page(reply: Reply) -> Reply {
    match reply {
        Reply::Revisions {
            revisions,
            complete,
        } => Reply::Revisions {
            revisions: revisions.into_iter().map(mended_revision).collect(),
            complete,
        },
        Reply::Current { revisions, next } => Reply::Current {
            revisions: revisions.into_iter().map(mended_revision).collect(),
            next,
        },
        other => other,
    }
}

fn mended_revision(revision: (WireRevision, Option<Bytes>)) -> (WireRevision, Option<Bytes>) {
    if !is_damaged(&revision) {
        return revision;
    }
    match revision {
        (mut revision, Some(data)) => {
            let value = revision.value.take().map(|mut wire| {
                let record = Record {
                    compression: wire.compression,
                    checksum: wire.checksum,
                    data,
                };
                let record = mended_record(revision.id.oid, revision.id.tid, record);
                wire.compression = record.compression;
                wire.checksum = record.checksum;
                (wire, record.data)
            });
            let (wire, data) = value.unzip();
            revision.value = wire;
            (revision, data)
        }
        other => other,
    }
}

/// The record with a checksum that fits, so that nobody finds it damaged any more.
fn mended_record(oid: Oid, serial: Tid, record: Record) -> Record {
    tracing::warn!(
        %oid, %serial,
        "the data matches its checksum on no replica, and is given out all the same"
    );
    match codec::decode(&record) {
        Some(_) => Record::new(record.compression, record.data),
        None => Record::raw(Bytes::new()),
    }
}
