//! Any traffic, both ways at once.

use std::io::IoSlice;

use neo_api::Stream;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::TransportFactory;
use super::tools::{pair, pattern, run};

/// Connections that are tried.
const CONNECTIONS: u32 = 48;

/// What one end writes, and how the other reads it.
#[derive(Debug, Clone)]
struct Direction {
    writes: Vec<Write>,
    /// The direction is ended after them, while the other one may go on.
    ends: bool,
    /// Most bytes of a read, over and over.
    reads: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Write {
    bytes: usize,
    /// In two slices at once.
    is_split: bool,
    /// Sent before the next one is written.
    is_flushed: bool,
}

fn direction() -> impl Strategy<Value = Direction> {
    let size = || prop_oneof![4 => 1..50_usize, 2 => 50..5_000_usize, 1 => 5_000..200_000_usize];
    let write = (size(), any::<bool>(), any::<bool>());
    let write = write.prop_map(|(bytes, is_split, is_flushed)| Write {
        bytes,
        is_split,
        is_flushed,
    });
    let writes = prop::collection::vec(write, 0..12);
    let reads = prop::collection::vec(size(), 1..5);
    (writes, any::<bool>(), reads).prop_map(|(writes, ends, reads)| Direction {
        writes,
        ends,
        reads,
    })
}

/// Whatever each end writes, in whatever parts, the other reads, in whatever parts, and then the end
/// when there is one. When it does not, the shortest traffic that shows it is told.
pub fn any_traffic_arrives_as_it_was_sent<F: TransportFactory>(factory: &F) {
    let config = Config {
        cases: CONNECTIONS,
        failure_persistence: None,
        max_shrink_iters: 500,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&(direction(), direction()), |(there, back)| {
        run(factory, async |transport, at| {
            let (near, far) = pair(&*transport, &at).await;
            let (near_reader, near_writer) = tokio::io::split(near);
            let (far_reader, far_writer) = tokio::io::split(far);
            // Nobody is dropped before all has arrived.
            let _ends = tokio::join!(
                write(near_writer, &there, 1),
                read(far_reader, &there, 1),
                write(far_writer, &back, 2),
                read(near_reader, &back, 2),
            );
        });
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

fn all_bytes(direction: &Direction, seed: u64) -> Vec<u8> {
    let bytes = direction.writes.iter().map(|write| write.bytes).sum();
    pattern(bytes, seed)
}

async fn write(
    mut writer: WriteHalf<Box<dyn Stream>>,
    direction: &Direction,
    seed: u64,
) -> WriteHalf<Box<dyn Stream>> {
    let bytes = all_bytes(direction, seed);
    let mut rest = &bytes[..];
    for write in &direction.writes {
        let (mut part, after) = rest.split_at(write.bytes);
        if write.is_split {
            let (one, two) = part.split_at(part.len() / 2);
            let slices = [IoSlice::new(one), IoSlice::new(two)];
            let written = writer.write_vectored(&slices).await.expect("writes");
            part = &part[written..];
        }
        writer.write_all(part).await.expect("writes");
        if write.is_flushed {
            writer.flush().await.expect("flushes");
        }
        rest = after;
    }
    writer.flush().await.expect("flushes");
    if direction.ends {
        writer.shutdown().await.expect("shuts down");
    }
    writer
}

async fn read(
    mut reader: ReadHalf<Box<dyn Stream>>,
    direction: &Direction,
    seed: u64,
) -> ReadHalf<Box<dyn Stream>> {
    let expected = all_bytes(direction, seed);
    let mut came = Vec::new();
    let mut sizes = direction.reads.iter().copied().cycle();
    while came.len() < expected.len() {
        let mut buffer = vec![0; sizes.next().unwrap_or(1)];
        let read = reader.read(&mut buffer).await.expect("reads");
        assert!(read > 0, "ended after {} of {}", came.len(), expected.len());
        came.extend_from_slice(&buffer[..read]);
    }
    assert!(came == expected, "bytes differ");
    if direction.ends {
        let end = reader.read(&mut [0; 8]).await.expect("ends");
        assert_eq!(end, 0, "bytes behind the end");
    }
    reader
}
