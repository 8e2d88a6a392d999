//! Where fuzzers enter: any bytes, nothing but errors may come of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use neo_api::Instant;
use neo_proto::frame::{Decoder, FrameLimits, encode_head};
use neo_proto::handshake::Versions;
use neo_proto::{Message, MsgId, Packet, Session, SessionEvent, SessionSettings, decode, encode};

use super::arbitrary::Source;

/// Bytes into frames, in any chunks: what comes out is what went in, and nothing is held beyond.
pub(crate) fn frame(data: &[u8]) {
    let mut source = Source(data);
    let mut decoder = Decoder::new();
    decoder.set_limits(FrameLimits {
        header: 1 << 12,
        payload: 1 << 20,
    });
    let (mut fed, mut taken) = (0, 0);
    while !source.is_empty() {
        let chunk = source.bytes(300);
        fed += chunk.len();
        decoder.feed(chunk);
        loop {
            let pending = decoder.pending().len();
            assert_eq!(pending, fed - taken, "nothing is lost");
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    taken += 8 + frame.header.len() + frame.payload.len();
                    assert!(decoder.pending().len() < pending, "it makes progress");
                    drop(decode(&frame.header));
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
        let (buffer, room) = decoder.room();
        assert!(room > 0);
        assert!(
            buffer.capacity() <= (512 << 10).max(2 * buffer.len()),
            "it allocates what came"
        );
    }
}

/// Bytes into a message: one that is understood means the same when it is encoded again.
pub(crate) fn packet(data: &[u8]) {
    if let Ok((id, packet)) = decode(data) {
        let mut bytes = Vec::new();
        encode(id, &packet, &mut bytes);
        assert_eq!(decode(&bytes), Ok((id, packet)));
    }
}

/// A session between a peer that says anything and a core that does anything.
pub(crate) fn session(data: &[u8]) {
    let mut source = Source(data);
    let settings = Arc::new(SessionSettings {
        credit_window_bytes: 1000,
        control_bytes_max: 10_000,
        held_bytes_max: 2000,
        inbox_bytes_max: 2000,
        requests_max: 50,
        invalidations_max: 5,
        first_frame_bytes_max: 5000,
        ..SessionSettings::default()
    });
    let mut now = Instant(0);
    let mut session = Session::new(now, settings, source.any());
    let mut is_open = false;
    if source.any() {
        session.receive(now, &Versions::OWN.greeting());
    }
    while !source.is_empty() {
        match source.below(8) {
            0 => session.receive(now, source.bytes(100)),
            1 | 2 => {
                let frame = any_frame(&mut source);
                if session.wants_bytes() {
                    session.receive(now, &frame);
                }
            }
            3 | 4 => {
                let packet: Packet = source.any();
                let payload = Bytes::from(vec![0; source.below(800)]);
                let message = Message::with_payload(MsgId(source.any()), packet, payload);
                session.send(now, message);
            }
            5 => session.consumed(source.any()),
            6 => {
                now = now + Duration::from_millis(source.any::<u16>().into());
                session.handle_timeout(now);
            }
            _ => {
                for _ in 0..source.below(5) {
                    if session.poll_transmit(now).is_none() {
                        break;
                    }
                }
            }
        }
        // Every event takes bytes that came, or ends the session: they end.
        while let Some(event) = session.poll_event() {
            match event {
                SessionEvent::Open(version) => {
                    assert!(!is_open && version == 1);
                    is_open = true;
                }
                SessionEvent::Message(message) => {
                    assert!(is_open);
                    session.consumed(message.payload.len() as u64 / 2);
                }
                SessionEvent::Failed(error) => {
                    assert!(!error.to_string().is_empty());
                    assert_eq!(session.poll_event(), None);
                    while session.poll_transmit(now).is_some() {}
                    return;
                }
            }
        }
    }
}

fn any_frame(source: &mut Source<'_>) -> Vec<u8> {
    let packet: Packet = source.any();
    let id = MsgId(source.any::<u64>() & 0x3f);
    let payload = if source.any() { source.below(1200) } else { 0 };
    let mut bytes = Vec::new();
    encode_head(id, &packet, payload, &mut bytes).expect("the message is short");
    bytes.resize(bytes.len() + payload, 0);
    // Some bits may have fallen over.
    if source.below(8) == 1 {
        let at = source.below(bytes.len());
        bytes[at] ^= source.byte();
    }
    bytes
}
