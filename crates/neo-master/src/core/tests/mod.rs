//! Tests of the core: peers are played, packet by packet.

mod harness;

mod commit;
mod creation;
mod failures;
mod identification;
mod import;
mod operator;
mod property;
mod recovery;
mod verification;
mod votes;
