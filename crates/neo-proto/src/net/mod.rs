//! The only part with I/O: transports, the driver that runs a core, and nodes around it.

mod driver;
mod master_list;
mod memory;
mod node;
mod tcp;

pub use driver::{DoneSender, DriverOptions, NodeFailure, Shell, run};
pub use master_list::{MasterListError, MasterListFile};
pub use memory::MemoryNetwork;
pub use node::{BindError, Node, NodeBuilder, RunningNode};
pub use tcp::TcpTransport;
