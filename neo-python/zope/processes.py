"""The processes of a site: a cluster of neo, and Zopes on it."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

SECONDS = 120
PROGRAMS = Path(sys.executable).parent
BINARIES = Path(os.environ["NEO_BIN"])
CLUSTER = "zope"

GUIDE = Path(__file__).resolve().parents[2] / "docs/zodb.md"


def configuration(masters):
    """What the guide has in zope.conf, for a cluster of our own."""
    (text,) = re.findall(r"^```xml file=zope.conf\n(.*?)^```$", GUIDE.read_text(), re.M | re.S)
    return text.replace("127.0.0.1:10000", masters).replace("name main", f"name {CLUSTER}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, found):
    """Asks until there is something; what it is."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if answer := found():
            return answer
        time.sleep(0.1)
    raise TimeoutError(f"after {SECONDS} s, there still is not: {what}")


class Process:
    """A process that writes a log, started and ended as a system does."""

    def __init__(self, name, directory):
        self.name, self.directory, self.process = name, directory, None
        self.log = directory / f"{name}.log"

    def spawn(self, *command, **options):
        out = options.pop("stdout", None)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [str(word) for word in command], cwd=self.directory, stdin=subprocess.DEVNULL,
                stdout=out or log, stderr=log, **options,
            )

    def running(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended:\n{self.log.read_text()[-3000:]}")
        return True

    def stop(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process = None


class Cluster(Process):
    """2 storage nodes with 1 replica, every node a process of its own."""

    masters = admin = None

    def start(self):
        self.spawn(
            BINARIES / "neosimple", "--processes", "--storages", "2", "--replicas", "1",
            "--dir", self.directory / "cluster", "--name", CLUSTER,
            stdout=subprocess.PIPE, text=True,
        )
        # It is the only line that it says there.
        line = self.process.stdout.readline()
        told = re.search(r"RUNNING .*masters=(\S+) admin=(\S+)", line)
        if not told:
            raise RuntimeError(f"{line}\n{self.log.read_text()[-3000:]}")
        self.masters, self.admin = told.groups()
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def told(self, *words):
        """What `neoctl` prints."""
        done = subprocess.run([BINARIES / "neoctl", "-a", self.admin, *words],
                              capture_output=True, text=True, timeout=SECONDS)
        return done.stdout if done.returncode == 0 else ""

    def storage(self, number):
        """The process id of a storage node."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        for pid in " ".join(path.read_text() for path in children).split():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            except FileNotFoundError:
                continue
            if "storage" in words and words[words.index("-i") + 1] == str(number):
                return int(pid)
        return None

    def kill_storage(self, number):
        """Kills a storage node, which is started again soon."""
        pid = self.storage(number)
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill_storage_for_good(self, number):
        """Kills a storage node so often that it is given up."""
        killed = None
        while "is given up" not in self.log.read_text():
            if self.storage(number) not in (None, killed):
                killed = self.kill_storage(number)
            else:
                time.sleep(0.05)
        until(f"no storage {number}", lambda: self.storage(number) is None)

    def until_whole(self, number, killed):
        """Waits until a node that was killed is back, with all that it missed."""
        until(f"storage {number}", lambda: self.storage(number) not in (None, killed))
        self.until_up_to_date()

    def until_up_to_date(self):
        until("copies that are up to date", self.is_whole)

    def until_packed(self):
        until("an end of the pack", lambda: "order = None" in self.told("print", "pack"))

    def is_whole(self):
        """Whether every cell of both nodes is up to date."""
        rows = [line.split() for line in self.told("print", "pt").splitlines()]
        cells = {row[0]: row[2] for row in rows if len(row) == 3 and row[0] in ("S1", "S2")}
        return len(cells) == 2 and all(set(row) == {"U"} for row in cells.values())


class Zope(Process):
    """An instance as `mkwsgiinstance` makes it, with another storage."""

    def __init__(self, name, directory, user, password):
        super().__init__(name, directory)
        self.instance = directory / name
        subprocess.run(
            [PROGRAMS / "mkwsgiinstance", "-d", self.instance, "-u", f"{user}:{password}"],
            check=True, stdin=subprocess.DEVNULL,
        )
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        ini = self.instance / "etc/zope.ini"
        ini.write_text(ini.read_text().replace("port = 8080", f"port = {self.port}"))

    def use(self, masters):
        """Has the main database in a cluster."""
        path = self.instance / "etc/zope.conf"
        section = re.compile(r"(%import neozodb\n)?<zodb_db main>.*?</zodb_db>\n", re.DOTALL)
        text, replaced = section.subn(configuration(masters), path.read_text())
        if replaced != 1:
            raise RuntimeError(f"{path} has no database to replace")
        path.write_text(text)

    def start(self):
        self.spawn(PROGRAMS / "runwsgi", self.instance / "etc/zope.ini")
        until(f"an answer of {self.url}", lambda: self.running() and self.text("/") is not None)

    def text(self, path):
        """What anybody is shown."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=SECONDS) as page:
                return page.read().decode()
        except urllib.error.HTTPError as error:
            return f"{error.code}"
        except urllib.error.URLError:
            return None

    def complaints(self):
        """Lines of its log that are no everyday ones."""
        log = self.instance / "var/log/event.log"
        return [line for line in log.read_text().splitlines()
                if re.search(r" (ERROR|CRITICAL) |^Traceback", line)]
