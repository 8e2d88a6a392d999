//! Short words for the cases.

use std::sync::Arc;
use std::time::Duration;

use neo_api::{Address, Listener, Stream, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::TransportFactory;

/// No case takes as long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn run(
    factory: &impl TransportFactory,
    case: impl AsyncFnOnce(Arc<dyn Transport>, Address),
) {
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
pub(super) fn pattern(len: usize, seed: u64) -> Vec<u8> {
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

pub(super) async fn send(stream: &mut Box<dyn Stream>, bytes: &[u8]) {
    stream.write_all(bytes).await.expect("writes");
    stream.flush().await.expect("flushes");
}

pub(super) async fn receive(stream: &mut Box<dyn Stream>, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).await.expect("reads");
    bytes
}

/// Both ends of a new connection; some transports need both to work on it.
pub(super) async fn join(
    transport: &dyn Transport,
    listener: &mut Box<dyn Listener>,
    address: &Address,
) -> (Box<dyn Stream>, Box<dyn Stream>) {
    let (near, far) = tokio::join!(transport.connect(address), listener.accept());
    (near.expect("connects"), far.expect("accepts").0)
}

pub(super) async fn pair(
    transport: &dyn Transport,
    at: &Address,
) -> (Box<dyn Stream>, Box<dyn Stream>) {
    let mut listener = transport.bind(at).await.expect("binds");
    let address = listener.local_address();
    join(transport, &mut listener, &address).await
}

/// A connection from whom connected, and one from whom accepted.
pub(super) async fn each_way(
    transport: &dyn Transport,
    at: &Address,
) -> [(Box<dyn Stream>, Box<dyn Stream>); 2] {
    let one = pair(transport, at).await;
    let (near, far) = pair(transport, at).await;
    [one, (far, near)]
}
