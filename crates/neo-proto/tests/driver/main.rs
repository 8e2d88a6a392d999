//! The driver over memory and TCP, with a small core.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod bad_ground;
mod bad_peers;
mod echo;
mod works;

use std::sync::Arc;
use std::time::Duration;

use neo_api::{Address, Transport};
use neo_proto::SessionSettings;
use neo_proto::net::{MemoryNetwork, TcpTransport};

/// A transport, and an address to bind.
type Ground = (Arc<dyn Transport>, Address);

fn memory() -> Ground {
    (Arc::new(MemoryNetwork::new()), Address::new("memory", 0))
}

fn tcp() -> Ground {
    (Arc::new(TcpTransport::new()), Address::new("127.0.0.1", 0))
}

/// Little patience.
fn quick() -> SessionSettings {
    SessionSettings {
        heartbeat_interval: Duration::from_millis(100),
        silence_max: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
        close_timeout: Duration::from_millis(500),
        ..SessionSettings::default()
    }
}

/// A test over memory and over TCP.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test]
            async fn memory() {
                super::$name(crate::memory()).await;
            }

            #[tokio::test]
            async fn tcp() {
                super::$name(crate::tcp()).await;
            }
        }
    )+};
}
use on_both;

/// The same, for a test that takes its time: over memory, time jumps to what comes
/// next when there is nothing to do.
macro_rules! in_time {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test(start_paused = true)]
            async fn memory() {
                super::$name(crate::memory()).await;
            }

            #[tokio::test]
            async fn tcp() {
                super::$name(crate::tcp()).await;
            }
        }
    )+};
}
use in_time;
