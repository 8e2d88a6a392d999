//! Databases that a storage node may not use, and configuration files that make no sense.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use neo_testkit::process::{CLUSTER, Process};

use crate::cluster::{self, programs};
use crate::load::Load;

/// A storage node of this cluster with this database, not started.
fn storage(dir: &Path, cluster: &str, master: &str, database: &Path) -> Process {
    let database = database.display().to_string();
    let arguments = [
        "-c",
        cluster,
        "-m",
        master,
        "-b",
        "127.0.0.1:0",
        "-d",
        &database,
    ];
    let arguments = arguments.iter().map(|&a| a.to_owned()).collect();
    let log = dir.join("another.log");
    Process::new(programs().join("neostorage"), arguments, log)
}

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:9";

/// Starts it: it must end with a failure, and these are its last words.
fn fails(mut process: Process, status: i32, words: &str) {
    process.start().expect("it starts");
    let ended = process.wait().expect("it ends");
    let output = process.output();
    assert_eq!(output.lines().last(), Some(words), "{output}");
    assert_eq!(ended.code(), Some(status), "{output}");
}

fn refused(dir: &Path, database: &Path, why: &str) {
    let shown = database.display();
    fails(
        storage(dir, CLUSTER, NOWHERE, database),
        1,
        &format!("neostorage: cannot open the SQLite database {shown}: {why}"),
    );
}

/// The file of a database that was in use by a cluster, and the cluster stopped.
fn used_database(dir: &Path) -> PathBuf {
    let mut cluster = cluster::start(dir);
    let client = cluster::connect(&cluster);
    let load = Load::start(std::slice::from_ref(&client));
    load.until_committed(1);
    load.end(&client);
    cluster.stop().expect("a clean stop");
    dir.join("s1.sqlite")
}

#[test]
fn what_is_no_database_of_this_version_is_left_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().canonicalize().expect("a path");
    let not_ours = |name: &str, bytes: &[u8], why: &str| {
        let file = path.join(name);
        fs::write(&file, bytes).expect("written");
        let shown = file.display();
        refused(
            &path,
            &file,
            &format!("the database {shown} cannot be opened by this version: {why}"),
        );
        assert_eq!(fs::read(&file).expect("it is there"), bytes);
    };
    not_ours("text", b"hello\n", "it is not an SQLite database");
    not_ours("noise", &[0x5a; 20_000], "it is not an SQLite database");
    // The version of the schema is at byte 60 of an SQLite file, the application at byte 68.
    let used = used_database(&path.join("cluster"));
    let mut bytes = fs::read(&used).expect("a database");
    let known = u32::from_be_bytes(bytes[60..64].try_into().expect("four bytes"));
    let newer = known + 1;
    bytes[60..64].copy_from_slice(&newer.to_be_bytes());
    not_ours(
        "newer",
        &bytes,
        &format!("its schema has version {newer}, this one knows 1 to {known}"),
    );
    bytes[68..72].copy_from_slice(&7_u32.to_be_bytes());
    not_ours(
        "other",
        &bytes,
        "it is an SQLite database of something else",
    );
    refused(
        &path,
        &path,
        &format!(
            "the database failed: opening {}: is a directory",
            path.display()
        ),
    );
    let nowhere = path.join("there/is/nothing");
    refused(
        &path,
        &nowhere,
        &format!(
            "the database failed: opening {}: No such file or directory (os error 2)",
            nowhere.display()
        ),
    );
}

/// A file that nobody may write, root neither, until this is dropped.
struct Immutable<'a>(&'a Path);

impl<'a> Immutable<'a> {
    /// `None` when that can't be had here.
    fn new(file: &'a Path) -> Option<Self> {
        let immutable = Self(file);
        immutable.set(true);
        let denied = fs::OpenOptions::new().write(true).open(file).is_err();
        denied.then_some(immutable)
    }

    fn set(&self, on: bool) {
        let path = self.0.display().to_string();
        let commands = [
            ["chattr", if on { "+i" } else { "-i" }, &path],
            ["chmod", if on { "444" } else { "644" }, &path],
        ];
        for [program, change, path] in commands {
            // Where one is not permitted, or not there, the other may do.
            let _ = Command::new(program).args([change, path]).output();
        }
    }
}

impl Drop for Immutable<'_> {
    fn drop(&mut self) {
        self.set(false);
    }
}

#[test]
fn a_database_that_may_not_be_written_is_refused_and_works_again_later() {
    let dir = tempfile::tempdir().expect("a directory");
    let used = used_database(dir.path());
    let before = fs::read(&used).expect("a database");
    let Some(immutable) = Immutable::new(&used) else {
        println!("skipped: root may write everything here");
        return;
    };
    refused(dir.path(), &used, "the database is read-only");
    drop(immutable);
    assert_eq!(fs::read(&used).expect("it is there"), before);
    let mut again = storage(dir.path(), CLUSTER, NOWHERE, &used);
    again.start().expect("it starts");
    again.wait_for("listening").expect("it opened its database");
    assert!(
        again
            .stop()
            .expect("it stops")
            .is_some_and(|status| status.success())
    );
}

#[test]
fn a_database_serves_one_node_of_one_cluster() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().canonicalize().expect("a path");
    let foreign = used_database(&dir.join("foreign"));
    let foreign_bytes = fs::read(&foreign).expect("a database");

    let mut cluster = cluster::start(&dir.join("own"));
    let master = cluster.master_address().to_string();
    let client = cluster::connect(&cluster);
    let load = Load::start(std::slice::from_ref(&client));
    load.until_committed(10);
    let own = dir.join("own/s1.sqlite");

    // Started twice.
    let shown = own.display();
    fails(
        storage(&dir, CLUSTER, &master, &own),
        1,
        &format!(
            "neostorage: cannot open the SQLite database {shown}: the database {shown} is in use \
             by another storage node"
        ),
    );

    // A copy of it, while the other runs: it is not let in, and keeps asking.
    let copy = dir.join("copy.sqlite");
    for suffix in ["", "-wal"] {
        let from = dir.join(format!("own/s1.sqlite{suffix}"));
        fs::copy(from, dir.join(format!("copy.sqlite{suffix}"))).expect("copied");
    }
    let mut twin = storage(&dir, CLUSTER, &master, &copy);
    twin.start().expect("it starts");
    let line = twin
        .wait_for("the master refuses this node")
        .expect("it is refused");
    assert!(line.contains("code=id conflict"), "{line}");
    assert!(
        line.contains("is connected; was a database copied, or started twice?"),
        "{line}"
    );
    twin.stop().expect("it stops");

    // Of another name.
    let other_name = storage(&dir, "other", &master, &foreign);
    fails(
        other_name,
        1,
        "neostorage: the database belongs to cluster \"test\", not \"other\": \
         give the right cluster name, or an empty database",
    );

    // Of another cluster of the same name.
    let mut other = storage(&dir, CLUSTER, &master, &foreign);
    other.start().expect("it starts");
    let status = other.wait().expect("it ends");
    assert_eq!(status.code(), Some(1));
    let output = other.output();
    let last = output.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("neostorage: this is cluster \"test\" with id ")
            && last.ends_with(": give it an empty database, or the right masters"),
        "{output}"
    );
    assert_eq!(fs::read(&foreign).expect("it is there"), foreign_bytes);

    load.until_committed(10);
    load.end(&client);
    cluster.stop().expect("a clean stop");
}

#[test]
fn a_configuration_that_makes_no_sense_names_its_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("neo.conf");
    let shown = file.display().to_string();
    let start = |program: &str, text: &[u8], words: &str| {
        fs::write(&file, text).expect("written");
        let arguments = vec!["-f".to_owned(), shown.clone()];
        let log = dir.path().join("log");
        let process = Process::new(programs().join(program), arguments, log);
        fails(process, 2, &format!("{program}: {shown}{words}"));
    };
    start(
        "neomaster",
        b"\x00\xff\xfe\x80garbage",
        ":1: this is not UTF-8 text",
    );
    start(
        "neomaster",
        b"[master]\ncluster = a\ngarbage",
        ":3: \"garbage\" is neither KEY = VALUE nor [SECTION]",
    );
    start(
        "neomaster",
        b"[master\n",
        ":1: a section's header is written [NAME]",
    );
    start(
        "neostorage",
        b"[DEFAULT]\ncluster = a\n\n[storage]\ndatabse = x\n",
        ":5: databse is no option of any node (did you mean database?)",
    );
    start(
        "neomaster",
        b"[master]\ncluster = a\npartitions = many\n",
        ":3: partitions: \"many\" is not a number from 0 to 4294967295",
    );
    start(
        "neostorage",
        b"[storage]\ncluster = a\nbind = 127.0.0.1:99999\ndatabase = x\n",
        ":3: bind: \"127.0.0.1:99999\" is not an address: the port is not between 0 and 65535 \
         (write HOST:PORT or [IPV6]:PORT)",
    );
}
