//! The wire of **neo**: messages, CBOR codec, framing, session, transports.
//!
//! Everything but [`net`] is pure: bytes in, messages out.

mod codec;
mod error;
mod node;
mod packet;

pub use codec::{DecodeError, decode, encode};
pub use error::ErrorCode;
pub use node::{ConnId, ConnectToken, Core, Effect, Effects, Input};
pub use packet::*;
