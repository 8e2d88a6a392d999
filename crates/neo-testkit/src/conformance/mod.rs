//! Suites that a storage backend, an engine, a transport or an election runs in one line.
//!
//! A suite is a list of cases. Each shows that one promise of a trait's documentation is kept; when
//! it is not, the case fails, and says which one it was.

pub mod backend;
pub mod election;
pub mod engine;
pub mod transport;

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One case of a suite, for a kind of factory.
pub struct Case<F> {
    /// Its group and name.
    pub name: &'static str,
    /// What it shows: a rule or a sentence of the trait's documentation.
    pub promise: &'static str,
    run: fn(&F),
}

impl<F> Case<F> {
    #[doc(hidden)]
    #[must_use]
    pub const fn new(name: &'static str, promise: &'static str, run: fn(&F)) -> Self {
        Self { name, promise, run }
    }

    /// Runs it.
    ///
    /// # Panics
    /// When the promise is broken, with words that begin with it.
    pub fn check(&self, factory: &F) {
        check(self.promise, || (self.run)(factory));
    }

    /// Runs it, and gives the words with which it fails, if it does: for tests of a suite.
    #[must_use]
    pub fn failure(&self, factory: &F) -> Option<String> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.check(factory)));
        outcome.err().map(|panic| words(&*panic))
    }
}

impl<F> fmt::Debug for Case<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.promise)
    }
}

#[doc(hidden)]
pub fn check(promise: &str, case: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(case)) {
        panic!("a promise is broken: {promise}\n{}", words(&*panic));
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

/// What becomes of the list of a suite: tests, or a table of cases.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    (tests ($factory:expr) $suite:ident $($group:ident::$case:ident $promise:literal)*) => {
        $(
            #[test]
            fn $case() {
                let factory = $factory;
                $crate::conformance::check($promise, || {
                    $crate::conformance::$suite::$group::$case(&factory);
                });
            }
        )*
    };
    (table ($factory:ty) $suite:ident $($group:ident::$case:ident $promise:literal)*) => {
        vec![$(
            $crate::conformance::Case::new(
                concat!(stringify!($group), "::", stringify!($case)),
                $promise,
                $crate::conformance::$suite::$group::$case::<$factory>,
            ),
        )*]
    };
}

/// The list of a suite names every case that its groups have: another one would never run.
#[cfg(test)]
fn assert_complete(list: &[&str], groups: &[(&str, &str)]) {
    for (group, source) in groups {
        for case in source.split("\npub fn ").skip(1) {
            let name = case.split('<').next().unwrap_or_default();
            let name = format!("{group}::{name}");
            assert!(list.contains(&&*name), "{name}");
        }
    }
}
