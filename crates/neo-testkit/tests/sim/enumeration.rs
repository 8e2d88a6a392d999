//! What the enumerations of faults have in common: a run, its fault, and what is checked in the end.

use std::time::Duration;

use neo_api::Oid;
use neo_testkit::sim::{PATIENCE, Placed, Stuck, World};

use crate::case::use_and_check;

/// Runs something in a terse world, which is fast; what fails is run again, for its trace.
pub(crate) fn terse_first<T>(run: impl Fn(bool) -> Result<T, String>) -> Result<T, String> {
    let result = run(true);
    let Err(wrong) = result else { return result };
    run(false)?;
    Err(format!("{wrong}\nand not when it was run again"))
}

/// Lets a fault strike at a point that is counted from `base`, and have its effect.
pub(crate) fn strike(world: &mut World, base: u64, strike: &Placed) -> Result<(), Stuck> {
    world.plan(Placed {
        point: base + strike.point,
        ..strike.clone()
    });
    world.run_until("the fault", PATIENCE, World::has_struck)?;
    world.run_for(Duration::from_millis(5));
    Ok(())
}

/// Checks a cluster that has healed, and uses it; then crashes everything, and does so again.
pub(crate) fn check_and_crash(world: &mut World, oids: &[Oid]) -> Result<(), String> {
    for crash in [false, true] {
        if crash {
            world.crash_all();
            world.heal().map_err(|stuck| stuck.to_string())?;
        }
        let when = if crash { "a crash of all" } else { "healing" };
        world
            .check()
            .map_err(|wrong| format!("after {when}: {wrong}"))?;
        use_and_check(world, oids.to_vec())?;
    }
    Ok(())
}
