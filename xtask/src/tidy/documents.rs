//! The documents: links lead somewhere, commands are run by a test, what is quoted is there, every
//! crate is on the map.

use std::collections::BTreeMap;

use super::files::has_word;
use super::source::Source;
use super::{Findings, Tree};

// Which scenario is shown by which test.
const SCENARIOS: &str = "docs/scenarios.md";

pub(super) fn check(tree: &Tree, sources: &[Source<'_>], findings: &mut Findings) {
    let documents: BTreeMap<&str, Document> = tree
        .with_extension("md")
        .map(|(path, text)| (path, Document::parse(text)))
        .collect();
    for (path, document) in &documents {
        for (number, link) in &document.links {
            if let Some(complaint) = broken(path, link, tree, &documents) {
                findings.error(format_args!("{path}:{number}"), complaint);
            }
        }
        for (number, test) in &document.run_by_test {
            if !is_defined(sources, test) && !is_defined_in_python(tree, test) {
                findings.error(
                    format_args!("{path}:{number}"),
                    format_args!("no test {test:?}"),
                );
            }
        }
    }
    for (path, document) in &documents {
        for (number, from, text) in &document.quotes {
            let source = tree.texts.get(from.as_str()).map_or("", String::as_str);
            if !source.contains(text.as_str()) {
                findings.error(
                    format_args!("{path}:{number}"),
                    format_args!("this is not in {from}: copy it anew"),
                );
            }
        }
    }
    let scenarios = tree.texts.get(SCENARIOS).map_or("", String::as_str);
    for (number, test) in tests_of_scenarios(scenarios) {
        if !is_defined(sources, &test) {
            findings.error(
                format_args!("{SCENARIOS}:{number}"),
                format_args!("no test {test:?}"),
            );
        }
    }
    let map = tree.texts.get("ARCHITECTURE.md").map_or("", String::as_str);
    for path in tree.texts.keys() {
        let name = path
            .strip_prefix("crates/")
            .and_then(|rest| rest.strip_suffix("/Cargo.toml"));
        if let Some(name) = name.filter(|name| !has_word(map, name)) {
            findings.error("ARCHITECTURE.md", format_args!("its code map lacks {name}"));
        }
    }
}

fn is_defined(sources: &[Source<'_>], function: &str) -> bool {
    let defined = format!("fn {function}");
    let mut lines = sources.iter().flat_map(|source| &source.lines);
    lines.any(|line| has_word(&line.code, &defined))
}

fn is_defined_in_python(tree: &Tree, function: &str) -> bool {
    let defined = format!("def {function}");
    tree.with_extension("py")
        .any(|(_, text)| has_word(text, &defined))
}

// The names in back quotes in the last column of each table.
fn tests_of_scenarios(text: &str) -> Vec<(usize, String)> {
    let mut tests = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let row = line.strip_prefix('|').and_then(|row| row.strip_suffix('|'));
        let Some((_, last)) = row.and_then(|row| row.rsplit_once('|')) else {
            continue;
        };
        let names = last.split('`').skip(1).step_by(2);
        tests.extend(names.map(|name| (number, name.to_owned())));
    }
    tests
}

/// What a Markdown file has that can go stale; numbers are those of lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Document {
    anchors: Vec<String>,
    links: Vec<(usize, String)>,
    /// Names of the tests of blocks that start "```sh run-by-test=NAME".
    run_by_test: Vec<(usize, String)>,
    /// Blocks that start "```rust in=PATH", with that path and their text.
    quotes: Vec<(usize, String, String)>,
}

impl Document {
    fn parse(text: &str) -> Self {
        let mut document = Self::default();
        let (mut in_block, mut quoted) = (false, None);
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(info) = line.trim_start().strip_prefix("```") {
                in_block = !in_block;
                let test = info
                    .split(' ')
                    .find_map(|word| word.strip_prefix("run-by-test="));
                document
                    .run_by_test
                    .extend(test.map(|test| (number, test.to_owned())));
                quoted = info
                    .split(' ')
                    .find_map(|word| word.strip_prefix("in="))
                    .filter(|_| in_block);
                document
                    .quotes
                    .extend(quoted.map(|from| (number, from.to_owned(), String::new())));
            } else if let (Some(_), Some((.., text))) = (quoted, document.quotes.last_mut()) {
                text.push_str(line);
                text.push('\n');
            } else if !in_block {
                if line.starts_with('#') {
                    document.anchors.push(slug(line.trim_start_matches('#')));
                }
                document
                    .links
                    .extend(links(line).into_iter().map(|link| (number, link)));
            }
        }
        document
    }
}

// The targets of `[text](target)` and of `[label]: target`.
fn links(line: &str) -> Vec<String> {
    // What stands in back quotes is code; an empty pair stays, so that a label may be code.
    let text: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
    let inline = text.match_indices("](").filter_map(|(start, _)| {
        let target = &text[start + 2..];
        target.find(')').map(|end| &target[..end])
    });
    let reference = text
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]: "))
        .map(|(_, target)| target);
    inline
        .chain(reference)
        .filter_map(|target| target.split_whitespace().next())
        .map(|target| target.trim_matches(['<', '>']).to_owned())
        .collect()
}

// As the usual renderers make anchors of headings.
fn slug(heading: &str) -> String {
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn broken(
    from: &str,
    link: &str,
    tree: &Tree,
    documents: &BTreeMap<&str, Document>,
) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (target, anchor) = link
        .split_once('#')
        .map_or((link, None), |(t, a)| (t, Some(a)));
    let path = if target.is_empty() {
        from.to_owned()
    } else {
        resolve(from, target)?
    };
    if !tree.has(&path) {
        return Some(format!(
            "the link {link} leads to {path}, which does not exist"
        ));
    }
    let (anchor, document) = (anchor?, documents.get(path.as_str())?);
    (!document.anchors.iter().any(|known| known == anchor))
        .then(|| format!("{path} has no heading for the link {link}"))
}

// A path from the root, for a link in the document `from`; none for one out of the repository.
fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_can_go_stale() {
        let document = Document::parse(
            "# A `b` & c\nsee [x](y.md#z) and [q]( <r> ), not `[s](t)`\n[l]: m.md\n\
             ```sh run-by-test=start\n# [u](v)\n```\n```rust in=a.rs\nb\n```\n# [c](d)\n",
        );
        let links = ["y.md#z", "r"].map(|link| (2, link.to_owned()));
        assert_eq!(document.anchors, ["a-b--c", "cd"]);
        assert_eq!(document.links[..2], links);
        let links = [(3, "m.md"), (10, "d")].map(|(number, link)| (number, link.to_owned()));
        assert_eq!(document.links[2..], links);
        assert_eq!(document.quotes, [(7, "a.rs".to_owned(), "b\n".to_owned())]);
        assert_eq!(document.run_by_test, [(4, "start".to_owned())]);
    }

    #[test]
    fn scenarios_name_their_tests_in_the_last_column() {
        let text = "# `no`\n| what `not` | shown by |\n| --- | --- |\n| `x` | `a_b`, `c` |\n";
        let named = ["a_b", "c"].map(|name| (4, name.to_owned()));
        assert_eq!(tests_of_scenarios(text), named);
    }

    #[test]
    fn links_are_relative_to_their_document() {
        assert_eq!(
            resolve("docs/a.md", "../README.md").as_deref(),
            Some("README.md")
        );
        assert_eq!(
            resolve("docs/a.md", "b/c.md").as_deref(),
            Some("docs/b/c.md")
        );
        assert_eq!(resolve("a.md", "../x"), None);
    }
}
