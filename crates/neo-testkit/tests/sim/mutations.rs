//! The checks see what they are for: a core that breaks one rule is found out.
//!
//! Each test switches off one rule that keeps data safe, and runs the enumerations until a run
//! fails. One that does not fail would mean that the enumeration, or a check, is blind.
//!
//! Not here, since one master, two storage nodes and one fault after the other do not need them:
//! tables that are waited for (writes are durable in order, and the lock is written after them),
//! reigns in stores (a node that loses its primary drops its clients, whatever number of masters),
//! the floor (a start waits for whatever was relied on, so that it is spare; the model says the
//! same), and deposition (what a client asks is for the storage nodes to answer then; masters that
//! meet compare themselves). The way back from VERIFYING has a scenario of its own, with two masters.

use neo_testkit::sim::{Point, WorldSettings};

use crate::case::{self, Case, Shape, run_all};
use crate::crash::{crashes, cuts};

fn finds(
    shape: Shape,
    tune: fn(&mut WorldSettings),
    faults: fn(Shape, &[Point]) -> Vec<Case>,
) -> String {
    let points = case::points_of_commit(shape);
    match run_all(&faults(Shape { tune, ..shape }, &points)) {
        Ok(counts) => panic!("nothing was found in {counts}"),
        Err(found) => {
            let last = found.lines().last().unwrap_or_default();
            let first = found.lines().next().unwrap_or_default();
            format!("{first}: {last}")
        }
    }
}

macro_rules! found {
    ($($name:ident: $faults:ident of $shape:ident, $node:ident.$rule:ident;)+) => {
        $(#[test]
        fn $name() {
            fn tune(settings: &mut WorldSettings) {
                settings.$node = |settings| settings.mutations.$rule = true;
            }
            println!("{}", finds(Shape::$shape, tune, $faults));
        })+
    };
}

found! {
    a_vote_that_is_answered_before_it_is_durable: crashes of SPLIT, tune_storage.vote_not_durable;
    a_lock_that_is_answered_before_it_is_durable: crashes of ONE, tune_storage.lock_not_durable;
    asking_for_the_final_tid_without_a_fence: cuts of REPLICATED, tune_master.no_fence;
    oids_that_are_handed_out_before_they_are_reserved: crashes of ONE, tune_master.no_oid_mark;
}
