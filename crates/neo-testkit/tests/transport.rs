//! Every transport keeps every promise.

use std::sync::Arc;

use neo_api::{Address, Transport};
use neo_proto::net::{MemoryNetwork, TcpTransport};
use neo_testkit::conformance::transport::TransportFactory;

struct Memory;

impl TransportFactory for Memory {
    fn open(&self) -> Arc<dyn Transport> {
        Arc::new(MemoryNetwork::new())
    }

    fn address(&self) -> Address {
        Address::new("node", 0)
    }
}

/// TCP at a local address.
struct Tcp(&'static str);

impl TransportFactory for Tcp {
    fn open(&self) -> Arc<dyn Transport> {
        Arc::new(TcpTransport::new())
    }

    fn address(&self) -> Address {
        Address::new(self.0, 0)
    }
}

mod memory {
    neo_testkit::transport_conformance!(super::Memory);
}

mod tcp_ipv4 {
    neo_testkit::transport_conformance!(super::Tcp("127.0.0.1"));
}

mod tcp_name {
    neo_testkit::transport_conformance!(super::Tcp("localhost"));
}
