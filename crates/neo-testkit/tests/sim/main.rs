//! Whole clusters in virtual time, with faults at exact points.

mod case;
mod crash;
mod mutations;
mod scenarios;
