//! A connection to a storage node that one thread at a time asks and waits on.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::Bytes;
use neo_api::{Address, SessionId};
use neo_proto::frame::{self, Decoder};
use neo_proto::handshake::{GREETING_BYTES, Versions, read_greeting};
use neo_proto::{Identification, MsgId, Packet, decode};

use crate::patience::Patience;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long an answer may take: then the driver asks, who knows what to do about a slow node.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(200);
/// How long an answer is looked for before the thread goes to sleep.
const LOOK: Duration = Duration::from_micros(120);
/// Bytes of values that may be on their way.
const WINDOW_BYTES: u64 = 128 << 20;

/// A connection that is identified.
#[derive(Debug)]
pub(super) struct Conn {
    stream: TcpStream,
    decoder: Decoder,
    /// What is to be sent.
    out: Vec<u8>,
    last_id: u64,
    /// Bytes of values that came since credit was last given.
    consumed: u64,
    session: Option<SessionId>,
    asked_at: Instant,
    patience: Patience,
}

fn damage(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

fn is_nothing_yet(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

impl Conn {
    pub(super) fn open(address: &Address, own: &Identification) -> io::Result<Self> {
        let mut candidates = (address.host(), address.port()).to_socket_addrs()?;
        let to = candidates
            .next()
            .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
        let stream = TcpStream::connect_timeout(&to, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        let mut conn = Self {
            stream,
            decoder: Decoder::new(),
            out: Versions::OWN.greeting().to_vec(),
            last_id: 0,
            consumed: 0,
            session: own.session.map(|(_, session)| session),
            asked_at: Instant::now(),
            patience: Patience::new(),
        };
        let identification = Box::new(own.clone());
        let id = conn.put(&Packet::RequestIdentification { identification })?;
        conn.tell(&Packet::Credit {
            bytes: WINDOW_BYTES,
        })?;
        conn.flush()?;
        while conn.decoder.pending().len() < GREETING_BYTES {
            conn.read()?;
        }
        read_greeting(Versions::OWN, conn.decoder.pending())
            .ok_or_else(|| damage("no greeting"))?
            .map_err(damage)?;
        conn.decoder.skip(GREETING_BYTES);
        match conn.answer(id)? {
            (Packet::AcceptIdentification { .. }, _) => Ok(conn),
            (Packet::Error { message, .. }, _) => Err(damage(message)),
            (other, _) => Err(damage(other.name())),
        }
    }

    /// The identification at the primary that this connection showed.
    pub(super) const fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// Asks, and waits for the answer. After an error the connection is of no use any more.
    pub(super) fn ask(&mut self, packet: &Packet) -> io::Result<(Packet, Bytes)> {
        self.asked_at = Instant::now();
        let id = self.put(packet)?;
        self.flush()?;
        self.look()?;
        let (packet, payload) = self.answer(id)?;
        self.consumed += payload.len() as u64;
        if self.consumed > WINDOW_BYTES / 4 {
            let bytes = std::mem::take(&mut self.consumed);
            self.tell(&Packet::Credit { bytes })?;
            self.flush()?;
        }
        Ok((packet, payload))
    }

    /// Shows the node that it is still there. An error: it is of no use any more.
    pub(super) fn beat(&mut self, idle_max: Duration) -> io::Result<()> {
        if self.asked_at.elapsed() > idle_max {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.tell(&Packet::Heartbeat {})?;
        self.flush()?;
        // What came meanwhile would fill the buffers of the system.
        self.stream.set_nonblocking(true)?;
        let read = loop {
            match self.read() {
                Ok(()) => {}
                Err(error) if is_nothing_yet(&error) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.stream.set_nonblocking(false)?;
        read?;
        while let Some((id, packet, _)) = self.next()? {
            if id != MsgId(0) || matches!(packet, Packet::Error { .. }) {
                return Err(damage(packet.name()));
            }
        }
        Ok(())
    }

    /// Looks for the answer for a moment, as long as answers are quick, and gives way to all other
    /// threads meanwhile.
    fn look(&mut self) -> io::Result<()> {
        if !self.patience.looks() {
            return Ok(());
        }
        let until = self.asked_at + LOOK;
        self.stream.set_nonblocking(true)?;
        let is_there = loop {
            // Whatever it is, the read tells.
            if !matches!(self.stream.peek(&mut [0]), Err(error) if is_nothing_yet(&error)) {
                break true;
            }
            if Instant::now() > until {
                break false;
            }
            std::thread::yield_now();
        };
        self.stream.set_nonblocking(false)?;
        self.patience.learn(is_there);
        Ok(())
    }

    fn put(&mut self, packet: &Packet) -> io::Result<MsgId> {
        self.last_id += 1;
        let id = MsgId(self.last_id);
        frame::encode_head(id, packet, 0, &mut self.out).map_err(damage)?;
        Ok(id)
    }

    fn tell(&mut self, packet: &Packet) -> io::Result<()> {
        frame::encode_head(MsgId(0), packet, 0, &mut self.out).map_err(damage)
    }

    fn flush(&mut self) -> io::Result<()> {
        let sent = self.stream.write_all(&self.out);
        self.out.clear();
        sent
    }

    fn answer(&mut self, to: MsgId) -> io::Result<(Packet, Bytes)> {
        loop {
            while let Some((id, packet, payload)) = self.next()? {
                if id == to {
                    return Ok((packet, payload));
                }
                // The session's own messages.
                if id != MsgId(0) || matches!(packet, Packet::Error { .. }) {
                    return Err(damage(packet.name()));
                }
            }
            self.read()?;
        }
    }

    fn next(&mut self) -> io::Result<Option<(MsgId, Packet, Bytes)>> {
        let Some(frame) = self.decoder.next_frame().map_err(damage)? else {
            return Ok(None);
        };
        let (id, packet) = decode(&frame.header).map_err(damage)?;
        Ok(Some((id, packet, frame.payload)))
    }

    fn read(&mut self) -> io::Result<()> {
        let (buffer, room) = self.decoder.room();
        let before = buffer.len();
        buffer.resize(before + room, 0);
        let result = self.stream.read(&mut buffer[before..]);
        let count = result.as_ref().map_or(0, |count| *count);
        buffer.truncate(before + count);
        match result {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }
}
