//! What goes through a connection, and how one ends.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use neo_api::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::TransportFactory;
use super::tools::{each_way, pair, pattern, receive, run, send};

/// Nothing is lost, repeated or reordered, whatever the sizes of writes and reads.
pub fn bytes_keep_their_order<F: TransportFactory>(factory: &F) {
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
pub fn large_transfers_both_ways_at_once<F: TransportFactory>(factory: &F) {
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
pub fn many_slices_are_written_in_order<F: TransportFactory>(factory: &F) {
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
pub fn bytes_are_sent_without_waiting_for_more<F: TransportFactory>(factory: &F) {
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
pub fn half_a_connection_is_closed<F: TransportFactory>(factory: &F) {
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
pub fn dropping_closes<F: TransportFactory>(factory: &F) {
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
pub fn bytes_written_before_the_end_arrive<F: TransportFactory>(factory: &F) {
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
