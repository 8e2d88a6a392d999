"""What ZODB's own suites do not ask of a storage."""

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref

import pytest
import ZODB
import zope.interface.verify
from BTrees.Length import Length
from transaction.interfaces import TransientError
from ZODB import POSException, interfaces
from ZODB.Connection import TransactionMetaData
from ZODB.utils import maxtid, p64, z64

import neozodb
from helpers import commit
from neozodb.testing import Cluster


INTERFACES = [
    interfaces.IStorage, interfaces.IMultiCommitStorage, interfaces.IPrefetchStorage,
    interfaces.IStorageUndoable, interfaces.IStorageIteration, interfaces.IStorageRestoreable,
    interfaces.IStorageCurrentRecordIteration, interfaces.IExternalGC,
    interfaces.ReadVerifyingStorage,
]


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda interface: interface.__name__)
def test_an_interface_that_is_declared_is_provided(storage, interface):
    assert interface.implementedBy(neozodb.Storage) and interface.providedBy(storage)
    zope.interface.verify.verifyClass(interface, neozodb.Storage)
    zope.interface.verify.verifyObject(interface, storage)


def test_nothing_else_is_declared(storage):
    assert set(zope.interface.providedBy(storage)) == set(INTERFACES)


def test_a_storage_can_be_patched_subclassed_and_weakly_referenced(cluster):
    class Mine(neozodb.Storage):
        stored = 0

        def store(self, *args):
            self.stored += 1
            return super().store(*args)

    storage = Mine(cluster.masters, cluster.name)
    commit(storage, {storage.new_oid(): (z64, b"x")})
    assert storage.stored == 1
    original, calls = storage.tpc_finish, []
    storage.tpc_finish = lambda *args: calls.append(args) or original(*args)
    commit(storage, {storage.new_oid(): (z64, b"x")})
    assert len(calls) == 1
    del original, storage.tpc_finish
    reference = weakref.ref(storage)
    storage.close()
    del storage
    gc.collect()
    assert reference() is None


def test_each_method_can_be_replaced_on_an_instance_and_in_a_subclass(storage):
    names = {
        name for interface in INTERFACES for name, _ in interface.namesAndDescriptions(all=True)
    }
    methods = [name for name in sorted(names) if not name.startswith("__")]
    assert {"store", "tpc_vote", "undo"} <= set(methods)
    for name in [*methods, "load", "sync", "getTid"]:
        original = getattr(storage, name)
        replaced = getattr(type("Mine", (neozodb.Storage,), {name: lambda self: "class"}), name)
        assert replaced(storage) == "class"
        setattr(storage, name, lambda: "instance")
        assert getattr(storage, name)() == "instance"
        delattr(storage, name)
        assert getattr(storage, name) == original


def test_what_is_no_attribute_is_none_for_who_probes(storage):
    for name in ("blobDirectory", "fshelper", "loadBlob", "new_instance", "_file", "_addr"):
        assert not hasattr(storage, name)
    assert getattr(storage, "temporaryDirectory", None) is None


def test_a_cluster_is_weakly_referenced_and_collected():
    cluster = Cluster()
    reference = weakref.ref(cluster)
    cluster.stop()
    del cluster
    gc.collect()
    assert reference() is None


def test_a_storage_that_is_not_closed_is_collected_with_its_database(cluster):
    database = ZODB.DB(cluster.storage())
    reference = weakref.ref(database.storage)
    del database
    gc.collect()
    assert reference() is None


def test_extension_bytes_come_back_verbatim(storage):
    from ZODB._compat import dumps

    extension = dumps({"a": [1, 2]}, 1)
    tid = commit(storage, {storage.new_oid(): (z64, b"x")}, extension=extension,
                 user="Zoë", description="b\xe4h")
    (found,) = storage.iterator(tid, tid)
    assert found.extension_bytes == extension
    assert found.extension == {"a": [1, 2]}
    assert (found.user, found.description) == ("Zoë".encode(), "bäh".encode())


def test_records_of_a_transaction_can_be_read_later_and_twice(storage):
    oids = [storage.new_oid() for _ in range(3)]
    for oid in oids:
        commit(storage, {oid: (z64, b"first " + oid)})
    transactions = list(storage.iterator())
    for _ in range(2):
        told = [[(r.oid, r.data) for r in t] for t in transactions]
        assert told == [[(oid, b"first " + oid)] for oid in oids]


def test_conflicts_say_which_object_and_which_serials(storage):
    oid = storage.new_oid()
    first = commit(storage, {oid: (z64, b"1")})
    second = commit(storage, {oid: (first, b"2")})
    txn = TransactionMetaData()
    storage.tpc_begin(txn)
    storage.store(oid, first, b"3", "", txn)
    with pytest.raises(POSException.ConflictError) as raised:
        storage.tpc_vote(txn)
    storage.tpc_abort(txn)
    assert raised.value.oid == oid
    assert raised.value.serials == (second, first)
    txn = TransactionMetaData()
    storage.tpc_begin(txn)
    storage.checkCurrentSerialInTransaction(oid, first, txn)
    with pytest.raises(POSException.ReadConflictError) as raised:
        storage.tpc_vote(txn)
    storage.tpc_abort(txn)
    assert raised.value.serials == (second, first)


def test_an_exception_of_the_finish_callback_reaches_the_caller(storage):
    oid = storage.new_oid()
    txn = TransactionMetaData()
    storage.tpc_begin(txn)
    storage.store(oid, z64, b"x", "", txn)
    storage.tpc_vote(txn)

    def callback(tid):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        storage.tpc_finish(txn, callback)
    assert storage.load(oid)[0] == b"x"


class Told:
    """What a storage tells invalidations to; each waits until it is let go on."""

    transform_record_data = untransform_record_data = references = staticmethod(lambda data: data)

    def __init__(self, storage):
        self.storage = storage
        self.tids, self.is_told, self.go_on = [], threading.Event(), threading.Event()

    def invalidate(self, tid, oids=()):
        # The thread that is told is not held up.
        self.tids.append((self.storage.lastTransaction(), tid))
        self.is_told.set()
        self.go_on.wait()

    def invalidateCache(self):
        raise AssertionError("nothing was missed")


def last_transactions(storage, told):
    """What several threads learn that ask while an invalidation is told."""
    answers = []
    asks = [
        threading.Thread(target=lambda: answers.append(storage.lastTransaction()))
        for _ in range(10)
    ]
    told.is_told.wait()
    for thread in asks:
        thread.start()
    told.go_on.set()
    for thread in asks:
        thread.join()
    return answers


def test_a_connection_that_is_opened_meanwhile_does_not_miss_an_invalidation(cluster, storage):
    oid = storage.new_oid()
    before = commit(storage, {oid: (z64, b"1")})
    other = cluster.storage()
    foreign, own = Told(other), Told(storage)
    other.registerDB(foreign)
    txn = TransactionMetaData()
    storage.tpc_begin(txn)
    storage.store(oid, before, b"2", "", txn)
    storage.tpc_vote(txn)
    tids = []
    finish = threading.Thread(
        target=lambda: tids.append(storage.tpc_finish(txn, own.invalidate))
    )
    finish.start()
    answers = last_transactions(storage, own)
    finish.join()
    assert own.tids == [(before, *tids)]
    assert answers == tids * 10
    assert last_transactions(other, foreign) == tids * 10
    assert foreign.tids == [(before, *tids)]
    other.close()


class Interrupted(Told):
    """Ctrl-C comes while it is told; what is not told to the end does not count."""

    def invalidate(self, tid, oids=()):
        if not self.is_told.is_set():
            self.is_told.set()
            signal.raise_signal(signal.SIGINT)
        self.tids.append(tid)


@pytest.fixture
def interrupts():
    """Ctrl-C raises, also where a script that ignores it has started the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_loses_no_invalidation(cluster, storage, interrupts):
    oid = storage.new_oid()
    serial = commit(storage, {oid: (z64, b"1")})
    other = cluster.storage()
    told = Interrupted(other)
    other.registerDB(told)
    with pytest.raises(KeyboardInterrupt):
        tids = [serial := commit(storage, {oid: (serial, b"2")})]
        while True:
            other.sync()
    assert told.tids == tids
    other.close()


def test_an_interrupt_loses_no_callback(storage, interrupts):
    oid, told = storage.new_oid(), Interrupted(storage)
    txn = TransactionMetaData()
    storage.tpc_begin(txn)
    storage.store(oid, z64, b"1", "", txn)
    storage.tpc_vote(txn)
    with pytest.raises(KeyboardInterrupt):
        storage.tpc_finish(txn, told.invalidate)
        # The callback may have run elsewhere.
        threading.Event().wait()
    assert told.tids == [storage.load(oid)[1]]


def test_transactions_of_many_threads_are_in_progress_at_once(storage):
    oids = [storage.new_oid() for _ in range(8)]
    begun = threading.Barrier(len(oids))
    failed = []

    def work(oid):
        try:
            serial = z64
            for n in range(5):
                txn = TransactionMetaData()
                storage.tpc_begin(txn)
                if n == 0:
                    begun.wait(60)
                storage.store(oid, serial, b"%d" % n, "", txn)
                storage.tpc_vote(txn)
                serial = storage.tpc_finish(txn)
        except BaseException as error:
            failed.append(error)
            begun.abort()

    threads = [threading.Thread(target=work, args=(oid,)) for oid in oids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert {storage.load(oid)[0] for oid in oids} == {b"4"}


def test_a_restored_database_has_the_same_transactions(cluster, storage):
    oid, other = storage.new_oid(), storage.new_oid()
    first = commit(storage, {oid: (z64, b"1")}, user="u", description="d")
    second = commit(storage, {oid: (first, b"2"), other: (z64, b"3")})
    txn = TransactionMetaData()
    storage.tpc_begin(txn)
    storage.deleteObject(oid, second, txn)
    storage.tpc_vote(txn)
    storage.tpc_finish(txn)

    def told(storage):
        return [
            (t.tid, t.user, t.description, t.extension_bytes,
             [(r.oid, r.tid, r.data, r.data_txn) for r in t])
            for t in storage.iterator()
        ]

    with Cluster() as copied:
        copy = copied.storage()
        copy.copyTransactionsFrom(storage)
        assert told(copy) == told(storage)
        assert copy.new_oid() > max(oid, other)
        copy.close()


def test_a_lost_storage_node_is_survived(cluster, storage):
    database = ZODB.DB(storage)
    with database.transaction() as connection:
        connection.root()["n"] = Length(1)
    cluster.kill_storage(1)
    for _ in range(3):
        with database.transaction() as connection:
            connection.root()["n"].change(1)
    cluster.restart_storage(1)
    with database.transaction() as connection:
        connection.root()["n"].change(1)
        assert connection.root()["n"]() == 5
    database.close()
    with pytest.raises(ValueError, match="no 3"):
        cluster.kill_storage(3)


def test_whatever_is_compressed_is_read_by_all(cluster, storage):
    for compress in (True, False, "lz4", "zlib", "zlib=9"):
        other = cluster.storage(compress=compress)
        oid, value = storage.new_oid(), str(compress).encode() * 1000
        serial = commit(other, {oid: (z64, value)})
        storage.sync()
        assert storage.load(oid) == (value, serial)
        other.close()


def test_errors_say_what_to_do_and_what_to_retry(cluster):
    for options, words in [
        ({"compress": "lzma"}, "zlib=1"),
        ({"compress": "zlib=0"}, "zlib=1"),
        ({"ca": "x"}, "TLS"),
        ({"wait": -1}, "wait is -1"),
    ]:
        with pytest.raises(ValueError, match=words):
            cluster.storage(**options)
    for masters in ("", "127.0.0.1"):
        with pytest.raises(ValueError, match="HOST:PORT"):
            neozodb.Storage(masters, "test")
    with pytest.raises(neozodb.NEOStorageUnavailable, match="can't be reached") as raised:
        neozodb.Storage("127.0.0.1:1", "test", wait=0.2)
    assert isinstance(raised.value, TransientError)
    with pytest.raises(neozodb.NEOStorageError, match="you asked for"):
        neozodb.Storage(cluster.masters, "other")


def test_a_read_only_storage_refuses_to_write(cluster):
    storage = cluster.storage(read_only=True)
    txn = TransactionMetaData()
    for write in (
        storage.new_oid,
        lambda: storage.tpc_begin(txn),
        lambda: storage.store(z64, z64, b"", "", txn),
        lambda: storage.deleteObject(z64, z64, txn),
        lambda: storage.restore(z64, z64, b"", "", None, txn),
        lambda: storage.tpc_vote(txn),
    ):
        with pytest.raises(POSException.ReadOnlyError, match="read.only"):
            write()
    with pytest.raises(POSException.ReadOnlyError, match="was opened with read_only"):
        storage.pack()
    assert storage.isReadOnly()
    storage.close()


def test_after_a_fork_the_child_is_told_to_open_its_own(cluster, storage):
    oid = storage.new_oid()
    commit(storage, {oid: (z64, b"x")})
    iterator = storage.iterator()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = ""
            for use in (lambda: storage.load(oid), lambda: next(iterator)):
                try:
                    use()
                    said += "done "
                except neozodb.NEOStorageClosed as error:
                    said += str(error)
            storage.close()
            os.write(writer, said.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read().count("before a fork") == 2
    os.waitpid(child, 0)
    assert storage.load(oid)[0] == b"x"


def test_the_interpreter_ends_with_a_storage_open_and_threads_waiting(cluster):
    program = """
import sys, threading, time
import neozodb
storage = neozodb.Storage(sys.argv[1], sys.argv[2])
def work():
    while True:
        storage.sync()
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
storage.sync()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, cluster.masters, cluster.name],
        capture_output=True, text=True, timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_cluster_that_can_not_be_says_why():
    for options, words in [
        ({"storages": 0}, "at least one"),
        ({"partitions": 10**9}, "did not start: .*partitions"),
    ]:
        with pytest.raises((ValueError, RuntimeError), match=words):
            Cluster(**options)


def test_loads_of_rubbish_are_refused(storage):
    for call in (
        lambda: storage.load(b"short"),
        lambda: storage.loadBefore(z64, b""),
        lambda: storage.loadSerial(b"x" * 9, z64),
    ):
        with pytest.raises(ValueError, match="8 bytes"):
            call()
    with pytest.raises(TypeError):
        storage.load(7)
    with pytest.raises(POSException.POSKeyError):
        storage.load(p64(1 << 60))
    with pytest.raises(POSException.POSKeyError):
        storage.loadBefore(p64(1 << 60), maxtid)


def test_the_storage_is_found_where_users_of_neo_look_for_it():
    from neo.client.Storage import Storage

    assert Storage is neozodb.Storage
