//! The checks see what they are for: a core that breaks one rule is found out.
//!
//! Each test switches off one rule that keeps data safe, and runs the enumerations until a run
//! fails. One that does not fail would mean that the enumeration, or a check, is blind.
//!
//! Rules that take more than one commit and one fault have scenarios that fail without them: the way
//! back from VERIFYING (`scenarios/masters.rs`); that a promotion waits for those that were complete,
//! and that they have noted it durably (`scenarios/catching_up.rs`).
//!
//! Not found out by anything here, since another rule does the same:
//! - reigns in stores: a node that loses its primary drops its clients, and a client's session at
//!   another one is of its reign too, so that no store of an old reign has a connection to come by;
//! - the floor: a start waits for whatever was relied on, and who remembers less than the primary
//!   had is not all of that; the model says the same;
//! - deposition: what a client asks is for the storage nodes to answer, of which an old primary has
//!   none left; masters that meet compare themselves.

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
