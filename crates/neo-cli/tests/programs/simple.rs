//! `neosimple`: what it says, remembers, and refuses.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::harness::{PATIENCE, Running, Simple, children, run, run_err, run_ok, signal_pid};

const MODES: [&[&str]; 2] = [&[], &["--processes"]];

#[test]
fn a_fresh_cluster_runs_answers_and_opens_again() {
    for mode in MODES {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let cluster = Simple::start(&path, mode);
        assert_eq!(cluster.ctl("print cluster"), "RUNNING\n");
        assert_eq!(cluster.ctl("print primary"), "M1\n");
        assert_eq!(
            cluster.ctl("print pt"),
            "# ptid: 1, replicas: 1\n     0         10\nS1 R UUUUUUUUUUUU\nS2 R UUUUUUUUUUUU\n"
        );
        assert_eq!(
            cluster.ctl("print pt 10"),
            "# ptid: 1, replicas: 1\n010 | S1 - UP_TO_DATE | S2 - UP_TO_DATE\n\
             011 | S1 - UP_TO_DATE | S2 - UP_TO_DATE\n"
        );
        let nodes = cluster.ctl("print node");
        assert_eq!(nodes.lines().count(), 4, "{nodes}");
        let master = format!("M1 | MASTER  | {}", cluster.masters);
        assert!(nodes.starts_with(&master), "{nodes}");
        assert!(cluster.ctl("print ids").ends_with("last_ptid = 1\n"));
        assert_eq!(cluster.ctl("print node CLIENT"), "Empty list!\n");

        // Denied and unknown: a reason, status 1.
        let error = cluster.ctl_err("start");
        assert!(error.starts_with("neoctl: denied: "), "{error}");
        let error = cluster.ctl_err("kill S9");
        assert_eq!(error, "neoctl: denied: S9 is not known\n");
        let error = cluster.ctl_err("add all");
        assert_eq!(error, "neoctl: denied: no storage node is PENDING\n");
        let error = cluster.ctl_err("tweak S9");
        assert!(error.contains("S9 is no storage node"), "{error}");

        // The table is balanced; fewer copies are made when they are wanted, and no more.
        let tweaked = cluster.ctl("tweak");
        assert_eq!(tweaked, "No change done: the table is balanced\n");
        cluster.ctl("set replicas 0");
        let dry = cluster.ctl("tweak -n");
        assert!(
            dry.starts_with("cells: 12 discarded\nbefore:\n# ptid: 2"),
            "{dry}"
        );
        assert!(
            cluster
                .ctl("tweak")
                .contains("after:\n# ptid: 3, replicas: 0")
        );
        let ranges = cluster.ctl("print pt 0-1,11");
        assert_eq!(ranges.lines().count(), 4, "{ranges}");
        assert!(
            !ranges
                .lines()
                .any(|line| line.contains("S1") && line.contains("S2"))
        );

        let ports = (cluster.masters.clone(), cluster.admin.clone());
        let process = cluster.process;
        process.signal("TERM");
        let (status, said) = process.wait();
        assert!(status.success(), "{said}");
        assert_eq!(said, "neosimple: SIGTERM: stopping");

        // The same cluster, where it was, also in the other mode.
        for mode in MODES {
            let cluster = Simple::start(&path, mode);
            assert_eq!((cluster.masters.clone(), cluster.admin.clone()), ports);
            cluster.process.stop("INT");
        }
    }
}

#[test]
fn a_log_that_can_not_be_written_ends_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    // Every process logs there.
    let mut cluster = Command::new(env!("CARGO_BIN_EXE_neosimple"))
        .args(["--processes", "--dir", dir.path().to_str().unwrap()])
        .env("RUST_LOG", "info")
        .stdout(Stdio::piped())
        .stderr(full)
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut stdout = BufReader::new(cluster.stdout.take().unwrap());
    stdout.read_line(&mut said).unwrap();
    assert!(said.starts_with("RUNNING "), "{said}");
    signal_pid(cluster.id(), "INT");
    assert!(cluster.wait().unwrap().success());
}

#[test]
fn several_masters_serve_are_listed_and_remembered() {
    for mode in MODES {
        let dir = tempfile::tempdir().unwrap();
        let mut args = mode.to_vec();
        args.extend(["--masters", "3"]);
        let cluster = Simple::start(dir.path(), &args);
        assert_eq!(cluster.masters.split(',').count(), 3);
        assert_eq!(cluster.ctl("print primary"), "M1\n");
        let masters = cluster.ctl("print node MASTER");
        for (line, address) in masters.lines().zip(cluster.masters.split(',')) {
            assert!(
                line.contains(address) && line.contains("RUNNING"),
                "{masters}"
            );
        }
        assert_eq!(masters.lines().count(), 3, "{masters}");
        assert!(cluster.ctl("kill M2").ends_with("M2 is DOWN\n"));
        let ports = (cluster.masters.clone(), cluster.admin.clone());
        cluster.process.stop("TERM");
        let cluster = Simple::start(dir.path(), mode);
        assert_eq!((cluster.masters.clone(), cluster.admin.clone()), ports);
        cluster.process.stop("INT");
    }
}

#[test]
fn the_operator_stops_the_cluster() {
    for mode in MODES {
        let dir = tempfile::tempdir().unwrap();
        let mut args = mode.to_vec();
        args.extend(["--storages", "1", "--partitions", "3"]);
        let cluster = Simple::start(dir.path(), &args);
        assert_eq!(
            cluster.ctl("print pt"),
            "# ptid: 1, replicas: 0\nS1 R UUU\n"
        );
        let error = cluster.ctl_err("kill S1");
        assert!(error.contains("S1 can't be spared"), "{error}");
        let done = cluster.ctl("set cluster STOPPING");
        assert!(done.starts_with("Cluster state changed"), "{done}");
        let (status, said) = cluster.process.wait();
        assert!(status.success(), "{said}");
        assert_eq!(said, "");
    }
}

#[test]
fn a_node_that_the_operator_kills_is_missed_and_not_more() {
    let dir = tempfile::tempdir().unwrap();
    for mode in MODES {
        let path = dir.path().join(mode.len().to_string());
        let cluster = Simple::start(&path, mode);
        let done = cluster.ctl("kill S1");
        assert!(done.starts_with("state changed"), "{done}");
        assert_eq!(
            cluster.ctl("print pt").lines().nth(2),
            Some("S1 D OOOOOOOOOOOO")
        );
        assert_eq!(cluster.ctl("print cluster"), "RUNNING\n");
        cluster.process.stop("TERM");
        // It starts again with what it has.
        let cluster = Simple::start(&path, mode);
        cluster.process.stop("TERM");
    }
}

/// The process of a node, by its section and a word of its command line.
fn process_of(cluster: &Simple, section: &str, id: Option<&str>) -> u32 {
    let is_it = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let has_id = |id: &str| words.windows(2).any(|pair| pair == [b"-i", id.as_bytes()]);
        words.get(2) == Some(&section.as_bytes()) && id.is_none_or(has_id)
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(pid) = children(cluster.process.pid()).into_iter().find(is_it) {
            return pid;
        }
        assert!(Instant::now() < deadline, "no {section} {id:?}");
        std::thread::yield_now();
    }
}

fn wait_for_nodes(cluster: &Simple, is_so: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let output = run("neoctl", &["-a", &cluster.admin, "print", "node"]);
        let nodes = String::from_utf8(output.stdout).unwrap();
        if is_so(&nodes) {
            return;
        }
        assert!(Instant::now() < deadline, "{nodes}");
    }
}

#[test]
fn a_child_that_dies_is_started_again_while_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Simple::start(dir.path(), &["--processes", "--masters", "3"]);
    let all_run = |nodes: &str| {
        let running = nodes.lines().filter(|line| line.contains("RUNNING"));
        running.count() == 6 && !nodes.contains('#')
    };
    let masters = cluster.ctl("print node MASTER");
    for (section, id, name) in [
        ("master", Some("1"), "master"),
        ("master", Some("2"), "master2"),
        ("storage", Some("2"), "storage2"),
        ("admin", None, "admin"),
    ] {
        let pid = process_of(&cluster, section, id);
        signal_pid(pid, "KILL");
        cluster.process.wait_for(&format!(
            "neosimple: {name} died: it was killed by SIGKILL (process {pid}); starting it again \
             in 0.2 s"
        ));
        wait_for_nodes(&cluster, all_run);
    }
    // Each is where it was.
    let addresses = |nodes: &str| {
        let address = |line: &str| line.split('|').nth(2).map(str::to_owned);
        let mut addresses: Vec<_> = nodes.lines().filter_map(address).collect();
        addresses.sort_unstable();
        addresses
    };
    let again = cluster.ctl("print node MASTER");
    assert_eq!(addresses(&again), addresses(&masters));
    cluster.process.stop("TERM");
}

#[test]
fn a_child_that_keeps_dying_is_given_up() {
    // One that can be spared, and one that can't.
    for (masters, word) in [("2", "it is given up"), ("1", "no other master is left")] {
        let dir = tempfile::tempdir().unwrap();
        let args = ["--processes", "--masters", masters];
        let mut cluster = Simple::start(dir.path(), &args);
        let pid = loop {
            let pid = process_of(&cluster, "master", Some(masters));
            signal_pid(pid, "KILL");
            // It dies, or can't even start.
            let killed = format!(": it was killed by SIGKILL (process {pid})");
            let line = cluster.process.wait_for(&killed);
            if !line.contains("starting it again") {
                assert!(line.contains(word), "{line}");
                break pid;
            }
        };
        if masters == "1" {
            let (status, said) = cluster.process.wait();
            assert_eq!(status.code(), Some(1), "{said}");
            assert!(said.contains("stopping the other nodes"), "{said}");
        } else {
            wait_for_nodes(&cluster, |nodes| nodes.contains("M2 | MASTER"));
            assert_eq!(cluster.ctl("print cluster"), "RUNNING\n");
            cluster.process.stop("TERM");
        }
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[test]
fn no_node_outlives_a_neosimple_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Simple::start(dir.path(), &["--processes"]);
    cluster.process.signal("KILL");
    cluster.process.wait();
    // They close their databases, and let go of their directory: it can be used again.
    let again = Simple::start(dir.path(), &["--processes"]);
    again.process.stop("TERM");
}

#[test]
fn a_second_neosimple_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Simple::start(dir.path(), &[]);
    let error = run_err("neosimple", &["--dir", dir.path().to_str().unwrap()], 1);
    let pid = cluster.process.pid();
    let words = format!("neosimple: another neosimple (process {pid}) runs the cluster of ");
    assert!(error.starts_with(&words), "{error}");
    cluster.process.stop("TERM");
}

#[test]
fn a_second_node_on_the_same_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Simple::start(dir.path(), &[]);
    let database = dir.path().join("storage1.sqlite");
    let database = database.to_str().unwrap();
    let args = ["-c", "main", "-m", &cluster.masters, "-d", database];
    let error = run_err("neostorage", &args, 1);
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("is in use by another"), "{error}");
    // Nor is it erased under its node.
    let mut reset = args.to_vec();
    reset.push("--reset");
    let error = run_err("neostorage", &reset, 1);
    assert!(error.contains("is not erased"), "{error}");
    cluster.process.stop("TERM");
    // Without a node it is, also by an address with settings.
    let uri = format!("file:{database}?readers=3");
    reset[5] = &uri;
    let said = run_ok("neostorage", &reset);
    assert_eq!(said, format!("{uri} is erased\n"));
    assert!(!std::path::Path::new(database).exists());
}

#[test]
fn options_that_contradict_the_directory_are_named() {
    let dir = tempfile::tempdir().unwrap();
    Simple::start(dir.path(), &["--partitions", "5"])
        .process
        .stop("TERM");
    let path = dir.path().to_str().unwrap();
    for (option, given, remembered) in [
        ("--partitions", "12", "5"),
        ("--storages", "3", "2"),
        ("--replicas", "0", "1"),
        ("--name", "other", "main"),
        ("--adapter", "Memory", "SQLite"),
    ] {
        let error = run_err("neosimple", &["--dir", path, option, given], 2);
        let words = format!("neosimple: {option} {given} contradicts {path}/cluster.ini: the");
        assert!(error.starts_with(&words), "{error}");
        assert!(
            error.contains(&format!("created with {remembered};")),
            "{error}"
        );
    }
    // What is the same is no contradiction.
    let args = ["--partitions", "5", "--adapter", "sqlite"];
    Simple::start(dir.path(), &args).process.stop("TERM");
}

#[test]
fn a_port_that_is_taken_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Simple::start(dir.path(), &[]);
    let (masters, admin) = (cluster.masters.clone(), cluster.admin.clone());
    cluster.process.stop("TERM");
    let path = dir.path().to_str().unwrap();
    for (whose, address) in [("master", &masters), ("admin node", &admin)] {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = run_err("neosimple", &["--dir", path], 1);
        let words = format!(
            "neosimple: port {port} of the {whose}, remembered in {path}/cluster.ini, is taken by \
             another program"
        );
        assert!(error.starts_with(&words), "{error}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port();
    let error = run_err(
        "neosimple",
        &["--dir", path, "--port", &taken.to_string()],
        1,
    );
    assert!(error.contains("asked for by --port"), "{error}");
    // A port that is asked for is taken, and remembered.
    drop(listener);
    let cluster = Simple::start(dir.path(), &["--port", &taken.to_string()]);
    assert_eq!(cluster.masters, format!("127.0.0.1:{taken}"));
    cluster.process.stop("TERM");
    let cluster = Simple::start(dir.path(), &[]);
    assert_eq!(cluster.masters, format!("127.0.0.1:{taken}"));
    cluster.process.stop("TERM");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let path = path.to_str().unwrap();
    for (options, status, text) in [
        (
            ["--masters", "51"],
            2,
            "--masters 51: a cluster has 1 to 50 masters",
        ),
        (
            ["--replicas", "2"],
            2,
            "--replicas 2: that needs 3 storage nodes",
        ),
        (["--adapter", "foo"], 2, "there is no adapter \"foo\""),
        (
            ["--adapter", "Importer"],
            2,
            "the adapter Importer is not available in this version",
        ),
        (
            ["--adapter", "MySQL"],
            2,
            "databases of MySQL are on a server: start the nodes one by one",
        ),
        (["--storages", "0"], 2, "0 is not in 1..=1000"),
        (["--import", "/no/such.fs"], 1, "/no/such.fs"),
        (
            ["--bind", "192.0.2.1"],
            1,
            "master cannot start: 192.0.2.1:0",
        ),
    ] {
        let args = ["--dir", path, options[0], options[1]];
        let error = run_err("neosimple", &args, status);
        assert!(error.contains(text), "{error}");
        assert!(!std::path::Path::new(path).join("cluster.ini").exists());
    }
    std::fs::write(dir.path().join("thesis"), "").unwrap();
    let error = run_err("neosimple", &["--dir", dir.path().to_str().unwrap()], 1);
    assert!(error.contains("is no directory of neosimple"), "{error}");
}

#[test]
fn clusters_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Simple::start(&dir.path().join("a"), &[]);
    let new = dir.path().join("new.sqlite");
    let new = new.to_str().unwrap();
    let error = run_err(
        "neostorage",
        &["-c", "other", "-m", &cluster.masters, "-d", new],
        1,
    );
    let last = error.lines().last().unwrap();
    assert!(last.starts_with("neostorage: "), "{error}");
    assert!(last.contains("main") && last.contains("other"), "{error}");
    let admin = ["-c", "other", "-m", &cluster.masters, "-b", "127.0.0.1:0"];
    let error = run_err("neoadmin", &admin, 1);
    assert!(error.lines().last().unwrap().contains("main"), "{error}");
    cluster.process.stop("TERM");

    // A database of one cluster is nothing for a second one of the same name.
    let other = Simple::start(&dir.path().join("b"), &[]);
    let database = dir.path().join("a/storage1.sqlite");
    let database = database.to_str().unwrap();
    let args = ["-c", "main", "-m", &other.masters, "-d", database];
    let error = run_err("neostorage", &args, 1);
    assert!(
        error.lines().last().unwrap().starts_with("neostorage: "),
        "{error}"
    );
    other.process.stop("TERM");
}

#[test]
fn a_second_signal_is_obeyed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    // A cluster that can't stop in order: it is not there yet, since a node is held up.
    let cluster = Simple::start(dir.path(), &["--processes"]);
    let mut pids = children(cluster.process.pid());
    pids.sort_unstable();
    signal_pid(pids[1], "STOP");
    let mut process: Running = cluster.process;
    process.signal("TERM");
    process.wait_for("SIGTERM: stopping");
    // What comes within an instant is taken for the same signal.
    std::thread::sleep(std::time::Duration::from_millis(300));
    process.signal("TERM");
    let (status, said) = process.wait();
    assert_eq!(status.code(), Some(143), "{said}");
    assert!(said.contains("SIGTERM again: stopping at once"), "{said}");
}

#[test]
fn a_cluster_waits_for_data_that_was_erased() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Simple::start(dir.path(), &[]);
    cluster.process.stop("TERM");
    for n in 1..=2 {
        let file = dir.path().join(format!("storage{n}.sqlite"));
        let saved = dir.path().join("saved");
        std::fs::rename(&file, &saved).unwrap();
        let mut process = Running::start("neosimple", &["--dir", dir.path().to_str().unwrap()]);
        let line = process.wait_for("the cluster is still RECOVERING");
        assert!(line.contains("waiting for S"), "{line}");
        process.stop("TERM");
        std::fs::remove_file(&file).unwrap();
        std::fs::rename(&saved, &file).unwrap();
    }
    Simple::start(dir.path(), &[]).process.stop("TERM");
}

#[test]
fn databases_that_are_gone_are_missed() {
    let dir = tempfile::tempdir().unwrap();
    // What a creation on a full disk left, and what a file system has.
    std::fs::write(dir.path().join("cluster.ini.new"), "[clus").unwrap();
    std::fs::create_dir(dir.path().join("lost+found")).unwrap();
    Simple::start(dir.path(), &[]).process.stop("TERM");
    for n in 1..=2 {
        let database = dir.path().join(format!("storage{n}.sqlite"));
        std::fs::rename(&database, database.with_extension("away")).unwrap();
    }
    let path = dir.path().to_str().unwrap();
    let error = run_err("neosimple", &["--dir", path], 1);
    assert!(
        error.contains("the databases of the cluster are missing"),
        "{error}"
    );
    for n in 1..=2 {
        let database = dir.path().join(format!("storage{n}.sqlite"));
        std::fs::rename(database.with_extension("away"), &database).unwrap();
    }
    Simple::start(dir.path(), &[]).process.stop("TERM");
}

fn wait_for_end(pids: &[u32]) {
    let deadline = Instant::now() + PATIENCE;
    // One that has ended may wait for its new parent to look.
    let runs = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    while pids.iter().any(runs) {
        assert!(Instant::now() < deadline, "{pids:?} do not end");
        std::thread::yield_now();
    }
}

/// All nodes hear at the same moment that `neosimple` is gone, or that the terminal is.
#[test]
fn no_copy_is_lost_when_neosimple_ends_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    for signal in ["KILL", "HUP", "TERM"] {
        for _ in 0..3 {
            let cluster = Simple::start(dir.path(), &["--processes"]);
            let pt = cluster.ctl("print pt");
            assert!(!pt.contains('O'), "{signal}: {pt}");
            let nodes = children(cluster.process.pid());
            cluster.process.signal(signal);
            drop(cluster.process.wait());
            wait_for_end(&nodes);
        }
    }
    let cluster = Simple::start(dir.path(), &[]);
    assert!(!cluster.ctl("print pt").contains('O'));
    cluster.process.stop("TERM");
}

#[test]
fn a_lost_copy_is_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Simple::start(dir.path(), &[]);
    cluster.ctl("kill S2");
    cluster.process.stop("TERM");
    let mut cluster = Simple::start(dir.path(), &[]);
    cluster
        .process
        .wait_for("warning: the copies of S2 are out of date");
    cluster.process.stop("TERM");
}
