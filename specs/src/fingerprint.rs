//! A state's fingerprint: 64 bits that stand for it among those that were visited.
//!
//! With n states, two that differ are taken for one with a chance of about n² / 2^65: for 10
//! million, 3 in a million.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::state::State;

pub(crate) fn fingerprint(state: &State) -> u64 {
    let mut hasher = Mixer::default();
    state.hash(&mut hasher);
    hasher.finish()
}

/// A map from fingerprints, which need no more hashing.
pub(crate) type FingerprintMap<V> = std::collections::HashMap<u64, V, BuildHasherDefault<AsItIs>>;

// Each word is multiplied in, which moves its bits up; the rotation at the end of each brings the
// upper ones down again. Both are one to one: nothing is lost between two words.
#[derive(Default)]
struct Mixer(u64);

impl Mixer {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0 ^ word)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(29);
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        let mut last = Self(self.0 ^ self.0 >> 32);
        last.mix(0);
        last.mix(0);
        last.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.mix(value as u64);
    }
}

#[derive(Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are keys");
    }

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }
}
