//! Command lines that are wrong, and those that ask for help.

use super::harness::{run_err, run_ok};

const PROGRAMS: [&str; 6] = [
    "neoadmin",
    "neoctl",
    "neomaster",
    "neomigrate",
    "neosimple",
    "neostorage",
];

#[test]
fn help_is_no_error() {
    for program in PROGRAMS {
        let help = run_ok(program, &["--help"]);
        assert!(help.contains(&format!("Usage: {program}")), "{help}");
        let version = run_ok(program, &["--version"]);
        assert!(version.starts_with(&format!("{program} ")), "{version}");
    }
    // Without a command, the commands are listed.
    let list = run_ok("neoctl", &[]);
    for command in ["print", "set", "start", "kill"] {
        assert!(list.contains(&format!("\n  {command} ")), "{list}");
    }
}

#[test]
fn mistakes_have_status_2_and_words() {
    for program in PROGRAMS {
        let error = run_err(program, &["--frobnicate"], 2);
        assert!(
            error.contains("unexpected argument '--frobnicate'"),
            "{error}"
        );
    }
    for (program, args, text) in [
        (
            "neoctl",
            &["set", "cluster", "STOPED"][..],
            "not a cluster state",
        ),
        ("neoctl", &["set", "cluster"], "required arguments"),
        (
            "neoctl",
            &["print", "cluster", "now"],
            "unexpected argument 'now'",
        ),
        (
            "neoctl",
            &["truncate", "1"],
            "not available in this version",
        ),
        ("neoctl", &["-a", "::1", "start"], "needs brackets"),
        ("neomaster", &["-c", "x", "-p", "0"], "--partitions"),
        ("neomaster", &[], "cluster is missing"),
        (
            "neostorage",
            &["-c", "x", "-a", "foo", "-d", "y"],
            "no adapter \"foo\"",
        ),
        (
            "neostorage",
            &["-c", "x", "--ca", "y"],
            "TLS is not available",
        ),
        ("neoadmin", &["--smtp", "x"], "monitoring is not available"),
        (
            "neomigrate",
            &["-c", "x", "a:1", "b:2"],
            "neither a:1 nor b:2 is a file",
        ),
        ("neomigrate", &["a.fs", "b:2"], "--cluster"),
    ] {
        let error = run_err(program, args, 2);
        assert!(error.contains(text), "{program} {args:?}: {error}");
    }
}
