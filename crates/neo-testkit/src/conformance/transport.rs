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

pub mod listeners;
pub mod random;
pub mod streams;
mod tools;

use std::sync::Arc;

use neo_api::{Address, Transport};

use super::Case;

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
        $crate::transport_conformance! { @list tests ($factory) }
    };
    (@list $what:ident $factory:tt) => {
        $crate::conformance_cases! { $what $factory transport
            listeners::port_0_takes_any_free_port
                "bind: port 0 takes any free port; local_address has the real one"
            listeners::an_address_is_taken_once
                "bind: AddrInUse when somebody listens there already"
            listeners::an_address_is_free_again
                "Transport: dropping a listener frees its address, although it had connections"
            listeners::nobody_listens
                "connect: where nobody listens it fails"
            listeners::a_listener_that_is_gone
                "Transport: the connections of a dropped listener go on"
            listeners::a_dropped_attempt_harms_nobody
                "Transport: an attempt that is given up harms neither the listener nor others"
            listeners::many_connections_at_once
                "accept: each connection is one of its own"
            streams::bytes_keep_their_order
                "Transport: no bytes are lost, repeated or reordered"
            streams::large_transfers_both_ways_at_once
                "Stream: bytes go both ways at once"
            streams::many_slices_are_written_in_order
                "Transport: slices written at once arrive in their order"
            streams::bytes_are_sent_without_waiting_for_more
                "Transport: bytes are sent without waiting for more (no Nagle delay)"
            streams::half_a_connection_is_closed
                "Transport: shutdown ends one direction, and the other goes on"
            streams::dropping_closes
                "Transport: dropping a stream closes it, to the other side too"
            streams::bytes_written_before_the_end_arrive
                "Transport: what was written and flushed before the end arrives"
            random::any_traffic_arrives_as_it_was_sent
                "Transport: whatever is written in whatever parts arrives, in order, up to the end"
        }
    };
}

/// The cases of the suite, to run them by name.
#[must_use]
pub fn cases<F: TransportFactory>() -> Vec<Case<F>> {
    crate::transport_conformance! { @list table (F) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl TransportFactory for Nothing {
        fn open(&self) -> Arc<dyn Transport> {
            unreachable!("only the names are asked for")
        }

        fn address(&self) -> Address {
            unreachable!("only the names are asked for")
        }
    }

    /// A case that the list forgets would never run.
    #[test]
    fn the_list_names_every_case() {
        let cases = cases::<Nothing>();
        let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
        let groups = [
            ("listeners", include_str!("transport/listeners.rs")),
            ("random", include_str!("transport/random.rs")),
            ("streams", include_str!("transport/streams.rs")),
        ];
        crate::conformance::assert_complete(&names, &groups);
    }
}
