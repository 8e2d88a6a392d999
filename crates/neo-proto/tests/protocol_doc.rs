//! `docs/protocol.md` lists every message, with its fields, as the code has them.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use neo_proto::Packet;

const PAGE: &str = include_str!("../../../docs/protocol.md");
const SOURCE: &str = include_str!("../src/packet/mod.rs");

/// Code, name and fields of each row of the page's tables of messages.
fn rows() -> Vec<(u16, String, Vec<String>)> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `0x"));
    rows.map(|row| {
        let mut cells = row.split('|').map(|cell| cell.trim().replace('`', ""));
        let mut next = || cells.next().unwrap();
        let code = u16::from_str_radix(&next(), 16).unwrap();
        let (name, fields) = (next(), next());
        let fields = fields.split(", ").filter(|f| !f.is_empty());
        (code, name, fields.map(str::to_owned).collect())
    })
    .collect()
}

/// The fields of a message, in the source.
fn fields(code: u16, name: &str) -> Vec<String> {
    let start = format!("    {code:#06x} {name} {{");
    let (_, rest) = SOURCE.split_once(&start).unwrap();
    let (body, _) = rest.split_once('}').unwrap();
    let code: String = body
        .lines()
        .filter(|line| !line.trim().starts_with("///"))
        .collect();
    let mut depth = 0;
    let parts = code.split(|c| {
        match c {
            '<' | '(' => depth += 1,
            '>' | ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    let names = parts.filter_map(|part| part.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}

#[test]
fn the_page_lists_every_message() {
    let expected: Vec<_> = Packet::CODES
        .iter()
        .map(|(code, name)| (*code, (*name).to_owned(), fields(*code, name)))
        .collect();
    for (row, expected) in rows().iter().zip(&expected) {
        assert_eq!(row, expected);
    }
    assert_eq!(rows().len(), expected.len());
}
