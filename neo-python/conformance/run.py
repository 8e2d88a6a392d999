#!/usr/bin/env python3
"""Run ZODB's own storage tests against any storage.

    run.py PLUGIN [--only GROUP[,GROUP]] [--skip GROUP,..] [--test REGEX]
           [--timeout SECONDS] [--level N] [--times N] [--log FILE] [--json FILE] [--list]

PLUGIN is the name of a module beside this one, or a path.  Every group runs in a
process of its own; a test that shows no life for --timeout seconds counts as
failed, its process and its servers are ended, and the group goes on with the
next test.  Prints one line per group and closes with
'N passed, N failed, N skipped', of all --times together, each of which has such a
line too.  Exit status 1 when anything failed.
"""
import argparse
import contextlib
import faulthandler
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import plugin_api  # noqa: E402


# ------------------------------------------------------------------ worker

def worker(args):
    import groups
    plugin = groups.PLUGIN = plugin_api.load(args.plugin)
    out = os.fdopen(os.dup(1), "w", buffering=1)
    # what tests print goes to the log
    os.dup2(2, 1)

    def say(**kw):
        out.write(json.dumps(kw) + "\n")

    faulthandler.register(signal.SIGUSR1, all_threads=True)
    if args.worker == "preflight":
        say(total=1)
        say(start="open a storage", n=0)
        try:
            plugin.reset()
            s = plugin.open()
            s.close()
            plugin.close()
            say(result="open a storage", status="pass", t=0, why="")
        except BaseException:
            say(result="open a storage", status="fail", t=0,
                why=traceback.format_exc())
            try:
                plugin.close()
            except BaseException:
                pass
        say(done=True)
        out.flush()
        os._exit(0)
    fn, _ = groups.GROUPS[args.worker]
    try:
        tests = fn()
    except groups.Skipped as e:
        say(group_skipped=str(e))
        return
    names = []
    for test, _ in tests:
        n = test.id()
        m = getattr(test, "_testMethodName", None)
        if isinstance(test, groups.StorageCase) or isinstance(test, groups.DBCase):
            n = m
        names.append(n)
    if args.test:
        keep = [i for i, n in enumerate(names) if re.search(args.test, n)]
    else:
        keep = range(len(tests))
    say(total=len(keep))
    expected = getattr(plugin, "EXPECTED_FAILURES", {})
    allowed_errors = getattr(plugin, "ALLOWED_ERRORS", {})
    skip = getattr(plugin, "SKIP", {})
    note = getattr(plugin, "note", dict)
    for k, i in enumerate(keep):
        if k < args.after:
            continue
        (test, layer), name = tests[i], names[i]
        full = "%s.%s" % (args.worker, name)
        say(start=name, n=k)
        reason = skip.get(full) or skip.get(name)
        level = getattr(test, "level", 1)
        if not reason and isinstance(level, int) and level > args.level:
            reason = "level %d" % level
        if reason:
            say(result=name, status="skip", why=reason)
            continue
        result = unittest.TestResult()
        local_time = "local_time" in plugin.CAPS
        t = time.monotonic()
        with contextlib.ExitStack() as stack:
            try:
                if getattr(test, "around", None):
                    stack.enter_context(test.around())
                elif not isinstance(test, (groups.StorageCase, groups.DBCase)):
                    plugin.reset()
                    stack.callback(plugin.close)
                if layer is not None and local_time \
                        and hasattr(layer, "testSetUp"):
                    layer.testSetUp()
                    stack.callback(layer.testTearDown)
                test.run(result)
            except BaseException:
                result.errors.append((test, traceback.format_exc()))
        t = time.monotonic() - t
        bad = result.failures + result.errors
        if bad:
            text = "\n".join(x[1] for x in bad)
            allowed = [why for error, why in allowed_errors.items()
                       if all(re.search(error, x[1], re.M) for x in bad)]
            if full in expected:
                say(result=name, status="skip", t=t, why="expected failure: "
                    + expected[full], **note())
            elif allowed:
                say(result=name, status="skip", t=t, why="allowed: " + allowed[0], **note())
            else:
                say(result=name, status="fail", why=text, t=t, **note())
        elif result.skipped:
            say(result=name, status="skip", why=result.skipped[0][1], t=t, **note())
        else:
            say(result=name, status="pass", t=t,
                why="XPASS" if full in expected else "", **note())
    say(done=True)
    out.flush()
    os._exit(0)         # daemon threads of failed tests must not block us


# ------------------------------------------------------------------ parent

def kill_recorded(pidfile):
    try:
        with open(pidfile) as f:
            pids = [int(x) for x in f.read().split()]
    except OSError:
        return
    for pid in pids:
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    os.unlink(pidfile)


def drop_dac_override():
    """In the child, before exec: root without CAP_DAC_OVERRIDE, so that tests
    about file permissions (blob_transaction.txt) mean something as root."""
    if os.geteuid() == 0:
        try:
            import ctypes
            ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)     # PR_CAPBSET_DROP
        except Exception:
            pass


class Group:
    def __init__(self, args, name, log):
        self.args, self.name, self.log = args, name, log
        self.results = []
        self.group_skipped = None

    def run(self):
        after = 0
        while True:
            done, after = self.run_worker(after)
            if done:
                return

    def run_worker(self, after):
        a = self.args
        tmp = tempfile.mkdtemp(prefix="conf-run-")
        pidfile = os.path.join(tmp, "pids")
        env = dict(os.environ, CONFORMANCE_PIDFILE=pidfile, TMPDIR=tmp)
        cmd = [sys.executable, os.path.abspath(__file__), a.plugin, "--worker",
               self.name, "--after", str(after), "--level", str(a.level)]
        if a.test and self.name != "preflight":
            cmd += ["--test", a.test]
        proc = subprocess.Popen(cmd, stdout=subprocess.PIPE, stderr=self.log,
                                stdin=subprocess.DEVNULL, env=env,
                                start_new_session=True,
                                preexec_fn=drop_dac_override)
        current = total = None
        n = after
        done = False
        why = None
        buf = b""
        try:
            while True:
                r, _, _ = select.select([proc.stdout], [], [], a.timeout)
                if not r:
                    why = "no sign of life for %d s" % a.timeout
                    try:
                        os.kill(proc.pid, signal.SIGUSR1)   # stacks to the log
                        time.sleep(1)
                    except ProcessLookupError:
                        pass
                    break
                data = os.read(proc.stdout.fileno(), 65536)
                if not data:
                    why = "worker died (exit %r)" % proc.wait()
                    break
                buf += data
                *lines, buf = buf.split(b"\n")
                for line in lines:
                    m = json.loads(line)
                    if "total" in m:
                        total = m["total"]
                    elif "group_skipped" in m:
                        self.group_skipped = m["group_skipped"]
                        done = True
                    elif "start" in m:
                        current, n = m["start"], m["n"]
                    elif "result" in m:
                        self.add(m)
                        current = None
                    elif "done" in m:
                        done = True
                if done:
                    break
        finally:
            try:
                os.killpg(proc.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            proc.wait()
            kill_recorded(pidfile)
            import shutil
            shutil.rmtree(tmp, ignore_errors=True)
        if done:
            return True, 0
        if current is None:
            self.add(dict(result="(group)", status="fail",
                          why=why + " outside of a test; see the log"))
            return True, 0
        self.add(dict(result=current, status="fail", why=why))
        return n + 1 >= (total or 0), n + 1

    def add(self, m):
        self.results.append(m)
        if self.args.verbose and self.name != "preflight":
            print("    %-5s %-60s %6.1fs %s" % (
                m["status"], m["result"][-60:], m.get("t", 0),
                (m.get("why") or "").strip().split("\n")[-1][:100]), flush=True)

    def count(self, status):
        return sum(m["status"] == status for m in self.results)


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("plugin")
    p.add_argument("--only")
    p.add_argument("--skip", default="")
    p.add_argument("--test")
    p.add_argument("--timeout", type=float, default=300)
    p.add_argument("--level", type=int, default=2)
    p.add_argument("--times", type=int, default=1)
    p.add_argument("--log")
    p.add_argument("--json")
    p.add_argument("--list", action="store_true")
    p.add_argument("-v", "--verbose", action="store_true")
    p.add_argument("--worker", help=argparse.SUPPRESS)
    p.add_argument("--after", type=int, default=0, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.worker:
        return worker(args)
    import groups
    plugin = groups.PLUGIN = plugin_api.load(args.plugin)
    chosen = dict(choose(groups.GROUPS, args, plugin))
    if args.list:
        for name, missing in chosen.items():
            print(name, "" if not missing else "(needs %s)" % ",".join(missing))
        return 0
    log_path = args.log or os.path.join(
        tempfile.gettempdir(), "conformance-%s.log" % plugin.NAME)
    print("plug-in %s, python %s, log %s" % (
        plugin.NAME, sys.version.split()[0], log_path), flush=True)
    reports = []
    with open(log_path, "w") as log:
        g = Group(args, "preflight", log)
        g.run()
        if g.count("pass") != 1:
            print("the storage cannot be opened at all:\n" + g.results[0]["why"])
            print("0 passed, 1 failed, 0 skipped")
            return 1
        for n in range(args.times):
            reports.append(run_groups(args, chosen, log))
            if args.times > 1:
                print("run %d of %d: %s" % (n + 1, args.times, summary(reports[-1:])),
                      flush=True)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(reports if args.times > 1 else reports[0], f, indent=1)
    print(summary(reports))
    return 1 if count(reports, "fail") else 0


def choose(groups, args, plugin):
    """The groups that are wanted, each with what it needs and the storage lacks."""
    caps = set(plugin.CAPS)
    # a pseudo capability: conflict resolution happens in this process, so a
    # wrapper's untransform can be seen by it
    if "local_time" in caps or plugin.NAME.startswith("neo"):
        caps.add("local_conflict")
    only = args.only and args.only.split(",")
    skipped = args.skip.split(",")
    for name, (_, need) in groups.items():
        if not (only and name not in only or name in skipped):
            yield name, sorted(need - caps)


def run_groups(args, chosen, log):
    """Every group once: {group: its results, or why it was not run}."""
    report = {}
    for name, missing in chosen.items():
        if missing:
            print("%-30s not run: storage lacks %s" % (name, ", ".join(missing)),
                  flush=True)
            report[name] = dict(missing=missing)
            continue
        g = Group(args, name, log)
        t = time.monotonic()
        g.run()
        if g.group_skipped:
            print("%-30s not run: %s" % (name, g.group_skipped), flush=True)
            report[name] = dict(skipped=g.group_skipped)
            continue
        report[name] = g.results
        kills = told_kills(g.results)
        print("%-30s %3d passed, %3d failed, %3d skipped  (%.0f s%s)" % (
            name, g.count("pass"), g.count("fail"), g.count("skip"), time.monotonic() - t,
            kills), flush=True)
        for m in g.results:
            if m["status"] == "fail":
                last = (m["why"] or "").strip().split("\n")[-1]
                print("      FAIL %s: %s" % (m["result"], last[:160]), flush=True)
                log.write("==== FAIL %s.%s\n%s\n" % (name, m["result"], m["why"]))
                log.flush()
            elif m["status"] == "skip":
                print("      skip %s: %s" % (m["result"], m["why"][:160]), flush=True)
            elif m.get("why"):
                print("      %s %s" % (m["why"], m["result"]), flush=True)
    return report


def told_kills(results):
    kills = [m["kills"] for m in results if "kills" in m]
    return ", %d kills" % sum(kills) if kills else ""


def results_of(reports):
    return [m for report in reports for results in report.values()
            if isinstance(results, list) for m in results]


def count(reports, status):
    return sum(m["status"] == status for m in results_of(reports))


def summary(reports):
    not_run = sum(isinstance(results, dict) for report in reports for results in report.values())
    return "%d passed, %d failed, %d skipped%s" % (
        count(reports, "pass"), count(reports, "fail"), count(reports, "skip") + not_run,
        told_kills(results_of(reports)))


if __name__ == "__main__":
    sys.exit(main())
