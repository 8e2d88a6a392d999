//! placeholder
mod id;
mod object;
mod state;
mod tid;
mod transaction;
pub use id::*;
pub use object::*;
pub use state::*;
pub use tid::*;
pub use transaction::*;
