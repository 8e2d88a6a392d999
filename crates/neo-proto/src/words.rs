//! Words of a peer, as a log or an error can show them.

/// Most characters of a peer's that are shown.
const CHARS_MAX: usize = 200;

/// What a peer said, in one line and of bounded length: a log must stay readable, and say nothing
/// that the node did not.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut chars = text.chars();
    let mut out = String::new();
    for c in chars.by_ref().take(CHARS_MAX) {
        if c.is_control() || is_direction(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    if chars.next().is_some() {
        out.push('…');
    }
    out
}

/// Characters that make a terminal show the others in another order.
const fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_in_their_line() {
        assert_eq!(
            shown("a name with \"quotes\" é"),
            "a name with \"quotes\" é"
        );
        assert_eq!(
            shown("x\nERROR y\x1b[2J\u{202e}"),
            "x\\nERROR y\\u{1b}[2J\\u{202e}"
        );
        assert_eq!(shown(&"x".repeat(200)), "x".repeat(200));
        assert_eq!(shown(&"x".repeat(1 << 20)), format!("{}…", "x".repeat(200)));
    }
}
