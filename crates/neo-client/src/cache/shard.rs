//! One shard of the cache: an index, and who stays.
//!
//! Eviction is S3-FIFO's: entries start in a small queue; those that were read again meanwhile go
//! on to the main queue, where they get another round for each read, up to three; the others leave,
//! and their oids are remembered for a while, to start in the main queue next time. A new revision
//! of an object inherits the reads of the one before.
//!
//! # Source
//! Yang et al., "FIFO queues are all you need for cache eviction" (SOSP 2023); NEO's cache for the
//! inheritance.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use bytes::Bytes;
use neo_api::{Oid, Record, Tid};

use super::{ENTRY_BYTES, Hit, Value};
use crate::core::Validity;

/// Oids are numbers, mostly in sequence: one multiplication spreads them.
#[derive(Debug, Default)]
pub(super) struct OidHasher(u64);

impl Hasher for OidHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, n: u64) {
        let product = u128::from(n ^ 0x2545_f491_4f6c_dd1d) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

type OidHash = BuildHasherDefault<OidHasher>;

/// Most reads that an entry is remembered for.
const READS_MAX: u8 = 3;

/// Resyncs that are remembered one by one; then everything is forgotten.
const RESYNCS_MAX: usize = 4096;

/// An end of a list.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
enum End {
    /// The newest, unless a resync came since: its number.
    Current(u32),
    /// The next revision.
    Next(Tid),
    /// Valid before it; nothing is known beyond.
    Known(Tid),
}

#[derive(Debug)]
struct Entry {
    oid: Oid,
    serial: Tid,
    end: End,
    value: Value,
    /// The next older revision of the object that is cached.
    older: u32,
    /// Number of the slot's use: queues name a slot with it.
    life: u32,
    reads: u8,
    used: bool,
}

#[derive(Debug)]
pub(super) struct Shard {
    /// The newest cached revision of each object.
    index: HashMap<Oid, u32, OidHash>,
    slots: Vec<Entry>,
    free: Vec<u32>,
    small: VecDeque<(u32, u32)>,
    main: VecDeque<(u32, u32)>,
    small_bytes: usize,
    bytes: usize,
    bytes_max: usize,
    /// Oids that left the small queue, oldest first.
    ghosts: VecDeque<Oid>,
    ghost_set: HashSet<Oid, OidHash>,
    /// For each resync: what was current is valid before this tid.
    resyncs: Vec<Tid>,
}

impl Shard {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            index: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            small_bytes: 0,
            bytes: 0,
            bytes_max,
            ghosts: VecDeque::new(),
            ghost_set: HashSet::default(),
            resyncs: Vec::new(),
        }
    }

    pub(super) const fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    const fn now(&self) -> u32 {
        self.resyncs.len() as u32
    }

    fn end(&self, end: End) -> End {
        match end {
            End::Current(at) if at == self.now() => end,
            End::Current(at) => End::Known(self.resyncs[at as usize]),
            end => end,
        }
    }

    fn find(&self, oid: Oid, mut wanted: impl FnMut(&Entry) -> bool) -> Option<u32> {
        let mut at = self.index.get(&oid).copied().unwrap_or(NONE);
        while at != NONE {
            let entry = &self.slots[at as usize];
            if wanted(entry) {
                return Some(at);
            }
            at = entry.older;
        }
        None
    }

    fn hit(&mut self, at: u32) -> Hit {
        let end = self.end(self.slots[at as usize].end);
        let entry = &mut self.slots[at as usize];
        entry.reads = (entry.reads + 1).min(READS_MAX);
        let (next_serial, next_is_known) = match end {
            End::Current(_) => (None, true),
            End::Next(tid) => (Some(tid), true),
            End::Known(_) => (None, false),
        };
        Hit {
            serial: entry.serial,
            next_serial,
            next_is_known,
            value: entry.value.clone(),
        }
    }

    pub(super) fn get(&mut self, oid: Oid, before: Tid) -> Option<Hit> {
        let at = self.find(oid, |entry| entry.serial < before)?;
        let valid = match self.end(self.slots[at as usize].end) {
            End::Current(_) => true,
            End::Next(end) | End::Known(end) => before <= end,
        };
        valid.then(|| self.hit(at))
    }

    pub(super) fn get_exact(&mut self, oid: Oid, serial: Tid) -> Option<Hit> {
        let at = self.find(oid, |entry| entry.serial <= serial)?;
        (self.slots[at as usize].serial == serial).then(|| self.hit(at))
    }

    pub(super) fn insert(&mut self, oid: Oid, serial: Tid, value: Value, validity: Validity) {
        let end = match validity {
            Validity::Current => End::Current(self.now()),
            Validity::Until(next) => End::Next(next),
            Validity::AtLeast(before) if before > serial => End::Known(before),
            Validity::AtLeast(_) => return,
        };
        let newest = self.index.get(&oid).copied().unwrap_or(NONE);
        if let Some(at) = self.find(oid, |entry| entry.serial <= serial)
            && self.slots[at as usize].serial == serial
        {
            let known = self.end(self.slots[at as usize].end);
            self.slots[at as usize].end = better(known, end);
            return;
        }
        let cost = value.bytes() + ENTRY_BYTES;
        let is_newest = newest == NONE || self.slots[newest as usize].serial < serial;
        // A revision that has a later one is not current, whatever is said.
        if cost > self.bytes_max || (!is_newest && matches!(end, End::Current(_))) {
            return;
        }
        let mut reads = 0;
        if is_newest && newest != NONE {
            let end = self.end(self.slots[newest as usize].end);
            let old = &mut self.slots[newest as usize];
            reads = std::mem::take(&mut old.reads);
            old.end = end;
            if matches!(end, End::Current(_)) {
                // It is not current, and its change was not told: it is of no use.
                self.remove(newest);
            }
        }
        let at = self.allocate(Entry {
            oid,
            serial,
            end,
            value,
            older: NONE,
            life: 0,
            reads,
            used: true,
        });
        self.link(at);
        self.bytes += cost;
        let name = (at, self.slots[at as usize].life);
        if reads > 0 || self.ghost_set.contains(&oid) {
            self.main.push_back(name);
        } else {
            self.small.push_back(name);
            self.small_bytes += cost;
        }
        self.evict();
    }

    pub(super) fn unpack(&mut self, oid: Oid, serial: Tid, record: &Record, value: &Bytes) {
        let Some(at) = self.find(oid, |entry| entry.serial == serial) else {
            return;
        };
        let entry = &mut self.slots[at as usize];
        match &entry.value {
            // The same serial may be another revision, after everything was forgotten.
            Value::Stored(stored) if stored.checksum == record.checksum => {}
            _ => return,
        }
        let (old, new) = (entry.value.bytes(), value.len());
        if new + ENTRY_BYTES > self.bytes_max {
            return;
        }
        entry.value = Value::Plain(value.clone());
        self.bytes = self.bytes - old + new;
        // The small queue is measured with what entries had when they came: it is only a share.
        self.evict();
    }

    pub(super) fn invalidate(&mut self, oid: Oid, tid: Tid) {
        let Some(newest) = self.index.get(&oid).copied() else {
            return;
        };
        let now = self.now();
        let entry = &mut self.slots[newest as usize];
        if matches!(entry.end, End::Current(at) if at == now) && entry.serial < tid {
            entry.end = End::Next(tid);
        }
    }

    pub(super) fn resync(&mut self, known: Tid) {
        if self.resyncs.len() == RESYNCS_MAX {
            *self = Self::new(self.bytes_max);
            return;
        }
        self.resyncs.push(Tid(known.0.saturating_add(1)));
    }

    fn allocate(&mut self, mut entry: Entry) -> u32 {
        if let Some(at) = self.free.pop() {
            entry.life = self.slots[at as usize].life.wrapping_add(1);
            self.slots[at as usize] = entry;
            return at;
        }
        let at = u32::try_from(self.slots.len()).unwrap_or(NONE);
        assert!(
            at != NONE,
            "a shard has less than 2^32 entries of 128 bytes at least"
        );
        self.slots.push(entry);
        at
    }

    /// Puts an entry into its object's list, newest first.
    fn link(&mut self, at: u32) {
        let (oid, serial) = {
            let entry = &self.slots[at as usize];
            (entry.oid, entry.serial)
        };
        let head = self.index.get(&oid).copied().unwrap_or(NONE);
        if head == NONE || self.slots[head as usize].serial < serial {
            self.slots[at as usize].older = head;
            self.index.insert(oid, at);
            return;
        }
        let mut before = head;
        loop {
            let older = self.slots[before as usize].older;
            if older == NONE || self.slots[older as usize].serial < serial {
                self.slots[at as usize].older = older;
                self.slots[before as usize].older = at;
                return;
            }
            before = older;
        }
    }

    fn remove(&mut self, at: u32) {
        let (oid, older) = {
            let entry = &mut self.slots[at as usize];
            entry.used = false;
            (entry.oid, entry.older)
        };
        self.bytes -= self.slots[at as usize].value.bytes() + ENTRY_BYTES;
        self.slots[at as usize].value = Value::Deleted;
        let head = self.index.get(&oid).copied().unwrap_or(NONE);
        if head == at {
            if older == NONE {
                self.index.remove(&oid);
            } else {
                self.index.insert(oid, older);
            }
        } else {
            let mut before = head;
            while self.slots[before as usize].older != at {
                before = self.slots[before as usize].older;
            }
            self.slots[before as usize].older = older;
        }
        self.free.push(at);
    }

    fn is_alive(&self, (at, life): (u32, u32)) -> bool {
        let entry = &self.slots[at as usize];
        entry.used && entry.life == life
    }

    fn evict(&mut self) {
        while self.bytes > self.bytes_max {
            let small_first = self.small_bytes > self.bytes_max / 10 || self.main.is_empty();
            let from_small = small_first && !self.small.is_empty();
            let queue = if from_small {
                &mut self.small
            } else {
                &mut self.main
            };
            let Some(name) = queue.pop_front() else {
                return;
            };
            if self.small.is_empty() {
                self.small_bytes = 0;
            }
            if !self.is_alive(name) {
                continue;
            }
            let at = name.0;
            let (oid, reads, cost) = {
                let entry = &self.slots[at as usize];
                (entry.oid, entry.reads, entry.value.bytes() + ENTRY_BYTES)
            };
            if from_small {
                self.small_bytes = self.small_bytes.saturating_sub(cost);
            }
            if reads > 0 {
                let entry = &mut self.slots[at as usize];
                entry.reads = if from_small { 0 } else { reads - 1 };
                self.main.push_back(name);
                continue;
            }
            self.remove(at);
            if from_small {
                self.remember(oid);
            }
        }
        self.compact();
    }

    fn remember(&mut self, oid: Oid) {
        if self.ghost_set.insert(oid) {
            self.ghosts.push_back(oid);
        }
        // As many as there are entries: what would be there if the cache were twice as large.
        while self.ghosts.len() > self.index.len() + 64 {
            if let Some(oid) = self.ghosts.pop_front() {
                self.ghost_set.remove(&oid);
            }
        }
    }

    /// Names of removed entries must not fill the queues.
    fn compact(&mut self) {
        let alive = self.slots.len() - self.free.len();
        if self.small.len() + self.main.len() <= 2 * alive + 64 {
            return;
        }
        let (slots, small, main) = (&self.slots, &mut self.small, &mut self.main);
        let is_alive = |name: &(u32, u32)| {
            let entry = &slots[name.0 as usize];
            entry.used && entry.life == name.1
        };
        small.retain(is_alive);
        main.retain(is_alive);
    }
}

/// What two sources tell of one revision: what is known for certain wins.
const fn better(known: End, told: End) -> End {
    match (known, told) {
        // An interval that was closed is not opened by an answer that is late.
        (End::Next(_), _) | (End::Current(_), End::Current(_) | End::Known(_)) => known,
        (End::Known(a), End::Known(b)) => {
            if a.0 >= b.0 {
                known
            } else {
                told
            }
        }
        (End::Known(_), End::Current(_)) | (_, End::Next(_)) => told,
    }
}
