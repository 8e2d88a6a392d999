//! What works: connect, ask, answer, jobs, timers, close, stop.

use std::time::Duration;

use neo_api::Env;
use neo_proto::SessionSettings;

use crate::echo::{Command, Event, Node};
use crate::{Ground, on_both};

on_both!(
    asks_and_answers,
    closes_behind_what_was_sent,
    jobs_and_timers_come_back,
    stops_and_fails,
    many_connections,
);

async fn asks_and_answers((transport, at): Ground) {
    let mut a = Node::start(&transport, &at, SessionSettings::default()).await;
    let mut b = Node::start(&transport, &at, SessionSettings::default()).await;
    let conn = b.connect(&a.address).await;
    a.accepted().await;
    for len in [0, 1, 1000, 4096, 100_000, 1 << 20, 20 << 20] {
        b.echo(conn, &vec![len as u8; len]).await;
    }
    // More than the credit, at once.
    for n in 0..100u8 {
        let payload = vec![n; 1 << 20].into();
        b.command(Command::Ask(conn, payload)).await;
    }
    for n in 0..100 {
        match b.event().await {
            Event::Answer(_, answer) => assert_eq!((answer.len(), answer[0]), (1 << 20, n)),
            other => panic!("{other:?}"),
        }
    }
    b.stop().await;
    assert!(matches!(a.event().await, Event::Closed(_, why) if why == "closed by the peer"));
    a.stop().await;
}

async fn closes_behind_what_was_sent((transport, at): Ground) {
    let mut a = Node::start(&transport, &at, SessionSettings::default()).await;
    let mut b = Node::start(&transport, &at, SessionSettings::default()).await;
    let conn = b.connect(&a.address).await;
    let accepted = a.accepted().await;
    // Warm up, so that there is credit.
    b.echo(conn, b"x").await;
    b.command(Command::Ask(conn, vec![1; 4 << 20].into())).await;
    b.command(Command::Close(conn)).await;
    // The request came in whole; its answer found nobody.
    assert_eq!(
        a.event().await,
        Event::Closed(accepted, "closed by the peer".to_owned())
    );
    b.stop().await;
    a.stop().await;
}

async fn jobs_and_timers_come_back((transport, at): Ground) {
    let mut a = Node::start(&transport, &at, SessionSettings::default()).await;
    a.command(Command::Job(5)).await;
    assert_eq!(a.event().await, Event::Done(6));
    let at = a.env.now().mono + Duration::from_millis(20);
    a.command(Command::Timer(at)).await;
    assert_eq!(a.event().await, Event::Timer);
    assert!(a.env.now().mono >= at);
    a.stop().await;
}

async fn stops_and_fails((transport, at): Ground) {
    let a = Node::start(&transport, &at, SessionSettings::default()).await;
    let address = a.address.clone();
    a.command(Command::Fail("the disk is gone")).await;
    let failure = a.task.await.unwrap().unwrap_err();
    assert_eq!(failure.to_string(), "the node failed: the disk is gone");
    // Its address is free again.
    let b = Node::start(&transport, &address, SessionSettings::default()).await;
    b.stop().await;
}

async fn many_connections((transport, at): Ground) {
    let mut a = Node::start(&transport, &at, SessionSettings::default()).await;
    let mut b = Node::start(&transport, &at, SessionSettings::default()).await;
    let mut conns = Vec::new();
    for _ in 0..300 {
        conns.push(b.connect(&a.address).await);
        a.accepted().await;
    }
    for conn in &conns {
        b.command(Command::Ask(*conn, vec![7; 2000].into())).await;
    }
    for _ in &conns {
        assert!(matches!(b.event().await, Event::Answer(..)));
    }
    b.stop().await;
    for _ in conns {
        assert!(matches!(a.event().await, Event::Closed(..)));
    }
    a.stop().await;
}
