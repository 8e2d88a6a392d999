//! A transport that fails, and a network that is cut.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use neo_api::{Address, Listener, Stream, Transport};
use neo_proto::SessionSettings;
use neo_proto::net::MemoryNetwork;

use crate::echo::{Event, Node};
use crate::quick;

/// Its listeners fail at first, as when the process has too many files open.
#[derive(Debug)]
struct Failing {
    network: MemoryNetwork,
    failures: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct FailingListener(Box<dyn Listener>, Arc<AtomicUsize>);

#[async_trait]
impl Transport for Failing {
    async fn connect(&self, to: &Address) -> io::Result<Box<dyn Stream>> {
        self.network.connect(to).await
    }

    async fn bind(&self, at: &Address) -> io::Result<Box<dyn Listener>> {
        let listener = self.network.bind(at).await?;
        Ok(Box::new(FailingListener(
            listener,
            Arc::clone(&self.failures),
        )))
    }
}

#[async_trait]
impl Listener for FailingListener {
    async fn accept(&mut self) -> io::Result<(Box<dyn Stream>, Address)> {
        let left = self.1.load(Ordering::Relaxed);
        if left > 0 {
            self.1.store(left - 1, Ordering::Relaxed);
            return Err(io::Error::other("too many open files"));
        }
        self.0.accept().await
    }

    fn local_address(&self) -> Address {
        self.0.local_address()
    }
}

#[tokio::test]
async fn a_listener_that_fails_is_asked_again() {
    let failures = Arc::new(AtomicUsize::new(4));
    let transport: Arc<dyn Transport> = Arc::new(Failing {
        network: MemoryNetwork::new(),
        failures: Arc::clone(&failures),
    });
    let at = Address::new("memory", 0);
    let mut a = Node::start(&transport, &at, SessionSettings::default()).await;
    let mut b = Node::start(&transport, &at, SessionSettings::default()).await;
    let conn = b.connect(&a.address).await;
    a.accepted().await;
    b.echo(conn, b"at last").await;
    assert_eq!(failures.load(Ordering::Relaxed), 0);
    b.stop().await;
    a.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_and_a_frozen_connection_are_noticed() {
    let network = MemoryNetwork::new();
    let transport: Arc<dyn Transport> = Arc::new(network.clone());
    let at = Address::new("memory", 0);
    let mut a = Node::start(&transport, &at, quick()).await;
    let mut b = Node::start(&transport, &at, quick()).await;
    let conn = b.connect(&a.address).await;
    let accepted = a.accepted().await;
    assert_eq!(network.cut(&a.address), 1);
    for (node, conn) in [(&mut a, accepted), (&mut b, conn)] {
        match node.event().await {
            Event::Closed(closed, why) => {
                assert_eq!(closed, conn);
                assert!(why.starts_with("connection lost"), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
    let conn = b.connect(&a.address).await;
    let accepted = a.accepted().await;
    b.echo(conn, b"again").await;
    assert_eq!(network.freeze(&a.address), 1);
    for (node, conn) in [(&mut a, accepted), (&mut b, conn)] {
        let closed = Event::Closed(conn, "silent for 1 s".to_owned());
        assert_eq!(node.event().await, closed);
    }
    b.stop().await;
    a.stop().await;
}
