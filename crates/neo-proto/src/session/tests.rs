use std::time::Duration;

use neo_api::{At, Oid, Reign, Tid, TxnId};

use super::*;
use crate::frame;
use crate::packet::{ObjectAnswer, Oids};

fn at(millis: u64) -> Instant {
    Instant(millis * 1_000_000)
}

fn settings() -> SessionSettings {
    SessionSettings {
        credit_window_bytes: 1000,
        ..SessionSettings::default()
    }
}

fn ask() -> Packet {
    Packet::AskObject {
        oid: Oid(1),
        at: At::Latest,
    }
}

fn answer() -> Packet {
    Packet::AnswerObject {
        oid: Oid(1),
        answer: ObjectAnswer::NotYet,
    }
}

fn unlock(n: u64) -> Packet {
    Packet::NotifyUnlockInformation {
        txn: TxnId {
            reign: Reign(1),
            ttid: Tid(n),
        },
    }
}

fn invalidate(tid: u64) -> Packet {
    Packet::InvalidateObjects {
        tid: Tid(tid),
        oids: Oids(vec![Oid(1)]),
    }
}

fn with(id: u64, packet: Packet, payload: usize) -> Message {
    Message::with_payload(MsgId(id), packet, vec![1; payload].into())
}

fn session(settings: SessionSettings) -> Session {
    Session::new(at(0), Arc::new(settings), false)
}

/// Everything that a session sends now.
fn sent(session: &mut Session, now: Instant) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = session.poll_transmit(now) {
        bytes.extend(piece);
    }
    bytes
}

/// What frames say: name and id.
fn names(bytes: &[u8]) -> Vec<(&'static str, u64)> {
    let mut decoder = Decoder::new();
    decoder.feed(bytes);
    let mut names = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        let (id, packet) = codec::decode(&frame.header).unwrap();
        names.push((packet.name(), id.0));
    }
    assert!(decoder.pending().is_empty());
    names
}

fn events(session: &mut Session) -> Vec<SessionEvent> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

fn frame_of(id: u64, packet: &Packet, payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode_head(MsgId(id), packet, payload, &mut bytes).unwrap();
    bytes.resize(bytes.len() + payload, 1);
    bytes
}

/// A session that has been greeted, and has sent its own greeting.
fn open(settings: SessionSettings) -> Session {
    let mut session = session(settings);
    session.receive(at(0), &Versions::OWN.greeting());
    assert_eq!(events(&mut session), [SessionEvent::Open(1)]);
    let bytes = sent(&mut session, at(0));
    assert_eq!(bytes[..GREETING_BYTES], Versions::OWN.greeting());
    assert_eq!(names(&bytes[GREETING_BYTES..]), [("Credit", 0)]);
    session
}

fn credit(session: &mut Session, bytes: u64) {
    let frame = frame_of(0, &Packet::Credit { bytes }, 0);
    session.receive(at(0), &frame);
    assert_eq!(events(session), []);
}

fn failure(session: &mut Session) -> String {
    match &events(session)[..] {
        [.., SessionEvent::Failed(error)] => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_but_the_greeting_goes_before_the_peers() {
    let mut s = session(settings());
    s.send(at(0), Message::notify(unlock(1)));
    assert_eq!(sent(&mut s, at(0)), Versions::OWN.greeting());
    s.receive(at(0), b"HTTP/1.1 ");
    assert!(failure(&mut s).contains("HTTP"));
    assert_eq!(sent(&mut s, at(0)), b"");
}

#[test]
fn object_bytes_wait_for_credit_and_are_overtaken() {
    let mut s = open(settings());
    for id in 1..4 {
        s.send(at(0), with(id, ask(), 600));
    }
    s.send(at(0), Message::new(MsgId(4), ask()));
    assert_eq!(names(&sent(&mut s, at(0))), [("AskObject", 4)]);
    // The second overdraws; the third waits until the debt is paid.
    credit(&mut s, 700);
    s.send(at(0), Message::notify(unlock(1)));
    assert_eq!(
        names(&sent(&mut s, at(0))),
        [
            ("NotifyUnlockInformation", 0),
            ("AskObject", 1),
            ("AskObject", 2)
        ]
    );
    credit(&mut s, 500);
    assert!(s.is_idle() && !s.is_flushed());
    credit(&mut s, 1);
    assert_eq!(names(&sent(&mut s, at(0))), [("AskObject", 3)]);
    assert!(s.is_flushed());
}

#[test]
fn a_large_payload_is_sent_as_it_is() {
    let mut s = open(settings());
    credit(&mut s, 1);
    let payload = Bytes::from(vec![7; 100_000]);
    let message = Message::with_payload(MsgId(1), ask(), payload.clone());
    s.send(at(0), message);
    s.send(at(0), Message::notify(unlock(1)));
    assert!(s.refill());
    let mut slices = [IoSlice::new(&[]); 8];
    assert_eq!(s.slices(&mut slices), 3);
    assert_eq!(slices[1].as_ptr(), payload.as_ptr());
    // Bytes leave in any portions.
    let total: usize = slices.iter().map(|slice| slice.len()).sum();
    let mut left = total;
    while left > 0 {
        let part = left.min(70_001);
        s.went(at(0), part);
        left -= part;
        assert_eq!(s.refill(), left > 0);
    }
}

#[test]
fn requests_that_wait_can_be_taken_back() {
    let mut s = open(settings());
    for id in 1..4 {
        s.send(at(0), with(id, ask(), 10));
    }
    s.cancel(&[MsgId(1), MsgId(3), MsgId(9)]);
    credit(&mut s, 1000);
    assert_eq!(names(&sent(&mut s, at(0))), [("AskObject", 2)]);
    s.receive(at(0), &frame_of(2, &answer(), 0));
    assert!(matches!(events(&mut s)[..], [SessionEvent::Message(_)]));
    s.receive(at(0), &frame_of(3, &answer(), 0));
    assert_eq!(
        failure(&mut s),
        "protocol error: AnswerObject answers request 3, which was not sent or is answered"
    );
    // The peer is told.
    assert_eq!(names(&sent(&mut s, at(0))), [("Error", 0)]);
}

#[test]
fn an_answer_comes_once() {
    let mut s = open(settings());
    s.send(at(0), Message::new(MsgId(1), ask()));
    let twice = frame_of(1, &answer(), 0).repeat(2);
    s.receive(at(0), &twice);
    assert!(failure(&mut s).contains("not sent or is answered"));
}

#[test]
fn consumed_bytes_are_told_in_batches() {
    let mut s = open(settings());
    s.receive(at(0), &frame_of(1, &ask(), 600));
    s.receive(at(0), &frame_of(2, &ask(), 600));
    assert_eq!(events(&mut s).len(), 2);
    s.consumed(249);
    assert!(s.is_idle());
    s.consumed(1);
    let bytes = sent(&mut s, at(0));
    assert_eq!(bytes, frame_of(0, &Packet::Credit { bytes: 250 }, 0));
    // More than came is not given back.
    s.consumed(u64::MAX);
    let bytes = sent(&mut s, at(0));
    assert_eq!(bytes, frame_of(0, &Packet::Credit { bytes: 950 }, 0));
}

#[test]
fn object_bytes_without_credit_are_refused() {
    let mut s = open(settings());
    for id in 1..3 {
        s.receive(at(0), &frame_of(id, &ask(), 600));
    }
    s.receive(at(0), &frame_of(3, &ask(), 1));
    assert_eq!(
        failure(&mut s),
        "protocol error: AskObject brings object bytes without credit"
    );
}

#[test]
fn a_peer_can_end_it_with_words() {
    let mut s = open(settings());
    let error = Packet::Error {
        code: ErrorCode::Protocol,
        message: "what?".to_owned(),
    };
    s.receive(at(0), &frame_of(0, &error, 0));
    assert_eq!(failure(&mut s), "the peer says: protocol error: what?");
    assert!(s.is_flushed());
}

#[test]
fn heartbeats_go_when_nothing_else_does() {
    let mut s = open(settings());
    assert_eq!(s.poll_timeout(), Some(at(2000)));
    s.handle_timeout(at(1999));
    assert!(s.is_idle());
    s.send(at(1000), Message::notify(unlock(1)));
    sent(&mut s, at(1500));
    assert_eq!(s.poll_timeout(), Some(at(3500)));
    s.handle_timeout(at(3500));
    assert_eq!(names(&sent(&mut s, at(3500))), [("Heartbeat", 0)]);
    assert_eq!(s.poll_timeout(), Some(at(5500)));
}

#[test]
fn silence_ends_a_session() {
    let mut s = open(settings());
    let mut now = at(0);
    let mut beats = 0;
    loop {
        now = s.poll_timeout().expect("it waits").max(now);
        s.handle_timeout(now);
        beats += names(&sent(&mut s, now)).len();
        if s.is_failing() {
            break;
        }
    }
    assert_eq!((now, beats), (at(10_000), 4));
    assert_eq!(failure(&mut s), "silent for 10 s");
    assert_eq!(s.poll_timeout(), None);
}

#[test]
fn two_idle_sessions_keep_each_other() {
    let (mut a, mut b) = (open(settings()), open(settings()));
    let mut now = at(0);
    while now < at(60_000) {
        now = a.poll_timeout().min(b.poll_timeout()).expect("both wait");
        for s in [&mut a, &mut b] {
            s.handle_timeout(now);
        }
        b.receive(now, &sent(&mut a, now));
        a.receive(now, &sent(&mut b, now));
        assert_eq!((events(&mut a), events(&mut b)), (vec![], vec![]));
    }
}

#[test]
fn a_peer_that_takes_nothing_is_left() {
    let mut s = open(settings());
    s.send(at(1000), Message::notify(unlock(1)));
    for second in 1..=10 {
        // It lives, but does not read.
        s.receive(at(second * 1000), &frame_of(0, &Packet::Heartbeat {}, 0));
        s.handle_timeout(at(second * 1000));
        assert_eq!(events(&mut s), []);
    }
    s.handle_timeout(at(11_000));
    assert_eq!(
        failure(&mut s),
        "took nothing of what waits for it for 10 s"
    );
}

/// Fills what is committed, so that more waits as messages.
fn stuff(s: &mut Session) -> usize {
    let long = Packet::AnswerDone {
        message: "x".repeat(1 << 18),
    };
    s.send(at(0), Message::new(MsgId(7), long));
    1
}

#[test]
fn invalidations_become_one_between_other_messages() {
    let mut s = open(SessionSettings {
        invalidations_max: 5,
        ..settings()
    });
    let before = stuff(&mut s);
    for tid in 1..=3 {
        s.send(at(0), Message::notify(invalidate(tid)));
    }
    s.send(at(0), Message::notify(unlock(1)));
    for tid in 4..=6 {
        s.send(at(0), Message::notify(invalidate(tid)));
    }
    // Now the newest is an `InvalidateAll`: it grows.
    s.send(at(0), Message::notify(invalidate(7)));
    s.send(at(0), Message::notify(unlock(2)));
    s.send(at(0), Message::notify(invalidate(8)));
    let mut decoder = Decoder::new();
    decoder.feed(&sent(&mut s, at(0)));
    let mut packets = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        packets.push(codec::decode(&frame.header).unwrap().1);
    }
    assert_eq!(
        packets[before..],
        [
            Packet::InvalidateAll { tid: Tid(3) },
            unlock(1),
            Packet::InvalidateAll { tid: Tid(7) },
            unlock(2),
            invalidate(8),
        ]
    );
    assert!(s.is_flushed());
}

#[test]
fn messages_for_a_peer_that_does_not_read_are_bounded() {
    let mut s = open(SessionSettings {
        control_bytes_max: 1000,
        ..settings()
    });
    stuff(&mut s);
    // Invalidations do not add up.
    for tid in 0..100_000 {
        s.send(
            at(0),
            Message::notify(Packet::InvalidateAll { tid: Tid(tid) }),
        );
    }
    assert!(!s.is_failing());
    for n in 0..100 {
        s.send(at(0), Message::notify(unlock(n)));
    }
    let why = failure(&mut s);
    assert!(why.starts_with("does not read: 10"), "{why}");
    assert!(s.is_flushed());
}

#[test]
fn requests_are_bounded() {
    let mut s = open(SessionSettings {
        requests_max: 2,
        ..settings()
    });
    for id in 1..=3 {
        s.send(at(0), Message::new(MsgId(id), ask()));
    }
    assert_eq!(failure(&mut s), "3 requests are not answered");
}

#[test]
fn a_peer_that_asks_more_than_it_takes_is_not_listened_to() {
    let mut s = open(SessionSettings {
        held_bytes_max: 1000,
        inbox_bytes_max: 2000,
        ..settings()
    });
    s.send(at(0), Message::new(MsgId(1), ask()));
    for id in 1..=3 {
        s.receive(at(0), &frame_of(id, &ask(), 0));
        assert_eq!(events(&mut s).len(), 1);
        s.send(at(0), with(id, answer(), 500));
    }
    // Held back, but for what it answers.
    let mut more = frame_of(4, &ask(), 0);
    more.extend(frame_of(1, &answer(), 0));
    s.receive(at(0), &more);
    assert_eq!(
        events(&mut s),
        [SessionEvent::Message(Message::new(MsgId(1), answer()))]
    );
    assert!(s.wants_bytes());
    let many = frame_of(5, &ask(), 0).repeat(100);
    s.receive(at(0), &many);
    assert_eq!(events(&mut s), []);
    assert!(!s.wants_bytes());
    // What it takes shows that it lives.
    sent(&mut s, at(9000));
    s.handle_timeout(at(9000));
    assert!(!s.is_failing());
    s.outbox.add_credit(1001);
    sent(&mut s, at(9500));
    assert!(!events(&mut s).is_empty());
    assert!(s.wants_bytes());
    s.handle_timeout(at(10_500));
    assert!(!s.is_failing());
}

#[test]
fn a_peer_that_asks_and_takes_nothing_is_left() {
    let mut s = open(SessionSettings {
        held_bytes_max: 1000,
        ..settings()
    });
    for id in 1..=3 {
        s.receive(at(0), &frame_of(id, &ask(), 0));
        assert_eq!(events(&mut s).len(), 1);
        s.send(at(0), with(id, answer(), 500));
    }
    for second in 1..=10 {
        assert!(!s.is_failing());
        s.receive(at(second * 1000), &frame_of(0, &Packet::Heartbeat {}, 0));
        assert_eq!(events(&mut s), []);
        s.handle_timeout(at(second * 1000));
        sent(&mut s, at(second * 1000));
    }
    let why = failure(&mut s);
    assert_eq!(
        why,
        "took none of the 1500 bytes that it asked for, for 10 s"
    );
}

#[test]
fn frames_are_short_until_this_side_has_spoken() {
    let settings = SessionSettings {
        first_frame_bytes_max: 100,
        ..settings()
    };
    for speaks in [false, true] {
        let mut s = Session::new(at(0), Arc::new(settings.clone()), true);
        s.receive(at(0), &Versions::OWN.greeting());
        assert_eq!(events(&mut s), [SessionEvent::Open(1)]);
        if speaks {
            s.send(at(0), Message::notify(unlock(1)));
        }
        s.receive(at(0), &frame_of(1, &ask(), 200));
        assert_eq!(
            matches!(events(&mut s)[..], [SessionEvent::Message(_)]),
            speaks
        );
    }
}

#[test]
fn closing_sends_what_can_be_sent() {
    let mut s = open(settings());
    credit(&mut s, 10);
    stuff(&mut s);
    s.send(at(0), Message::notify(unlock(1)));
    s.send(at(0), with(1, ask(), 50));
    s.send(at(0), with(2, ask(), 50));
    s.close();
    s.receive(at(0), &frame_of(1, &answer(), 0));
    assert_eq!(events(&mut s), []);
    assert_eq!(
        names(&sent(&mut s, at(0))),
        [
            ("AnswerDone", 7),
            ("NotifyUnlockInformation", 0),
            ("AskObject", 1)
        ]
    );
    assert!(s.is_flushed());
}

#[test]
fn a_message_that_no_frame_holds_ends_the_session() {
    let mut s = open(settings());
    let payload = Bytes::from(vec![0; frame::PAYLOAD_BYTES_MAX + 1]);
    s.send(at(0), Message::with_payload(MsgId(1), ask(), payload));
    credit(&mut s, 1);
    s.refill();
    let why = failure(&mut s);
    assert!(
        why.starts_with("AskObject can't be sent: object bytes of"),
        "{why}"
    );
}

#[test]
fn durations_in_words() {
    assert_eq!(Seconds(Duration::from_secs(10)).to_string(), "10 s");
    assert_eq!(Seconds(Duration::from_millis(1500)).to_string(), "1500 ms");
}
