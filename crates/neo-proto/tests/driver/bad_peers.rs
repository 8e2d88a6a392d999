//! What is not a neo node, or behaves badly: it is disconnected, the node lives.

use std::sync::Arc;
use std::time::Duration;

use neo_api::{Address, Oid, Stream, Tid, Transport};
use neo_proto::handshake::{GREETING_BYTES, Versions};
use neo_proto::{ErrorCode, Message, MsgId, Oids, Packet, SessionSettings, decode, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::echo::{Command, Event, Node};
use crate::{Ground, in_time, memory, on_both, quick};

in_time!(
    a_peer_that_falls_silent_is_dropped,
    a_peer_that_does_not_read_is_dropped,
    a_peer_that_asks_and_does_not_read_is_dropped,
);

on_both!(
    what_is_not_neo_is_named,
    nonsense_is_answered_and_dropped,
    half_a_frame_and_the_end,
    connections_have_a_maximum,
    a_flood_starves_nobody,
    nobody_listens,
);

/// A peer made by hand.
async fn raw(transport: &Arc<dyn Transport>, to: &Address) -> Box<dyn Stream> {
    transport.connect(to).await.unwrap()
}

/// A peer made by hand that has greeted.
async fn greeted(transport: &Arc<dyn Transport>, to: &Address) -> Box<dyn Stream> {
    let mut stream = raw(transport, to).await;
    stream.write_all(&Versions::OWN.greeting()).await.unwrap();
    let mut greeting = [0; GREETING_BYTES];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(greeting, Versions::OWN.greeting());
    stream
}

fn frame_of(id: u64, packet: &Packet, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode_head(MsgId(id), packet, payload.len(), &mut bytes).unwrap();
    bytes.extend(payload);
    bytes
}

fn ask() -> Packet {
    Packet::AskObject {
        oid: Oid(1),
        at: neo_api::At::Latest,
    }
}

/// Everything that comes until the end.
async fn read_all(stream: &mut Box<dyn Stream>) -> Vec<Packet> {
    let mut bytes = Vec::new();
    let all = stream.read_to_end(&mut bytes);
    // A reset is an end as well.
    drop(
        tokio::time::timeout(Duration::from_secs(20), all)
            .await
            .expect("it ends"),
    );
    let mut decoder = frame::Decoder::new();
    decoder.feed(&bytes);
    let mut packets = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        packets.push(decode(&frame.header).unwrap().1);
    }
    packets
}

/// The node still works.
async fn lives(node: &mut Node, transport: &Arc<dyn Transport>, at: &Address) {
    let mut other = Node::start(transport, at, SessionSettings::default()).await;
    let conn = other.connect(&node.address).await;
    let accepted = node.accepted().await;
    other.echo(conn, b"alive").await;
    other.stop().await;
    assert!(matches!(node.event().await, Event::Closed(conn, _) if conn == accepted));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_speaks_is_given_up() {
    let (transport, at) = memory();
    let mut listener = transport.bind(&at).await.unwrap();
    let address = listener.local_address();
    let mut node = Node::start(&transport, &at, quick()).await;
    node.command(Command::Connect(address)).await;
    let (_frozen, _) = listener.accept().await.unwrap();
    let error = Event::ConnectFailed("no greeting within 1 s".to_owned());
    assert_eq!(node.event().await, error);
    node.stop().await;
}

async fn what_is_not_neo_is_named((transport, at): Ground) {
    let mut listener = transport.bind(&at).await.unwrap();
    let address = listener.local_address();
    let mut node = Node::start(&transport, &at, SessionSettings::default()).await;
    let newer = Versions { min: 3, max: 4 }.greeting();
    let cases: [(&[u8], &str); 6] = [
        (b"HTTP/1.1 400 Bad Request\r\n", "it speaks HTTP"),
        (
            b"\x15\x03\x03\x00\x02\x02\x46",
            "the peer speaks TLS, this side does not",
        ),
        (
            b"220 mail ESMTP\r\n",
            "the peer is not a neo node: it said \"220 mail ESMTP",
        ),
        (
            &newer,
            "the peer speaks 3 to 4, this node 1 to 1: upgrade this node",
        ),
        (b"", "the peer closed the connection before its greeting"),
        (b"SSH", "the peer is not a neo node: it said \"SSH\""),
    ];
    for (said, expected) in cases {
        node.command(Command::Connect(address.clone())).await;
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(said).await.unwrap();
        stream.shutdown().await.unwrap();
        match node.event().await {
            Event::ConnectFailed(error) => assert!(error.contains(expected), "{error}"),
            other => panic!("{other:?}"),
        }
    }
    // The other way round: nobody hears of it but the log.
    for said in [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03aaaaaaa",
    ] {
        let mut stream = raw(&transport, &node.address).await;
        stream.write_all(said).await.unwrap();
        let mut bytes = Vec::new();
        drop(stream.read_to_end(&mut bytes).await);
        assert_eq!(bytes, Versions::OWN.greeting());
    }
    lives(&mut node, &transport, &at).await;
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stranger_that_never_speaks_is_dropped() {
    let (transport, at) = memory();
    let mut node = Node::start(&transport, &at, quick()).await;
    let mut mute = raw(&transport, &node.address).await;
    assert_eq!(
        mute.read_to_end(&mut Vec::new()).await.unwrap_or(0),
        GREETING_BYTES
    );
    // Greeted, but with nothing to say: heartbeats are no message.
    let mut idle = greeted(&transport, &node.address).await;
    let accepted = node.accepted().await;
    let beat = frame_of(0, &Packet::Heartbeat {}, b"");
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if idle.write_all(&beat).await.is_err() {
            break;
        }
    }
    let closed = Event::Closed(accepted, "no message within 1 s".to_owned());
    assert_eq!(node.event().await, closed);
    node.stop().await;
}

async fn a_peer_that_falls_silent_is_dropped((transport, at): Ground) {
    let mut node = Node::start(&transport, &at, quick()).await;
    let mut silent = greeted(&transport, &node.address).await;
    let accepted = node.accepted().await;
    silent.write_all(&frame_of(1, &ask(), b"")).await.unwrap();
    let closed = Event::Closed(accepted, "silent for 1 s".to_owned());
    assert_eq!(node.event().await, closed);
    let beats = read_all(&mut silent).await;
    let beats = beats
        .iter()
        .filter(|p| matches!(p, Packet::Heartbeat {}))
        .count();
    assert!((1..=10).contains(&beats), "{beats} heartbeats");
    node.stop().await;
}

async fn a_peer_that_does_not_read_is_dropped((transport, at): Ground) {
    let mut node = Node::start(&transport, &at, quick()).await;
    let mut deaf = greeted(&transport, &node.address).await;
    let accepted = node.accepted().await;
    deaf.write_all(&frame_of(1, &ask(), b"")).await.unwrap();
    for tid in 0..20 {
        let packet = Packet::InvalidateObjects {
            tid: Tid(tid),
            oids: Oids(vec![Oid(1); 100_000]),
        };
        node.command(Command::Send(accepted, Message::notify(packet)))
            .await;
    }
    let (_keep, mut writer) = tokio::io::split(deaf);
    let beats = tokio::spawn(async move {
        let beat = frame_of(0, &Packet::Heartbeat {}, b"");
        while writer.write_all(&beat).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    match node.event().await {
        Event::Closed(conn, why) => {
            assert_eq!(conn, accepted);
            assert!(why.contains("took nothing of what waits for it"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    beats.await.unwrap();
    lives(&mut node, &transport, &at).await;
    node.stop().await;
}

async fn a_peer_that_asks_and_does_not_read_is_dropped((transport, at): Ground) {
    let settings = SessionSettings {
        held_bytes_max: 1 << 20,
        inbox_bytes_max: 1 << 20,
        ..quick()
    };
    let mut node = Node::start(&transport, &at, settings).await;
    let greedy = greeted(&transport, &node.address).await;
    let accepted = node.accepted().await;
    let (_keep, mut writer) = tokio::io::split(greedy);
    let asking = tokio::spawn(async move {
        let ask = frame_of(1, &ask(), &[1; 65_536]);
        // It has no more credit than the answers that it reads would give back.
        for _ in 0..128 {
            if writer.write_all(&ask).await.is_err() {
                return;
            }
        }
        let small = frame_of(1, &crate::bad_peers::ask(), b"");
        while writer.write_all(&small.repeat(100)).await.is_ok() {}
    });
    match node.event().await {
        Event::Closed(conn, why) => {
            assert_eq!(conn, accepted);
            assert!(why.starts_with("took none of the"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    asking.await.unwrap();
    lives(&mut node, &transport, &at).await;
    node.stop().await;
}

async fn nonsense_is_answered_and_dropped((transport, at): Ground) {
    let mut node = Node::start(&transport, &at, SessionSettings::default()).await;
    let answer = frame_of(
        9,
        &Packet::AnswerDone {
            message: String::new(),
        },
        b"",
    );
    let cases: [(&[u8], &str); 7] = [
        (&[0, 0, 0, 0, 0, 0, 0, 0], "a frame without a message"),
        (&[0xff; 8], "a message of 4294967295 bytes"),
        (
            &[0, 0, 0, 1, 0xff, 0, 0, 0],
            "object bytes of 4278190080 bytes",
        ),
        (
            &[0, 0x20, 0, 0, 0, 0, 0, 0],
            "a message of 2097152 bytes, where 1048576 is the most",
        ),
        (
            b"\0\0\0\x05\0\0\0\0\x82\x19\x7f\x00\x00",
            "code 0x7f00 is not known",
        ),
        (b"\0\0\0\x03\0\0\0\0\xff\xff\xff", "not a message"),
        (&answer, "AnswerDone answers request 9, which was not sent"),
    ];
    for (bytes, expected) in cases {
        let mut stream = greeted(&transport, &node.address).await;
        let accepted = node.accepted().await;
        stream.write_all(bytes).await.unwrap();
        match node.event().await {
            Event::Closed(conn, why) => {
                assert_eq!(conn, accepted);
                assert!(
                    why.starts_with("protocol error") && why.contains(expected),
                    "{why}"
                );
            }
            other => panic!("{other:?}"),
        }
        match &read_all(&mut stream).await[..] {
            [Packet::Credit { .. }, Packet::Error { code, message }] => {
                assert_eq!(*code, ErrorCode::Protocol);
                assert!(message.contains(expected), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    lives(&mut node, &transport, &at).await;
    node.stop().await;
}

async fn half_a_frame_and_the_end((transport, at): Ground) {
    let mut node = Node::start(&transport, &at, SessionSettings::default()).await;
    let whole = frame_of(1, &ask(), &[1; 5000]);
    for len in [1, 7, 8, 12, whole.len() - 1] {
        let mut stream = greeted(&transport, &node.address).await;
        let accepted = node.accepted().await;
        stream.write_all(&whole[..len]).await.unwrap();
        drop(stream);
        match node.event().await {
            Event::Closed(conn, why) => {
                assert_eq!(conn, accepted);
                // A socket that is closed over unread bytes is reset.
                let expected = ["in the middle of a message", "connection lost"];
                assert!(expected.iter().any(|e| why.contains(e)), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
    lives(&mut node, &transport, &at).await;
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_a_connection() {
    let (transport, at) = memory();
    let mut a = Node::start(&transport, &at, quick()).await;
    let mut b = Node::start(&transport, &at, quick()).await;
    let conn = b.connect(&a.address).await;
    a.accepted().await;
    b.echo(conn, b"first").await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    b.echo(conn, b"second").await;
    b.stop().await;
    a.stop().await;
}

async fn connections_have_a_maximum((transport, at): Ground) {
    let settings = SessionSettings {
        connections_max: 2,
        ..SessionSettings::default()
    };
    let mut node = Node::start(&transport, &at, settings).await;
    let one = greeted(&transport, &node.address).await;
    let two = greeted(&transport, &node.address).await;
    let (first, second) = (node.accepted().await, node.accepted().await);
    let mut three = raw(&transport, &node.address).await;
    assert_eq!(three.read_to_end(&mut Vec::new()).await.unwrap_or(0), 0);
    drop(one);
    assert!(matches!(node.event().await, Event::Closed(conn, _) if conn == first));
    let four = greeted(&transport, &node.address).await;
    let last = node.accepted().await;
    for (stream, conn) in [(two, second), (four, last)] {
        drop(stream);
        assert!(matches!(node.event().await, Event::Closed(closed, _) if closed == conn));
    }
    node.stop().await;
}

async fn a_flood_starves_nobody((transport, at): Ground) {
    let mut node = Node::start(&transport, &at, SessionSettings::default()).await;
    let flood = greeted(&transport, &node.address).await;
    node.accepted().await;
    let (mut reader, mut writer) = tokio::io::split(flood);
    let pour = tokio::spawn(async move {
        let asks = frame_of(1, &ask(), b"").repeat(1000);
        while writer.write_all(&asks).await.is_ok() {}
    });
    let drain = tokio::spawn(async move {
        let mut bytes = vec![0; 1 << 16];
        while reader.read(&mut bytes).await.is_ok_and(|n| n > 0) {}
    });
    let mut other = Node::start(&transport, &at, SessionSettings::default()).await;
    let conn = other.connect(&node.address).await;
    node.accepted().await;
    for n in 0..5 {
        other.echo(conn, &[n; 100]).await;
    }
    let due = neo_api::Env::now(&*node.env).mono + Duration::from_millis(20);
    node.command(Command::Timer(due)).await;
    assert_eq!(node.event().await, Event::Timer);
    other.stop().await;
    node.stop().await;
    pour.await.unwrap();
    drain.await.unwrap();
}

async fn nobody_listens((transport, at): Ground) {
    let mut node = Node::start(&transport, &at, SessionSettings::default()).await;
    let gone = transport.bind(&at).await.unwrap().local_address();
    let error = node.connect_error(&gone).await;
    assert!(
        error.contains("refused") || error.contains("nobody listens"),
        "{error}"
    );
    node.stop().await;
}
