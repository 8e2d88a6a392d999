use neo_api::{
    CellChange, CellState, Partition, PartitionTable, Partitioning, Ptid, Reign, SessionId,
    TableVersion, UnixMicros,
};
use neo_proto::{ConnectToken, NodeInfo};

use super::*;

const MASTER: ConnId = ConnId(1);
const CTL: ConnId = ConnId(2);

fn at(millis: u64) -> Now {
    Now {
        mono: Instant(millis * 1_000_000),
        wall: UnixMicros(0),
    }
}

fn nid(text: &str) -> NodeId {
    text.parse().unwrap()
}

/// A core, with what it wanted since it was last asked.
struct Node {
    core: AdminCore,
    out: Out,
}

impl Node {
    fn new() -> Self {
        let settings = AdminSettings {
            cluster: "test".to_owned(),
            masters: vec![Address::new("m", 1), Address::new("m", 2)],
            nid: None,
        };
        let core = AdminCore::new(settings, Address::new("a", 9));
        let out = Out::new();
        Self { core, out }
    }

    fn input(&mut self, input: Input<AdminCore>) -> Vec<Effect<AdminCore>> {
        self.input_at(0, input)
    }

    fn input_at(&mut self, millis: u64, input: Input<AdminCore>) -> Vec<Effect<AdminCore>> {
        self.core.handle(at(millis), input, &mut self.out);
        self.out.take()
    }

    fn message(&mut self, conn: ConnId, id: u64, packet: Packet) -> Vec<Effect<AdminCore>> {
        let message = Message::new(MsgId(id), packet);
        self.input(Input::Message { conn, message })
    }

    /// A node that follows a primary in state RUNNING, and has a control connection.
    fn up() -> Self {
        let mut node = Self::new();
        node.input(Input::Timer);
        let token = ConnectToken(1);
        node.input(Input::Connected {
            token,
            conn: MASTER,
        });
        node.message(MASTER, 1, accept());
        let state = ClusterState::Running;
        node.message(
            MASTER,
            0,
            Packet::NotifyClusterInformation {
                state,
                waiting: String::new(),
            },
        );
        node.input(Input::Accepted {
            conn: CTL,
            from: Address::new("ctl", 5),
        });
        node
    }
}

fn accept() -> Packet {
    Packet::AcceptIdentification {
        node_type: NodeType::Master,
        nid: Some(nid("M1")),
        your_nid: nid("A1"),
        reign: Reign(3),
        session: SessionId(7),
        identity: None,
    }
}

fn sends(effects: &[Effect<AdminCore>]) -> Vec<(ConnId, u64, &Packet)> {
    let send = |effect: &'_ Effect<AdminCore>| match effect {
        Effect::Send { conn, message } => Some((*conn, message.id.0)),
        _ => None,
    };
    let packets = effects.iter().filter_map(|effect| match effect {
        Effect::Send { message, .. } => Some(&message.packet),
        _ => None,
    });
    effects
        .iter()
        .filter_map(send)
        .zip(packets)
        .map(|((conn, id), packet)| (conn, id, packet))
        .collect()
}

fn stops(effects: &[Effect<AdminCore>]) -> bool {
    matches!(effects.last(), Some(Effect::Stop { failure: None }))
}

fn set_state(state: ClusterState) -> Packet {
    Packet::SetClusterState { state }
}

fn info(text: &str, state: NodeState) -> NodeInfo {
    NodeInfo {
        nid: nid(text),
        address: None,
        state,
        session: None,
        since_micros: None,
        is_full: false,
    }
}

#[test]
fn it_identifies_at_the_primary_and_tells_what_it_sees() {
    let mut node = Node::new();
    let effects = node.input(Input::Timer);
    let first = Address::new("m", 1);
    assert!(matches!(
        effects.as_slice(),
        [Effect::Connect { token: ConnectToken(1), to }, Effect::Event(status)]
            if *to == first && status.masters.contains(&first)
    ));
    let effects = node.input(Input::Connected {
        token: ConnectToken(1),
        conn: MASTER,
    });
    let sent = sends(&effects);
    let [(MASTER, 1, Packet::RequestIdentification { identification })] = sent.as_slice() else {
        panic!("{effects:?}");
    };
    assert_eq!(identification.node_type, NodeType::Admin);
    assert_eq!(identification.cluster, "test");
    assert_eq!(identification.address, Some(Address::new("a", 9)));
    let effects = node.message(MASTER, 1, accept());
    let [Effect::Event(status)] = effects.as_slice() else {
        panic!("{effects:?}");
    };
    assert_eq!((status.connected, status.primary), (true, Some(nid("M1"))));
    let state = ClusterState::Recovering;
    let effects = node.message(
        MASTER,
        0,
        Packet::NotifyClusterInformation {
            state,
            waiting: String::new(),
        },
    );
    assert!(matches!(effects.as_slice(), [Effect::Event(s)] if s.state == Some(state)));
}

#[test]
fn a_secondary_leads_to_the_primary() {
    let mut node = Node::new();
    node.input(Input::Timer);
    let token = ConnectToken(1);
    node.input(Input::Connected {
        token,
        conn: MASTER,
    });
    let primary = Some(Address::new("m", 7));
    let masters = vec![];
    let effects = node.message(MASTER, 1, Packet::NotPrimaryMaster { primary, masters });
    // It is remembered, too.
    assert!(matches!(
        effects.as_slice(),
        [Effect::Close { conn: MASTER, .. }, Effect::Event(status)]
            if status.masters.contains(&Address::new("m", 7))
    ));
    let later = node.core.poll_timeout().unwrap().0 / 1_000_000;
    let effects = node.input_at(later, Input::Timer);
    assert!(matches!(
        effects.as_slice(),
        [Effect::Connect { to, .. }] if *to == Address::new("m", 7)
    ));
}

#[test]
fn another_cluster_is_the_end_and_a_refusal_is_not() {
    let mut node = Node::new();
    node.input(Input::Timer);
    let (token, conn) = (ConnectToken(1), MASTER);
    node.input(Input::Connected { token, conn });
    let code = ErrorCode::NotReady;
    let message = "stopping".to_owned();
    let effects = node.message(MASTER, 1, Packet::Error { code, message });
    // The next master is tried at once.
    assert!(matches!(
        effects.as_slice(),
        [Effect::Close { conn: MASTER, .. }, Effect::Connect { to, .. }]
            if *to == Address::new("m", 2)
    ));
    let (token, conn) = (ConnectToken(2), ConnId(3));
    node.input(Input::Connected { token, conn });
    let code = ErrorCode::OtherCluster;
    let message = "this is a node of cluster x, you asked for test".to_owned();
    let effects = node.message(conn, 2, Packet::Error { code, message });
    let [Effect::Stop { failure }] = effects.as_slice() else {
        panic!("{effects:?}");
    };
    assert_eq!(
        failure.as_deref(),
        Some("the master at m:2 refuses: this is a node of cluster x, you asked for test")
    );
}

#[test]
fn without_a_primary_commands_are_not_ready() {
    let mut node = Node::new();
    let from = Address::new("ctl", 5);
    node.input(Input::Accepted { conn: CTL, from });
    for packet in [
        Packet::AskLastIds {},
        Packet::AskPartitionList {},
        Packet::AskNodeList { node_type: None },
        set_state(ClusterState::Verifying),
    ] {
        let effects = node.message(CTL, 4, packet);
        let message = "not connected to a primary master";
        assert_eq!(sends(&effects), [(CTL, 4, &not_ready(message))]);
    }
    let effects = node.message(CTL, 5, Packet::AskPrimary {});
    assert_eq!(
        sends(&effects),
        [(CTL, 5, &Packet::AnswerPrimary { primary: None })]
    );
}

fn cluster_answer(node: &mut Node) -> (Option<ClusterState>, String) {
    let effects = node.message(CTL, 6, Packet::AskClusterState {});
    match sends(&effects).as_slice() {
        [(CTL, 6, Packet::AnswerClusterState { state, waiting })] => (*state, waiting.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_tells_for_whom_the_cluster_waits() {
    let mut node = Node::up();
    let running = Some(ClusterState::Running);
    assert_eq!(cluster_answer(&mut node), (running, String::new()));
    let state = ClusterState::Recovering;
    for words in ["waiting for S1, S2", "waiting for S2"] {
        let waiting = words.to_owned();
        node.message(
            MASTER,
            0,
            Packet::NotifyClusterInformation { state, waiting },
        );
        let expected = (Some(state), words.to_owned());
        assert_eq!(cluster_answer(&mut node), expected);
    }
}

#[test]
fn without_a_primary_it_tells_how_it_went_with_each_master() {
    let mut node = Node::new();
    let from = Address::new("ctl", 5);
    node.input(Input::Accepted { conn: CTL, from });
    let no_primary = "not connected to a primary master";
    assert_eq!(cluster_answer(&mut node), (None, no_primary.to_owned()));
    let error = "connection refused".to_owned();
    let token = ConnectToken(1);
    node.input(Input::ConnectFailed { token, error });
    let token = ConnectToken(2);
    node.input(Input::Connected {
        token,
        conn: MASTER,
    });
    let (primary, masters) = (None, vec![Address::new("m", 3)]);
    node.message(MASTER, 1, Packet::NotPrimaryMaster { primary, masters });
    // It takes no part in the round, which has a pause now; then it does not answer.
    let effects = node.input_at(5, Input::Timer);
    assert!(matches!(effects.as_slice(), [Effect::Connect { to, .. }] if to.port() == 3));
    node.input_at(2000, Input::Timer);
    let words = format!(
        "{no_primary}: m:1: connection refused; m:2: it knows no primary master; m:3: it does \
         not answer"
    );
    assert_eq!(cluster_answer(&mut node), (None, words.clone()));
    let effects = node.message(CTL, 7, Packet::AskLastIds {});
    assert_eq!(sends(&effects), [(CTL, 7, &not_ready(&words))]);

    // With a primary all is forgotten; when it is lost, that is what there is to say.
    let mut node = Node::up();
    let reason = "silent for 10 s".to_owned();
    node.input(Input::Closed {
        conn: MASTER,
        reason,
    });
    let words = format!("{no_primary}: m:1: the connection ended: silent for 10 s");
    assert_eq!(cluster_answer(&mut node), (None, words));
}

#[test]
fn commands_are_relayed_and_answered_with_their_own_id() {
    let mut node = Node::up();
    let effects = node.message(CTL, 77, Packet::AskLastIds {});
    assert_eq!(sends(&effects), [(MASTER, 2, &Packet::AskLastIds {})]);
    let state = NodeState::Down;
    let kill = || Packet::SetNodeState {
        nid: nid("S1"),
        state,
    };
    let effects = node.message(CTL, 77, kill());
    assert_eq!(sends(&effects), [(MASTER, 3, &kill())]);
    let code = ErrorCode::Denied;
    let denied = || Packet::Error {
        code,
        message: "no".to_owned(),
    };
    // In any order.
    let effects = node.message(MASTER, 3, denied());
    assert_eq!(sends(&effects), [(CTL, 77, &denied())]);
    // The answer to a connection that is gone is dropped.
    node.input(Input::Closed {
        conn: CTL,
        reason: String::new(),
    });
    let ids = neo_proto::WireLastIds::default();
    let version = None;
    let cells = Vec::new();
    let answer = Packet::AnswerLastIds {
        ids,
        version,
        cells,
        committed_in: Reign(1),
    };
    let effects = node.message(MASTER, 2, answer);
    assert!(effects.is_empty(), "{effects:?}");
}

#[test]
fn a_lost_primary_answers_what_waits_and_is_looked_for() {
    let mut node = Node::up();
    node.message(CTL, 8, set_state(ClusterState::Verifying));
    let effects = node.input(Input::Closed {
        conn: MASTER,
        reason: "silent".to_owned(),
    });
    let answer = not_ready("the primary master was lost before it answered");
    assert_eq!(sends(&effects), [(CTL, 8, &answer)]);
    assert!(matches!(
        effects.as_slice(),
        [Effect::Send { .. }, Effect::Connect { to, .. }, Effect::Event(status)]
            if *to == Address::new("m", 2) && !status.connected
    ));
    // Nothing of the lost primary is told any more.
    let effects = node.message(CTL, 9, Packet::AskNodeList { node_type: None });
    let answer = "not connected to a primary master: m:1: the connection ended: silent";
    assert_eq!(sends(&effects), [(CTL, 9, &not_ready(answer))]);
}

#[test]
fn it_stops_with_the_cluster_once_its_commands_are_answered() {
    for answered_first in [true, false] {
        let mut node = Node::up();
        node.message(CTL, 8, set_state(ClusterState::Stopping));
        let message = "done".to_owned();
        let done = Packet::AnswerDone { message };
        let state = ClusterState::Stopping;
        let stopping = Packet::NotifyClusterInformation {
            state,
            waiting: String::new(),
        };
        let effects = if answered_first {
            node.message(MASTER, 2, done);
            node.message(MASTER, 0, stopping)
        } else {
            assert!(!stops(&node.message(MASTER, 0, stopping)));
            let effects = node.message(MASTER, 2, done);
            assert!(matches!(sends(&effects).as_slice(), [(CTL, 8, _)]));
            effects
        };
        assert!(stops(&effects), "{effects:?}");
        assert!(node.input(Input::Timer).is_empty());
    }
    // The primary may be gone before it answers.
    let mut node = Node::up();
    node.message(CTL, 8, set_state(ClusterState::Stopping));
    let state = ClusterState::Stopping;
    node.message(
        MASTER,
        0,
        Packet::NotifyClusterInformation {
            state,
            waiting: String::new(),
        },
    );
    let reason = "closed".to_owned();
    let effects = node.input(Input::Closed {
        conn: MASTER,
        reason,
    });
    let message = "Cluster state changed".to_owned();
    assert_eq!(sends(&effects), [(CTL, 8, &Packet::AnswerDone { message })]);
    assert!(stops(&effects), "{effects:?}");
}

#[test]
fn nodes_and_table_follow_the_primary() {
    let mut node = Node::up();
    let nodes = vec![
        info("S1", NodeState::Running),
        info("M1", NodeState::Running),
        info("S2", NodeState::Pending),
    ];
    let full = true;
    node.message(MASTER, 0, Packet::NotifyNodeInformation { full, nodes });
    let nodes = vec![info("S1", NodeState::Down), info("S2", NodeState::Unknown)];
    let full = false;
    node.message(MASTER, 0, Packet::NotifyNodeInformation { full, nodes });
    let effects = node.message(CTL, 1, Packet::AskNodeList { node_type: None });
    let nodes = vec![info("S1", NodeState::Down), info("M1", NodeState::Running)];
    assert_eq!(
        sends(&effects),
        [(CTL, 1, &Packet::AnswerNodeList { nodes })]
    );
    let node_type = Some(NodeType::Storage);
    let effects = node.message(CTL, 2, Packet::AskNodeList { node_type });
    let nodes = vec![info("S1", NodeState::Down)];
    assert_eq!(
        sends(&effects),
        [(CTL, 2, &Packet::AnswerNodeList { nodes })]
    );

    let effects = node.message(CTL, 3, Packet::AskPartitionList {});
    let table = None;
    assert_eq!(
        sends(&effects),
        [(CTL, 3, &Packet::AnswerPartitionList { table })]
    );
    let mut table = PartitionTable::empty(Partitioning::new(1).unwrap(), 0);
    let identity = None;
    node.message(
        MASTER,
        0,
        Packet::SendPartitionTable {
            identity,
            table: Box::new(table.clone()),
        },
    );
    let version = TableVersion {
        reign: Reign(1),
        ptid: Ptid(2),
    };
    let change = CellChange {
        partition: Partition(0),
        cell: neo_api::Cell {
            nid: nid("S1"),
            state: CellState::UpToDate,
            assigned: version,
        },
    };
    let base = table.version;
    let changes = vec![change];
    table.apply(version, 0, &changes).unwrap();
    let notify = Packet::NotifyPartitionChanges {
        base,
        version,
        replicas: 0,
        changes,
    };
    node.message(MASTER, 0, notify.clone());
    let effects = node.message(CTL, 4, Packet::AskPartitionList {});
    let table = Some(Box::new(table));
    assert_eq!(
        sends(&effects),
        [(CTL, 4, &Packet::AnswerPartitionList { table })]
    );
    // A change of another table: this node missed something, and starts over.
    let effects = node.message(MASTER, 0, notify);
    assert!(matches!(effects[0], Effect::Close { conn: MASTER, .. }));
}

#[test]
fn it_stops_when_it_is_told_to() {
    let mut node = Node::up();
    let nodes = vec![info("A1", NodeState::Down)];
    let full = false;
    let effects = node.message(MASTER, 0, Packet::NotifyNodeInformation { full, nodes });
    assert!(stops(&effects), "{effects:?}");
    let mut node = Node::up();
    let effects = node.input(Input::Command(AdminCommand::Stop));
    assert!(stops(&effects), "{effects:?}");
}

#[test]
fn nonsense_closes_its_connection_only() {
    let mut node = Node::up();
    let effects = node.message(CTL, 3, Packet::AskRecovery {});
    assert!(matches!(
        effects.as_slice(),
        [
            Effect::Send { conn: CTL, message },
            Effect::Close { conn: CTL, .. }
        ] if matches!(message.packet, Packet::Error { code: ErrorCode::Protocol, .. })
    ));
    let effects = node.message(MASTER, 99, Packet::AnswerImport {});
    assert!(matches!(effects[0], Effect::Close { conn: MASTER, .. }));
}

#[test]
fn a_crowd_that_asks_nothing_keeps_no_operator_out() {
    let mut node = Node::up();
    // This one waits for the primary.
    node.message(CTL, 3, Packet::AskLastIds {});
    let mut closed = Vec::new();
    for n in 0..=CONTROLS_MAX as u64 {
        let (conn, from) = (ConnId(100 + n), Address::new("ctl", 5));
        for effect in node.input(Input::Accepted { conn, from }) {
            match effect {
                Effect::Close { conn, .. } => closed.push(conn),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(closed, [ConnId(100), ConnId(101)]);
}
