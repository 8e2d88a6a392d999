//! What nobody who speaks neo would say, on every port.

use neo_api::{Address, Oid, Reign, Tid, TxnId};
use neo_proto::handshake::Versions;
use neo_proto::{ErrorCode, ObjectAnswer, Packet};
use neo_testkit::process::Process;

use crate::cluster::{self, lines_about};
use crate::load::Load;
use crate::peer::{Heard, Raw, frame_of};

/// What comes to a port.
struct Case {
    bytes: Vec<u8>,
    /// Whether the peer then closes its end.
    ends: bool,
    /// What the log says of it.
    words: String,
    /// Whether the peer is told the same, with this code.
    told: Option<ErrorCode>,
}

impl Case {
    /// Who gets no answer but the greeting.
    fn silent(bytes: impl Into<Vec<u8>>, words: &str) -> Self {
        Self {
            bytes: bytes.into(),
            ends: false,
            words: words.to_owned(),
            told: None,
        }
    }

    /// Who has greeted, and gets an answer.
    fn told(bytes: impl AsRef<[u8]>, words: &str) -> Self {
        Self {
            bytes: [&Versions::OWN.greeting(), bytes.as_ref()].concat(),
            ends: false,
            words: format!("protocol error: {words}"),
            told: Some(ErrorCode::Protocol),
        }
    }

    fn ending(mut self) -> Self {
        self.ends = true;
        self
    }

    /// Tries it.
    fn play(&self, at: &Address, process: &mut Process) {
        let mut raw = Raw::connect(at);
        let from = format!("address={}}}", raw.from);
        raw.say(&self.bytes);
        if self.ends {
            raw.end();
        }
        let heard = raw.heard();
        let errors = self.told.map(|code| (0, code, self.words.clone()));
        let expected = Heard {
            greeted: true,
            errors: errors.into_iter().collect(),
        };
        assert_eq!(heard, expected);
        process.wait_for(&from).expect("it is logged");
        let lines = lines_about(process, &from);
        assert!(
            lines.len() == 1 && lines[0].contains(&self.words),
            "{:?} is expected once: {lines:#?}",
            self.words
        );
    }
}

fn lengths(header: u32, payload: u32) -> Vec<u8> {
    [header.to_be_bytes(), payload.to_be_bytes()].concat()
}

/// A frame whose header is these bytes.
fn header(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("short");
    [&lengths(length, 0)[..], bytes].concat()
}

fn cases() -> Vec<Case> {
    let greeting = Versions::OWN.greeting();
    let answer = Packet::AnswerObject {
        oid: Oid(1),
        answer: ObjectAnswer::NotYet,
    };
    let lock = Packet::AskLockInformation {
        txn: TxnId {
            reign: Reign(1),
            ttid: Tid(1),
        },
        tid: Tid(2),
    };
    let forged = Packet::Error {
        code: ErrorCode::Internal,
        message: "x\nERROR the disk burns\x1b[2J".to_owned(),
    };
    let half = frame_of(1, &lock, b"");
    let with_greeting = |bytes: &[u8]| [&greeting, bytes].concat();
    vec![
        Case::silent(
            b"GET / HTTP/1.1\r\nHost: there\r\n\r\n",
            r#"the peer is not a neo node: it said "GET / HTTP/1.1\r\nHost: there\r\n\r\n" (it speaks HTTP)"#,
        ),
        Case::silent(
            b"SSH-2.0-OpenSSH_9.6\r\n",
            r#"the peer is not a neo node: it said "SSH-2.0-OpenSSH_9.6\r\n" (it speaks SSH)"#,
        ),
        Case::silent(
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            "the peer speaks TLS, this side does not: configure TLS on both or on none",
        ),
        Case::silent(
            &greeting[..5],
            "the peer closed the connection before its greeting was complete",
        )
        .ending(),
        Case::silent(
            Versions { min: 3, max: 4 }.greeting(),
            "no common protocol version: the peer speaks 3 to 4, this node 1 to 1: upgrade this node",
        ),
        Case::silent(
            Versions { min: 0, max: 0 }.greeting(),
            "no common protocol version: the peer speaks 0 to 0, this node 1 to 1: upgrade the peer",
        ),
        Case::silent(
            Versions { min: 4, max: 3 }.greeting(),
            r#"the peer is not a neo node: it said "\x89NEO\x00\x04\x00\x03""#,
        ),
        Case::silent(
            with_greeting(&half[..half.len() - 1]),
            "closed by the peer, in the middle of a message",
        )
        .ending(),
        Case::silent(
            with_greeting(&lengths(5, 0)[..3]),
            "closed by the peer, in the middle of a message",
        )
        .ending(),
        Case::told(
            b"and now for something",
            "a message of 1634624544 bytes, where 1048576 is the most",
        ),
        Case::told(
            lengths(u32::MAX, 0),
            "a message of 4294967295 bytes, where 1048576 is the most",
        ),
        Case::told(
            lengths(10, u32::MAX),
            "object bytes of 4294967295 bytes, where 1048576 is the most",
        ),
        Case::told(lengths(0, 0), "a frame without a message"),
        Case::told(header(b"\x1c\x00"), "not a message: no CBOR at byte 0"),
        Case::told(header(b"\x82\x03"), "not a message: it ends too early"),
        Case::told(
            header(b"\x82\x19\x7f\xff\x01"),
            "not a message: message code 0x7fff is not known to this version",
        ),
        Case::told(
            frame_of(7, &answer, b""),
            "AnswerObject answers request 7, which was not sent or is answered",
        ),
        Case::silent(
            with_greeting(&frame_of(0, &forged, b"")),
            r"the peer says: internal error: x\nERROR the disk burns\u{1b}[2J",
        ),
    ]
}

/// Random bytes, the same ones each time.
fn garbage(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    // No TLS record, by chance.
    let first = next() | 0x20;
    std::iter::once(first)
        .chain(std::iter::repeat_with(next).take(5000))
        .collect()
}

#[test]
fn nonsense_on_any_port_is_told_logged_and_harms_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = cluster::start(dir.path());
    let clients = [cluster::connect(&cluster), cluster::connect(&cluster)];
    let load = Load::start(&clients);
    load.until_committed(10);
    for (_, at, process) in cluster::nodes(&mut cluster) {
        for case in cases() {
            case.play(&at, process);
        }
        for seed in 0..5 {
            Case::silent(garbage(seed), "the peer is not a neo node: it said").play(&at, process);
        }
        assert!(process.is_running());
        load.until_committed(10);
    }
    let fresh = cluster::connect(&cluster);
    let commits = load.end(&fresh);
    println!("{commits} commits meanwhile");
    for process in cluster.processes() {
        assert!(
            process
                .stop()
                .expect("a clean stop")
                .is_some_and(|status| status.success())
        );
    }
}
