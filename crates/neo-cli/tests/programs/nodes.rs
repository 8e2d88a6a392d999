//! `neomaster`, `neostorage`, `neoadmin` and `neoctl`, each a process with a configuration file.

use std::path::Path;

use super::harness::{Running, run, run_err, run_ok};

/// The address in `listening address=…`.
fn listening(process: &mut Running) -> String {
    let line = process.wait_for("listening");
    let (_, address) = line.split_once("listening address=").unwrap();
    address.trim().to_owned()
}

fn write(path: &Path, text: &str) -> String {
    std::fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_cluster_by_configuration_file_and_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let conf = write(
        &dir.path().join("neo.conf"),
        "[DEFAULT]\ncluster = by hand\nbind = 127.0.0.1:0\n\n\
         [master]\nreplicas = 1\npartitions = 3\n\n\
         [storage]\nadapter = SQLite\n\n[admin]\n",
    );
    let mut master = Running::start("neomaster", &["-f", &conf]);
    let masters = listening(&mut master);
    let mut admin = Running::start("neoadmin", &["-f", &conf, "-m", &masters]);
    let address = listening(&mut admin);
    let ctl = |words: &str| -> Vec<String> {
        ["-a", &address]
            .into_iter()
            .chain(words.split(' '))
            .map(str::to_owned)
            .collect()
    };
    let ok = |words: &str| {
        let args = ctl(words);
        run_ok(
            "neoctl",
            &args.iter().map(String::as_str).collect::<Vec<_>>(),
        )
    };
    let err = |words: &str| {
        let args = ctl(words);
        run_err(
            "neoctl",
            &args.iter().map(String::as_str).collect::<Vec<_>>(),
            1,
        )
    };
    admin.wait_for("connected to the primary master");
    let state = "RECOVERING: there is no cluster yet: `neoctl start` creates it (0 storage nodes are \
                 connected)\n";
    assert_eq!(ok("print cluster"), state);
    assert!(ok("print node").ends_with(&format!("\n# {state}")));
    let error = err("print pt");
    assert_eq!(
        error,
        "neoctl: not ready: the cluster has no partition table yet\n"
    );
    assert_eq!(
        ok("print ids"),
        "last_oid = None\nlast_tid = None\nlast_ptid = None\n"
    );
    let error = err("start");
    assert!(error.starts_with("neoctl: denied: "), "{error}");

    let databases = [dir.path().join("1.db"), dir.path().join("2.db")];
    let storages: Vec<Running> = databases
        .iter()
        .map(|path| {
            let path = path.to_str().unwrap();
            let mut storage =
                Running::start("neostorage", &["-f", &conf, "-m", &masters, "-d", path]);
            listening(&mut storage);
            storage
        })
        .collect();
    for n in 1..=2 {
        master.wait_for(&format!("nid=S{n}"));
    }
    let done = ok("start");
    assert!(done.starts_with("Cluster state changed"), "{done}");
    // `start` is answered before the cluster has started.
    master.wait_for("state=RUNNING");
    assert_eq!(
        ok("print pt"),
        "# ptid: 1, replicas: 1\nS1 R UUU\nS2 R UUU\n"
    );
    assert!(ok("print node STORAGE").contains("S2 | STORAGE | 127.0.0.1:"));

    // The admin goes on without a primary, and finds it again.
    master.stop("TERM");
    admin.wait_for("the primary master is lost");
    for words in ["cluster", "primary", "node"] {
        let error = err(&format!("print {words}"));
        let start = format!("neoctl: not ready: not connected to a primary master: {masters}: ");
        assert!(error.starts_with(&start), "{error}");
    }
    let mut master = Running::start("neomaster", &["-f", &conf, "-b", &masters]);
    admin.wait_for("connected to the primary master");
    master.wait_for("state=RUNNING");
    assert!(ok("set cluster stopping").starts_with("Cluster state changed"));
    for process in storages.into_iter().chain([master, admin]) {
        let (status, said) = process.wait();
        assert!(status.success(), "{said}");
    }
    let gone = run("neoctl", &["-a", &address, "print", "cluster"]);
    assert_eq!(gone.status.code(), Some(1));
    let words = format!("neoctl: cannot connect to the admin node at {address}: ");
    let said = String::from_utf8_lossy(&gone.stderr);
    assert!(said.starts_with(&words), "{said}");
    assert!(said.contains("-a HOST:PORT says where it is"), "{said}");
}

#[test]
fn errors_of_a_file_name_it_and_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("neo.conf");
    for (text, error) in [
        (
            "[DEFAULT]\ncluster = a\n[storage]\nadaptor = SQLite\n",
            ":4: adaptor is no option of any node (did you mean adapter?)",
        ),
        (
            "[storage]\nmasters = a:b\ncluster = a\n",
            ":2: masters: \"a:b\" is not an address",
        ),
        (
            "[storage]\nca = x\n",
            ":2: ca: TLS is not available in this version",
        ),
        (
            "[storage]\nwait = long\ncluster = a\ndatabase = x\n",
            ":2: wait: \"long\" is not a number of seconds",
        ),
        (
            "[master]\n",
            ": there is no section [storage], but [master]",
        ),
        (
            "cluster = a\n",
            ":1: a [SECTION] must come before the first key",
        ),
        (
            "[storage]\nadapter = Importer\ncluster = a\ndatabase = x\n",
            ":2: the adapter Importer is not available in this version",
        ),
        (
            "[storage]\ncluster = a\n",
            "database is missing: give -d/--database, or database in section [storage] of ",
        ),
    ] {
        let conf = write(&path, text);
        let said = run_err("neostorage", &["-f", &conf], 2);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(error), "{said}");
        assert!(said.contains(&conf), "{said}");
    }
    let missing = dir.path().join("missing.conf");
    let said = run_err("neomaster", &["-f", missing.to_str().unwrap()], 2);
    assert!(
        said.contains("missing.conf: cannot read the configuration file"),
        "{said}"
    );
}

#[test]
fn signals_end_a_node_that_waits_for_its_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("1.db");
    let database = database.to_str().unwrap();
    // Nobody listens at port 1.
    let storage = ["-c", "x", "-m", "127.0.0.1:1", "-d", database];
    let admin = ["-c", "x", "-m", "127.0.0.1:1", "-b", "127.0.0.1:0"];
    let master = ["-c", "x", "-b", "127.0.0.1:0"];
    for (program, args) in [
        ("neostorage", &storage[..]),
        ("neoadmin", &admin),
        ("neomaster", &master),
    ] {
        for signal in ["TERM", "INT"] {
            let mut process = Running::start(program, args);
            process.wait_for("listening");
            process.stop(signal);
        }
    }
}

#[test]
fn a_database_in_use_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("1.db");
    let args = [
        "-c",
        "x",
        "-m",
        "127.0.0.1:1",
        "-d",
        database.to_str().unwrap(),
    ];
    let mut first = Running::start("neostorage", &args);
    first.wait_for("listening");
    let mut patient = args.to_vec();
    patient.extend(["-w", "-1"]);
    let mut second = Running::start("neostorage", &patient);
    second.wait_for("trying again");
    first.stop("TERM");
    second.wait_for("listening");
    second.stop("TERM");
}
