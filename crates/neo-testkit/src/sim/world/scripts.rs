//! The scripts that run on a world's clients.

use super::*;

/// A script that runs on a client.
pub(super) struct Script {
    pub(super) client: Name,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

/// The outcome of a script, once there is one.
#[derive(Debug)]
pub struct Handle<T>(Rc<RefCell<Option<T>>>);

impl<T> Handle<T> {
    /// Whether the script has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Takes the outcome, if the script has ended.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        self.0.borrow_mut().take()
    }
}

impl World {
    /// Runs a script on a client.
    pub fn run_script<T: 'static, F: Future<Output = T> + 'static>(
        &mut self,
        client: Name,
        script: impl FnOnce(SimClient) -> F,
    ) -> Handle<T> {
        let mailbox = Rc::clone(&self.mailboxes[&client]);
        let handle = Rc::new(RefCell::new(None));
        let result = Rc::clone(&handle);
        let future = script(SimClient::new(client, mailbox, Rc::clone(&self.oracle)));
        self.scripts.push(Script {
            client,
            future: Box::pin(async move {
                let outcome = future.await;
                *result.borrow_mut() = Some(outcome);
            }),
        });
        self.mailboxes[&client].borrow_mut().is_fresh = true;
        self.pump(client);
        Handle(handle)
    }

    /// Lets the scripts of a client go on; whether its core was told something.
    pub(super) fn run_scripts(&mut self, node: Name) -> bool {
        let Some(mailbox) = self.mailboxes.get(&node).map(Rc::clone) else {
            return false;
        };
        if !self.is_up(node) {
            return false;
        }
        let mut context = Context::from_waker(Waker::noop());
        while std::mem::take(&mut mailbox.borrow_mut().is_fresh) {
            let mut scripts = std::mem::take(&mut self.scripts);
            scripts.retain_mut(|script| {
                script.client != node || script.future.as_mut().poll(&mut context).is_pending()
            });
            self.scripts.append(&mut scripts);
        }
        let commands = std::mem::take(&mut mailbox.borrow_mut().commands);
        if commands.is_empty() {
            return false;
        }
        let now = self.now;
        for command in commands {
            self.trace
                .detail(now, None, || format!("{node} {}", brief(&command)));
            let place = self.place_mut(node);
            let moment = place.now(now);
            if let Some(Running::Client(endpoint)) = &mut place.running {
                endpoint.command(moment, command);
            }
        }
        true
    }

    pub(super) fn client_event(&mut self, node: Name, event: client::Event) {
        match event {
            client::Event::Ready { .. } => self.place_mut(node).serving = true,
            client::Event::NotReady { .. } => self.place_mut(node).serving = false,
            _ => {}
        }
        self.trace
            .detail(self.now, None, || format!("{node} {event:?}"));
        let mut mailbox = self.mailboxes[&node].borrow_mut();
        mailbox.event(node, event, &mut self.oracle.borrow_mut());
    }
}

/// A command, for the trace.
fn brief(command: &client::Command) -> String {
    let text = format!("{command:?}");
    let end = text
        .char_indices()
        .nth(200)
        .map_or(text.len(), |(at, _)| at);
    text[..end].to_owned()
}
