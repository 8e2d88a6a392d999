//! Each file: its length, its line of purpose, leftovers, paths of one machine.

use super::source::{Source, is_of_tests};
use super::{Findings, Tree};

const LINES_POINTED_AT: usize = 600;
const LINES_MAX: usize = 900;

// Split, so that this file has none of them.
const LEFT_IN_CODE: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[ignore"];
const LEFT_IN_COMMENTS: &[&str] = &[
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("TO", "DO"),
];
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/.")];

pub(super) fn check(tree: &Tree, sources: &[Source<'_>], findings: &mut Findings) {
    for (path, text) in tree.with_extension("rs").chain(tree.with_extension("py")) {
        let lines = text.lines().count();
        let complaint = format!("{lines} lines: is it one concept?");
        if lines > LINES_MAX {
            findings.error(path, complaint);
        } else if lines > LINES_POINTED_AT {
            findings.warn(path, complaint);
        }
    }
    for source in sources {
        leftovers(source, findings);
    }
    for (path, text) in tree.with_extension("rs") {
        if in_crate(path).is_some() && !is_of_tests(path) && purpose(text).is_none() {
            findings.error(path, "starts without a `//!` line that tells its purpose");
        }
    }
    for (path, text) in &tree.texts {
        for (number, line) in (1..).zip(text.lines()) {
            for machine_path in MACHINE_PATHS.iter().filter(|p| names_path(line, p)) {
                findings.error(
                    format_args!("{path}:{number}"),
                    format_args!("{machine_path} is a path of one machine"),
                );
            }
        }
    }
}

/// The crate and the file below its `src`, for a source of a crate.
pub(super) fn in_crate(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix("crates/")?.split_once("/src/")
}

/// The first line of a file's own documentation.
pub(super) fn purpose(text: &str) -> Option<&str> {
    text.lines().next()?.strip_prefix("//! ")
}

fn leftovers(source: &Source<'_>, findings: &mut Findings) {
    for (number, line) in source.numbered() {
        let in_code = LEFT_IN_CODE.iter().filter(|word| line.code.contains(*word));
        let in_comment = LEFT_IN_COMMENTS
            .iter()
            .filter(|word| has_word(&line.comment, word));
        for word in in_code.chain(in_comment) {
            findings.error(
                format_args!("{}:{number}", source.path),
                format_args!("{word} is left over"),
            );
        }
    }
}

/// Whether `word` stands in the text, not as a part of a longer word.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + word.len()..].chars().next();
        let goes_on_before = word.starts_with(part_of_word) && before.is_some_and(part_of_word);
        let goes_on_after = word.ends_with(part_of_word) && after.is_some_and(part_of_word);
        !goes_on_before && !goes_on_after
    })
}

// From the root of the file system, not below another directory or host.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        !before
            .is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | ')' | '*'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_whole() {
        assert!(has_word("use tokio::net", "tokio"));
        assert!(!has_word("tokio_like, my_tokio", "tokio"));
        assert!(has_word("x.unwrap()", ".unwrap()"));
        assert!(has_word("async fn a", "async fn"));
    }

    #[test]
    fn a_machine_path_starts_at_the_root() {
        let root = MACHINE_PATHS[1];
        assert!(names_path(&format!("see {root}x"), root));
        assert!(!names_path(&format!("see a{root}x"), root));
    }
}
