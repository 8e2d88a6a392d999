//! Whole clusters in virtual time, with faults at exact points.

#![expect(clippy::unwrap_used, reason = "what must not be fails the test")]

mod case;
mod catching_up;
mod crash;
mod creation;
mod enumeration;
mod mutations;
mod outdating;
mod scenarios;
mod seeds;
