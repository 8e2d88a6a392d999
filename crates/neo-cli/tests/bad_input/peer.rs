//! Peers made by hand: they say what they want.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use neo_api::{Address, NodeType};
use neo_proto::frame::{self, Decoder};
use neo_proto::handshake::{GREETING_BYTES, Versions};
use neo_proto::{ErrorCode, Identification, MsgId, Packet, decode};
use neo_testkit::process::CLUSTER;

/// A connection to a node.
pub(crate) struct Raw {
    stream: TcpStream,
    decoder: Decoder,
    greeting: Vec<u8>,
    /// Where this end is, as the node sees it.
    pub(crate) from: String,
}

/// What a node said until it closed the connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Whether it greeted as neo nodes do.
    pub(crate) greeted: bool,
    /// Errors that it told, with the requests that they answer.
    pub(crate) errors: Vec<(u64, ErrorCode, String)>,
}

impl Raw {
    pub(crate) fn connect(to: &Address) -> Self {
        let stream = TcpStream::connect(to.to_string()).expect("it listens");
        let timeout = Some(Duration::from_secs(20));
        stream.set_read_timeout(timeout).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self {
            from: stream.local_addr().expect("an address").to_string(),
            stream,
            decoder: Decoder::new(),
            greeting: Vec::new(),
        }
    }

    /// A connection that has greeted.
    pub(crate) fn greeted(to: &Address) -> Self {
        let mut raw = Self::connect(to);
        raw.say(&Versions::OWN.greeting());
        raw
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        // The node may have had enough already.
        let _ = self.stream.write_all(bytes);
    }

    pub(crate) fn tell(&mut self, id: u64, packet: &Packet) {
        self.say(&frame_of(id, packet, b""));
    }

    /// Says nothing more.
    pub(crate) fn end(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, id: u64, packet: &Packet) -> Packet {
        self.tell(id, packet);
        loop {
            if let Some((MsgId(of), answer)) = self.next() {
                if of == id && answer.is_answer() {
                    return answer;
                }
            } else {
                assert!(self.read(), "closed before {} was answered", packet.name());
            }
        }
    }

    /// Everything until the end.
    pub(crate) fn heard(mut self) -> Heard {
        let mut errors = Vec::new();
        loop {
            match self.next() {
                Some((id, Packet::Error { code, message })) => errors.push((id.0, code, message)),
                Some(_) => {}
                None if self.read() => {}
                None => break,
            }
        }
        Heard {
            greeted: self.greeting == Versions::OWN.greeting(),
            errors,
        }
    }

    fn next(&mut self) -> Option<(MsgId, Packet)> {
        let frame = self.decoder.next_frame().expect("nodes send frames")?;
        Some(decode(&frame.header).expect("nodes send messages"))
    }

    /// Reads some; false at the end.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 65_536];
        // A reset is an end as well, a timeout is not.
        let n = match self.stream.read(&mut bytes) {
            Ok(n) => n,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("the node does not close the connection: {error}"),
        };
        let rest = GREETING_BYTES - self.greeting.len();
        let (greeting, frames) = bytes[..n].split_at(rest.min(n));
        self.greeting.extend(greeting);
        self.decoder.feed(frames);
        n > 0
    }
}

/// The bytes of a message.
pub(crate) fn frame_of(id: u64, packet: &Packet, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode_head(MsgId(id), packet, payload.len(), &mut bytes).expect("it fits");
    bytes.extend(payload);
    bytes
}

/// What a node of this type says of itself at first.
pub(crate) fn identification(node_type: NodeType) -> Identification {
    Identification {
        node_type,
        nid: None,
        address: None,
        cluster: CLUSTER.to_owned(),
        identity: None,
        session: None,
        read_only: false,
        topology: Vec::new(),
        masters: Vec::new(),
        new_nid: false,
        noted: None,
        is_full: false,
    }
}

pub(crate) fn identify(identification: Identification) -> Packet {
    Packet::RequestIdentification {
        identification: Box::new(identification),
    }
}
