//! Peers that speak neo, and say what makes no sense there.

use neo_api::{
    Address, ClusterId, Epoch, EpochId, NodeId, NodeType, Oid, Partition, Ptid, Reign, SessionId,
    TableVersion, Tid, TxnId,
};
use neo_proto::{ClusterIdentity, ErrorCode, Identification, Packet};
use neo_testkit::process::Process;

use crate::cluster::{self, Kind, lines_about};
use crate::load::Load;
use crate::peer::{Heard, Raw, identification, identify};

/// Somebody who says one thing, and is sent away with these words.
fn refused(at: &Address, process: &mut Process, packet: &Packet, code: ErrorCode, words: &str) {
    let raw = Raw::greeted(at);
    sent_away(raw, process, packet, code, words);
}

fn sent_away(mut raw: Raw, process: &mut Process, packet: &Packet, code: ErrorCode, words: &str) {
    let from = format!("address={}}}", raw.from);
    raw.tell(7, packet);
    let expected = Heard {
        greeted: true,
        errors: vec![(7, code, words.to_owned())],
    };
    assert_eq!(raw.heard(), expected, "{}", packet.name());
    let logged = format!("words={words:?}");
    process.wait_for(&logged).expect("it is logged");
    let lines = lines_about(process, &from);
    let about = lines.iter().filter(|line| line.contains(&logged));
    assert_eq!(about.count(), 1, "{words:?} is expected once: {lines:#?}");
}

fn txn() -> TxnId {
    TxnId {
        reign: Reign(1),
        ttid: Tid(1),
    }
}

fn lock() -> Packet {
    Packet::AskLockInformation {
        txn: txn(),
        tid: Tid(2),
    }
}

/// Somebody else's cluster, of the same name.
fn other_identity() -> ClusterIdentity {
    ClusterIdentity {
        id: ClusterId([7; 16]),
        epochs: vec![Epoch {
            number: 1,
            id: EpochId([8; 16]),
            parent: None,
            base_reign: Reign(0),
            base_ptid: Ptid(0),
            base_tid: Tid(0),
        }],
    }
}

fn storage_at(address: &str) -> Identification {
    Identification {
        address: Some(address.parse().expect("an address")),
        ..identification(NodeType::Storage)
    }
}

fn nid(node_type: NodeType, number: u32) -> Option<NodeId> {
    NodeId::new(node_type, number)
}

/// Identifies as a client, as others do.
struct Client {
    raw: Raw,
    own: Identification,
    /// Of the cluster.
    identity: ClusterIdentity,
}

fn client_of(master: &Address) -> Client {
    let mut raw = Raw::greeted(master);
    let own = identification(NodeType::Client);
    match raw.ask(1, &identify(own.clone())) {
        Packet::AcceptIdentification {
            your_nid,
            reign,
            session,
            identity,
            ..
        } => Client {
            raw,
            own: Identification {
                nid: Some(your_nid),
                session: Some((reign, session)),
                ..own
            },
            identity: identity.expect("a running cluster has an identity"),
        },
        other => panic!("{other:?}"),
    }
}

fn at_the_master(at: &Address, process: &mut Process, storage: &Address) {
    let mut refused =
        |packet: &Packet, code, words: &str| refused(at, process, packet, code, words);
    refused(
        &lock(),
        ErrorCode::Protocol,
        "AskLockInformation before identification: this is a master, give neoctl the address of an admin \
         node",
    );
    let mut other = identification(NodeType::Client);
    other.cluster = "other".to_owned();
    refused(
        &identify(other.clone()),
        ErrorCode::OtherCluster,
        r#"this is a node of cluster "test", you asked for "other""#,
    );
    other.cluster = "x".repeat(500_000);
    let shown = "x".repeat(200);
    refused(
        &identify(other),
        ErrorCode::OtherCluster,
        &format!(r#"this is a node of cluster "test", you asked for "{shown}…""#),
    );
    let mut broken = storage_at("127.0.0.1:9");
    broken.identity = Some(ClusterIdentity {
        epochs: Vec::new(),
        ..other_identity()
    });
    refused(
        &identify(broken),
        ErrorCode::Protocol,
        "a chain of 0 epochs can't be",
    );
    let mut twin = storage_at("127.0.0.1:9");
    twin.nid = nid(NodeType::Storage, 1);
    twin.noted = Some(TableVersion {
        reign: Reign(1 << 40),
        ptid: Ptid(1),
    });
    twin.identity = Some(client_of(at).identity);
    refused(
        &identify(twin),
        ErrorCode::IdConflict,
        "another node that is S1 is connected; was a database copied, or started twice?",
    );
    refused(
        &identify(storage_at(&at.to_string())),
        ErrorCode::IdConflict,
        &format!("{at} is where this master listens"),
    );
    let mut mixed = identification(NodeType::Client);
    mixed.nid = nid(NodeType::Storage, 1);
    refused(
        &identify(mixed),
        ErrorCode::Protocol,
        "a CLIENT can't have the id S1",
    );
    refused(
        &identify(identification(NodeType::Storage)),
        ErrorCode::Protocol,
        "a storage node must tell where it listens",
    );
    refused(
        &identify(identification(NodeType::Master)),
        ErrorCode::Protocol,
        "a master must tell where it listens",
    );

    // With what only the cluster knows in the words.
    let cluster = client_of(at).identity.id;
    let mut stranger = storage_at("127.0.0.1:9");
    stranger.identity = Some(other_identity());
    let theirs = other_identity().id;
    refused(
        &identify(stranger),
        ErrorCode::OtherCluster,
        &format!(
            "this is cluster \"test\" with id {cluster}, but the node belongs to another one of \
             the same name, with id {theirs}: give it an empty database, or the right masters"
        ),
    );
    let mut raw = Raw::greeted(at);
    match raw.ask(1, &identify(storage_at(&storage.to_string()))) {
        Packet::Error { code, message } => {
            assert_eq!(code, ErrorCode::IdConflict);
            let words = format!(" is connected, and listens at {storage} too");
            assert!(message.ends_with(&words), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

fn at_a_storage(at: &Address, process: &mut Process, master: &Address) {
    let mut refused =
        |packet: &Packet, code, words: &str| refused(at, process, packet, code, words);
    refused(
        &lock(),
        ErrorCode::Protocol,
        "AskLockInformation was not expected",
    );
    refused(
        &Packet::AskTruncate { after: Tid::ZERO },
        ErrorCode::Protocol,
        "AskTruncate was not expected",
    );
    let mut other = identification(NodeType::Client);
    other.cluster = "other".to_owned();
    refused(
        &identify(other),
        ErrorCode::OtherCluster,
        r#"this is a node of cluster "test", you asked for "other""#,
    );
    refused(
        &identify(identification(NodeType::Client)),
        ErrorCode::Protocol,
        "identify at the primary master first: a storage node wants your id and session",
    );
    let client = client_of(master);
    let theirs = other_identity().id;
    let other = Identification {
        identity: Some(other_identity()),
        ..client.own.clone()
    };
    refused(
        &identify(other),
        ErrorCode::OtherCluster,
        &format!(
            "this is cluster \"test\" with id {}, but you belong to another one of the same name, \
             with id {theirs}",
            client.identity.id
        ),
    );
    let (reign, session) = client.own.session.expect("it identified");
    let with = |reign, session| Identification {
        session: Some((reign, session)),
        ..client.own.clone()
    };
    refused(
        &identify(with(Reign(reign.0 + 1), session)),
        ErrorCode::NotReady,
        "you are of another primary master's reign: identify at the primary again",
    );
    refused(
        &identify(with(reign, SessionId(session.0 - 1))),
        ErrorCode::NotReady,
        "unknown by the primary master: identify there again",
    );
    let storage = Identification {
        nid: nid(NodeType::Storage, 1),
        session: Some((reign, SessionId(0))),
        ..storage_at("127.0.0.1:9")
    };
    refused(
        &identify(storage),
        ErrorCode::NotReady,
        "unknown by the primary master: identify there again",
    );
    let master = Identification {
        nid: nid(NodeType::Master, 1),
        session: Some((reign, session)),
        ..identification(NodeType::Master)
    };
    refused(
        &identify(master),
        ErrorCode::Denied,
        "a storage node serves clients, and storage nodes that catch up",
    );
}

/// Clients of good standing that then say what only others may.
fn as_clients(at: &Address, process: &mut Process, master: &Address, kind: Kind) {
    let mut say = |packet: &Packet, words: &str| {
        let client = client_of(master);
        let raw = if kind == Kind::Master {
            client.raw
        } else {
            let mut raw = Raw::greeted(at);
            let answer = raw.ask(1, &identify(client.own));
            assert!(
                matches!(answer, Packet::AcceptIdentification { .. }),
                "{answer:?}"
            );
            // The master knows the client as long as this one is open.
            std::mem::forget(client.raw);
            raw
        };
        sent_away(raw, process, packet, ErrorCode::Protocol, words);
    };
    let words = |name: &str| match kind {
        Kind::Master => format!("unexpected {name} from a client"),
        _ => format!("{name} was not expected"),
    };
    for packet in [
        lock(),
        Packet::AskTruncate { after: Tid::ZERO },
        Packet::AskValidateTransaction {
            txn: txn(),
            tid: Tid(2),
        },
        Packet::StartOperation { operation: 1 },
        identify(identification(NodeType::Client)),
    ] {
        // A notification is answered too when it comes with an id: it is no notification then.
        say(&packet, &words(packet.name()));
    }
    if kind == Kind::Master {
        say(
            &Packet::AskRevisions {
                partition: Partition(0),
                min: neo_api::RevisionId {
                    tid: Tid::ZERO,
                    oid: Oid(0),
                },
                max: Tid::MAX,
                bytes: 1,
            },
            "unexpected AskRevisions from a client",
        );
    } else {
        say(
            &Packet::AskBeginTransaction { tid: None },
            "AskBeginTransaction was not expected",
        );
    }
}

fn at_the_admin(at: &Address, process: &mut Process) {
    refused(
        at,
        process,
        &identify(identification(NodeType::Client)),
        ErrorCode::Protocol,
        "this is an admin node, which is for neoctl: give clients and other nodes the address of a \
         master",
    );
    for packet in [lock(), Packet::AskBeginTransaction { tid: None }] {
        let words = format!(
            "{} is no command of an operator: this is an admin node, others go to a master",
            packet.name()
        );
        refused(at, process, &packet, ErrorCode::Protocol, &words);
    }
}

#[test]
fn messages_that_make_no_sense_are_refused_with_words_that_say_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut cluster = cluster::start(dir.path());
    let clients = [cluster::connect(&cluster), cluster::connect(&cluster)];
    let load = Load::start(&clients);
    load.until_committed(10);
    let mut nodes = cluster::nodes(&mut cluster);
    let master = nodes[0].1.clone();
    let storage = nodes[2].1.clone();
    for (kind, at, process) in &mut nodes {
        match kind {
            Kind::Master => at_the_master(at, process, &storage),
            Kind::Admin => at_the_admin(at, process),
            Kind::Storage => at_a_storage(at, process, &master),
        }
        if *kind != Kind::Admin {
            as_clients(at, process, &master, *kind);
        }
        assert!(process.is_running());
        load.until_committed(10);
    }
    let fresh = cluster::connect(&cluster);
    let commits = load.end(&fresh);
    println!("{commits} commits meanwhile");
    cluster.stop().expect("a clean stop");
}
