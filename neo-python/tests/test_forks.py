"""Processes that fork, and interpreters that end, while storages and clusters are open."""

import gc
import os
import subprocess
import sys
import threading
import traceback

import pytest
import ZODB
from BTrees.Length import Length
from ZODB.Connection import TransactionMetaData
from ZODB.utils import maxtid, z64

import neozodb
from helpers import SECONDS, commit
from neozodb.testing import Cluster


def in_a_child(work):
    """Runs it in a forked child, which is ended if it hangs; what it said."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            said = work()
        except BaseException:
            said = traceback.format_exc()
        try:
            os.write(writer, str(said).encode())
        finally:
            os._exit(0)
    os.close(writer)
    # A child that hangs is ended, and its pipe with it.
    watch = threading.Timer(SECONDS, os.kill, (child, 9))
    watch.start()
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    watch.cancel()
    assert status == 0, said
    return said


def refusal(use, error):
    try:
        use()
    except error as refused:
        return str(refused)
    raise AssertionError("it was not refused")


def test_each_use_of_a_parents_storage_is_refused_in_the_child(cluster, storage):
    oid = storage.new_oid()
    serial = commit(storage, {oid: (z64, b"x")})
    txn = TransactionMetaData()
    storage.tpc_begin(txn)
    storage.store(oid, serial, b"y", "", txn)
    iterators = iter(storage.iterator()), storage.iterator()

    def work():
        uses = [
            lambda: storage.load(oid), lambda: storage.loadBefore(oid, maxtid),
            lambda: storage.loadSerial(oid, serial), lambda: storage.loadBeforeEx(oid, maxtid),
            storage.new_oid, storage.lastTransaction, storage.sync, storage.getSize,
            lambda: len(storage), lambda: storage.history(oid), storage.undoLog, storage.pack,
            storage.pack_progress, storage.record_iternext, lambda: storage.prefetch([oid], maxtid),
            storage.iterator, lambda: storage.tpc_begin(TransactionMetaData()),
            lambda: storage.store(oid, serial, b"z", "", txn), lambda: storage.tpc_vote(txn),
            lambda: storage.tpc_finish(txn), *(lambda it=it: next(it) for it in iterators),
        ]
        said = [refusal(use, neozodb.NEOStorageClosed) for use in uses]
        assert all("open another one in the child process" in words for words in said), said
        storage.tpc_abort(txn)
        storage.close()
        storage.close()
        return "done"

    assert in_a_child(work) == "done"
    # The parent's transaction goes on.
    storage.tpc_vote(txn)
    storage.tpc_finish(txn)
    assert storage.load(oid)[0] == b"y"


def test_a_child_works_with_a_storage_of_its_own(cluster, storage):
    database = ZODB.DB(storage)
    with database.transaction() as connection:
        connection.root()["n"] = Length(0)

    def work():
        own = ZODB.DB(neozodb.Storage(*addresses))
        for _ in range(10):
            with own.transaction() as connection:
                connection.root()["n"].change(1)
        own.close()
        # What the parent left to the child is let go of.
        nonlocal database, storage
        del database, storage
        gc.collect()
        return "done"

    addresses = cluster.masters, cluster.name
    for n in range(1, 4):
        assert in_a_child(work) == "done"
        with database.transaction() as connection:
            connection.root()["n"].change(1)
        with database.transaction() as connection:
            assert connection.root()["n"]() == n * 11
    database.close()


def test_forks_while_threads_are_busy_neither_hang_nor_disturb(cluster, storage):
    """Locks that a thread holds when the process forks are held for ever in the child."""
    oid = storage.new_oid()
    commit(storage, {oid: (z64, b"x")})
    ended, failed = threading.Event(), []

    def load():
        try:
            while not ended.is_set():
                storage.load(oid)
                storage.lastTransaction()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()

    def work():
        said = refusal(lambda: storage.load(oid), neozodb.NEOStorageClosed)
        storage.close()
        refusal(lambda: cluster.masters, RuntimeError)
        return said

    for _ in range(20):
        assert "before a fork" in in_a_child(work)
    ended.set()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_cluster_stays_the_parents():
    with Cluster(storages=2) as cluster:
        addresses = cluster.masters, cluster.name
        storage = cluster.storage()
        oid = storage.new_oid()
        commit(storage, {oid: (z64, b"x")})

        def work():
            nonlocal cluster
            for use in (
                lambda: cluster.masters, lambda: cluster.name, lambda: cluster.kill_storage(1),
                lambda: cluster.restart_storage(1), lambda: cluster.kill_master(1),
                lambda: cluster.restart_master(1), cluster.storage,
            ):
                assert "start another one in the child process" in refusal(use, RuntimeError)
            cluster.stop()
            with cluster:
                pass
            del cluster
            gc.collect()
            # It is reached as from any other process; and a child has clusters of its own.
            own = neozodb.Storage(*addresses)
            found = own.load(oid)[0]
            own.close()
            with Cluster() as another:
                own = another.storage()
                commit(own, {own.new_oid(): (z64, found)})
                own.close()
            return found

        assert in_a_child(work) == "b'x'"
        # The parent's goes on.
        cluster.kill_storage(1)
        cluster.restart_storage(1)
        assert storage.load(oid)[0] == b"x"
        storage.close()


def test_a_child_that_ends_as_a_program_does_leaves_the_parents_cluster_alone():
    program = """
import os, sys
from neozodb.testing import Cluster
cluster = Cluster()
storage = cluster.storage()
child = os.fork()
if child == 0:
    # With all that an interpreter does in the end.
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
storage.sync()
storage.close()
cluster.stop()
"""
    done = subprocess.run(
        # A newer Python warns of any fork where there are threads.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        capture_output=True, text=True, timeout=SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")


SHUTDOWN = """
import sys, threading
import transaction, ZODB
from BTrees.Length import Length
import neozodb
masters, name, is_daemon = *sys.argv[1:3], sys.argv[3] == "daemon"
database = ZODB.DB(neozodb.Storage(masters, name), pool_size=9)
with database.transaction() as connection:
    for n in range(8):
        connection.root()[n] = Length()
    connection.root()["all"] = Length()
busy = threading.Barrier(9)
ended = threading.Event()
def work(n):
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    times = 0
    while not ended.is_set():
        manager.begin()
        connection.cacheMinimize()
        root = connection.root()
        root[n].change(1)
        root["all"].change(1)
        [root[m]() for m in range(8)]
        manager.commit()
        times += 1
        if times == 3:
            busy.wait()
for n in range(8):
    threading.Thread(target=work, args=(n,), daemon=is_daemon).start()
busy.wait()
if not is_daemon:
    # It waits for its threads then, and closes nothing.
    threading.Thread(target=ended.set).start()
"""


@pytest.mark.parametrize("kind", ["daemon", "waited for"])
def test_an_interpreter_ends_while_threads_load_and_commit(cluster, kind):
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", SHUTDOWN, cluster.masters, cluster.name,
             kind],
            capture_output=True, text=True, timeout=SECONDS,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    # What was committed is whole, and the cluster goes on.
    storage = cluster.storage()
    database = ZODB.DB(storage)
    with database.transaction() as connection:
        root = connection.root()
        assert root["all"]() == sum(root[n]() for n in range(8)) >= 24
    database.close()


def test_an_interpreter_ends_with_a_cluster_and_its_database_open():
    program = """
import ZODB
from neozodb.testing import Cluster
cluster = Cluster(storages=2)
database = ZODB.DB(cluster.storage())
with database.transaction() as connection:
    connection.root()["x"] = 1
"""
    done = subprocess.run(
        # A newer Python warns of any fork where there are threads.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        capture_output=True, text=True, timeout=SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")
