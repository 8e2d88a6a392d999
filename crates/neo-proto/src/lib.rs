//! The wire of **neo**: messages, CBOR codec, framing, session, transports.
//!
//! Everything but [`net`] is pure: bytes in, messages out.

mod backoff;
mod codec;
mod endpoint;
mod error;
pub mod frame;
pub mod handshake;
pub mod net;
mod node;
mod packet;
mod session;
mod words;

pub use backoff::Backoff;
pub use codec::{DecodeError, decode, encode};
pub use endpoint::{Endpoint, Output};
pub use error::ErrorCode;
pub use node::{ConnId, ConnectToken, Core, Effect, Effects, Input};
pub use packet::*;
pub use session::{Session, SessionError, SessionEvent, SessionSettings};
pub use words::shown;
