//! The cases. They panic when a promise is broken.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use neo_api::{Address, Listener, Stream, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::TransportFactory;

/// No case takes as long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// `bind` to port 0 gives a port, each time another, that can be connected to.
pub fn port_0_takes_any_free_port(factory: &dyn TransportFactory) {
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
pub fn an_address_is_taken_once(factory: &dyn TransportFactory) {
    run(factory, async |transport, at| {
        let listener = transport.bind(&at).await.expect("binds");
        let error = transport.bind(&listener.local_address()).await.err();
        let kind = error.map(|error| error.kind());
        assert_eq!(kind, Some(io::ErrorKind::AddrInUse));
    });
}

/// A node that restarts gets its address back, also after it had connections.
pub fn an_address_is_free_again(factory: &dyn TransportFactory) {
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
pub fn nobody_listens(factory: &dyn TransportFactory) {
    run(factory, async |transport, at| {
        let listener = transport.bind(&at).await.expect("binds");
        let address = listener.local_address();
        drop(listener);
        let error = transport.connect(&address).await.err();
        assert!(error.is_some(), "connected to nobody");
    });
}

/// An attempt to connect to a listener that was dropped fails; the stream that it gave lives.
pub fn a_listener_that_is_gone(factory: &dyn TransportFactory) {
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

/// Nothing is lost, repeated or reordered, whatever the sizes of writes and reads.
pub fn bytes_keep_their_order(factory: &dyn TransportFactory) {
    run(factory, async |transport, at| {
        for (mut from, mut to) in each_way(&*transport, &at).await {
            let bytes = pattern(300_000, 1);
            let expected = bytes.clone();
            let writing = async move {
                let (mut rest, mut size) = (&bytes[..], 1);
                while !rest.is_empty() {
                    let (part, after) = rest.split_at(size.min(rest.len()));
                    send(&mut from, part).await;
                    rest = after;
                    size = size * 3 % 10_007;
                }
                from
            };
            let reading = async move {
                let (mut came, mut size) = (Vec::new(), 1);
                while came.len() < expected.len() {
                    let len = size.min(expected.len() - came.len());
                    came.extend(receive(&mut to, len).await);
                    size = size * 5 % 7919;
                }
                assert!(came == expected, "bytes differ");
                to
            };
            tokio::join!(writing, reading);
        }
    });
}

/// Much in both directions at the same time, without a deadlock.
pub fn large_transfers_both_ways_at_once(factory: &dyn TransportFactory) {
    const BYTES: usize = 32 << 20;
    run(factory, async |transport, at| {
        let (near, far) = pair(&*transport, &at).await;
        let end = |stream: Box<dyn Stream>, own: u64, other: u64| async move {
            let (mut reader, mut writer) = tokio::io::split(stream);
            let writing = async move {
                writer
                    .write_all(&pattern(BYTES, own))
                    .await
                    .expect("writes");
                writer.flush().await.expect("flushes");
                writer
            };
            let reading = async move {
                let mut bytes = vec![0; BYTES];
                reader.read_exact(&mut bytes).await.expect("reads");
                assert!(bytes == pattern(BYTES, other), "bytes differ");
                reader
            };
            tokio::join!(writing, reading)
        };
        tokio::join!(end(near, 1, 2), end(far, 2, 1));
    });
}

/// Several slices, empty ones among them, written at once.
pub fn many_slices_are_written_in_order(factory: &dyn TransportFactory) {
    run(factory, async |transport, at| {
        let (mut near, mut far) = pair(&*transport, &at).await;
        let bytes = pattern(50_000, 3);
        let expected = bytes.clone();
        let writing = async move {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let middle = rest.len() / 3;
                let slices = [
                    IoSlice::new(&rest[..middle]),
                    IoSlice::new(&[]),
                    IoSlice::new(&rest[middle..]),
                ];
                let written = near.write_vectored(&slices).await.expect("writes");
                assert!(written > 0, "wrote nothing");
                rest = &rest[written..];
            }
            near.flush().await.expect("flushes");
            near
        };
        let (_near, came) = tokio::join!(writing, receive(&mut far, expected.len()));
        assert!(came == expected, "bytes differ");
    });
}

/// Two small writes and an answer, many times: with Nagle's algorithm each would take 40 ms.
pub fn bytes_are_sent_without_waiting_for_more(factory: &dyn TransportFactory) {
    const ROUNDS: u32 = 100;
    run(factory, async |transport, at| {
        let (mut near, mut far) = pair(&*transport, &at).await;
        let answering = async move {
            for _ in 0..ROUNDS {
                let asked = receive(&mut far, 2).await;
                send(&mut far, &asked).await;
            }
            far
        };
        let asking = async move {
            let began = Instant::now();
            for _ in 0..ROUNDS {
                send(&mut near, b"a").await;
                send(&mut near, b"b").await;
                assert_eq!(receive(&mut near, 2).await, b"ab");
            }
            began.elapsed()
        };
        let (_far, took) = tokio::join!(answering, asking);
        assert!(
            took < ROUNDS * Duration::from_millis(30),
            "small writes are held back: {took:?}"
        );
    });
}

/// `shutdown` ends one direction; the other still works.
pub fn half_a_connection_is_closed(factory: &dyn TransportFactory) {
    run(factory, async |transport, at| {
        for (mut from, mut to) in each_way(&*transport, &at).await {
            send(&mut from, b"last words").await;
            from.shutdown().await.expect("shuts down");
            assert_eq!(receive(&mut to, 10).await, b"last words");
            assert_eq!(to.read(&mut [0; 8]).await.expect("ends"), 0);
            send(&mut to, b"answer").await;
            assert_eq!(receive(&mut from, 6).await, b"answer");
        }
    });
}

/// Dropping a stream closes it: the other end reads to an end or an error, and its writes fail
/// sooner or later.
pub fn dropping_closes(factory: &dyn TransportFactory) {
    run(factory, async |transport, at| {
        for (dropped, mut left) in each_way(&*transport, &at).await {
            drop(dropped);
            let read = left.read(&mut [0; 8]).await;
            assert!(matches!(read, Ok(0) | Err(_)), "read {read:?}");
            while left.write_all(&[0; 1000]).await.is_ok() && left.flush().await.is_ok() {
                tokio::task::yield_now().await;
            }
        }
    });
}

/// What was written and flushed arrives, although the stream is then shut down and dropped.
pub fn bytes_written_before_the_end_arrive(factory: &dyn TransportFactory) {
    run(factory, async |transport, at| {
        for (mut from, mut to) in each_way(&*transport, &at).await {
            let bytes = pattern(3 << 20, 4);
            let expected = bytes.clone();
            let writing = async move {
                send(&mut from, &bytes).await;
                from.shutdown().await.expect("shuts down");
            };
            let reading = async move {
                let mut came = Vec::new();
                to.read_to_end(&mut came).await.expect("reads to the end");
                assert!(came == expected, "bytes differ");
            };
            tokio::join!(writing, reading);
        }
    });
}

/// An attempt that is given up leaves the listener as it was.
pub fn a_dropped_attempt_harms_nobody(factory: &dyn TransportFactory) {
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
pub fn many_connections_at_once(factory: &dyn TransportFactory) {
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

fn run(factory: &dyn TransportFactory, case: impl AsyncFnOnce(Arc<dyn Transport>, Address)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(async {
        let case = case(factory.open(), factory.address());
        let ended = tokio::time::timeout(PATIENCE, case).await;
        assert!(ended.is_ok(), "hangs");
    });
}

/// Bytes of which no two stretches are alike.
fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 32) as u32
    });
    let mut bytes: Vec<u8> = words
        .take(len.div_ceil(4))
        .flat_map(u32::to_le_bytes)
        .collect();
    bytes.truncate(len);
    bytes
}

async fn send(stream: &mut Box<dyn Stream>, bytes: &[u8]) {
    stream.write_all(bytes).await.expect("writes");
    stream.flush().await.expect("flushes");
}

async fn receive(stream: &mut Box<dyn Stream>, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).await.expect("reads");
    bytes
}

/// Both ends of a new connection; some transports need both to work on it.
async fn join(
    transport: &dyn Transport,
    listener: &mut Box<dyn Listener>,
    address: &Address,
) -> (Box<dyn Stream>, Box<dyn Stream>) {
    let (near, far) = tokio::join!(transport.connect(address), listener.accept());
    (near.expect("connects"), far.expect("accepts").0)
}

async fn pair(transport: &dyn Transport, at: &Address) -> (Box<dyn Stream>, Box<dyn Stream>) {
    let mut listener = transport.bind(at).await.expect("binds");
    let address = listener.local_address();
    join(transport, &mut listener, &address).await
}

/// A connection from whom connected, and one from whom accepted.
async fn each_way(
    transport: &dyn Transport,
    at: &Address,
) -> [(Box<dyn Stream>, Box<dyn Stream>); 2] {
    let one = pair(transport, at).await;
    let (near, far) = pair(transport, at).await;
    [one, (far, near)]
}
