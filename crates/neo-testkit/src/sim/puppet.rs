//! A node that says what a test says: for peers that do not keep to the protocol.

use std::collections::BTreeMap;
use std::convert::Infallible;

use neo_api::{Address, Instant, Now};
use neo_proto::{ConnId, ConnectToken, Core, Effect, Effects, Input, Message, MsgId, Packet};

/// What a puppet is told to do.
#[derive(Debug)]
pub enum Say {
    /// Connect.
    Connect(Address),
    /// Send.
    Message(ConnId, Message),
    /// Close.
    Close(ConnId),
}

/// What a puppet has heard.
#[derive(Debug, Default)]
pub struct PuppetCore {
    last_token: u64,
    dialed: BTreeMap<ConnectToken, Address>,
    open: BTreeMap<Address, ConnId>,
    heard: Vec<(ConnId, Message)>,
    closed: BTreeMap<ConnId, String>,
}

impl PuppetCore {
    /// The connection to an address, if there is one now.
    #[must_use]
    pub fn conn(&self, to: &Address) -> Option<ConnId> {
        self.open.get(to).copied()
    }

    /// Why a connection ended, if it did.
    #[must_use]
    pub fn closed(&self, conn: ConnId) -> Option<&str> {
        self.closed.get(&conn).map(String::as_str)
    }

    /// The answer to a request, if it has come.
    #[must_use]
    pub fn answer(&self, conn: ConnId, id: MsgId) -> Option<&Packet> {
        let mut heard = self.heard.iter();
        let is_it = |m: &Message| m.id == id && m.packet.is_answer();
        heard
            .find(|(from, message)| *from == conn && is_it(message))
            .map(|(_, message)| &message.packet)
    }

    /// All that came on a connection, in order.
    pub fn heard(&self, conn: ConnId) -> impl Iterator<Item = &Packet> {
        let heard = self.heard.iter().filter(move |(from, _)| *from == conn);
        heard.map(|(_, message)| &message.packet)
    }
}

impl Core for PuppetCore {
    type Command = Say;
    type Event = Infallible;
    type Job = Infallible;
    type Done = Infallible;

    fn handle(&mut self, _: Now, input: Input<Self>, out: &mut Effects<Self>) {
        match input {
            Input::Connected { token, conn } => {
                if let Some(to) = self.dialed.remove(&token) {
                    self.open.insert(to, conn);
                }
            }
            Input::Message { conn, message } => {
                if !message.payload.is_empty() {
                    let bytes = message.payload.len() as u64;
                    out.push(Effect::Consumed { conn, bytes });
                }
                self.heard.push((conn, message));
            }
            Input::Closed { conn, reason } => {
                self.open.retain(|_, open| *open != conn);
                self.closed.insert(conn, reason);
            }
            Input::Command(Say::Connect(to)) => {
                self.last_token += 1;
                let token = ConnectToken(self.last_token);
                self.dialed.insert(token, to.clone());
                out.push(Effect::Connect { token, to });
            }
            Input::Command(Say::Message(conn, message)) => {
                out.push(Effect::Send { conn, message });
            }
            Input::Command(Say::Close(conn)) => {
                self.open.retain(|_, open| *open != conn);
                out.close(conn, "the test says so");
            }
            Input::Accepted { conn, .. } => out.close(conn, "nobody serves here"),
            Input::ConnectFailed { .. } | Input::Timer => {}
            Input::Done(never) => match never {},
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}
