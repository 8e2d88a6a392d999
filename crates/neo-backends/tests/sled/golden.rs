//! A database that an earlier build wrote opens, and has what it had. Of sled's own files, which
//! are large, its rows are kept, a line each. `NEO_BLESS=1` writes the file anew, which is right only
//! together with a new format.

use std::fmt::Write as _;
use std::path::Path;

use neo_api::{DataId, Durability, ObjectData, StorageBackend, WriteBatch};
use neo_backends::{SledEngine, SledSettings};

use crate::golden_data::{contents, fill, object, put, run};

/// A value that is cut in pieces.
static LARGE: [u8; 4000] = [b'x'; 4000];

fn rows(path: &Path) -> String {
    let mut text = String::new();
    for row in &*sled::open(path).unwrap() {
        let (key, value) = row.unwrap();
        writeln!(text, "{} {}", hex(&key), hex(&value)).unwrap();
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |digits: &[u8]| u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

#[test]
fn a_database_of_format_1_opens_and_is_still_what_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let fresh = directory.path().join("fresh");
    let backend = SledEngine::open_backend(&SledSettings::new(&fresh)).unwrap();
    fill(&backend);
    let large = vec![
        put(60, None, &LARGE),
        object(3, 60, ObjectData::Value(DataId(60))),
    ];
    run(backend.apply(WriteBatch::from(large), Durability::Synced)).unwrap();
    let expected = contents(&backend);
    run(backend.close()).unwrap();
    drop(backend);
    let written = rows(&fresh);

    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sled-1.txt");
    if std::env::var_os("NEO_BLESS").is_some() {
        std::fs::write(&golden, &written).unwrap();
    }
    let golden = std::fs::read_to_string(golden).unwrap();
    for (written, golden) in written.lines().zip(golden.lines()) {
        assert_eq!(written, golden);
    }
    assert_eq!(written.lines().count(), golden.lines().count());

    let copy = directory.path().join("copy");
    let database = sled::open(&copy).unwrap();
    for line in golden.lines() {
        let (key, value) = line.split_once(' ').unwrap();
        database.insert(bytes(key), bytes(value)).unwrap();
    }
    drop(database);
    let backend = SledEngine::open_backend(&SledSettings::new(&copy)).unwrap();
    assert_eq!(contents(&backend), expected);
    run(backend.close()).unwrap();
}
