//! Tests of the core: peers are played, packet by packet.

mod harness;
mod played;

mod commit;
mod creation;
mod ends;
mod failures;
mod identification;
mod import;
mod limits;
mod oids;
mod operator;
mod property;
mod recovery;
mod verification;
mod votes;
