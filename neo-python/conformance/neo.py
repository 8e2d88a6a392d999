"""neo: a cluster of processes for each database of each test.

Environment: NEO_BIN, the directory of the binaries; NEO_CLUSTER_ARGUMENTS, more arguments of
`neosimple`; NEO_KEEP_DIR, a directory in which databases and logs are kept.
"""
import builtins
import os
import shutil
import subprocess
import tempfile
import time

from neozodb import NEOStorageError, Storage
from plugin_api import free_port, spawn, stop

NAME = "neo"
CAPS = {
    "iteration", "iteration_backpointers", "extension_bytes", "copy", "restore", "read_only",
    "persistent", "conflict", "multi_client", "multi_process", "thread_safe", "second_db", "undo",
    "history", "record_iternext", "pack", "optional_gc", "external_gc",
}

_GC = "a pack keeps what nothing refers to: that is what external garbage collection is for"
EXPECTED_FAILURES = {
    "Doc weakref.ZODB.tests.testPersistentWeakref." + name: _GC
    for name in ("test_PersistentWeakKeyDictionary", "test_weakrefs_functional")
} | {
    "RecoveryStorage.testPackWithGCOnDestinationAfterRestore": _GC,
    "PackableStorage.testPackAllRevisions": _GC,
    "PackableStorage.testPackWithMultiDatabaseReferences": _GC,
}

BIN = os.path.abspath(os.environ["NEO_BIN"]) if "NEO_BIN" in os.environ else ""
KEEP = os.environ.get("NEO_KEEP_DIR")
ARGUMENTS = os.environ.get(
    "NEO_CLUSTER_ARGUMENTS", "--processes --storages 2 --replicas 1 --partitions 4"
).split()
SECONDS = 60

_dir = None
_clusters = {}      # db -> (masters, name, process)


def reset():
    global _dir
    close()
    # Not in the directory of the test, which goes first.
    _dir = tempfile.mkdtemp(prefix="conf-neo-", dir=KEEP or os.environ.get("TMPDIR"))


class Cluster:
    """What `neosimple` runs."""

    def __init__(self, directory, name, port):
        self.log = os.path.join(directory, "log")
        command = [program("neosimple"), "--dir", os.path.join(directory, "db"), "--name", name,
                   "--port", str(port), *ARGUMENTS]
        with builtins.open(self.log, "wb") as out:
            self.process = spawn(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=out,
                                 stderr=out)

    def runs(self):
        return self.process.poll() is None

    def serves(self):
        """Clients have been there."""

    def stop(self):
        stop(self.process)


# What a cluster is made by.
launch = Cluster


def program(name):
    return os.path.join(BIN, name)


def _start(db):
    directory = os.path.join(_dir, db)
    os.mkdir(directory)
    name, port = "conf-" + db, free_port()
    cluster = launch(directory, name, port)
    _clusters[db] = f"127.0.0.1:{port}", name, cluster
    end = time.monotonic() + SECONDS
    while True:
        try:
            connect(address(db), wait=1).close()
            break
        except NEOStorageError:
            if cluster.runs() and time.monotonic() < end:
                continue
            with builtins.open(cluster.log, errors="replace") as text:
                raise RuntimeError("the cluster does not start:\n" + text.read()[-2000:])
    cluster.serves()


def address(db="main"):
    if db not in _clusters:
        _start(db)
    masters, name, _ = _clusters[db]
    return {"masters": masters, "name": name}


def connect(address, read_only=False, blob_dir=None, pack_gc=False, **options):
    return Storage(address["masters"], address["name"], read_only=read_only, **options)


def open(db="main", **options):
    return connect(address(db), **options)


def close():
    global _dir
    while _clusters:
        _clusters.popitem()[1][2].stop()
    if _dir:
        if not KEEP:
            shutil.rmtree(_dir, ignore_errors=True)
        _dir = None


def zconfig(db="main"):
    where = address(db)
    return (
        "%import neozodb\n<NEOStorage>\n"
        f"  master_nodes {where['masters']}\n  name {where['name']}\n</NEOStorage>\n"
    )


def uri(db="main"):
    where = address(db)
    return f"neo://{where['name']}@{where['masters']}"
