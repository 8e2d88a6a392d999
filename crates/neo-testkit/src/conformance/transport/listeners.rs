//! Addresses, and who gets through to them.

use std::io;
use std::task::{Context, Waker};

use tokio::io::AsyncReadExt;

use super::TransportFactory;
use super::tools::{join, receive, run, send};

/// `bind` to port 0 gives a port, each time another, that can be connected to.
pub fn port_0_takes_any_free_port<F: TransportFactory>(factory: &F) {
    run(factory, async |transport, at| {
        let mut one = transport.bind(&at).await.expect("binds");
        let mut two = transport.bind(&at).await.expect("binds");
        let addresses = [one.local_address(), two.local_address()];
        assert_ne!(addresses[0].port(), 0, "local_address has the real port");
        assert_ne!(
            addresses[0], addresses[1],
            "a port that is taken is not free"
        );
        for (listener, address) in [&mut one, &mut two].into_iter().zip(addresses) {
            let (mut near, mut far) = join(&*transport, listener, &address).await;
            send(&mut near, b"hello").await;
            assert_eq!(receive(&mut far, 5).await, b"hello");
        }
    });
}

/// Somebody listens there already: `AddrInUse`.
pub fn an_address_is_taken_once<F: TransportFactory>(factory: &F) {
    run(factory, async |transport, at| {
        let listener = transport.bind(&at).await.expect("binds");
        let error = transport.bind(&listener.local_address()).await.err();
        let kind = error.map(|error| error.kind());
        assert_eq!(kind, Some(io::ErrorKind::AddrInUse));
    });
}

/// A node that restarts gets its address back, also after it had connections.
pub fn an_address_is_free_again<F: TransportFactory>(factory: &F) {
    run(factory, async |transport, at| {
        let mut listener = transport.bind(&at).await.expect("binds");
        let address = listener.local_address();
        let (near, far) = join(&*transport, &mut listener, &address).await;
        drop((listener, far, near));
        let listener = transport.bind(&address).await.expect("binds again");
        assert_eq!(listener.local_address(), address);
    });
}

/// An attempt to connect where nobody ever listened fails.
pub fn nobody_listens<F: TransportFactory>(factory: &F) {
    run(factory, async |transport, at| {
        let listener = transport.bind(&at).await.expect("binds");
        let address = listener.local_address();
        drop(listener);
        let error = transport.connect(&address).await.err();
        assert!(error.is_some(), "connected to nobody");
    });
}

/// An attempt to connect to a listener that was dropped fails; the stream that it gave lives.
pub fn a_listener_that_is_gone<F: TransportFactory>(factory: &F) {
    run(factory, async |transport, at| {
        let mut listener = transport.bind(&at).await.expect("binds");
        let address = listener.local_address();
        let (mut near, mut far) = join(&*transport, &mut listener, &address).await;
        drop(listener);
        assert!(
            transport.connect(&address).await.is_err(),
            "connected to nobody"
        );
        send(&mut near, b"still here").await;
        assert_eq!(receive(&mut far, 10).await, b"still here");
    });
}

/// An attempt that is given up leaves the listener as it was.
pub fn a_dropped_attempt_harms_nobody<F: TransportFactory>(factory: &F) {
    run(factory, async |transport, at| {
        let mut listener = transport.bind(&at).await.expect("binds");
        let address = listener.local_address();
        for _ in 0..10 {
            let mut attempt = transport.connect(&address);
            let mut context = Context::from_waker(Waker::noop());
            // Whatever it says, it is dropped now.
            drop(attempt.as_mut().poll(&mut context));
        }
        // Those that got through end at once.
        let mut near = transport.connect(&address).await.expect("connects");
        send(&mut near, b"me").await;
        loop {
            // An error is of one attempt.
            let Ok((mut far, _)) = listener.accept().await else {
                continue;
            };
            let mut came = [0; 2];
            if far.read_exact(&mut came).await.is_ok() {
                assert_eq!(came, *b"me");
                return;
            }
        }
    });
}

/// Connections do not mix.
pub fn many_connections_at_once<F: TransportFactory>(factory: &F) {
    const CONNECTIONS: u64 = 100;
    run(factory, async |transport, at| {
        let mut listener = transport.bind(&at).await.expect("binds");
        let address = listener.local_address();
        let accepting = async {
            let mut streams = Vec::new();
            for _ in 0..CONNECTIONS {
                streams.push(listener.accept().await.expect("accepts").0);
            }
            streams
        };
        let connecting = async {
            let mut streams = Vec::new();
            for n in 0..CONNECTIONS {
                let mut stream = transport.connect(&address).await.expect("connects");
                send(&mut stream, &n.to_be_bytes()).await;
                streams.push(stream);
            }
            streams
        };
        let (accepted, mut connected) = tokio::join!(accepting, connecting);
        for mut far in accepted {
            let n = receive(&mut far, 8).await;
            send(&mut far, &n).await;
            let n = u64::from_be_bytes(n.try_into().expect("8 bytes were read"));
            let near = &mut connected[usize::try_from(n).expect("it is small")];
            assert_eq!(receive(near, 8).await, n.to_be_bytes());
        }
    });
}
