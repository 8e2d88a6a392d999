//! What happened, in order: readable when a test fails, a number to compare two runs by.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};

use bytes::Bytes;
use neo_api::Checksum;
use neo_proto::frame::LENGTHS_BYTES;

use super::name::Name;

/// Most entries that are kept to be shown.
const ENTRIES_MAX: usize = 4000;
/// A message is shown up to here.
const SHOWN_CHARS_MAX: usize = 200;

#[derive(Debug, Clone)]
enum Entry {
    /// A frame came; decoded only when it is shown.
    Message { from: Name, to: Name, frame: Bytes },
    /// Anything else.
    Note(String),
}

/// The trace of a run.
#[derive(Debug, Default)]
pub struct Trace {
    /// Nothing is kept but the hash: for thousands of runs, of which one that fails is run again.
    is_terse: bool,
    /// Everything is printed as it happens.
    prints: bool,
    entries: VecDeque<(u64, Option<u64>, Entry)>,
    dropped: u64,
    hash: u64,
}

impl Trace {
    pub(super) fn new(is_terse: bool, prints: bool) -> Self {
        Self {
            is_terse: is_terse && !prints,
            prints,
            ..Self::default()
        }
    }

    /// A number that two runs share only if the same happened at the same times.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The last so many entries, one a line.
    #[must_use]
    pub fn tail(&self, entries: usize) -> String {
        let skipped = self.entries.len().saturating_sub(entries);
        let mut text = String::new();
        for entry in self.entries.iter().skip(skipped) {
            let _ = writeln!(text, "{}", Line(entry));
        }
        text
    }

    pub(super) fn message(
        &mut self,
        at: u64,
        point: Option<u64>,
        ends: (Name, Name),
        bytes: &Bytes,
    ) {
        self.mix(at, bytes);
        if self.is_terse {
            return;
        }
        let (from, to) = ends;
        let frame = bytes.clone();
        self.push(at, point, Entry::Message { from, to, frame });
    }

    /// Something that follows from the messages and faults: its words are not part of the hash.
    pub(super) fn detail(&mut self, at: u64, point: Option<u64>, words: impl FnOnce() -> String) {
        if let Some(point) = point {
            self.mix(at, &point.to_be_bytes());
        }
        if !self.is_terse {
            self.push(at, point, Entry::Note(words()));
        }
    }

    pub(super) fn note(&mut self, at: u64, point: Option<u64>, note: impl Into<String>) {
        let note = note.into();
        self.mix(at, note.as_bytes());
        if !self.is_terse {
            self.push(at, point, Entry::Note(note));
        }
    }

    fn mix(&mut self, at: u64, bytes: &[u8]) {
        let sum = u128::from_be_bytes(Checksum::of(bytes).0) as u64;
        for word in [at, sum] {
            self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    fn push(&mut self, at: u64, point: Option<u64>, entry: Entry) {
        if self.prints {
            println!("{}", Line(&(at, point, entry)));
            return;
        }
        if self.entries.len() == ENTRIES_MAX {
            self.entries.pop_front();
            self.dropped += 1;
        }
        self.entries.push_back((at, point, entry));
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dropped > 0 {
            writeln!(f, "({} earlier entries are not shown)", self.dropped)?;
        }
        for entry in &self.entries {
            writeln!(f, "{}", Line(entry))?;
        }
        writeln!(f, "trace hash {:016x}", self.hash)
    }
}

/// An entry in words.
struct Line<'a>(&'a (u64, Option<u64>, Entry));

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, point, entry) = self.0;
        let (secs, micros) = (at / 1_000_000_000, at / 1000 % 1_000_000);
        write!(f, "{secs:4}.{micros:06} ")?;
        match point {
            Some(point) => write!(f, "#{point:<4} ")?,
            None => write!(f, "      ")?,
        }
        match entry {
            Entry::Message { from, to, frame } => write!(f, "{from} -> {to}  {}", Shown(frame)),
            Entry::Note(note) => match note.char_indices().nth(SHOWN_CHARS_MAX) {
                Some((cut, _)) => write!(f, "{}...", &note[..cut]),
                None => write!(f, "{note}"),
            },
        }
    }
}

/// A frame in words.
struct Shown<'a>(&'a Bytes);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.0;
        let Some((lengths, _)) = frame.split_first_chunk::<LENGTHS_BYTES>() else {
            return write!(f, "{} bytes", frame.len());
        };
        let [a, b, c, d, ..] = *lengths;
        let header = u32::from_be_bytes([a, b, c, d]) as usize;
        let (Some(header), payload) = (
            frame.get(LENGTHS_BYTES..LENGTHS_BYTES + header),
            frame.len().saturating_sub(LENGTHS_BYTES + header),
        ) else {
            return write!(f, "greeting");
        };
        match neo_proto::decode(header) {
            Ok((id, packet)) => {
                let text = format!("{packet:?}");
                match text.char_indices().nth(SHOWN_CHARS_MAX) {
                    Some((cut, _)) => write!(f, "{} {}...", id.0, &text[..cut])?,
                    None => write!(f, "{} {text}", id.0)?,
                }
                if payload > 0 {
                    write!(f, " + {payload} bytes")?;
                }
                Ok(())
            }
            Err(_) => write!(f, "greeting"),
        }
    }
}
