//! The primary or a storage node is lost in any phase of a transaction: it commits with the others,
//! or ends with an error that says so, and nobody waits for a timeout.

use neo_proto::FinalTid;

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Phase {
    Begun,
    Storing,
    Stored,
    Voting,
    Voted,
    Finishing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Primary,
    /// Its connection to this client breaks.
    Connection,
    /// The primary gives it up.
    Node,
}

#[derive(Debug)]
struct Run {
    w: World,
    phase: Phase,
    loss: Loss,
    storages: u32,
    /// What the primary does when the finish comes just before it is lost.
    commits: bool,
    finish_came: bool,
    result: Option<Result<Reply, Error>>,
}

impl Run {
    /// Answers everything that is asked, until the application is told.
    fn answer_all(&mut self) {
        for _ in 0..100 {
            self.collect();
            let nodes: Vec<NodeId> = self.w.conns.keys().copied().collect();
            let mut asked = false;
            for nid in nodes {
                while let Some((id, packet)) = self.w.try_to(nid) {
                    asked = true;
                    if let Some(answer) = self.answer(nid, packet) {
                        self.w.says(nid, id, answer);
                    }
                }
            }
            if !asked {
                return;
            }
        }
        panic!("it does not come to an end");
    }

    fn answer(&self, nid: NodeId, packet: Packet) -> Option<Packet> {
        let (txn, tid) = (txn(200), Tid(206));
        // What the client can't spare, the primary can't.
        let is_gone = self.loss != Loss::Primary && self.storages == 1;
        Some(match packet {
            Packet::AskStoreObject { .. } => Packet::AnswerStoreObject {
                outcome: StoreOutcome::Locked,
            },
            Packet::AskStoreTransaction { .. } => Packet::AnswerStoreTransaction {},
            Packet::AskVoteTransaction { .. } => Packet::AnswerVoteTransaction {},
            Packet::AskFailedVote { .. } | Packet::AskFinishTransaction { .. } if is_gone => {
                Packet::Error {
                    code: ErrorCode::IncompleteTransaction,
                    message: "no".into(),
                }
            }
            Packet::AskFailedVote { .. } => Packet::AnswerFailedVote {},
            Packet::AskFinishTransaction { .. } => Packet::AnswerTransactionFinished { txn, tid },
            Packet::AskFinalTid { .. } => Packet::AnswerFinalTid {
                tid: match self.finish_came && self.commits {
                    true if nid == m(1) => FinalTid::AskStorages,
                    true => FinalTid::Committed(tid),
                    false => FinalTid::NotCommitted,
                },
            },
            Packet::AskLastTransaction {} => Packet::AnswerLastTransaction { tid: Tid(206) },
            _ => return None,
        })
    }

    fn collect(&mut self) {
        for event in std::mem::take(&mut self.w.events) {
            match event {
                Event::Reply { id: R, result } => self.result = Some(result),
                Event::Committed { tid, .. } => self.result = Some(Ok(Reply::LastTid(tid))),
                _ => {}
            }
        }
    }

    /// Up to the phase, and no further.
    fn advance(&mut self) {
        let nodes: Vec<NodeId> = (1..=self.storages).map(s).collect();
        if self.phase >= Phase::Storing {
            self.w.store(5, 90, value("mine"));
        }
        if self.phase >= Phase::Stored {
            self.answer_all();
        }
        if self.phase >= Phase::Voting {
            self.w.vote();
        }
        if self.phase >= Phase::Voted {
            nodes.iter().for_each(|nid| self.w.answer_vote(*nid));
        }
        if self.phase >= Phase::Finishing {
            self.w.command(Command::Finish { txn: T, reply: R });
            self.finish_came = true;
        }
        self.collect();
        self.result = None;
    }

    fn strike(&mut self) {
        // It is connected to when it is first written to.
        let nid = s(self.storages);
        match self.loss {
            Loss::Primary => {
                self.w.lose(m(1));
                self.w.sent.clear();
            }
            Loss::Connection if self.w.conns.contains_key(&nid) => self.w.lose(nid),
            Loss::Connection => self.w.unreachable.push(nid),
            Loss::Node => self.w.set_state(nid, NodeState::Down),
        }
    }

    /// The rest of what an application does.
    fn go_on(&mut self) {
        if self.phase < Phase::Storing {
            self.w.store(5, 90, value("mine"));
            self.settle();
        }
        if self.phase < Phase::Voting {
            self.w.vote();
        }
        self.settle();
        if self.phase < Phase::Finishing && !matches!(self.result, Some(Err(_))) {
            self.result = None;
            self.w.command(Command::Finish { txn: T, reply: R });
        }
        self.settle();
    }

    /// Answers, connects again, and lets a few seconds pass.
    fn settle(&mut self) {
        self.answer_all();
        let until = self.w.now.mono + Duration::from_secs(5);
        while let Some(at) = self.w.core.poll_timeout().filter(|at| *at < until) {
            self.w.now.mono = self.w.now.mono.max(at);
            self.w.input(Input::Timer);
            while let Some((token, to)) = self.w.connecting.front().cloned() {
                if to == address(m(1)) {
                    self.w.accept_master();
                } else {
                    self.w.connecting.pop_front();
                    let error = "refused".to_owned();
                    self.w.input(Input::ConnectFailed { token, error });
                }
            }
            self.answer_all();
        }
    }
}

const PHASES: [Phase; 6] = [
    Phase::Begun,
    Phase::Storing,
    Phase::Stored,
    Phase::Voting,
    Phase::Voted,
    Phase::Finishing,
];

fn run(phase: Phase, loss: Loss, storages: u32, commits: bool) -> Result<Reply, Error> {
    let mut run = Run {
        w: World::with_txn(storages, 2),
        phase,
        loss,
        storages,
        commits,
        finish_came: false,
        result: None,
    };
    run.advance();
    run.strike();
    run.go_on();
    let result = run.result.clone();
    let result = result.unwrap_or_else(|| panic!("{phase:?}, {loss:?}: nobody is told"));
    // What failed is over; what is committed is forgotten.
    run.w.command(Command::Abort { txn: T });
    run.settle();
    assert!(run.w.core.txns.is_empty() && run.w.core.requests.is_empty());
    result
}

#[test]
fn the_primary_lost_in_any_phase() {
    for phase in PHASES {
        for commits in [true, false] {
            let result = run(phase, Loss::Primary, 2, commits);
            if phase == Phase::Finishing && commits {
                assert_eq!(result.unwrap(), Reply::LastTid(Tid(206)), "{phase:?}");
            } else {
                let error = result.unwrap_err();
                assert!(matches!(error, Error::NotReady(_)), "{phase:?}: {error}");
            }
        }
    }
}

#[test]
fn one_of_two_replicas_lost_in_any_phase() {
    for phase in PHASES {
        for loss in [Loss::Connection, Loss::Node] {
            let result = run(phase, loss, 2, true);
            assert_eq!(
                result.unwrap(),
                Reply::LastTid(Tid(206)),
                "{phase:?}, {loss:?}"
            );
        }
    }
}

#[test]
fn the_only_replica_lost_in_any_phase() {
    for phase in PHASES {
        for loss in [Loss::Connection, Loss::Node] {
            let result = run(phase, loss, 1, true);
            if phase == Phase::Finishing {
                // The primary has answered for it.
                continue;
            }
            let error = result.unwrap_err();
            assert!(
                matches!(error, Error::IncompleteTransaction(_)) && error.is_retryable(),
                "{phase:?}, {loss:?}: {error}"
            );
        }
    }
}
