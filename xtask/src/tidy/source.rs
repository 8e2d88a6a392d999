//! A Rust file, split into code and comments, so that a word in one is not taken for the other.

/// A source file with its lines taken apart.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) path: &'a str,
    pub(super) lines: Vec<Line>,
}

/// One line; what strings contain is in neither part.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) code: String,
    pub(super) comment: String,
    /// Below the first `#[cfg(test)]`, or in a file of tests: by convention tests come last.
    pub(super) test: bool,
}

#[derive(Clone, Copy)]
enum State {
    Code,
    LineComment,
    BlockComment(u32),
    // A string, with the number of its hashes if it is raw.
    Text(Option<usize>),
}

impl<'a> Source<'a> {
    pub(super) fn new(path: &'a str, text: &str) -> Self {
        let mut lines = split(text);
        let mut test = is_of_tests(path);
        for line in &mut lines {
            test |= line.code.trim_start().starts_with("#[cfg(test)]");
            line.test = test;
        }
        Self { path, lines }
    }

    /// Lines with their numbers, from 1.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (usize, &Line)> {
        (1..).zip(&self.lines)
    }
}

/// Whether a file has nothing but tests.
pub(super) fn is_of_tests(path: &str) -> bool {
    path.split('/')
        .any(|part| matches!(part, "tests" | "benches" | "tests.rs") || part.ends_with("_test.rs"))
}

// As much of Rust's lexer as it takes to tell code, comments and strings apart.
fn split(text: &str) -> Vec<Line> {
    let chars: Vec<char> = text.chars().collect();
    let mut lines = vec![Line::default()];
    let mut state = State::Code;
    let mut at = 0;
    while let Some(&char) = chars.get(at) {
        let rest = &chars[at..];
        let mut taken = 1;
        if char == '\n' {
            if matches!(state, State::LineComment) {
                state = State::Code;
            }
            lines.push(Line::default());
            at += 1;
            continue;
        }
        let line = lines.last_mut().expect("there is always a line");
        match state {
            State::Code => match rest {
                ['/', '/', ..] => {
                    line.comment.push(char);
                    state = State::LineComment;
                }
                ['/', '*', ..] => (state, taken) = (State::BlockComment(1), 2),
                ['"', ..] => state = State::Text(None),
                ['r', '"' | '#', ..] if !after_word(&chars, at) && raw_hashes(rest).is_some() => {
                    let hashes = raw_hashes(rest).expect("just seen");
                    (state, taken) = (State::Text(Some(hashes)), hashes + 2);
                }
                ['\'', '\\', ..] => taken = quote_end(rest),
                ['\'', _, '\'', ..] => taken = 3,
                _ => line.code.push(char),
            },
            State::LineComment => line.comment.push(char),
            State::BlockComment(depth) => match rest {
                ['*', '/', ..] if depth == 1 => (state, taken) = (State::Code, 2),
                ['*', '/', ..] => (state, taken) = (State::BlockComment(depth - 1), 2),
                ['/', '*', ..] => (state, taken) = (State::BlockComment(depth + 1), 2),
                _ => line.comment.push(char),
            },
            State::Text(None) => match rest {
                // The line break after a backslash is still to be counted.
                ['\\', next, ..] if *next != '\n' => taken = 2,
                ['"', ..] => state = State::Code,
                _ => {}
            },
            State::Text(Some(hashes)) => {
                if char == '"'
                    && rest[1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
                {
                    (state, taken) = (State::Code, hashes + 1);
                }
            }
        }
        at += taken;
    }
    lines
}

fn after_word(chars: &[char], at: usize) -> bool {
    let before = at.checked_sub(1).map(|before| chars[before]);
    // `br"…"` is a raw string as well.
    before.is_some_and(|c| (c.is_alphanumeric() && c != 'b') || c == '_')
}

fn raw_hashes(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    (rest.get(1 + hashes) == Some(&'"')).then_some(hashes)
}

// Length of a character literal that starts with a backslash.
fn quote_end(rest: &[char]) -> usize {
    rest.iter()
        .skip(3)
        .position(|c| *c == '\'')
        .map_or(rest.len(), |end| end + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Vec<String> {
        split(text).into_iter().map(|line| line.code).collect()
    }

    #[test]
    fn strings_and_comments_are_not_code() {
        assert_eq!(
            code("let a = \"tokio // \\\" x\"; b // c"),
            ["let a = ; b "]
        );
        assert_eq!(
            code("f(r#\"a \" b\"#, br\"c\", '\"', '\\'', 'x'); g"),
            ["f(, b, , , ); g"]
        );
        assert_eq!(code("a /* b /* c */\n d */ e"), ["a ", " e"]);
        assert_eq!(code("fn f<'a>(x: &'a str) {}"), ["fn f<'a>(x: &'a str) {}"]);
        assert_eq!(code("\"one \\\n two\"; three"), ["", "; three"]);
    }

    #[test]
    fn comments_are_kept_apart() {
        assert_eq!(split("x(); // why")[0].comment, "// why");
        assert_eq!(split("/* one\ntwo */ y")[1].comment, "two ");
    }

    #[test]
    fn tests_are_what_follows_cfg_test() {
        let source = Source::new("a/src/b.rs", "fn a() {}\n#[cfg(test)]\nmod tests {}");
        assert_eq!(
            source.lines.iter().map(|l| l.test).collect::<Vec<_>>(),
            [false, true, true]
        );
        assert!(Source::new("a/tests/b.rs", "x").lines[0].test);
        assert!(Source::new("a/src/foo/foo_test.rs", "x").lines[0].test);
    }
}
