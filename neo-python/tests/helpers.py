"""What several of the tests do."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

from ZODB.Connection import TransactionMetaData
from ZODB.TimeStamp import TimeStamp

REPOSITORY = Path(__file__).resolve().parents[2]
TESTDATA = REPOSITORY / "testdata"
PROGRAMS = Path(sys.executable).parent
# Where the programs of neo are.
BINARIES = Path(os.environ.get("NEO_BIN", REPOSITORY / "target/debug"))

SECONDS = 120


def commit(storage, stores, tid=None, **meta):
    """One transaction: {oid: (serial, data)}; `tid` imposes the tid."""
    txn = TransactionMetaData(**meta)
    storage.tpc_begin(txn, tid)
    for oid, (serial, data) in stores.items():
        storage.store(oid, serial, data, "", txn)
    storage.tpc_vote(txn)
    return storage.tpc_finish(txn)


def delete(storage, oid, serial):
    txn = TransactionMetaData()
    storage.tpc_begin(txn)
    storage.deleteObject(oid, serial, txn)
    storage.tpc_vote(txn)
    return storage.tpc_finish(txn)


def between(first, second):
    """A time for a pack, in seconds: they are not as exact as a tid."""
    return (TimeStamp(first).timeTime() + TimeStamp(second).timeTime()) / 2


def undo(storage, *tids):
    """Undoes in one transaction; its tid, and what the calls gave."""
    txn = TransactionMetaData(description="undo")
    storage.tpc_begin(txn)
    try:
        told = [storage.undo(tid, txn) for tid in tids]
        storage.tpc_vote(txn)
    except BaseException:
        storage.tpc_abort(txn)
        raise
    return storage.tpc_finish(txn), told


def run(program, *arguments, cwd, status=0):
    """Runs a program of the environment; what it said."""
    done = subprocess.run(
        [PROGRAMS / program, *map(str, arguments)], cwd=cwd, timeout=SECONDS, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


@contextlib.contextmanager
def running(*command, cwd, **options):
    """A process that is ended in the end."""
    process = subprocess.Popen([str(word) for word in command], cwd=cwd,
                               stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def section(cluster, name="", **options):
    """The section of ZConfig that opens a storage of a cluster."""
    lines = {"master_nodes": cluster.masters, "name": cluster.name, **options}
    # Some of NEO's keys are written otherwise.
    as_it_is = {"master_nodes", "dynamic_master_list"}
    told = "".join(f"  {key if key in as_it_is else key.replace('_', '-')} {value}\n"
                   for key, value in lines.items())
    return f"<NEOStorage {name}>\n{told}</NEOStorage>\n"
