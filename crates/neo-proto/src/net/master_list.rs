//! The file that keeps the list of masters that a node, or a client, has learnt of.

use std::error::Error as StdError;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use neo_api::Address;

/// A list of masters that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the dynamic list of masters {}", path.display())]
pub struct MasterListError {
    path: PathBuf,
    #[source]
    why: Unusable,
}

impl MasterListError {
    /// What is wrong, in one line.
    #[must_use]
    pub fn with_reasons(&self) -> String {
        let mut words = self.to_string();
        let mut source = self.source();
        while let Some(reason) = source {
            words = format!("{words}: {reason}");
            source = reason.source();
        }
        words
    }
}

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it is no JSON array of \"HOST:PORT\": correct it, or remove it")]
    NoList,
    #[error("correct it, or remove it")]
    NoAddress(#[source] neo_api::ParseAddressError),
    #[error(transparent)]
    File(#[from] std::io::Error),
}

/// A list of masters on disk: a JSON array of `"HOST:PORT"`.
///
/// It is replaced as a whole, so that a reader, or a node that starts after a crash, finds the old
/// list or the new one.
#[derive(Debug)]
pub struct MasterListFile {
    path: PathBuf,
    kept: Vec<Address>,
}

impl MasterListFile {
    /// Reads the list, and adds `masters`; a file that is not there is created.
    ///
    /// # Errors
    /// When it is no list of masters, or cannot be written.
    pub fn open(path: &Path, masters: &[Address]) -> Result<Self, MasterListError> {
        Self::open_at(path, masters).map_err(|why| MasterListError {
            path: path.to_owned(),
            why,
        })
    }

    fn open_at(path: &Path, masters: &[Address]) -> Result<Self, Unusable> {
        let mut kept = match std::fs::read(path) {
            Ok(text) => parse(&text)?,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        for master in masters {
            if !kept.contains(master) {
                kept.push(master.clone());
            }
        }
        let list = Self {
            path: path.to_owned(),
            kept,
        };
        list.write()?;
        Ok(list)
    }

    /// The masters in it.
    #[must_use]
    pub fn masters(&self) -> &[Address] {
        &self.kept
    }

    /// Replaces the list, if that is another one; a failure is logged, and work goes on.
    pub fn update(&mut self, masters: &[Address]) {
        let same = |a: &[Address], b: &[Address]| a.iter().all(|address| b.contains(address));
        if masters.is_empty() || (same(masters, &self.kept) && same(&self.kept, masters)) {
            return;
        }
        self.kept = masters.to_vec();
        if let Err(error) = self.write() {
            tracing::warn!(file = %self.path.display(), %error, "cannot keep the list of masters");
        }
    }

    fn write(&self) -> std::io::Result<()> {
        let names: Vec<String> = self.kept.iter().map(ToString::to_string).collect();
        let mut text = serde_json::to_vec_pretty(&names)?;
        text.push(b'\n');
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        let new = PathBuf::from(new);
        let written = File::create(&new)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&new, &self.path));
        if written.is_err() {
            // It may be what fills the disk.
            let _ = std::fs::remove_file(&new);
        }
        written
    }
}

fn parse(text: &[u8]) -> Result<Vec<Address>, Unusable> {
    let names: Vec<String> = serde_json::from_slice(text).map_err(|_| Unusable::NoList)?;
    let addresses = names.iter().map(|name| name.parse::<Address>());
    addresses
        .collect::<Result<_, _>>()
        .map_err(Unusable::NoAddress)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Address {
        Address::new("m", port)
    }

    #[test]
    fn masters_that_were_learnt_are_there_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("masters.json");
        let mut list = MasterListFile::open(&path, &[address(1)]).unwrap();
        list.update(&[address(1), address(2), address(3)]);
        list.update(&[address(3), address(2)]);
        // Nothing is known for a moment: that is no reason to forget.
        list.update(&[]);
        let again = MasterListFile::open(&path, &[address(4)]).unwrap();
        assert_eq!(again.masters(), [address(3), address(2), address(4)]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "[\n  \"m:3\",\n  \"m:2\",\n  \"m:4\"\n]\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_can_not_be_created_is_an_error_and_what_can_not_be_written_later_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        let path = inner.join("masters.json");
        let error = MasterListFile::open(&path, &[]).unwrap_err();
        assert!(
            error.to_string().contains("the dynamic list of masters"),
            "{error}"
        );
        std::fs::create_dir(&inner).unwrap();
        let mut list = MasterListFile::open(&path, &[address(1)]).unwrap();
        std::fs::remove_dir_all(&inner).unwrap();
        list.update(&[address(2)]);
        assert_eq!(list.masters(), [address(2)]);
    }

    #[test]
    fn something_else_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes");
        for text in ["remember the milk", "[\"m\"]", "[1]", "{}"] {
            std::fs::write(&path, text).unwrap();
            let error = MasterListFile::open(&path, &[address(1)]).unwrap_err();
            let words = error.with_reasons();
            assert!(words.contains("remove it"), "{words}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
