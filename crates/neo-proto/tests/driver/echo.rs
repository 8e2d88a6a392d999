//! A core that answers what it is asked, and does what the test says.

use std::sync::Arc;

use bytes::Bytes;
use neo_api::{Address, At, Env, Instant, Now, Oid, SystemEnv, Transport};
use neo_proto::net::{DoneSender, DriverOptions, NodeFailure, Shell, run};
use neo_proto::{
    ConnId, ConnectToken, Core, Effect, Effects, Input, Message, MsgId, ObjectAnswer, Packet,
    SessionSettings,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

#[derive(Debug)]
pub(crate) enum Command {
    Connect(Address),
    /// Asks for the payload back.
    Ask(ConnId, Bytes),
    Send(ConnId, Message),
    Close(ConnId),
    /// A job that comes back as an event.
    Job(u64),
    Timer(Instant),
    Stop,
    Fail(&'static str),
}

#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    Connected(ConnId),
    ConnectFailed(String),
    Accepted(ConnId),
    Closed(ConnId, String),
    Answer(MsgId, Bytes),
    Done(u64),
    Timer,
}

#[derive(Debug, Default)]
pub(crate) struct Echo {
    last_id: u64,
    timer: Option<Instant>,
}

impl Core for Echo {
    type Command = Command;
    type Event = Event;
    type Job = u64;
    type Done = u64;

    fn handle(&mut self, now: Now, input: Input<Self>, out: &mut Effects<Self>) {
        match input {
            Input::Connected { conn, .. } => out.event(Event::Connected(conn)),
            Input::ConnectFailed { error, .. } => out.event(Event::ConnectFailed(error)),
            Input::Accepted { conn, .. } => out.event(Event::Accepted(conn)),
            Input::Closed { conn, reason } => out.event(Event::Closed(conn, reason)),
            Input::Message { conn, message } => answer(conn, message, out),
            Input::Command(command) => self.command(command, out),
            Input::Done(n) => out.event(Event::Done(n)),
            Input::Timer => {
                if self.timer.is_some_and(|at| at <= now.mono) {
                    self.timer = None;
                    out.event(Event::Timer);
                }
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.timer
    }
}

impl Echo {
    fn command(&mut self, command: Command, out: &mut Effects<Self>) {
        match command {
            Command::Connect(to) => out.push(Effect::Connect {
                token: ConnectToken(1),
                to,
            }),
            Command::Ask(conn, payload) => {
                self.last_id += 1;
                let packet = Packet::AskObject {
                    oid: Oid(1),
                    at: At::Latest,
                };
                let message = Message::with_payload(MsgId(self.last_id), packet, payload);
                out.push(Effect::Send { conn, message });
            }
            Command::Send(conn, message) => out.push(Effect::Send { conn, message }),
            Command::Close(conn) => out.close(conn, "the test wants it"),
            Command::Job(n) => out.job(n),
            Command::Timer(at) => self.timer = Some(at),
            Command::Stop => out.push(Effect::Stop { failure: None }),
            Command::Fail(why) => out.push(Effect::Stop {
                failure: Some(why.to_owned()),
            }),
        }
    }
}

fn answer(conn: ConnId, message: Message, out: &mut Effects<Echo>) {
    let bytes = message.payload.len() as u64;
    if bytes > 0 {
        out.push(Effect::Consumed { conn, bytes });
    }
    if message.packet.is_answer() {
        out.event(Event::Answer(message.id, message.payload));
    } else if message.id != MsgId(0) {
        let packet = Packet::AnswerObject {
            oid: Oid(1),
            answer: ObjectAnswer::Unknown,
        };
        let message = Message::with_payload(message.id, packet, message.payload);
        out.push(Effect::Send { conn, message });
    }
}

struct EchoShell(mpsc::Sender<Event>);

impl Shell<Echo> for EchoShell {
    fn job(&mut self, job: u64, done: &DoneSender<Echo>) {
        let done = done.clone();
        std::thread::spawn(move || done.send(job + 1));
    }

    fn event(&mut self, event: Event) {
        self.0.try_send(event).expect("the test reads its events");
    }
}

/// The machine's environment, but for the clock that counts: tokio's, which may be virtual.
#[derive(Debug)]
pub(crate) struct TestEnv {
    origin: tokio::time::Instant,
    system: SystemEnv,
}

impl Env for TestEnv {
    fn now(&self) -> Now {
        let mono = Instant::default() + self.origin.elapsed();
        Now {
            mono,
            ..self.system.now()
        }
    }

    fn random(&self) -> u64 {
        self.system.random()
    }
}

/// A running node.
pub(crate) struct Node {
    pub(crate) address: Address,
    pub(crate) env: Arc<TestEnv>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) task: JoinHandle<Result<(), NodeFailure>>,
}

impl Node {
    pub(crate) async fn start(
        transport: &Arc<dyn Transport>,
        at: &Address,
        session: SessionSettings,
    ) -> Self {
        let listener = transport.bind(at).await.unwrap();
        let address = listener.local_address();
        let env = Arc::new(TestEnv {
            origin: tokio::time::Instant::now(),
            system: SystemEnv::new(),
        });
        let options = DriverOptions {
            transport: Arc::clone(transport),
            env: Arc::clone(&env) as Arc<dyn Env>,
            listener: Some(listener),
            session,
            span: tracing::Span::none(),
        };
        let (commands, receiver) = mpsc::channel(1000);
        let (sender, events) = mpsc::channel(10_000);
        let task = tokio::spawn(run(Echo::default(), EchoShell(sender), options, receiver));
        Self {
            address,
            env,
            commands,
            events,
            task,
        }
    }

    pub(crate) async fn command(&self, command: Command) {
        self.commands.send(command).await.unwrap();
    }

    pub(crate) async fn event(&mut self) -> Event {
        let limit = std::time::Duration::from_secs(20);
        tokio::time::timeout(limit, self.events.recv())
            .await
            .expect("an event comes")
            .expect("the node lives")
    }

    pub(crate) async fn connect(&mut self, to: &Address) -> ConnId {
        self.command(Command::Connect(to.clone())).await;
        match self.event().await {
            Event::Connected(conn) => conn,
            other => panic!("not connected: {other:?}"),
        }
    }

    pub(crate) async fn connect_error(&mut self, to: &Address) -> String {
        self.command(Command::Connect(to.clone())).await;
        match self.event().await {
            Event::ConnectFailed(error) => error,
            other => panic!("unexpected: {other:?}"),
        }
    }

    pub(crate) async fn accepted(&mut self) -> ConnId {
        match self.event().await {
            Event::Accepted(conn) => conn,
            other => panic!("not accepted: {other:?}"),
        }
    }

    /// Asks for bytes and checks that they come back.
    pub(crate) async fn echo(&mut self, conn: ConnId, payload: &[u8]) {
        let payload = Bytes::copy_from_slice(payload);
        self.command(Command::Ask(conn, payload.clone())).await;
        match self.event().await {
            Event::Answer(_, answer) => assert!(answer == payload),
            other => panic!("no answer: {other:?}"),
        }
    }

    pub(crate) async fn stop(mut self) {
        self.command(Command::Stop).await;
        self.events.close();
        self.task.await.unwrap().unwrap();
    }
}
