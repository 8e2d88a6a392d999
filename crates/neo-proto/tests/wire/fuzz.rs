//! The fuzz targets, for as long as a test may take. `NEO_FUZZ_ITERATIONS` makes it longer.

use neo_proto::{MsgId, Packet, encode};

use crate::arbitrary::Source;
use crate::entry;

/// xorshift64*: the same bytes in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    fn bytes(&mut self, max: usize) -> Vec<u8> {
        let len = self.below(max);
        (0..len).map(|_| (self.next() >> 56) as u8).collect()
    }

    /// A message with some bytes changed, cut or repeated.
    fn mutated(&mut self) -> Vec<u8> {
        let packet: Packet = Source(&self.bytes(300)).any();
        let mut bytes = Vec::new();
        encode(MsgId(self.next()), &packet, &mut bytes);
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[at] = (self.next() >> 56) as u8,
                1 => bytes[at] ^= 1 << self.below(8),
                2 => bytes.truncate(at + 1),
                _ => {
                    let part = bytes[at..].to_vec();
                    bytes.extend(part);
                }
            }
        }
        bytes
    }
}

fn iterations(default: usize) -> usize {
    match std::env::var("NEO_FUZZ_ITERATIONS") {
        Ok(text) => text.parse().expect("NEO_FUZZ_ITERATIONS is a number"),
        Err(_) => default,
    }
}

#[test]
fn frame() {
    let mut random = Random(1);
    for _ in 0..iterations(2000) {
        // Chunks of frames, lengths often small enough to be believed.
        let mut data = Vec::new();
        for _ in 0..random.below(10) {
            let header = random.mutated();
            let payload = random.bytes(400);
            let mut frame = (header.len() as u32).to_be_bytes().to_vec();
            frame.extend((payload.len() as u32).to_be_bytes());
            frame.extend(header);
            frame.extend(payload);
            if random.below(10) == 0 {
                let at = random.below(8);
                frame[at] ^= 1 << random.below(8);
            }
            for chunk in frame.chunks(1 + random.below(200)) {
                data.extend((chunk.len() as u16).to_be_bytes());
                data.extend(chunk);
            }
        }
        entry::frame(&data);
        entry::frame(&random.bytes(500));
    }
}

#[test]
fn packet() {
    let mut random = Random(2);
    for _ in 0..iterations(20_000) {
        entry::packet(&random.mutated());
        entry::packet(&random.bytes(60));
    }
}

#[test]
fn session() {
    let mut random = Random(3);
    for _ in 0..iterations(3000) {
        entry::session(&random.bytes(2000));
    }
}
