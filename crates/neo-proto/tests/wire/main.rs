//! What travels, made of any bytes: codec, frames, sessions.

mod arbitrary;
mod entry;
mod fuzz;
mod golden;
mod pair;

use arbitrary::{MAKERS, Source};
use bytes::Bytes;
use neo_proto::frame::{Decoder, encode_head};
use neo_proto::{MsgId, Packet, decode, encode};
use proptest::collection::vec;
use proptest::prelude::*;

#[test]
fn every_message_is_made() {
    let made: Vec<&str> = MAKERS.iter().map(|(name, _)| *name).collect();
    let names: Vec<&str> = Packet::CODES.iter().map(|(_, name)| *name).collect();
    assert_eq!(made, names);
    for ((_, make), (code, name)) in MAKERS.iter().zip(Packet::CODES) {
        let packet = make(&mut Source(&[]));
        assert_eq!((packet.code(), packet.name()), (*code, *name));
    }
}

fn any_bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..max)
}

proptest! {
    #[test]
    fn every_message_comes_back(bytes in any_bytes(300), id: u64) {
        for (name, make) in MAKERS {
            let packet = make(&mut Source(&bytes));
            let mut encoded = Vec::new();
            encode(MsgId(id), &packet, &mut encoded);
            prop_assert_eq!(decode(&encoded), Ok((MsgId(id), packet)), "{}", name);
        }
    }

    #[test]
    fn frames_come_back_whatever_the_chunks(
        messages in vec((any_bytes(200), 0usize..3000), 1..20),
        chunks in vec(1usize..2000, 1..20),
    ) {
        let mut wire = Vec::new();
        let mut expected = Vec::new();
        for (n, (bytes, payload)) in messages.iter().enumerate() {
            let (id, packet) = (MsgId(n as u64), Source(bytes).any::<Packet>());
            let payload = Bytes::from(vec![n as u8; *payload]);
            encode_head(id, &packet, payload.len(), &mut wire).unwrap();
            wire.extend(&payload);
            expected.push((id, packet, payload));
        }
        let mut decoder = Decoder::new();
        let mut came = Vec::new();
        let mut rest = &wire[..];
        for chunk in chunks.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, after) = rest.split_at((*chunk).min(rest.len()));
            decoder.feed(part);
            rest = after;
            while let Some(frame) = decoder.next_frame().unwrap() {
                let (id, packet) = decode(&frame.header).unwrap();
                came.push((id, packet, frame.payload));
            }
        }
        prop_assert_eq!(came, expected);
        prop_assert!(decoder.pending().is_empty());
    }
}
