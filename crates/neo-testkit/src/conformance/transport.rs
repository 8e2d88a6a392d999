//! The promises of a [`Transport`], one case each.
//!
//! ```
//! use std::sync::Arc;
//!
//! use neo_api::{Address, Transport};
//! use neo_proto::net::MemoryNetwork;
//! use neo_testkit::conformance::transport::TransportFactory;
//!
//! struct Memory;
//!
//! impl TransportFactory for Memory {
//!     fn open(&self) -> Arc<dyn Transport> {
//!         Arc::new(MemoryNetwork::new())
//!     }
//!
//!     fn address(&self) -> Address {
//!         Address::new("node", 0)
//!     }
//! }
//!
//! neo_testkit::transport_conformance!(Memory);
//! ```

mod cases;

use std::sync::Arc;

use neo_api::{Address, Transport};

pub use cases::*;

/// How the suite gets at transports.
pub trait TransportFactory: Sync {
    /// A transport. Each case makes one, and both ends of its connections use it.
    fn open(&self) -> Arc<dyn Transport>;

    /// An address to bind, with port 0.
    fn address(&self) -> Address;
}

/// Emits one `#[test]` for each promise of a `Transport`, for a
/// [`TransportFactory`](crate::conformance::transport::TransportFactory).
#[macro_export]
macro_rules! transport_conformance {
    ($factory:expr $(,)?) => {
        $crate::transport_conformance! { @cases $factory;
            port_0_takes_any_free_port
            an_address_is_taken_once
            an_address_is_free_again
            nobody_listens
            a_listener_that_is_gone
            bytes_keep_their_order
            large_transfers_both_ways_at_once
            many_slices_are_written_in_order
            bytes_are_sent_without_waiting_for_more
            half_a_connection_is_closed
            dropping_closes
            bytes_written_before_the_end_arrive
            a_dropped_attempt_harms_nobody
            many_connections_at_once
        }
    };
    (@cases $factory:expr; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::conformance::transport::$case(&$factory);
            }
        )*
    };
}

#[cfg(test)]
mod tests {
    /// A case that the macro forgets would never run.
    #[test]
    fn the_macro_names_every_case() {
        let named = include_str!("transport.rs");
        let cases = include_str!("transport/cases.rs");
        for case in cases.split("\npub fn ").skip(1) {
            let case = case.split('(').next().unwrap();
            assert!(named.contains(&format!(" {case}\n")), "{case}");
        }
    }
}
