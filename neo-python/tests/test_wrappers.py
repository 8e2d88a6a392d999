"""Storages that are put around a storage of neo."""

import pytest
import transaction
import ZODB
import ZODB.config
import zope.interface
from BTrees.Length import Length
from persistent.mapping import PersistentMapping
from zc.zlibstorage import ZlibStorage
from ZODB import POSException, interfaces
from ZODB.DemoStorage import DemoStorage
from ZODB.utils import z64

from helpers import delete, section

SQUEEZED = b".z"


@pytest.fixture(params=["python", "configuration"])
def squeezed(request, cluster):
    """A database over a wrapper that compresses, as Python and as ZConfig make it."""
    if request.param == "python":
        database = ZODB.DB(ZlibStorage(cluster.storage()))
    else:
        database = ZODB.config.databaseFromString(
            "%import zc.zlibstorage\n%import neozodb\n<zodb>\n<zlibstorage>\n"
            + section(cluster, compress="false") + "</zlibstorage>\n</zodb>\n"
        )
    yield database
    database.close()


def numbers(database, **changes):
    with database.transaction(f"change {changes}") as connection:
        for name, n in changes.items():
            connection.root()[name].change(n)
    return database.lastTransaction()


def test_a_storage_that_compresses_keeps_its_form_in_the_cluster(cluster, squeezed):
    with squeezed.transaction() as connection:
        connection.root()["text"] = PersistentMapping(text="words " * 1000)
        connection.root()["n"] = Length(1)
        connection.add(connection.root()["text"])
        oid = connection.root()["text"]._p_oid
    storage = cluster.storage()
    data, serial = storage.load(oid)
    assert data.startswith(SQUEEZED) and len(data) < 1000
    wrapped = squeezed.storage
    assert b"words words" in wrapped.loadBefore(oid, b"\x7f" + b"\xff" * 7)[0]
    assert wrapped.loadSerial(oid, serial) == wrapped.load(oid, "")[0]
    (last,) = wrapped.iterator(serial, serial)
    assert {record.oid: record.data for record in last}[oid] == wrapped.load(oid, "")[0]
    assert wrapped.record_iternext()[0] == z64
    storage.close()


def test_a_storage_that_compresses_merges_undoes_and_packs(cluster, squeezed):
    with squeezed.transaction() as connection:
        # Long enough to be compressed.
        root = connection.root()
        root["n"] = Length(0)
        root["n"].padding = "x" * 1000
        connection.add(root["n"])
        oid = root["n"]._p_oid
    # Both changes, of this client and of another one, count.
    other = ZODB.DB(ZlibStorage(cluster.storage()))
    manager = transaction.TransactionManager()
    late = other.open(manager).root()["n"]
    late.change(10)
    tid = numbers(squeezed, n=1)
    manager.commit()
    with squeezed.transaction() as connection:
        assert connection.root()["n"]() == 11
    # The merge is stored in the form of the wrapper.
    storage = cluster.storage()
    assert all(storage.loadSerial(oid, entry["tid"]) for entry in storage.history(oid, 9))
    other.close()
    # With what came after it.
    squeezed.undo(tid)
    transaction.commit()
    with squeezed.transaction() as connection:
        assert connection.root()["n"]() == 10
    with pytest.raises(POSException.UndoError):
        squeezed.undo(squeezed.undoInfo()[-1]["id"])
        transaction.commit()
    transaction.abort()
    assert len(squeezed.history(oid, 9)) == 4
    squeezed.pack()
    assert len(squeezed.history(oid, 9)) == 1
    with squeezed.transaction() as connection:
        assert connection.root()["n"]() == 10
    storage.close()


def test_the_wrapper_has_the_interfaces_of_the_storage(cluster, squeezed):
    storage = cluster.storage()
    wanted = set(zope.interface.providedBy(storage))
    assert wanted <= set(zope.interface.providedBy(squeezed.storage))
    assert interfaces.IStorageWrapper.providedBy(squeezed.storage)
    storage.close()


def test_a_demo_over_a_cluster_leaves_it_as_it_is(cluster):
    storage = cluster.storage()
    database = ZODB.DB(storage)
    with database.transaction() as connection:
        connection.root()["n"] = Length(1)
    tid = database.lastTransaction()
    demo = ZODB.DB(DemoStorage(base=cluster.storage(read_only=True)))
    with demo.transaction() as connection:
        connection.root()["n"].change(1)
        connection.root()["new"] = PersistentMapping()
    with demo.transaction() as connection:
        assert connection.root()["n"]() == 2 and "new" in connection.root()
        oid = connection.root()["n"]._p_oid
    assert len(demo.history(oid, 9)) == 2
    demo.close()
    with database.transaction() as connection:
        assert connection.root()["n"]() == 1 and "new" not in connection.root()
    assert database.lastTransaction() == tid
    database.close()


def test_a_cluster_keeps_the_changes_of_a_demo(cluster):
    base = ZODB.DB(None)
    with base.transaction() as connection:
        connection.root()["n"] = Length(1)
    changes = cluster.storage()
    demo = ZODB.DB(DemoStorage(base=base.storage, changes=changes))
    with demo.transaction() as connection:
        connection.root()["n"].change(1)
        connection.root()["new"] = PersistentMapping()
        connection.add(connection.root()["new"])
    with demo.transaction() as connection:
        connection.root()["new"]["x"] = 1
        assert connection.root()["n"]() == 2
    demo.undo(demo.undoInfo()[0]["id"])
    transaction.commit()
    with demo.transaction() as connection:
        assert dict(connection.root()["new"]) == {}
    with base.transaction() as connection:
        assert connection.root()["n"]() == 1
    again = ZODB.DB(DemoStorage(base=base.storage, changes=cluster.storage()))
    with again.transaction() as connection:
        assert connection.root()["n"]() == 2
    again.close()


def test_a_demo_of_a_configuration_opens(cluster):
    storage = cluster.storage()
    ZODB.DB(storage).close()
    database = ZODB.config.databaseFromString(
        "%import neozodb\n<zodb>\n<demostorage>\n"
        + section(cluster, "base", read_only="true") + "</demostorage>\n</zodb>\n"
    )
    with database.transaction() as connection:
        connection.root()["x"] = 1
    database.close()


def test_what_a_wrapper_deletes_is_gone(cluster, squeezed):
    with squeezed.transaction() as connection:
        connection.root()["gone"] = PersistentMapping()
    with squeezed.transaction() as connection:
        gone = connection.root().pop("gone")
        oid, serial = gone._p_oid, gone._p_serial
    delete(squeezed.storage, oid, serial)
    with pytest.raises(POSException.POSKeyError):
        squeezed.storage.load(oid, "")
