//! What a core must not use: it is pure, so that the simulator can run it.

use super::Findings;
use super::files::has_word;
use super::source::{Line, Source};

const FORBIDDEN: &[(&str, &str)] = &[
    ("tokio", "a core has no runtime"),
    ("async fn", "a core does not wait"),
    ("async move", "a core does not wait"),
    (".await", "a core does not wait"),
    ("std::thread", "a core has no threads"),
    ("std::net", "a core has no sockets"),
    ("std::fs", "a core has no files"),
    ("std::env", "settings are passed in"),
    ("mpsc", "a core has no channels"),
    ("Mutex", "a core has no locks"),
    ("RwLock", "a core has no locks"),
    ("HashMap", "its order differs from run to run: use BTreeMap"),
    ("HashSet", "its order differs from run to run: use BTreeSet"),
    ("SystemTime", "time is passed in"),
    ("std::time::Instant", "time is passed in"),
    ("Instant::now", "time is passed in"),
    ("SystemEnv", "time and randomness are passed in"),
];

pub(super) fn check(sources: &[Source<'_>], findings: &mut Findings) {
    for source in sources.iter().filter(|source| is_pure(source.path)) {
        for (word, reason) in FORBIDDEN {
            let has = |line: &Line| has_word(&line.code, word);
            complain(source, word, reason, has, findings);
        }
        let (word, reason) = (".unwrap()", "expect(\"why it cannot fail\")");
        let has = |line: &Line| !line.test && line.code.contains(word);
        complain(source, word, reason, has, findings);
    }
}

// Once a file, at the first of the lines that have the word.
fn complain(
    source: &Source<'_>,
    word: &str,
    reason: &str,
    has: impl Fn(&Line) -> bool,
    findings: &mut Findings,
) {
    let mut lines = source.numbered().filter(|(_, line)| has(line));
    let Some((first, _)) = lines.next() else {
        return;
    };
    let more = match lines.count() {
        0 => String::new(),
        more => format!(" (and on {more} more lines)"),
    };
    findings.error(
        format_args!("{}:{first}", source.path),
        format_args!("{word} in a core: {reason}{more}"),
    );
}

// The wire is pure too, except for its sockets.
fn is_pure(path: &str) -> bool {
    let wire = path.starts_with("crates/neo-proto/src/") && !path.contains("/net/");
    let core =
        path.starts_with("crates/") && (path.contains("/core/") || path.ends_with("/core.rs"));
    let persister = path == "crates/neo-storage/src/persist.rs";
    wire || core || persister
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> usize {
        let mut findings = Findings::default();
        check(&[Source::new(path, text)], &mut findings);
        findings.errors.len()
    }

    #[test]
    fn a_core_is_pure_and_a_shell_need_not_be() {
        let text = "use std::collections::HashMap;\nasync fn f() { g().await }\n";
        assert_eq!(complaints("crates/neo-master/src/core/mod.rs", text), 3);
        assert_eq!(complaints("crates/neo-proto/src/session.rs", text), 3);
        assert_eq!(complaints("crates/neo-proto/src/net/tcp.rs", text), 0);
        assert_eq!(complaints("crates/neo-master/src/server.rs", text), 0);
    }

    #[test]
    fn words_in_comments_and_unwrap_in_tests_are_fine() {
        let text = "// not tokio\n#[cfg(test)]\nfn f() { g().unwrap() }\n";
        assert_eq!(complaints("crates/neo-master/src/core/mod.rs", text), 0);
        assert_eq!(
            complaints(
                "crates/neo-master/src/core/mod.rs",
                "fn f() { g().unwrap() }"
            ),
            1
        );
    }
}
