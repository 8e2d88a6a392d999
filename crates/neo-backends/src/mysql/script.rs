//! Text of statements that go to the server together.
//!
//! Bytes are written as hexadecimal digits: they are the same to every server, whatever it takes for
//! a quotation mark.

use std::fmt::Write as _;

use neo_api::TxnId;

/// A text as long as this is sent before more is added to it. With the longest row behind it, whose
/// bytes are written twice as long, it is well below [`PACKET_BYTES`](super::server::PACKET_BYTES).
pub(super) const FULL_BYTES: usize = 4 << 20;

/// Rows of one statement at most.
const ROWS_MAX: usize = 500;

/// Statements that are still to be sent.
#[derive(Debug, Default)]
pub(super) struct Script {
    text: String,
    /// Beginning, end and rows of a statement that takes more of them.
    open: Option<(&'static str, &'static str, usize)>,
}

impl Script {
    pub(super) const fn is_full(&self) -> bool {
        self.text.len() >= FULL_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Adds a statement.
    pub(super) fn statement(&mut self, statement: &str) {
        self.end();
        self.text.push_str(statement);
        self.text.push(';');
    }

    /// Adds a row to a statement of many rows: to the last one, if it is the same.
    pub(super) fn row(&mut self, head: &'static str, tail: &'static str, row: &str) {
        match &mut self.open {
            Some((open, end, rows)) if *open == head && *end == tail && *rows < ROWS_MAX => {
                *rows += 1;
                self.text.push(',');
            }
            _ => {
                self.end();
                self.text.push_str(head);
                self.open = Some((head, tail, 1));
            }
        }
        self.text.push_str(row);
    }

    fn end(&mut self) {
        if let Some((_, tail, _)) = self.open.take() {
            self.text.push_str(tail);
            self.text.push(';');
        }
    }

    /// Takes the text.
    pub(super) fn take(&mut self) -> String {
        self.end();
        std::mem::take(&mut self.text)
    }
}

/// Bytes, as the server reads them.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2 + 3);
    text.push_str("x'");
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text.push('\'');
    text
}

/// A number, or NULL.
pub(super) fn or_null(number: Option<u64>) -> String {
    number.map_or_else(|| "NULL".to_owned(), |number| number.to_string())
}

/// Bytes, or NULL.
pub(super) fn hex_or_null(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "NULL".to_owned(), hex)
}

/// Behind a table of which some keys are listed: RocksDB takes a table for almost empty as long as its
/// rows are in memory alone, and the server reads all of it then.
pub(super) const BY_KEY: &str = "FORCE INDEX (PRIMARY)";

/// Numbers between commas.
pub(super) fn list(numbers: impl IntoIterator<Item = u64>) -> String {
    let mut text = String::new();
    for number in numbers {
        let comma = if text.is_empty() { "" } else { "," };
        write!(text, "{comma}{number}").expect("a string takes all");
    }
    text
}

/// The name of a transaction in a row.
pub(super) fn name(txn: TxnId) -> String {
    format!("{},{}", txn.reign.0, txn.ttid.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_same_statement_go_together() {
        let mut script = Script::default();
        script.row("INSERT a VALUES ", " X", "(1)");
        script.row("INSERT a VALUES ", " X", "(2)");
        script.row("INSERT b VALUES ", "", "(3)");
        script.statement("DO 1");
        script.row("INSERT b VALUES ", "", "(4)");
        let text = "INSERT a VALUES (1),(2) X;INSERT b VALUES (3);DO 1;INSERT b VALUES (4);";
        assert_eq!(script.take(), text);
        assert!(script.is_empty());
        for n in 0..ROWS_MAX + 1 {
            script.row("r", "", &format!("({n})"));
        }
        assert!(script.take().ends_with("(499);r(500);"));
    }

    #[test]
    fn bytes_are_digits() {
        assert_eq!(hex(b"\x00\xff'\\"), "x'00ff275c'");
        assert_eq!(hex(b""), "x''");
        assert_eq!(list([1, u64::MAX]), "1,18446744073709551615");
        assert_eq!(or_null(None) + &hex_or_null(Some(b"a")), "NULLx'61'");
    }
}
