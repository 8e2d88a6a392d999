//! Each case of a suite finds out what it is for, and says which promise was broken.

use std::fmt::Debug;

use neo_testkit::conformance::Case;

/// A case is content with what has nothing wrong, and fails with its promise for each mutation.
pub(crate) fn check<M: Debug>(cases: &[Case<M>], name: &str, nothing: &M, mutations: &[M]) {
    let case = cases.iter().find(|case| case.name == name).unwrap();
    assert_eq!(case.failure(nothing), None);
    for mutation in mutations {
        let Some(words) = case.failure(mutation) else {
            panic!("{mutation:?} is not found out by {name}");
        };
        assert!(words.contains(case.promise), "{name} only says: {words}");
    }
}

/// The cases of a suite, and what each finds out: a test of each, and one that all are here.
macro_rules! found_out {
    ($($group:ident::$case:ident: $($mutation:ident)+;)*) => {
        $(
            #[test]
            fn $case() {
                let name = concat!(stringify!($group), "::", stringify!($case));
                let mutations = [$(Mutation::$mutation),+];
                mutants::check(&cases::<Mutation>(), name, &Mutation::Nothing, &mutations);
            }
        )*

        /// A case that nothing makes fail might be none.
        #[test]
        fn every_case_of_the_suite_is_here() {
            let names: Vec<&str> = cases::<Mutation>().iter().map(|case| case.name).collect();
            let here = [$(concat!(stringify!($group), "::", stringify!($case))),*];
            assert_eq!(names, here);
        }
    };
}
