//! One connection that asks and gets answers, pure.

use std::collections::BTreeSet;
use std::convert::Infallible;

use neo_api::{Address, Instant, Now};
use neo_proto::{ConnId, ConnectToken, Core, Effect, Effects, Input, Message, MsgId, Packet};

/// A request; its ticket is its id on the connection.
#[derive(Debug)]
pub(super) struct ControlCommand {
    pub(super) ticket: u64,
    pub(super) packet: Packet,
}

#[derive(Debug)]
pub(super) enum ControlEvent {
    Connected,
    Answer { ticket: u64, packet: Packet },
    Ended { reason: String },
}

/// The core of a control client.
#[derive(Debug)]
pub(super) struct ControlCore {
    address: Address,
    stage: Stage,
    asked: BTreeSet<u64>,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    New,
    Connecting,
    Up(ConnId),
    Ended,
}

const TOKEN: ConnectToken = ConnectToken(1);

impl ControlCore {
    pub(super) const fn new(address: Address) -> Self {
        Self {
            address,
            stage: Stage::New,
            asked: BTreeSet::new(),
        }
    }

    fn end(&mut self, reason: String, out: &mut Effects<Self>) {
        self.stage = Stage::Ended;
        out.event(ControlEvent::Ended { reason });
        out.push(Effect::Stop { failure: None });
    }
}

impl Core for ControlCore {
    type Command = ControlCommand;
    type Event = ControlEvent;
    type Job = Infallible;
    type Done = Infallible;

    fn handle(&mut self, _now: Now, input: Input<Self>, out: &mut Effects<Self>) {
        match input {
            Input::Timer if self.stage == Stage::New => {
                self.stage = Stage::Connecting;
                let to = self.address.clone();
                out.push(Effect::Connect { token: TOKEN, to });
            }
            Input::Connected { conn, .. } if self.stage == Stage::Connecting => {
                self.stage = Stage::Up(conn);
                out.event(ControlEvent::Connected);
            }
            Input::ConnectFailed { error, .. } if self.stage == Stage::Connecting => {
                self.end(error, out);
            }
            Input::Closed { conn, reason } if self.stage == Stage::Up(conn) => {
                self.end(reason, out);
            }
            Input::Command(ControlCommand { ticket, packet }) => {
                if let Stage::Up(conn) = self.stage {
                    self.asked.insert(ticket);
                    out.send(conn, MsgId(ticket), packet);
                }
            }
            Input::Message { conn, message } if self.stage == Stage::Up(conn) => {
                let Message { id, packet, .. } = message;
                if packet.is_answer() && self.asked.remove(&id.0) {
                    let ticket = id.0;
                    out.event(ControlEvent::Answer { ticket, packet });
                } else {
                    let problem = format!("the node says {} without being asked", packet.name());
                    out.close(conn, &*problem);
                    self.end(problem, out);
                }
            }
            _ => {}
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

#[cfg(test)]
mod tests {
    use neo_api::UnixMicros;

    use super::*;

    const NOW: Now = Now {
        mono: Instant(0),
        wall: UnixMicros(0),
    };

    fn input(core: &mut ControlCore, input: Input<ControlCore>) -> Vec<Effect<ControlCore>> {
        let mut out = Effects::new();
        core.handle(NOW, input, &mut out);
        out.take()
    }

    fn up() -> ControlCore {
        let mut core = ControlCore::new(Address::new("a", 1));
        let effects = input(&mut core, Input::Timer);
        assert!(matches!(effects.as_slice(), [Effect::Connect { .. }]));
        let connected = Input::Connected {
            token: TOKEN,
            conn: ConnId(1),
        };
        let effects = input(&mut core, connected);
        assert!(matches!(
            effects.as_slice(),
            [Effect::Event(ControlEvent::Connected)]
        ));
        core
    }

    fn answer(id: u64) -> Input<ControlCore> {
        let packet = Packet::AnswerPrimary { primary: None };
        Input::Message {
            conn: ConnId(1),
            message: Message::new(MsgId(id), packet),
        }
    }

    #[test]
    fn answers_find_their_requests() {
        let mut core = up();
        for ticket in [1, 2] {
            let packet = Packet::AskPrimary {};
            let command = Input::Command(ControlCommand { ticket, packet });
            let effects = input(&mut core, command);
            assert!(matches!(
                effects.as_slice(),
                [Effect::Send { message, .. }] if message.id == MsgId(ticket)
            ));
        }
        for ticket in [2, 1] {
            let effects = input(&mut core, answer(ticket));
            assert!(matches!(
                effects.as_slice(),
                [Effect::Event(ControlEvent::Answer { ticket: t, .. })] if *t == ticket
            ));
        }
        // Nobody asked this.
        let effects = input(&mut core, answer(2));
        assert!(matches!(
            effects.as_slice(),
            [
                Effect::Close { .. },
                Effect::Event(ControlEvent::Ended { .. }),
                Effect::Stop { .. }
            ]
        ));
    }

    #[test]
    fn a_lost_connection_is_the_end() {
        let mut core = up();
        let closed = Input::Closed {
            conn: ConnId(1),
            reason: "silent".to_owned(),
        };
        let effects = input(&mut core, closed);
        assert!(matches!(
            effects.as_slice(),
            [
                Effect::Event(ControlEvent::Ended { reason }),
                Effect::Stop { failure: None }
            ] if reason == "silent"
        ));
    }
}
