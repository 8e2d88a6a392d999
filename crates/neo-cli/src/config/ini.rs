//! Reading an INI file as Python's ConfigParser does.
//!
//! What is kept from there: `=` or `:` between key and value, keys in any case, whole-line comments
//! by `#` or `;`, values that go on in lines indented deeper than their key, and a `[DEFAULT]`
//! section that every other one inherits. `#` and `;` inside of a value belong to it. There is no
//! interpolation: `%` is an ordinary character (and `%%` two of them).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Name of the section that the others inherit.
pub const DEFAULT_SECTION: &str = "DEFAULT";

/// A file that is not as it should be, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {problem}", path.display(), line.map_or_else(String::new, |line| format!(":{line}")))]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1; `None` when it is the file as a whole.
    pub line: Option<usize>,
    /// What is wrong, and what to do.
    pub problem: String,
}

/// The value of a key, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    /// Where the key is, from 1.
    pub line: usize,
    /// Lines of the value with their numbers; comments and blank lines are left out.
    pub lines: Vec<(usize, String)>,
}

impl Raw {
    /// The value in one piece.
    #[must_use]
    pub fn text(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(|(_, line)| line.as_str()).collect();
        lines.join("\n")
    }
}

/// A section, without what it inherits.
type Section = BTreeMap<String, Raw>;

/// A parsed file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ini {
    /// The file, for messages.
    pub path: PathBuf,
    sections: BTreeMap<String, (usize, Section)>,
}

impl Ini {
    /// Reads and parses a file.
    ///
    /// # Errors
    /// When it cannot be read, is not UTF-8, or makes no sense; the error names the line.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let error = |problem: String| FileError {
            path: path.to_owned(),
            line: None,
            problem,
        };
        let bytes = std::fs::read(path)
            .map_err(|e| error(format!("cannot read the configuration file: {e}")))?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let before = &e.as_bytes()[..e.utf8_error().valid_up_to()];
            let line = before.iter().filter(|b| **b == b'\n').count() + 1;
            FileError {
                line: Some(line),
                ..error("this is not UTF-8 text".to_owned())
            }
        })?;
        Self::parse(path, &text)
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// When it makes no sense; the error names the line.
    pub fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let mut parser = Parser::default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in (1..).zip(text.lines()) {
            parser.line(number, line).map_err(|problem| FileError {
                path: path.to_owned(),
                line: Some(number),
                problem,
            })?;
        }
        Ok(Self {
            path: path.to_owned(),
            sections: parser.sections,
        })
    }

    /// Whether the file has this section.
    #[must_use]
    pub fn has_section(&self, name: &str) -> bool {
        name == DEFAULT_SECTION || self.sections.contains_key(name)
    }

    /// Names of the sections, `[DEFAULT]` left out.
    pub fn section_names(&self) -> impl Iterator<Item = &str> {
        let names = self.sections.keys().map(String::as_str);
        names.filter(|name| *name != DEFAULT_SECTION)
    }

    /// Keys and values of a section with what it inherits; `true` marks what is inherited.
    #[must_use]
    pub fn section(&self, name: &str) -> BTreeMap<&str, (&Raw, bool)> {
        let mut all = BTreeMap::new();
        for (section, inherited) in [(DEFAULT_SECTION, true), (name, name == DEFAULT_SECTION)] {
            if let Some((_, keys)) = self.sections.get(section) {
                all.extend(
                    keys.iter()
                        .map(|(key, raw)| (key.as_str(), (raw, inherited))),
                );
            }
        }
        all
    }
}

#[derive(Debug, Default)]
struct Parser {
    sections: BTreeMap<String, (usize, Section)>,
    section: Option<String>,
    /// The key whose value may go on, with its indentation.
    key: Option<(String, usize)>,
}

impl Parser {
    fn line(&mut self, number: usize, line: &str) -> Result<(), String> {
        let text = line.trim();
        if text.is_empty() || text.starts_with(['#', ';']) {
            return Ok(());
        }
        let indent = line.chars().take_while(|c| c.is_whitespace()).count();
        if let (Some((key, key_indent)), Some(section)) = (&self.key, &self.section)
            && indent > *key_indent
            && let Some((_, keys)) = self.sections.get_mut(section)
            && let Some(raw) = keys.get_mut(key)
        {
            raw.lines.push((number, text.to_owned()));
            return Ok(());
        }
        self.key = None;
        if let Some(rest) = text.strip_prefix('[') {
            let name = rest
                .split_once(']')
                .map(|(name, _)| name.trim())
                .filter(|name| !name.is_empty())
                .ok_or("a section's header is written [NAME]")?;
            return self.header(number, name);
        }
        let (key, value) = text
            .split_once(['=', ':'])
            .ok_or_else(|| format!("{text:?} is neither KEY = VALUE nor [SECTION]"))?;
        self.key_value(number, indent, key.trim(), value.trim())
    }

    fn header(&mut self, number: usize, name: &str) -> Result<(), String> {
        if let Some((first, _)) = self.sections.get(name) {
            return Err(format!(
                "section [{name}] was begun in line {first} already"
            ));
        }
        self.sections
            .insert(name.to_owned(), (number, Section::new()));
        self.section = Some(name.to_owned());
        Ok(())
    }

    fn key_value(
        &mut self,
        number: usize,
        indent: usize,
        key: &str,
        value: &str,
    ) -> Result<(), String> {
        if key.is_empty() {
            return Err("the key is missing".to_owned());
        }
        let (_, keys) = self
            .section
            .as_ref()
            .and_then(|section| self.sections.get_mut(section))
            .ok_or("a [SECTION] must come before the first key")?;
        let key = key.to_lowercase();
        if let Some(first) = keys.get(&key) {
            return Err(format!("{key} was given in line {} already", first.line));
        }
        let lines = match value {
            "" => Vec::new(),
            value => vec![(number, value.to_owned())],
        };
        keys.insert(
            key.clone(),
            Raw {
                line: number,
                lines,
            },
        );
        self.key = Some((key, indent));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Ini, String> {
        Ini::parse(Path::new("neo.conf"), text).map_err(|e| e.to_string())
    }

    fn value(ini: &Ini, section: &str, key: &str) -> Option<String> {
        ini.section(section).get(key).map(|(raw, _)| raw.text())
    }

    #[test]
    fn sections_inherit_and_override() {
        let ini = parse(
            "; a comment\n[DEFAULT]\ncluster = test\nMasters: a:1 b:2\n\n[storage]\nmasters=c:3\n",
        )
        .unwrap();
        assert_eq!(value(&ini, "storage", "cluster").as_deref(), Some("test"));
        assert_eq!(value(&ini, "storage", "masters").as_deref(), Some("c:3"));
        assert_eq!(value(&ini, "other", "masters").as_deref(), Some("a:1 b:2"));
        let section = ini.section("storage");
        assert!(section["cluster"].1, "inherited");
        assert!(!section["masters"].1, "its own");
        assert_eq!(section["masters"].0.line, 7);
        assert_eq!(ini.section_names().collect::<Vec<_>>(), ["storage"]);
    }

    #[test]
    fn values_keep_what_python_keeps() {
        let ini = parse(
            "[s]\n\
             a = x # not a comment ; nor this\n\
             b = 100%% %(home)s = : [z]\n\
             c =\n  one\n  # a comment\n\n  two = 2\n\
             d = first\n\tsecond\n",
        )
        .unwrap();
        let get = |key| value(&ini, "s", key).unwrap();
        assert_eq!(get("a"), "x # not a comment ; nor this");
        assert_eq!(get("b"), "100%% %(home)s = : [z]");
        assert_eq!(get("c"), "one\ntwo = 2");
        assert_eq!(get("d"), "first\nsecond");
        assert_eq!(ini.section("s")["c"].0.lines[1], (8, "two = 2".to_owned()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_line() {
        for (text, error) in [
            (
                "a = 1\n",
                "neo.conf:1: a [SECTION] must come before the first key",
            ),
            ("\n[s\n", "neo.conf:2: a section's header is written [NAME]"),
            ("[]\n", "neo.conf:1: a section's header is written [NAME]"),
            (
                "[s]\nabc\n",
                "neo.conf:2: \"abc\" is neither KEY = VALUE nor [SECTION]",
            ),
            ("[s]\n = 1\n", "neo.conf:2: the key is missing"),
            (
                "[s]\na=1\nA=2\n",
                "neo.conf:3: a was given in line 2 already",
            ),
            (
                "[s]\n[t]\n[s]\n",
                "neo.conf:3: section [s] was begun in line 1 already",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), error);
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("neo.conf");
        let error = Ini::read(&path).unwrap_err().to_string();
        assert!(error.contains("neo.conf: cannot read the configuration file: No such file"));
        std::fs::write(&path, b"[s]\na = \xff\n").unwrap();
        let error = Ini::read(&path).unwrap_err().to_string();
        assert!(
            error.ends_with("neo.conf:2: this is not UTF-8 text"),
            "{error}"
        );
    }
}
