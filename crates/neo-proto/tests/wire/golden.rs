//! The bytes of every message, as the version before wrote them. A change here is a change of the
//! wire: it needs a version, or a field at the end. `NEO_BLESS=1` writes the file anew.

use std::fmt::Write as _;
use std::path::Path;

use neo_proto::{MsgId, decode, encode};

use super::arbitrary::{MAKERS, Source};

#[test]
fn messages_have_the_bytes_that_they_had() {
    let varied: Vec<u8> = (0..200u32).map(|n| (n * 37 + 11) as u8).collect();
    let mut lines = String::from("# code, name and bytes of each message: one plain, one varied\n");
    for (name, make) in MAKERS {
        for seed in [&[][..], &varied] {
            let packet = make(&mut Source(seed));
            let mut bytes = Vec::new();
            encode(MsgId(7), &packet, &mut bytes);
            write!(lines, "{:#06x} {name} ", packet.code()).unwrap();
            for byte in bytes {
                write!(lines, "{byte:02x}").unwrap();
            }
            lines.push('\n');
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/golden.txt");
    if std::env::var_os("NEO_BLESS").is_some() {
        std::fs::write(&path, &lines).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    for (is, was) in lines.lines().zip(golden.lines()) {
        assert_eq!(is, was);
    }
    assert_eq!(lines.lines().count(), golden.lines().count());
    for line in golden.lines().skip(1) {
        let hex = line.rsplit(' ').next().unwrap();
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap())
            .collect();
        let (id, packet) = decode(&bytes).unwrap();
        assert!(id == MsgId(7) && line.contains(packet.name()), "{line}");
    }
}
