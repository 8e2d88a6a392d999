"""History, undo, and all objects as they are."""

import pytest
import transaction
import ZODB
from BTrees.Length import Length
from persistent.mapping import PersistentMapping
from ZODB import POSException
from ZODB.Connection import TransactionMetaData
from ZODB.utils import maxtid, p64, u64, z64

from helpers import commit, delete, undo


def test_a_history_tells_who_wrote_what_newest_first(storage):
    oid = storage.new_oid()
    first = commit(storage, {oid: (z64, b"1")}, user="ann", description="made")
    second = commit(
        storage, {oid: (first, b"22")}, user="bob", description="changed",
        extension={"request_type": "POST"},
    )
    third = delete(storage, oid, second)
    told = storage.history(oid, 9)
    assert [entry["tid"] for entry in told] == [third, second, first]
    assert [entry["size"] for entry in told] == [0, 2, 1]
    assert [entry["user_name"] for entry in told] == [b"", b"bob", b"ann"]
    assert told[1]["description"] == b"changed"
    assert told[1]["request_type"] == "POST"
    assert told[1]["time"] > 1.7e9
    assert [entry["tid"] for entry in storage.history(oid)] == [third]
    with pytest.raises(POSException.POSKeyError):
        storage.history(p64(1 << 50))


def test_the_undo_log_goes_back_and_is_filtered(storage):
    oid, serial, tids = storage.new_oid(), z64, []
    for n in range(30):
        serial = commit(storage, {oid: (serial, b"%d" % n)}, user="even" if n % 2 == 0 else "odd")
        tids.insert(0, serial)

    def ids(log):
        return [entry["id"] for entry in log]

    assert ids(storage.undoLog()) == tids[:20]
    assert ids(storage.undoLog(5, 8)) == tids[5:8]
    assert ids(storage.undoLog(5, -8)) == tids[5:13]
    assert ids(storage.undoLog(0, 100)) == tids
    assert storage.undoLog(3, 3) == []
    even = storage.undoInfo(1, -3, {"user_name": b"even"})
    assert ids(even) == tids[3:9:2]
    assert set(even[0]) == {"id", "time", "user_name", "description"}


def test_undo_takes_back_a_creation_an_undo_and_several_at_once(storage):
    oid, other = storage.new_oid(), storage.new_oid()
    first = commit(storage, {oid: (z64, b"1"), other: (z64, b"other")})
    second = commit(storage, {oid: (first, b"2")})
    third = commit(storage, {oid: (second, b"3")})
    undone, told = undo(storage, third, second)
    assert told == [(None, [oid]), (None, [oid])]
    assert storage.load(oid) == (b"1", undone)
    again, _ = undo(storage, undone)
    assert storage.load(oid) == (b"3", again)
    (record,) = next(storage.iterator(again, again))
    assert record.data_txn == third
    # Nothing but the creation is left of the other one.
    with pytest.raises(POSException.UndoError) as raised:
        undo(storage, first)
    assert raised.value._oid == oid
    assert storage.load(oid) == (b"3", again)
    gone, _ = undo(storage, again, undone, third, second, first)
    for each in (oid, other):
        with pytest.raises(POSException.POSKeyError):
            storage.load(each)
    assert storage.loadBefore(other, gone)[0] == b"other"
    with pytest.raises(POSException.UndoError, match="no such transaction"):
        undo(storage, p64(u64(gone) + 1))


def test_undo_merges_with_what_came_later(storage):
    database = ZODB.DB(storage)
    with database.transaction() as connection:
        connection.root()["n"] = Length(1)
        connection.root()["map"] = PersistentMapping()
    for change in (10, 100):
        with database.transaction() as connection:
            connection.root()["n"].change(change)
    tid = database.undoInfo()[1]["id"]
    database.undo(tid)
    transaction.commit()
    with database.transaction() as connection:
        assert connection.root()["n"]() == 101
    for value in "ab":
        with database.transaction() as connection:
            connection.root()["map"]["key"] = value
    database.undo(database.undoInfo()[1]["id"])
    with pytest.raises(POSException.UndoError):
        transaction.commit()
    transaction.abort()
    with database.transaction() as connection:
        assert connection.root()["map"]["key"] == "b"
    database.close()


def test_all_objects_are_read_one_by_one(storage):
    with pytest.raises(ValueError, match="no object"):
        storage.record_iternext()
    assert (len(storage), bool(storage)) == (0, True)
    oids = [storage.new_oid() for _ in range(300)]
    first = commit(storage, {oid: (z64, b"of " + oid) for oid in oids})
    gone, changed = oids[7], oids[8]
    delete(storage, gone, first)
    second = commit(storage, {changed: (first, b"new")})
    expected = [
        (oid, second, b"new") if oid == changed else (oid, first, b"of " + oid)
        for oid in oids if oid != gone
    ]
    assert len(storage) == 299

    def walk(start):
        told, next_oid = [], start
        while True:
            oid, tid, data, next_oid = storage.record_iternext(next_oid)
            told.append((oid, tid, data))
            if next_oid is None:
                return told

    assert walk(None) == expected
    assert walk(oids[100]) == expected[99:]
    # Two at a time, and one that is given up.
    _, _, _, one = storage.record_iternext()
    assert storage.record_iternext(oids[50])[0] == oids[50]
    assert storage.record_iternext(one)[0] == oids[1]


def test_the_size_grows(storage):
    before = storage.getSize()
    assert before > 0
    oid = storage.new_oid()
    commit(storage, {oid: (z64, bytes(range(256)) * 4096)})
    assert storage.getSize() > before


def test_what_is_prefetched_is_loaded_and_what_is_not_there_is_no_error(cluster, storage):
    oids = [storage.new_oid() for _ in range(50)]
    tid = commit(storage, {oid: (z64, b"of " + oid) for oid in oids})
    other = cluster.storage()
    other.prefetch(iter([*oids, p64(1 << 50)]), maxtid)
    for oid in oids:
        assert other.load(oid) == (b"of " + oid, tid)
    for wrong in ([b"short"], [7], 7):
        with pytest.raises((ValueError, TypeError)):
            other.prefetch(wrong, maxtid)
    other.close()


def test_one_look_up_tells_deletions(storage):
    oid = storage.new_oid()
    assert storage.loadBeforeEx(oid, maxtid) == (None, z64)
    first = commit(storage, {oid: (z64, b"1")})
    second = delete(storage, oid, first)
    assert storage.loadBeforeEx(oid, second) == (b"1", first)
    assert storage.loadBeforeEx(oid, maxtid) == (None, second)
    assert storage.loadBeforeEx(oid, first) == (None, z64)


def test_a_read_only_storage_shows_the_past_and_undoes_nothing(cluster, storage):
    oid = storage.new_oid()
    tid = commit(storage, {oid: (z64, b"1")})
    reader = cluster.storage(read_only=True)
    assert reader.history(oid)[0]["tid"] == tid
    assert reader.undoLog()[0]["id"] == tid
    with pytest.raises(POSException.ReadOnlyError):
        reader.undo(tid, TransactionMetaData())
    reader.close()
