"""neo, with storage nodes that are killed all along: one after the other, by SIGKILL, each started
again at once, and the next one when the one before has all that it missed.

Environment: as `neo.py`; the cluster is always 2 SQLite storage nodes with 1 replica.
"""
import builtins
import os
import re
import subprocess
import threading
import time

import neo
from neo import CAPS, EXPECTED_FAILURES, address, close, connect, open, reset, uri, zconfig
from plugin_api import free_port, spawn, stop

__all__ = ["CAPS", "EXPECTED_FAILURES", "address", "close", "connect", "open", "reset", "uri",
           "zconfig"]
NAME = "neo_kills"
PARTITIONS = "4"
# Between two looks at the cells, and from a whole cluster to the next kill.
PAUSE_S = 0.02

# A test that does not begin anew, as ZODB's contracts ask for, is not to blame, and neither are we.
ALLOWED_ERRORS = {
    r"^neozodb\.errors\.IncompleteTransaction: ":
        "both nodes were killed in one transaction, one after the other: a TransientError",
}

_kills = 0


def note():
    """What happened since the last call."""
    global _kills
    kills, _kills = _kills, 0
    return {"kills": kills}


class Cluster:
    """A master, an admin node and two storage nodes, each started by us."""

    def __init__(self, directory, name, port):
        self.directory, self.name, self.masters = directory, name, f"127.0.0.1:{port}"
        self.admin = f"127.0.0.1:{free_port()}"
        self.log = os.path.join(directory, "master.log")
        self.stopping, self.nodes, self.killer = threading.Event(), {}, None
        self.start("master", "neomaster", "--bind", self.masters, "--replicas", "1",
                   "--partitions", PARTITIONS, "--autostart", "2")
        self.start("admin", "neoadmin", "--bind", self.admin)
        for name in ("storage1", "storage2"):
            self.start_storage(name)

    def start(self, name, program, *arguments):
        command = [neo.program(program), "--cluster", self.name, "--masters", self.masters,
                   *arguments]
        with builtins.open(os.path.join(self.directory, name + ".log"), "ab") as log:
            self.nodes[name] = spawn(command, cwd=self.directory, stdin=subprocess.DEVNULL,
                                     stdout=log, stderr=log)

    def start_storage(self, name):
        self.start(name, "neostorage", "--bind", "127.0.0.1:0", "--database", name + ".sqlite")

    def runs(self):
        return all(process.poll() is None for process in self.nodes.values())

    def serves(self):
        # However short the test is, it begins with a node that is not back yet.
        while not (table := self.whole_table()):
            time.sleep(PAUSE_S)
        self.kill("storage1")
        self.killer = threading.Thread(target=self.kill_all_along, args=(table,), daemon=True)
        self.killer.start()

    def kill_all_along(self, before):
        turn = 0
        while not self.stopping.wait(PAUSE_S):
            table = self.whole_table()
            # The admin node may not have heard yet that one was lost.
            if table not in (None, before):
                before, turn = table, turn + 1
                self.kill(f"storage{1 + turn % 2}")

    def kill(self, name):
        global _kills
        self.nodes[name].kill()
        self.nodes[name].wait()
        _kills += 1
        self.start_storage(name)

    def whole_table(self):
        """The number of the partition table, if each cell has all that it should."""
        told = subprocess.run(
            [neo.program("neoctl"), "-a", self.admin, "print", "pt"], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        ).stdout
        is_whole = len(re.findall(r"^S\d R U+$", told, re.M)) == 2
        return re.search(r"ptid: (\S+),", told)[1] if is_whole else None

    def stop(self):
        self.stopping.set()
        if self.killer:
            self.killer.join()
        for process in self.nodes.values():
            stop(process)


neo.launch = Cluster
