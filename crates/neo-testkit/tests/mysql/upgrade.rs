//! Tables of each earlier format are upgraded, and have what they had; those of a later one are left
//! alone.

use neo_testkit::MariaDb;

use crate::golden::{contents, fill, run};

/// What `mariadb-dump --compact --hex-blob` wrote of tables of format 1.
const FORMAT_1: &str = include_str!("format-1.sql");

#[test]
fn tables_of_format_1_are_upgraded() {
    let server = MariaDb::start("InnoDB").unwrap();
    let open = |name: &str| {
        let database = server.database(name).unwrap();
        neo_backends::open("MySQL", &database).unwrap()
    };
    let fresh = open("fresh");
    fill(&*fresh);
    let expected = contents(&*fresh);
    assert!(expected.lines().count() > 14, "{expected}");

    server.database("old").unwrap();
    server.sql(&format!("USE old; {FORMAT_1}")).unwrap();
    // The upgrade may have been interrupted after any of its statements.
    server
        .sql("CREATE TABLE old.shared LIKE fresh.shared")
        .unwrap();
    for _ in 0..2 {
        let upgraded = open("old");
        let found = contents(&*upgraded);
        for (found, expected) in found.lines().zip(expected.lines()) {
            assert_eq!(found, expected);
        }
        assert_eq!(found.lines().count(), expected.lines().count());
        run(upgraded.close()).unwrap();
    }
    let format = server.sql("SELECT format FROM old.neo").unwrap();
    assert_eq!(format.trim(), "2");
    server.sql("UPDATE old.neo SET format = 3").unwrap();
    let database = server.database("old").unwrap();
    let error = neo_backends::open("MySQL", &database).unwrap_err();
    let error = error.to_string();
    assert!(
        error.ends_with("its tables have format 3, this one knows 1 to 2"),
        "{error}"
    );
}
