"""What several of the tests do."""

import contextlib
import subprocess
import sys
from pathlib import Path

from ZODB.Connection import TransactionMetaData

REPOSITORY = Path(__file__).resolve().parents[2]
TESTDATA = REPOSITORY / "testdata"
PROGRAMS = Path(sys.executable).parent

SECONDS = 120


def commit(storage, stores, **meta):
    """One transaction: {oid: (serial, data)}."""
    txn = TransactionMetaData(**meta)
    storage.tpc_begin(txn)
    for oid, (serial, data) in stores.items():
        storage.store(oid, serial, data, "", txn)
    storage.tpc_vote(txn)
    return storage.tpc_finish(txn)


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


def section(cluster, name="", **options):
    """The section of ZConfig that opens a storage of a cluster."""
    lines = {"master_nodes": cluster.masters, "name": cluster.name, **options}
    told = "".join(f"  {key.replace('_', '-') if key in options else key} {value}\n"
                   for key, value in lines.items())
    return f"<NEOStorage {name}>\n{told}</NEOStorage>\n"
