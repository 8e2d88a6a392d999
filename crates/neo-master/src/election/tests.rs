//! What a master does that hears of no other one. Elections over a network are run by
//! `neo-testkit/tests/election.rs`.

use std::time::Duration;

use neo_api::{Address, Election, ElectionEffect, ElectionInput, Instant};

use super::PeerElection;

const PATIENCE: Duration = Duration::from_millis(200);

fn address(n: u16) -> Address {
    Address::new("m", 1000 + n)
}

#[test]
fn alone_it_leads_at_once() {
    let mut election = PeerElection::new(PATIENCE);
    let mut out = Vec::new();
    let started = ElectionInput::Started {
        own: address(1),
        peers: Vec::new(),
    };
    election.handle(Instant(0), started, &mut out);
    assert_eq!(out, [ElectionEffect::Lead]);
    assert_eq!(election.poll_timeout(), None);
}

#[test]
fn nonsense_of_others_changes_nothing() {
    let mut election = PeerElection::new(PATIENCE);
    let mut out = Vec::new();
    for input in [
        ElectionInput::Message {
            from: address(1),
            message: bytes::Bytes::from_static(b"early"),
        },
        ElectionInput::Started {
            own: address(1),
            peers: Vec::new(),
        },
    ] {
        election.handle(Instant(0), input, &mut out);
    }
    out.clear();
    let long = format!(
        r#"{{"claim":"Seeks","peers":[{}]}}"#,
        vec![r#"{"host":"x","port":1}"#; 101].join(",")
    );
    for message in [b"\xff".to_vec(), b"{}".to_vec(), long.into_bytes()] {
        let message = bytes::Bytes::from(message);
        let from = address(2);
        election.handle(Instant(0), ElectionInput::PeerLost(from.clone()), &mut out);
        election.handle(
            Instant(0),
            ElectionInput::Message { from, message },
            &mut out,
        );
    }
    assert_eq!(out, []);
}
