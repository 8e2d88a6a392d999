//! The endpoint, by hand: which inputs a core gets, and what its effects become.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::time::Duration;

use neo_api::{Address, At, Instant, Now, Oid, UnixMicros};
use neo_proto::handshake::Versions;
use neo_proto::{
    ConnId, ConnectToken, Core, Effect, Effects, Endpoint, Input, Message, MsgId, Output, Packet,
    SessionSettings,
};

/// Carries out the effects that it is commanded, and remembers its inputs.
#[derive(Debug, Default)]
struct Puppet {
    inputs: Vec<String>,
    timer: Option<Instant>,
}

impl Core for Puppet {
    type Command = Vec<Effect<Self>>;
    type Event = &'static str;
    type Job = u32;
    type Done = u32;

    fn handle(&mut self, now: Now, input: Input<Self>, out: &mut Effects<Self>) {
        let text = match input {
            Input::Connected { token, conn } => format!("connected {} {}", token.0, conn.0),
            Input::ConnectFailed { token, error } => format!("failed {}: {error}", token.0),
            Input::Accepted { conn, from } => format!("accepted {} {from}", conn.0),
            Input::Closed { conn, reason } => format!("closed {}: {reason}", conn.0),
            Input::Message { conn, message } => {
                format!("{} from {}", message.packet.name(), conn.0)
            }
            Input::Command(effects) => {
                effects.into_iter().for_each(|effect| out.push(effect));
                return;
            }
            Input::Done(n) => format!("done {n}"),
            Input::Timer => {
                self.timer = None;
                format!("timer {}", now.mono.0 / 1_000_000)
            }
        };
        self.inputs.push(text);
    }

    fn congested(&mut self, _: Now, conn: ConnId, is: bool, out: &mut Effects<Self>) {
        self.inputs.push(format!("congested {} {is}", conn.0));
        out.event("congestion");
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.timer
    }
}

fn at(millis: u64) -> Now {
    Now {
        mono: Instant(millis * 1_000_000),
        wall: UnixMicros(0),
    }
}

fn address() -> Address {
    Address::new("there", 1)
}

fn endpoint() -> Endpoint<Puppet> {
    let mut endpoint = Endpoint::new(Puppet::default(), SessionSettings::default());
    endpoint.start(at(0));
    assert_eq!(endpoint.core().inputs, ["timer 0"]);
    endpoint
}

fn connect(endpoint: &mut Endpoint<Puppet>, now: Now) -> ConnId {
    let (token, to) = (ConnectToken(5), address());
    endpoint.command(now, vec![Effect::Connect { token, to }]);
    match outputs(endpoint)[..] {
        [Output::Connect { conn, .. }] => conn,
        ref other => panic!("{other:?}"),
    }
}

fn outputs(endpoint: &mut Endpoint<Puppet>) -> Vec<Output<Puppet>> {
    std::iter::from_fn(|| endpoint.poll_output()).collect()
}

/// Its inputs after the first.
fn inputs(endpoint: &Endpoint<Puppet>) -> &[String] {
    &endpoint.core().inputs[1..]
}

fn sent(endpoint: &mut Endpoint<Puppet>, now: Now, conn: ConnId) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = endpoint.poll_transmit(now, conn) {
        bytes.extend(piece);
    }
    bytes
}

fn ask(conn: ConnId) -> Effect<Puppet> {
    let packet = Packet::AskObject {
        oid: Oid(1),
        at: At::Latest,
    };
    Effect::Send {
        conn,
        message: Message::new(MsgId(1), packet),
    }
}

fn close(conn: ConnId) -> Effect<Puppet> {
    Effect::Close {
        conn,
        reason: "enough".to_owned(),
    }
}

/// Two endpoints with a connection that both cores know.
fn pair() -> (Endpoint<Puppet>, ConnId, Endpoint<Puppet>, ConnId) {
    let (mut a, mut b) = (endpoint(), endpoint());
    let to_b = connect(&mut a, at(0));
    a.opened(at(0), to_b);
    let to_a = b.accepted(at(0), Address::new("a", 9)).unwrap();
    for _ in 0..2 {
        b.receive(at(0), to_a, &sent(&mut a, at(0), to_b));
        a.receive(at(0), to_b, &sent(&mut b, at(0), to_a));
    }
    assert_eq!(inputs(&a), ["connected 5 1"]);
    assert_eq!(inputs(&b), ["accepted 1 a:9"]);
    outputs(&mut a);
    outputs(&mut b);
    (a, to_b, b, to_a)
}

#[test]
fn an_attempt_takes_its_time_and_no_more() {
    let mut e = endpoint();
    let conn = connect(&mut e, at(0));
    let mut now = at(0);
    while e.core().inputs.len() == 1 {
        now.mono = e.poll_timeout().unwrap();
        e.handle_timeout(now);
    }
    assert_eq!(now, at(5000));
    assert_eq!(inputs(&e), ["failed 5: no connection within 5 s"]);
    assert!(matches!(outputs(&mut e)[..], [Output::Close { conn: c, abort: true }] if c == conn));
    // It comes too late.
    e.opened(now, conn);
    assert!(outputs(&mut e).is_empty() && e.is_quiet());
}

#[test]
fn a_failed_attempt_is_told_once() {
    let mut e = endpoint();
    let conn = connect(&mut e, at(0));
    e.connect_failed(at(1), conn, "refused".to_owned());
    e.connect_failed(at(1), conn, "refused".to_owned());
    e.closed(at(1), conn, None);
    assert_eq!(inputs(&e), ["failed 5: refused"]);
    assert_eq!(e.poll_timeout(), None);
}

#[test]
fn a_failed_greeting_is_a_failed_attempt() {
    let mut e = endpoint();
    let conn = connect(&mut e, at(0));
    e.opened(at(1), conn);
    assert!(matches!(outputs(&mut e)[..], [Output::Transmit { .. }]));
    e.receive(at(1), conn, b"\x16\x03\x01\x00\xa5");
    assert_eq!(
        inputs(&e),
        ["failed 5: the peer speaks TLS, this side does not: configure TLS on both or on none"]
    );
    // The greeting still goes, then it is closed.
    assert_eq!(sent(&mut e, at(1), conn), Versions::OWN.greeting());
    assert!(matches!(
        outputs(&mut e)[..],
        [Output::Close { abort: false, .. }]
    ));
    assert!(e.is_quiet());
}

#[test]
fn a_peer_that_fails_to_greet_is_unknown_to_the_core() {
    let mut e = endpoint();
    for bytes in [&b"GET / HTTP/1.0\r\n\r\n"[..], b"\x89NEO\0\x09\0\x09", b""] {
        let conn = e.accepted(at(0), address()).unwrap();
        e.receive(at(0), conn, bytes);
        sent(&mut e, at(0), conn);
        e.closed(at(0), conn, None);
    }
    assert_eq!(inputs(&e), [""; 0]);
    assert!(e.is_quiet());
}

#[test]
fn closing_flushes_and_tells_the_other_side_only() {
    let (mut a, to_b, mut b, to_a) = pair();
    a.command(at(1), vec![ask(to_b), close(to_b), ask(to_b)]);
    assert!(matches!(outputs(&mut a)[..], [Output::Transmit { .. }]));
    // What still comes is not looked at.
    b.command(at(1), vec![ask(to_a)]);
    let bytes = sent(&mut b, at(1), to_a);
    a.receive(at(1), to_b, &bytes);
    let bytes = sent(&mut a, at(1), to_b);
    assert!(matches!(
        outputs(&mut a)[..],
        [Output::Close { abort: false, .. }]
    ));
    b.receive(at(1), to_a, &bytes);
    b.closed(at(1), to_a, None);
    assert_eq!(inputs(&a)[1..], [""; 0]);
    assert_eq!(
        inputs(&b)[1..],
        ["AskObject from 1", "closed 1: closed by the peer"]
    );
    assert_eq!((a.is_quiet(), b.is_quiet()), (true, true));
}

#[test]
fn a_close_that_nobody_takes_ends() {
    let (mut a, to_b, ..) = pair();
    a.command(at(0), vec![ask(to_b), close(to_b)]);
    outputs(&mut a);
    let mut now = at(0);
    while !a.is_quiet() {
        now.mono = a.poll_timeout().unwrap();
        a.handle_timeout(now);
    }
    assert_eq!(now, at(2000));
    assert!(matches!(
        outputs(&mut a)[..],
        [Output::Close { abort: true, .. }]
    ));
    assert_eq!(inputs(&a).len(), 1);
}

#[test]
fn effects_become_outputs_in_order() {
    let mut e = endpoint();
    e.command(
        at(0),
        vec![
            Effect::Job(1),
            Effect::Event("first"),
            Effect::Job(2),
            Effect::Stop { failure: None },
            Effect::Job(3),
        ],
    );
    assert!(matches!(
        outputs(&mut e)[..],
        [
            Output::Job(1),
            Output::Event("first"),
            Output::Job(2),
            Output::Stop { failure: None }
        ]
    ));
    e.done(at(0), 1);
    assert_eq!(inputs(&e), [""; 0]);
    assert_eq!(e.accepted(at(0), address()), None);
}

#[test]
fn stopping_flushes_every_connection() {
    let (mut a, to_b, ..) = pair();
    let second = connect(&mut a, at(0));
    a.command(at(1), vec![ask(to_b), Effect::Stop { failure: None }]);
    let outputs = outputs(&mut a);
    assert!(
        matches!(
            outputs[..],
            [
                Output::Transmit { .. },
                Output::Close { conn, abort: true },
                Output::Stop { .. }
            ] if conn == second
        ),
        "{outputs:?}"
    );
    assert!(!a.is_quiet());
    assert!(!sent(&mut a, at(1), to_b).is_empty());
    assert!(a.is_quiet());
}

#[test]
fn who_connects_speaks_first() {
    let (mut a, to_b, mut b, to_a) = pair();
    let mut now = at(0);
    while now.mono < at(5000).mono {
        now.mono = a.poll_timeout().min(b.poll_timeout()).unwrap();
        a.handle_timeout(now);
        b.handle_timeout(now);
        let bytes = sent(&mut a, now, to_b);
        b.receive(now, to_a, &bytes);
        let bytes = sent(&mut b, now, to_a);
        a.receive(now, to_b, &bytes);
    }
    assert_eq!(inputs(&b)[1..], ["closed 1: no message within 5 s"]);
}

#[test]
fn a_core_is_woken_when_it_wants() {
    let mut e = endpoint();
    e.command(at(0), vec![]);
    let conn = connect(&mut e, at(0));
    assert_eq!(e.poll_timeout(), Some(at(4500).mono));
    e.connect_failed(at(0), conn, String::new());
    assert_eq!(e.poll_timeout(), None);
    e.handle_timeout(at(1));
    assert_eq!(inputs(&e).len(), 1);
}

#[test]
fn a_message_too_many_ends_its_connection_only() {
    let settings = SessionSettings {
        requests_max: 1,
        ..SessionSettings::default()
    };
    let mut e: Endpoint<Puppet> = Endpoint::new(Puppet::default(), settings);
    let one = e.accepted(at(0), address()).unwrap();
    let two = e.accepted(at(0), address()).unwrap();
    for conn in [one, two] {
        e.receive(at(0), conn, &Versions::OWN.greeting());
    }
    let second = |conn| Effect::Send {
        conn,
        message: Message::new(MsgId(2), Packet::AskRecovery {}),
    };
    e.command(at(0), vec![ask(one), ask(two), second(one)]);
    let last = e.core().inputs.last().unwrap();
    assert_eq!(last, "closed 1: 2 requests are not answered");
    assert!(!sent(&mut e, at(0), two).is_empty());
}

#[test]
fn a_core_is_told_when_a_peer_takes_less_than_it_asks_for() {
    let (mut a, on_a, mut b, on_b) = pair();
    let max = SessionSettings::default().held_bytes_max;
    let answer = |n| {
        let packet = Packet::AnswerObject {
            oid: Oid(1),
            answer: neo_proto::ObjectAnswer::NotYet,
        };
        let payload = bytes::Bytes::from(vec![1; max / 4]);
        let message = Message::with_payload(MsgId(n), packet, payload);
        vec![Effect::Send {
            conn: on_b,
            message,
        }]
    };
    for n in 1..=6 {
        let packet = Packet::AskLastIds {};
        let message = Message::new(MsgId(n), packet);
        let conn = on_a;
        a.command(at(1), vec![Effect::Send { conn, message }]);
    }
    let asked = sent(&mut a, at(1), on_a);
    b.receive(at(1), on_b, &asked);
    let before = b.core().inputs.len();
    // One is on its way, since there was credit; four are as many as may wait.
    for n in 1..=6 {
        b.command(at(1), answer(n));
    }
    outputs(&mut a);
    let told = |b: &Endpoint<Puppet>| b.core().inputs[before..].to_vec();
    assert_eq!(told(&b), [format!("congested {} true", on_b.0)]);
    assert!(
        outputs(&mut b)
            .iter()
            .any(|output| matches!(output, Output::Event("congestion")))
    );
    // The peer takes them all.
    loop {
        let bytes = sent(&mut b, at(2), on_b);
        if bytes.is_empty() {
            break;
        }
        a.receive(at(2), on_a, &bytes);
        let bytes = (max / 4) as u64;
        a.command(at(2), vec![Effect::Consumed { conn: on_a, bytes }]);
        let credit = sent(&mut a, at(2), on_a);
        b.receive(at(2), on_b, &credit);
    }
    let ends = [true, false].map(|is| format!("congested {} {is}", on_b.0));
    assert_eq!(told(&b), ends);
}

#[test]
fn ten_silent_seconds() {
    let (mut a, to_b, ..) = pair();
    let mut now = at(0);
    while inputs(&a).len() == 1 {
        now.mono = a.poll_timeout().unwrap();
        a.handle_timeout(now);
        sent(&mut a, now, to_b);
    }
    assert_eq!(now.mono.since(at(0).mono), Duration::from_secs(10));
    assert_eq!(inputs(&a)[1..], ["closed 1: silent for 10 s"]);
    assert!(matches!(
        outputs(&mut a).last(),
        Some(Output::Close { abort: true, .. })
    ));
}
