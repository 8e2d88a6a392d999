//! The only part with I/O: transports, and the driver that runs a node's core.

mod driver;
mod memory;
mod tcp;

pub use driver::{DoneSender, DriverOptions, NodeFailure, Shell, run};
pub use memory::MemoryNetwork;
pub use tcp::TcpTransport;
