"""Packs: what they remove, and what they leave alone."""

import signal
import subprocess
import sys
import time

import pytest
import transaction
import ZODB
from BTrees.Length import Length
from ZODB import POSException
from ZODB.TimeStamp import TimeStamp
from ZODB.utils import maxtid, z64

import neozodb
from helpers import SECONDS, between, commit, delete, undo
from neozodb.testing import Cluster


@pytest.fixture
def database(storage):
    database = ZODB.DB(storage)
    yield database
    database.close()


def days_ago(days):
    """A tid."""
    return TimeStamp(*time.gmtime(time.time() - days * 86_400)[:6]).raw()


def set_n(database, *values):
    """Transactions that set one object; their tids."""
    tids = []
    for value in values:
        with database.transaction(f"set {value}") as connection:
            connection.root()["n"] = value
        tids.append(database.lastTransaction())
    return tids


def revisions(storage, oid):
    """Tids, newest first."""
    return [entry["tid"] for entry in storage.history(oid, 99)]


def test_a_pack_removes_what_was_replaced_and_keeps_the_rest(storage):
    oid, other = storage.new_oid(), storage.new_oid()
    first = commit(storage, {oid: (z64, b"1"), other: (z64, b"other")})
    second = commit(storage, {oid: (first, b"2")})
    third = commit(storage, {oid: (second, b"3")})
    storage.pack(between(second, third), None)
    assert revisions(storage, oid) == [third, second]
    assert storage.load(oid) == (b"3", third)
    assert storage.loadBefore(oid, third) == (b"2", second, third)
    assert storage.loadBefore(oid, second) is None
    assert storage.loadBeforeEx(oid, second) == (None, z64)
    with pytest.raises(POSException.POSKeyError):
        storage.loadSerial(oid, first)
    assert storage.loadSerial(other, first) == b"other"
    # The pack itself is nothing that can be undone, and what it took away neither.
    assert [entry["id"] for entry in storage.undoLog()] == [third]
    with pytest.raises(POSException.UndoError):
        undo(storage, second)
    undo(storage, third)
    assert storage.load(oid)[0] == b"2"


def test_a_pack_of_some_objects_leaves_others_alone_and_need_not_be_waited_for(storage):
    oids = [storage.new_oid() for _ in range(2)]
    first = commit(storage, {oid: (z64, b"1") for oid in oids})
    second = commit(storage, {oid: (first, b"2") for oid in oids})
    storage.pack(time.time(), None, oids=oids[:1])
    assert [len(storage.history(oid, 9)) for oid in oids] == [1, 2]
    storage.wait_pack(storage.pack(time.time(), None, True, wait=False))
    assert [len(storage.history(oid, 9)) for oid in oids] == [1, 1]
    assert storage.load(oids[1]) == (b"2", second)
    with pytest.raises(ValueError, match="8 bytes"):
        storage.pack(time.time(), None, oids=[b"short"])
    # Of no object, and not of all.
    third = commit(storage, {oid: (second, b"3") for oid in oids})
    storage.pack(time.time(), None, oids=[])
    assert revisions(storage, oids[0]) == [third, second]


def test_a_database_is_packed_up_to_some_days_ago(storage):
    oid, serial, tids = storage.new_oid(), z64, []
    for days in (40, 20, 10):
        serial = commit(storage, {oid: (serial, b"%d" % days)}, days_ago(days))
        tids.insert(0, serial)
    database = ZODB.DB(storage)
    for days, left in ((50, 3), (30, 3), (15, 2), (0, 1)):
        database.pack(days=days)
        assert revisions(storage, oid) == tids[:left]
    database.close()


def test_without_a_time_all_up_to_now_is_packed(storage):
    oid = storage.new_oid()
    first = commit(storage, {oid: (z64, b"1")})
    second = commit(storage, {oid: (first, b"2")})
    storage.pack()
    assert revisions(storage, oid) == [second]


def test_what_nothing_refers_to_stays_until_it_is_deleted(storage):
    database = ZODB.DB(storage)
    with database.transaction() as connection:
        connection.root()["n"] = Length(1)
        connection.add(connection.root()["n"])
        oid = connection.root()["n"]._p_oid
    with database.transaction() as connection:
        del connection.root()["n"]
    database.pack()
    data, serial = storage.load(oid)
    delete(storage, oid, serial)
    assert storage.loadBefore(oid, storage.lastTransaction())[0] == data
    storage.pack()
    for gone in (storage.load, storage.history, lambda oid: storage.loadBefore(oid, maxtid)):
        with pytest.raises(POSException.POSKeyError):
            gone(oid)
    database.close()


def test_a_connection_that_is_older_than_a_pack_begins_again(cluster, database):
    with database.transaction() as connection:
        connection.root()["length"] = Length(1)
    other, manager = ZODB.DB(cluster.storage()), transaction.TransactionManager()
    length = other.open(manager).root()["length"]
    for _ in range(2):
        with database.transaction() as connection:
            connection.root()["length"].change(1)
    database.pack()
    with pytest.raises(POSException.ReadConflictError):
        length()
    manager.begin()
    assert length() == 3
    length.change(1)
    manager.commit()
    assert len(revisions(database.storage, length._p_oid)) == 2
    other.close()


def test_the_past_before_a_pack_is_not_there(cluster, database):
    before, at, after = set_n(database, 1, 2, 3)
    opened = database.open(at=before)
    database.pack(between(at, after))
    other = ZODB.DB(cluster.storage())
    for connection in (opened, database.open(at=before), other.open(at=before)):
        # To try again would not help.
        with pytest.raises(POSException.POSKeyError) as raised:
            connection.root()["n"]
        assert not isinstance(raised.value, POSException.ConflictError)
        connection.close()
    for there in (database, other):
        for tid, value in ((at, 2), (after, 3)):
            connection = there.open(at=tid)
            assert connection.root()["n"] == value
            connection.close()
    other.close()


def test_what_was_packed_away_is_neither_listed_nor_undone(database):
    first, second, third, fourth = set_n(database, 1, 2, 3, 4)
    database.pack(between(third, fourth))
    assert [entry["description"] for entry in database.undoInfo()] == ["set 4"]
    # One is gone, of another there is what it wrote, and what it replaced is not.
    for tid in (first, second, third):
        database.undo(tid)
        with pytest.raises(POSException.UndoError):
            transaction.commit()
        transaction.abort()
    database.undo(database.undoInfo()[0]["id"])
    transaction.commit()
    with database.transaction() as connection:
        assert connection.root()["n"] == 3


def test_what_was_not_packed_is_undone_when_some_objects_were(storage):
    oids = [storage.new_oid() for _ in range(2)]
    serials = dict.fromkeys(oids, z64)
    for n in range(3):
        for oid in oids:
            serials[oid] = commit(storage, {oid: (serials[oid], b"%d" % n)})
    storage.pack(time.time(), None, oids=oids[:1])
    progress = storage.pack_progress()
    assert (progress.packed_at, progress.whole_packed_at) == (serials[oids[1]], z64)
    # Of the first one the last revision is left, and what it replaced is not.
    undone = []
    for entry in storage.undoLog(0, 9):
        try:
            undo(storage, entry["id"])
        except POSException.UndoError:
            continue
        undone.append(entry["id"])
    assert len(undone) == 3
    assert [len(storage.history(oid, 9)) for oid in oids] == [1, 6]
    with pytest.raises(POSException.POSKeyError):
        storage.load(oids[1])


def test_an_undo_of_what_is_packed_later_keeps_its_data(storage):
    oid = storage.new_oid()
    first = commit(storage, {oid: (z64, b"1")})
    second = commit(storage, {oid: (first, b"2")})
    undone, _ = undo(storage, second)
    storage.pack()
    assert revisions(storage, oid) == [undone]
    assert storage.load(oid) == (b"1", undone)
    (record,) = next(storage.iterator(undone, undone))
    assert (record.data, record.data_txn) == (b"1", None)


def test_what_is_read_while_it_is_packed_is_what_is_left(cluster, storage):
    oids, serial, tids = [storage.new_oid() for _ in range(2)], z64, []
    commit(storage, {oids[0]: (z64, b"stays")})
    for n in range(9):
        serial = commit(storage, {oids[1]: (serial, b"%d" % n)})
        tids.append(serial)
    read, begun = list(storage.iterator()), storage.iterator()
    next(begun)
    other = cluster.storage()
    other.pack()
    assert [[record.data for record in txn] for txn in read] == [[b"stays"], *[[]] * 8, [b"8"]]
    assert [record.data for txn in begun for record in txn][-1] == b"8"
    assert [record.data for txn in other.iterator() for record in txn] == [b"stays", b"8"]
    other.close()


def test_the_progress_of_a_pack_is_told(storage):
    assert storage.pack_progress() == neozodb.PackProgress(None, 24, 24, z64, z64)
    oid, serial = storage.new_oid(), z64
    for n in range(50):
        serial = commit(storage, {oid: (serial, b"%d" % n)})
    order = storage.pack(wait=False)
    while (progress := storage.pack_progress()) != (None, 24, 24, serial, serial):
        assert progress.order in (None, order)
        assert 0 <= progress.cells_done <= progress.cells == 24
        assert progress.packed_at in (z64, serial)
    assert revisions(storage, oid) == [serial]
    # What is done is not waited for.
    storage.wait_pack(order)
    with pytest.raises(neozodb.NEOStorageError, match="no transaction's"):
        storage.wait_pack(maxtid)


WAIT = """
import signal
import sys
import neozodb
# It is ignored in whatever a script started in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
masters, name, order = sys.argv[1:]
storage = neozodb.Storage(masters, name)
print("open", flush=True)
sys.stdin.readline()
try:
    print("waits", flush=True)
    storage.wait_pack(bytes.fromhex(order))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_who_waits_for_a_pack_is_interrupted(tmp_path):
    with Cluster() as cluster:
        storage = cluster.storage()
        oid = storage.new_oid()
        first = commit(storage, {oid: (z64, b"1")})
        second = commit(storage, {oid: (first, b"2")})
        order = storage.pack(wait=False)
        process = subprocess.Popen(
            [sys.executable, "-c", WAIT, cluster.masters, cluster.name, order.hex()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        assert process.stdout.readline() == "open\n"
        # Nobody can tell that it is done.
        cluster.kill_storage(1)
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "waits\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=SECONDS)[0] == "interrupted\n"
        cluster.restart_storage(1)
        storage.wait_pack(order)
        assert revisions(storage, oid) == [second]
        storage.close()


def test_a_read_only_storage_packs_nothing(cluster, storage):
    reader = cluster.storage(read_only=True)
    with pytest.raises(POSException.ReadOnlyError):
        reader.pack()
    assert reader.pack_progress().order is None
    reader.close()
