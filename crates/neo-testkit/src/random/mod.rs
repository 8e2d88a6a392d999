//! Runs that are left to chance, each from one seed: clients work, faults strike, then everything
//! heals, must work, and must be as the clients were told.
//!
//! [`RunSettings::of_seed`] chooses the cluster and what it goes through; [`run`] lets it happen
//! and checks. A seed replays exactly: [`Report::hash`] tells whether two runs were the same.
//! [`run_with_backends`] does the same with the data of the storage nodes in a backend of your own;
//! `examples/simulated_backend.rs` in the repository shows how.
//!
//! ```
//! use neo_testkit::random::{RunSettings, run};
//! use std::time::Duration;
//!
//! let mut settings = RunSettings::of_seed(1);
//! settings.duration = Duration::from_secs(1);
//! let report = run(&settings)?;
//! assert!(report.commits > 0);
//! # Ok::<(), neo_testkit::random::Failure>(())
//! ```

mod chaos;
mod driver;
mod mutation;
mod operator;
mod report;
mod seeds;
mod settings;
mod work;

pub use chaos::{Chaos, Strike};
pub use driver::{Failure, run, run_with_backends};
pub use mutation::{MUTATIONS, Mutation};
pub use report::{Report, Totals};
pub use seeds::{Batch, parse_seeds, sweep};
pub use settings::RunSettings;
