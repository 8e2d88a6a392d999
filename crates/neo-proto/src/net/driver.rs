//! The one loop that runs a core: sockets, timers, jobs and commands in, effects out.
//!
//! One task owns everything. It polls its streams itself, each with a waker that remembers which
//! one is ready: from the moment at which a request lies in the socket to that at which its answer
//! lies in the other, no task is switched and nothing is queued.

mod inbox;
mod slot;

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use neo_api::{Address, Env, Instant, Listener, Stream, Transport};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tracing::{Instrument, Span, debug, warn};

use crate::backoff::Backoff;
use crate::endpoint::{Endpoint, Output};
use crate::node::{ConnId, Core};
use crate::session::SessionSettings;
pub use inbox::DoneSender;
use inbox::{ACCEPT, COMMANDS, Inbox, TIMER};
use slot::{Fate, Slot};

/// What is around a core: it does the core's jobs, and hears its events.
pub trait Shell<C: Core>: Send {
    /// Does a job, or has it done, without blocking; its result goes to `done`.
    fn job(&mut self, job: C::Job, done: &DoneSender<C>);

    /// Hears what the core tells; must not block.
    fn event(&mut self, event: C::Event);
}

/// What a driver needs beside the core.
#[derive(Debug)]
pub struct DriverOptions {
    /// How to reach others.
    pub transport: Arc<dyn Transport>,
    /// Time and randomness.
    pub env: Arc<dyn Env>,
    /// Where others reach this node, if they do. Bound before the core is made, which so knows its
    /// own address.
    pub listener: Option<Box<dyn Listener>>,
    /// Times and bounds.
    pub session: SessionSettings,
    /// What the lines of the log are within: which node this is. Of the level of errors, it is told
    /// with every line.
    pub span: Span,
}

/// A core that ended because it could not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the node failed: {reason}")]
pub struct NodeFailure {
    /// Why.
    pub reason: String,
}

/// Runs a core until it stops; then what it sent is sent, and its connections are closed.
///
/// Dropping the future ends everything at once. When all senders of `commands` are gone, the core
/// goes on.
///
/// # Errors
/// When the core says that it failed.
///
/// # Panics
/// Outside a tokio runtime with time, and whatever I/O the transport needs.
pub async fn run<C: Core, S: Shell<C>>(
    core: C,
    shell: S,
    options: DriverOptions,
    commands: mpsc::Receiver<C::Command>,
) -> Result<(), NodeFailure> {
    let span = options.span.clone();
    let mut driver = span.in_scope(|| Driver::new(core, shell, options, commands));
    poll_fn(move |cx| driver.poll(cx)).instrument(span).await
}

/// Ready connections that are looked at before timers and others have their turn.
const TURN_CONNECTIONS: usize = 64;
/// Commands and accepted connections in a turn.
const TURN_INPUTS: usize = 32;
/// How long the loop may go on before other tasks of the thread have their turn.
const POLL_MAX: Duration = Duration::from_millis(2);

type Accepting = Pin<
    Box<
        dyn Future<
                Output = (
                    Box<dyn Listener>,
                    std::io::Result<(Box<dyn Stream>, Address)>,
                ),
            > + Send,
    >,
>;

struct Driver<C: Core, S> {
    endpoint: Endpoint<C>,
    shell: S,
    env: Arc<dyn Env>,
    transport: Arc<dyn Transport>,
    inbox: Arc<Inbox<C>>,
    done: DoneSender<C>,
    slots: BTreeMap<ConnId, Slot>,
    accepting: Option<Accepting>,
    accept_backoff: Backoff,
    accept_waker: Waker,
    commands: Option<mpsc::Receiver<C::Command>>,
    commands_waker: Waker,
    sleep: Option<(Instant, Pin<Box<Sleep>>)>,
    timer_waker: Waker,
    ended: Option<Result<(), NodeFailure>>,
}

impl<C: Core, S: Shell<C>> Driver<C, S> {
    fn new(
        core: C,
        shell: S,
        options: DriverOptions,
        commands: mpsc::Receiver<C::Command>,
    ) -> Self {
        let inbox = Arc::new(Inbox::new());
        let mut endpoint = Endpoint::new(core, options.session);
        endpoint.start(options.env.now());
        // Everything is looked at once, so that it knows its waker.
        for token in [ACCEPT, COMMANDS, TIMER] {
            inbox.ready(token);
        }
        Self {
            endpoint,
            shell,
            env: options.env,
            transport: options.transport,
            done: DoneSender::new(Arc::clone(&inbox)),
            slots: BTreeMap::new(),
            accepting: options.listener.map(|listener| accept(listener, None)),
            accept_backoff: Backoff::new(Duration::from_millis(10), Duration::from_secs(1)),
            accept_waker: Inbox::waker(&inbox, ACCEPT),
            commands: Some(commands),
            commands_waker: Inbox::waker(&inbox, COMMANDS),
            sleep: None,
            timer_waker: Inbox::waker(&inbox, TIMER),
            ended: None,
            inbox,
        }
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<(), NodeFailure>> {
        let began = self.env.now().mono;
        loop {
            self.carry_out();
            if let Some(result) = &self.ended
                && self.endpoint.is_quiet()
                && self.slots.is_empty()
            {
                return Poll::Ready(result.clone());
            }
            self.arm_timer();
            let Some(ready) = self.inbox.begin_turn(cx.waker()) else {
                return Poll::Pending;
            };
            if self.turn(ready).since(began) > POLL_MAX {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Looks at what was ready when the turn began, and gives it to the endpoint; says when that
    /// was done.
    fn turn(&mut self, ready: usize) -> Instant {
        for done in self.inbox.take_done() {
            self.endpoint.done(self.env.now(), done);
        }
        for _ in 0..ready.min(TURN_CONNECTIONS) {
            match self.inbox.next_ready() {
                None => break,
                Some(ACCEPT) => self.poll_accept(),
                Some(COMMANDS) => self.poll_commands(),
                Some(TIMER) => self.poll_timer(),
                Some(conn) => self.poll_slot(ConnId(conn)),
            }
        }
        // A flood of other things must not starve what is due.
        let now = self.env.now();
        if self
            .endpoint
            .poll_timeout()
            .is_some_and(|at| at <= now.mono)
        {
            self.endpoint.handle_timeout(now);
        }
        now.mono
    }

    fn poll_slot(&mut self, conn: ConnId) {
        let Some(slot) = self.slots.get_mut(&conn) else {
            return;
        };
        match slot.poll(conn, &mut self.endpoint, &*self.env) {
            Fate::Stays => {}
            Fate::Again => self.inbox.ready(conn.0),
            Fate::Gone => {
                self.slots.remove(&conn);
            }
        }
    }

    fn poll_commands(&mut self) {
        let mut cx = Context::from_waker(&self.commands_waker);
        for _ in 0..TURN_INPUTS {
            let Some(commands) = &mut self.commands else {
                return;
            };
            match commands.poll_recv(&mut cx) {
                Poll::Pending => return,
                Poll::Ready(None) => self.commands = None,
                Poll::Ready(Some(command)) => self.endpoint.command(self.env.now(), command),
            }
        }
        self.inbox.ready(COMMANDS);
    }

    fn poll_accept(&mut self) {
        let mut cx = Context::from_waker(&self.accept_waker);
        for _ in 0..TURN_INPUTS {
            let Some(accepting) = &mut self.accepting else {
                return;
            };
            let Poll::Ready((listener, result)) = accepting.as_mut().poll(&mut cx) else {
                return;
            };
            let mut pause = None;
            match result {
                Ok((stream, from)) => {
                    self.accept_backoff.reset();
                    if let Some(conn) = self.endpoint.accepted(self.env.now(), from.clone()) {
                        let waker = Inbox::waker(&self.inbox, conn.0);
                        self.slots.insert(conn, Slot::open(stream, waker));
                        self.inbox.ready(conn.0);
                    } else {
                        warn!(%from, "too many connections: refused");
                    }
                }
                Err(error) => {
                    let delay = self.accept_backoff.delay(self.env.random());
                    warn!(%error, "a connection could not be accepted; next try in {delay:?}");
                    pause = Some(delay);
                }
            }
            self.accepting = Some(accept(listener, pause));
        }
        self.inbox.ready(ACCEPT);
    }

    fn poll_timer(&mut self) {
        if let Some((_, sleep)) = &mut self.sleep {
            let mut cx = Context::from_waker(&self.timer_waker);
            if sleep.as_mut().poll(&mut cx).is_ready() {
                self.sleep = None;
            }
        }
    }

    /// Sees to it that the loop runs when the endpoint wants it. A sleep that ends too early is
    /// left alone: deadlines move away with every message.
    fn arm_timer(&mut self) {
        let Some(at) = self.endpoint.poll_timeout() else {
            return;
        };
        if let Some((armed, _)) = &self.sleep
            && *armed <= at
        {
            return;
        }
        let wait = at.since(self.env.now().mono);
        if wait.is_zero() {
            self.inbox.ready(TIMER);
            return;
        }
        match &mut self.sleep {
            Some((armed, sleep)) => {
                *armed = at;
                sleep.as_mut().reset(tokio::time::Instant::now() + wait);
            }
            None => self.sleep = Some((at, Box::pin(tokio::time::sleep(wait)))),
        }
        self.inbox.ready(TIMER);
    }

    /// Carries out what the endpoint wants.
    fn carry_out(&mut self) {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Connect { conn, to } => {
                    let waker = Inbox::waker(&self.inbox, conn.0);
                    let slot = Slot::connecting(Arc::clone(&self.transport), to, waker);
                    self.slots.insert(conn, slot);
                    self.inbox.ready(conn.0);
                }
                Output::Transmit { conn } => {
                    if let Some(slot) = self.slots.get_mut(&conn) {
                        slot.transmit();
                        match slot.write(conn, &mut self.endpoint, &*self.env) {
                            Fate::Stays => {}
                            Fate::Again => self.inbox.ready(conn.0),
                            Fate::Gone => {
                                self.slots.remove(&conn);
                            }
                        }
                    }
                }
                Output::Close { conn, abort } => {
                    if let Some(slot) = self.slots.remove(&conn)
                        && !abort
                        && let Some(slot) = slot.lingering()
                    {
                        self.slots.insert(conn, slot);
                        self.inbox.ready(conn.0);
                    }
                }
                Output::Job(job) => self.shell.job(job, &self.done),
                Output::Event(event) => self.shell.event(event),
                Output::Stop { failure } => {
                    debug!(?failure, "stopping");
                    self.accepting = None;
                    self.commands = None;
                    self.ended = Some(match failure {
                        None => Ok(()),
                        Some(reason) => Err(NodeFailure { reason }),
                    });
                }
            }
        }
    }
}

fn accept(mut listener: Box<dyn Listener>, pause: Option<Duration>) -> Accepting {
    Box::pin(async move {
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
        let accepted = listener.accept().await;
        (listener, accepted)
    })
}
