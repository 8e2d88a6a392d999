//! Two sessions, any chunks, any order of events: nothing is lost, and it ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use neo_api::{At, Instant, Oid, Reign, Tid, TxnId};
use neo_proto::{Message, MsgId, ObjectAnswer, Packet, Session, SessionEvent, SessionSettings};
use proptest::collection::vec;
use proptest::prelude::*;

const WINDOW: u64 = 1000;
const PAYLOAD_MAX: usize = 1500;

#[derive(Debug, Clone)]
enum Step {
    /// A notification.
    Notify,
    /// A request with so many object bytes, answered with so many.
    Ask(usize, usize),
    /// So many bytes arrive at the other side.
    Arrive(usize),
    /// So much of what came is consumed.
    Consume(usize),
    /// Time passes.
    Wait(u16),
}

fn any_step() -> impl Strategy<Value = Step> {
    let payload = || prop_oneof![Just(0), 1..PAYLOAD_MAX];
    prop_oneof![
        Just(Step::Notify),
        (payload(), payload()).prop_map(|(a, b)| Step::Ask(a, b)),
        (1usize..3000).prop_map(Step::Arrive),
        (1usize..3000).prop_map(Step::Consume),
        (0u16..500).prop_map(Step::Wait),
    ]
}

/// One end.
struct End {
    is_client: bool,
    session: Session,
    /// Bytes on their way to it.
    incoming: VecDeque<u8>,
    notified: u64,
    asked: u64,
    /// Ids of its requests with object bytes, in order.
    asked_with: Vec<u64>,
    /// What came: notifications, requests with object bytes, answers.
    came_notified: u64,
    came_asked: u64,
    came_asked_with: Vec<u64>,
    came_answered: u64,
    unconsumed: u64,
}

impl End {
    fn new(now: Instant, is_client: bool) -> Self {
        let settings = SessionSettings {
            credit_window_bytes: WINDOW,
            held_bytes_max: 3000,
            ..SessionSettings::default()
        };
        Self {
            is_client,
            session: Session::new(now, Arc::new(settings), false),
            incoming: VecDeque::new(),
            notified: 0,
            asked: 0,
            asked_with: Vec::new(),
            came_notified: 0,
            came_asked: 0,
            came_asked_with: Vec::new(),
            came_answered: 0,
            unconsumed: 0,
        }
    }

    /// Deals with what came. The tid of a question says how long the answer is to be.
    fn look(&mut self, now: Instant) {
        while let Some(event) = self.session.poll_event() {
            let message = match event {
                SessionEvent::Open(_) => continue,
                SessionEvent::Message(message) => message,
                SessionEvent::Failed(error) => panic!("failed: {error}"),
            };
            let bytes = message.payload.len() as u64;
            self.unconsumed += bytes;
            assert!(
                self.unconsumed < WINDOW + PAYLOAD_MAX as u64,
                "credits are kept"
            );
            match message.packet {
                Packet::NotifyUnlockInformation { txn } => {
                    self.came_notified += 1;
                    assert_eq!(txn.ttid.0, self.came_notified, "notifications are in order");
                }
                Packet::AskObject { at, .. } => {
                    self.came_asked += 1;
                    if bytes > 0 {
                        self.came_asked_with.push(message.id.0);
                    }
                    let At::Before(tid) = at else {
                        panic!("not asked so: {at:?}");
                    };
                    let packet = Packet::AnswerObject {
                        oid: Oid(1),
                        answer: ObjectAnswer::NotYet,
                    };
                    let payload = Bytes::from(vec![2; tid.0 as usize]);
                    let answer = Message::with_payload(message.id, packet, payload);
                    self.session.send(now, answer);
                }
                Packet::AnswerObject { .. } => self.came_answered += 1,
                other => panic!("never sent: {other:?}"),
            }
        }
    }

    fn notify(&mut self, now: Instant) {
        self.notified += 1;
        let txn = TxnId {
            reign: Reign(1),
            ttid: Tid(self.notified),
        };
        let packet = Packet::NotifyUnlockInformation { txn };
        self.session.send(now, Message::notify(packet));
    }

    fn ask(&mut self, now: Instant, bytes: usize, answer: usize) {
        self.asked += 1;
        // Only one side sends requests with object bytes: see docs/protocol.md on credits.
        let bytes = if self.is_client { bytes } else { 0 };
        if bytes > 0 {
            self.asked_with.push(self.asked);
        }
        let packet = Packet::AskObject {
            oid: Oid(1),
            at: At::Before(Tid(answer as u64)),
        };
        let payload = Bytes::from(vec![1; bytes]);
        let message = Message::with_payload(MsgId(self.asked), packet, payload);
        self.session.send(now, message);
    }

    fn consume(&mut self, bytes: u64) {
        let bytes = bytes.min(self.unconsumed);
        self.unconsumed -= bytes;
        self.session.consumed(bytes);
    }
}

/// A pair in its virtual time.
struct Pair {
    ends: [End; 2],
    now: Instant,
}

impl Pair {
    /// Bytes go from one end, `max` arrive at the other.
    fn carry(&mut self, from: usize, max: usize) -> bool {
        while let Some(bytes) = self.ends[from].session.poll_transmit(self.now) {
            self.ends[1 - from].incoming.extend(bytes);
        }
        // What was held back until the answers went.
        self.ends[from].look(self.now);
        let to = &mut self.ends[1 - from];
        let part = max.min(to.incoming.len());
        let bytes: Vec<u8> = to.incoming.drain(..part).collect();
        if part > 0 {
            to.session.receive(self.now, &bytes);
        }
        to.look(self.now);
        part > 0
    }

    fn step(&mut self, end: usize, step: &Step) {
        match step {
            Step::Notify => self.ends[end].notify(self.now),
            Step::Ask(bytes, answer) => self.ends[end].ask(self.now, *bytes, *answer),
            Step::Arrive(bytes) => {
                self.carry(end, *bytes);
            }
            Step::Consume(bytes) => self.ends[end].consume(*bytes as u64),
            Step::Wait(millis) => {
                self.now = self.now + Duration::from_millis((*millis).into());
                for end in &mut self.ends {
                    end.session.handle_timeout(self.now);
                    end.look(self.now);
                }
                // A network that loses nothing delivers in time.
                for end in 0..2 {
                    self.carry(end, usize::MAX);
                }
            }
        }
    }

    fn settle(&mut self) {
        loop {
            let mut moved = false;
            for end in 0..2 {
                moved |= self.carry(end, usize::MAX);
                let unconsumed = self.ends[end].unconsumed;
                self.ends[end].consume(unconsumed);
                moved |= unconsumed > 0 || !self.ends[end].session.is_idle();
            }
            if !moved {
                return;
            }
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_lost(steps in vec((0usize..2, any_step()), 0..200)) {
        let now = Instant(0);
        let mut pair = Pair { ends: [End::new(now, true), End::new(now, false)], now };
        // Only what is sent after the greeting is carried.
        pair.carry(0, usize::MAX);
        pair.carry(1, usize::MAX);
        for (end, step) in &steps {
            pair.step(*end, step);
        }
        pair.settle();
        let [a, b] = &pair.ends;
        for (from, to) in [(a, b), (b, a)] {
            prop_assert_eq!(from.notified, to.came_notified);
            prop_assert_eq!(from.asked, to.came_asked);
            prop_assert_eq!(&from.asked_with, &to.came_asked_with);
            prop_assert_eq!(from.asked, from.came_answered);
            prop_assert!(from.session.is_flushed());
        }
    }
}
