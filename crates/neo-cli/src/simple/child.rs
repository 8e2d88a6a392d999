//! A node as a process under `neosimple`: it tells by lines on stdout, and stops when its stdin
//! ends, so that no node outlives the program that started it.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::config::NodeKind;
use crate::logging::Level;
use crate::node::run::NodeEvent;
use crate::programs::{self, Around, Cause, Programs};

/// First word of the command line of such a process.
pub(super) const WORD: &str = "__node";

/// Runs a node, if that is what the command line is for.
pub(crate) fn main(
    programs: &Programs,
    mut args: impl Iterator<Item = OsString>,
) -> Option<ExitCode> {
    if args.next()? != WORD {
        return None;
    }
    let kind = args.next()?;
    let kind = [NodeKind::Master, NodeKind::Storage, NodeKind::Admin]
        .into_iter()
        .find(|known| kind == known.section())?;
    let args = std::iter::once(kind.program().into()).chain(args);
    Some(programs::node(programs, kind, args, &Under::new(kind)))
}

/// How much later than the others a storage node stops.
const AFTER_MASTER: Duration = Duration::from_millis(300);

/// Under `neosimple`.
struct Under {
    kind: NodeKind,
    stdin_ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Under {
    fn new(kind: NodeKind) -> Self {
        let (word, ended) = oneshot::channel();
        // A thread, since a read cannot be given up; it ends with the process.
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while matches!(std::io::stdin().read(&mut buffer), Ok(1..)) {}
            let _ = word.send(());
        });
        Self {
            kind,
            stdin_ended: Mutex::new(Some(ended)),
        }
    }
}

impl Around for Under {
    const LEVEL: Level = Level::Warn;

    fn event(&self, event: &NodeEvent) {
        let mut stdout = std::io::stdout().lock();
        // When nobody listens any more, stdin ends too.
        let _ = writeln!(stdout, "{}", line(event)).and_then(|()| stdout.flush());
    }

    async fn stop(&self) {
        let ended = self
            .stdin_ended
            .lock()
            .ok()
            .and_then(|mut ended| ended.take());
        match ended {
            // An error means that the thread is gone, which is as good.
            Some(ended) => drop(ended.await),
            None => std::future::pending().await,
        }
        // When neosimple is gone, all hear it at once. A master that stops later than a storage
        // node would take its copies for out of date.
        if self.kind == NodeKind::Storage {
            tokio::time::sleep(AFTER_MASTER).await;
        }
    }

    fn ended(&self, _: NodeKind, how: anyhow::Result<Cause>) -> ExitCode {
        let how = told(how);
        let status = how
            .as_ref()
            .map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
        self.event(&NodeEvent::Ended(how));
        status
    }
}

/// What to say of an end that `neosimple` did not ask for.
fn told(how: anyhow::Result<Cause>) -> Result<(), String> {
    match how {
        Ok(Cause::Told) => Ok(()),
        Ok(Cause::Signal(signal)) => Err(format!("it was stopped by {signal}")),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// An event as a line.
fn line(event: &NodeEvent) -> String {
    match event {
        NodeEvent::Listening(address) => format!("LISTENING {address}"),
        NodeEvent::Status {
            connected,
            primary,
            state,
        } => {
            let state = state.map(|state| state.to_string());
            let primary = primary.map(|primary| primary.to_string());
            let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            let connected = if *connected { "UP" } else { "DOWN" };
            format!("STATUS {connected} {} {}", or_none(primary), or_none(state))
        }
        NodeEvent::Waiting(what) => format!("WAITING {}", what.replace('\n', " ")),
        NodeEvent::Ended(Ok(())) => "ENDED".to_owned(),
        NodeEvent::Ended(Err(reason)) => format!("FAILED {}", reason.replace('\n', " ")),
    }
}

/// The inverse of [`line`]; anything else is for the operator.
pub(super) fn parse(line: &str) -> Option<NodeEvent> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "LISTENING" => Some(NodeEvent::Listening(rest.parse().ok()?)),
        "STATUS" => {
            let mut words = rest.split(' ');
            let connected = words.next()? == "UP";
            let (primary, state) = (words.next()?, words.next()?);
            let some = |text: &str| text != "-";
            let primary = some(primary).then(|| primary.parse()).transpose();
            let state = some(state).then(|| state.parse()).transpose();
            Some(NodeEvent::Status {
                connected,
                primary: primary.ok()?,
                state: state.ok()?,
            })
        }
        "WAITING" => Some(NodeEvent::Waiting(rest.to_owned())),
        "ENDED" => Some(NodeEvent::Ended(Ok(()))),
        "FAILED" => Some(NodeEvent::Ended(Err(rest.to_owned()))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use neo_api::{Address, ClusterState};

    use super::*;

    #[test]
    fn events_travel_as_lines() {
        for event in [
            NodeEvent::Listening(Address::new("::1", 5)),
            NodeEvent::Status {
                connected: false,
                primary: None,
                state: None,
            },
            NodeEvent::Status {
                connected: true,
                primary: "M1".parse().ok(),
                state: Some(ClusterState::Running),
            },
            NodeEvent::Waiting("for S2".to_owned()),
            NodeEvent::Waiting(String::new()),
            NodeEvent::Ended(Ok(())),
            NodeEvent::Ended(Err("no space".to_owned())),
        ] {
            assert_eq!(parse(&line(&event)), Some(event));
        }
        for text in [
            "",
            "hello",
            "LISTENING x",
            "STATUS UP",
            "STATUS UP M1 SLEEPING",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
