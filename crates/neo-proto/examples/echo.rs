//! What a question and its answer cost over local TCP: bare sockets, tokio, and the driver.
//!
//! `cargo run --release -p neo-proto --example echo [ROUNDS]`
//!
//! Each end has a thread of its own. "core to core" is a core that asks again as soon as it has the
//! answer: the cost of the driver. "command to event" adds an application's task on the same thread,
//! with a channel each way.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use neo_api::{Address, At, Instant, Now, Oid, SystemEnv, Transport};
use neo_proto::net::{DoneSender, DriverOptions, Shell, TcpTransport, run};
use neo_proto::{
    ConnId, ConnectToken, Core, Effect, Effects, Input, Message, MsgId, ObjectAnswer, Packet,
    SessionSettings,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Bytes of a request on the wire.
const REQUEST: usize = 24;
/// Bytes of an answer, beside its payload.
const ANSWER: usize = 24;
/// Not counted.
const WARM_UP: usize = 1000;

fn main() -> Outcome<()> {
    let rounds = match std::env::args().nth(1) {
        Some(text) => text.parse()?,
        None => 20_000,
    };
    println!("{rounds} rounds; microseconds           p50      p99     mean");
    for payload in [0, 4096] {
        let (bare, tokio) = (bare(rounds, payload)?, with_tokio(rounds, payload)?);
        report("bare sockets", payload, bare);
        report("tokio", payload, tokio);
        report(
            "driver, core to core",
            payload,
            driver(rounds, payload, false)?,
        );
        report(
            "driver, command to event",
            payload,
            driver(rounds, payload, true)?,
        );
    }
    Ok(())
}

fn report(what: &str, payload: usize, mut times: Vec<Duration>) {
    times.drain(..WARM_UP);
    times.sort();
    let micros = |d: Duration| d.as_secs_f64() * 1e6;
    let mean = times.iter().sum::<Duration>() / times.len().max(1) as u32;
    println!(
        "{what:26} {payload:5} bytes {:8.1} {:8.1} {:8.1}",
        micros(times[times.len() / 2]),
        micros(times[times.len() * 99 / 100]),
        micros(mean),
    );
}

fn bare(rounds: usize, payload: usize) -> Outcome<Vec<Duration>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || -> Outcome<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let (mut request, answer) = ([0; REQUEST], vec![0; ANSWER + payload]);
        while stream.read_exact(&mut request).is_ok() {
            stream.write_all(&answer)?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut answer = vec![0; ANSWER + payload];
    let mut times = Vec::new();
    for _ in 0..WARM_UP + rounds {
        let began = Clock::now();
        stream.write_all(&[0; REQUEST])?;
        stream.read_exact(&mut answer)?;
        times.push(began.elapsed());
    }
    drop(stream);
    server.join().map_err(|_| "the server panicked")??;
    Ok(times)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn with_tokio(rounds: usize, payload: usize) -> Outcome<Vec<Duration>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || -> Outcome<()> {
        runtime()?.block_on(async {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let mut stream = tokio::net::TcpStream::from_std(stream)?;
            let (mut request, answer) = ([0; REQUEST], vec![0; ANSWER + payload]);
            while stream.read_exact(&mut request).await.is_ok() {
                stream.write_all(&answer).await?;
            }
            Ok(())
        })
    });
    let times = runtime()?.block_on(async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut answer = vec![0; ANSWER + payload];
        let mut times = Vec::new();
        for _ in 0..WARM_UP + rounds {
            let began = Clock::now();
            stream.write_all(&[0; REQUEST]).await?;
            stream.read_exact(&mut answer).await?;
            times.push(began.elapsed());
        }
        Outcome::Ok(times)
    })?;
    server.join().map_err(|_| "the server panicked")??;
    Ok(times)
}

/// Asks or answers, whatever comes.
#[derive(Debug)]
struct Echo {
    /// The answerer's payload.
    payload: Bytes,
    conn: Option<ConnId>,
    last_id: u64,
    asked: Instant,
    /// How often to ask by itself.
    rounds: usize,
    times: Vec<Duration>,
}

impl Echo {
    fn new(payload: usize, rounds: usize) -> Self {
        Self {
            payload: vec![0; payload].into(),
            conn: None,
            last_id: 0,
            asked: Instant(0),
            rounds,
            times: Vec::with_capacity(rounds),
        }
    }

    fn ask(&mut self, now: Now, out: &mut Effects<Self>) {
        if let Some(conn) = self.conn {
            self.last_id += 1;
            self.asked = now.mono;
            let packet = Packet::AskObject {
                oid: Oid(1),
                at: At::Latest,
            };
            out.send(conn, MsgId(self.last_id), packet);
        }
    }
}

#[derive(Debug)]
enum Command {
    Connect(Address),
    Ask,
    Stop,
}

#[derive(Debug)]
enum Event {
    Connected,
    Answered,
    Times(Vec<Duration>),
}

impl Core for Echo {
    type Command = Command;
    type Event = Event;
    type Job = ();
    type Done = ();

    fn handle(&mut self, now: Now, input: Input<Self>, out: &mut Effects<Self>) {
        match input {
            Input::Command(Command::Connect(to)) => out.push(Effect::Connect {
                token: ConnectToken(1),
                to,
            }),
            Input::Command(Command::Ask) => self.ask(now, out),
            Input::Command(Command::Stop) => out.push(Effect::Stop { failure: None }),
            Input::Connected { conn, .. } => {
                self.conn = Some(conn);
                out.event(Event::Connected);
                if self.rounds > 0 {
                    self.ask(now, out);
                }
            }
            Input::Message { conn, message } => {
                let bytes = message.payload.len() as u64;
                if bytes > 0 {
                    out.push(Effect::Consumed { conn, bytes });
                }
                if message.packet.is_answer() {
                    self.times.push(now.mono - self.asked);
                    if self.rounds == 0 {
                        out.event(Event::Answered);
                    } else if self.times.len() < self.rounds {
                        self.ask(now, out);
                    } else {
                        out.event(Event::Times(std::mem::take(&mut self.times)));
                    }
                } else {
                    let packet = Packet::AnswerObject {
                        oid: Oid(1),
                        answer: ObjectAnswer::Unknown,
                    };
                    let payload = self.payload.clone();
                    let message = Message::with_payload(message.id, packet, payload);
                    out.push(Effect::Send { conn, message });
                }
            }
            _ => {}
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

struct Events(mpsc::Sender<Event>);

impl Shell<Echo> for Events {
    fn job(&mut self, (): (), _: &DoneSender<Echo>) {}

    fn event(&mut self, event: Event) {
        drop(self.0.try_send(event));
    }
}

fn options(listener: Option<Box<dyn neo_api::Listener>>) -> DriverOptions {
    DriverOptions {
        transport: Arc::new(TcpTransport::new()),
        env: Arc::new(SystemEnv::new()),
        listener,
        session: SessionSettings::default(),
        span: tracing::Span::none(),
    }
}

fn driver(rounds: usize, payload: usize, by_command: bool) -> Outcome<Vec<Duration>> {
    let (tell_address, address) = std::sync::mpsc::sync_channel(1);
    let (stop, stopped) = mpsc::channel(1);
    let server = thread::spawn(move || -> Outcome<()> {
        runtime()?.block_on(async {
            let at = Address::new("127.0.0.1", 0);
            let listener = TcpTransport::new().bind(&at).await?;
            tell_address.send(listener.local_address())?;
            let (events, _) = mpsc::channel(1);
            let core = Echo::new(payload, 0);
            run(core, Events(events), options(Some(listener)), stopped).await?;
            Ok(())
        })
    });
    let times = runtime()?.block_on(async {
        let (commands, receiver) = mpsc::channel(1);
        let (sender, mut events) = mpsc::channel(10);
        let total = WARM_UP + rounds;
        let core = Echo::new(0, if by_command { 0 } else { total });
        let node = tokio::spawn(run(core, Events(sender), options(None), receiver));
        commands.send(Command::Connect(address.recv()?)).await?;
        let mut times = Vec::new();
        while let Some(event) = events.recv().await {
            match event {
                Event::Times(measured) => times = measured,
                Event::Answered => {}
                Event::Connected if by_command => {
                    for _ in 0..total {
                        let began = Clock::now();
                        commands.send(Command::Ask).await?;
                        events.recv().await.ok_or("the node ended")?;
                        times.push(began.elapsed());
                    }
                }
                Event::Connected => continue,
            }
            commands.send(Command::Stop).await?;
        }
        node.await??;
        Outcome::Ok(times)
    })?;
    stop.blocking_send(Command::Stop)?;
    server.join().map_err(|_| "the server panicked")??;
    Ok(times)
}
