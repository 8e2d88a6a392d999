//! Tests of the core: peers are played, packet by packet.

mod harness;
mod played;

mod auto_tweak;
mod belonging;
mod catching_up;
mod commit;
mod copied;
mod creation;
mod ends;
mod failures;
mod identification;
mod import;
mod joining;
mod limits;
mod masters;
mod oids;
mod operator;
mod orders;
mod packs;
mod promotion;
mod property;
mod recovery;
mod table_commands;
mod verification;
mod votes;
