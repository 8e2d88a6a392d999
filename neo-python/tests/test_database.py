"""ZODB's database and its persistent classes, in one process and in several."""

import subprocess
import sys

import pytest
import transaction
import ZODB
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from ZODB import POSException
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64, u64

from helpers import SECONDS
from neozodb.testing import Cluster


@pytest.fixture
def database(storage):
    database = ZODB.DB(storage)
    yield database
    database.close()


def test_a_tree_of_many_buckets_is_read_by_another_client(cluster, database):
    with database.transaction() as connection:
        tree = connection.root()["tree"] = OOBTree()
        for n in range(5_000):
            tree[f"{n:05}"] = n
    with database.transaction() as connection:
        tree = connection.root()["tree"]
        for n in range(0, 5_000, 7):
            del tree[f"{n:05}"]
    other = ZODB.DB(cluster.storage())
    with other.transaction() as connection:
        tree = connection.root()["tree"]
        tree._check()
        expected = [n for n in range(5_000) if n % 7]
        assert list(tree.values()) == expected
        assert list(tree.values("01000", "01010")) == [n for n in expected if 1_000 <= n <= 1_010]
    other.close()


def test_a_savepoint_is_gone_back_to(database):
    connection = database.open()
    root = connection.root()
    root["map"] = PersistentMapping(a=1)
    kept = transaction.savepoint()
    root["map"]["b"] = 2
    root["more"] = PersistentMapping()
    later = transaction.savepoint()
    root["map"]["c"] = 3
    later.rollback()
    assert dict(root["map"]) == {"a": 1, "b": 2}
    kept.rollback()
    assert dict(root["map"]) == {"a": 1}
    assert "more" not in root
    transaction.commit()
    connection.close()
    with database.transaction() as connection:
        assert dict(connection.root()["map"]) == {"a": 1}
        assert set(connection.root()) == {"map"}


WRITER = """
import sys
import transaction, ZODB
import neozodb
from ZODB.POSException import ConflictError
masters, name, me, times = *sys.argv[1:4], int(sys.argv[4])
database = ZODB.DB(neozodb.Storage(masters, name))
print("ready", flush=True)
sys.stdin.readline()
for n in range(times):
    for attempt in transaction.manager.attempts(1000):
        with attempt:
            root = database.open(transaction.manager).root()
            root["length"].change(1)
            root["tree"][f"{me} {n}"] = n
            if n % 5 == 0:
                root["map"][me] = root["map"].get(me, 0) + 1
database.close()
"""


class Writers:
    """Processes that change the same objects: a number, a tree, and a mapping that no class merges."""

    def __init__(self, cluster, database, names, times):
        self.names, self.times = names, times
        with database.transaction() as connection:
            root = connection.root()
            root["length"], root["tree"], root["map"] = Length(), OOBTree(), PersistentMapping()
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, cluster.masters, cluster.name, name, str(times)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for name in names
        ]
        # All have opened the database before one begins.
        for process in self.processes:
            assert process.stdout.readline() == "ready\n", process.communicate()
        for process in self.processes:
            process.stdin.write("go\n")
            process.stdin.flush()

    def check(self, database):
        for process in self.processes:
            _, complaint = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, complaint
        with database.transaction() as connection:
            root = connection.root()
            assert root["length"]() == self.times * len(self.names)
            root["tree"]._check()
            wanted = {f"{name} {n}" for name in self.names for n in range(self.times)}
            assert set(root["tree"]) == wanted
            assert dict(root["map"]) == dict.fromkeys(self.names, -(-self.times // 5))


def test_processes_merge_their_changes(cluster, database):
    Writers(cluster, database, ["a", "b", "c", "d"], 20).check(database)


def test_processes_go_on_when_a_storage_node_is_lost(cluster, database):
    writers = Writers(cluster, database, ["a", "b", "c"], 60)

    def done():
        with database.transaction() as connection:
            return connection.root()["length"]()

    for progress in (20, 80):
        while done() < progress:
            pass
        cluster.kill_storage(1)
        while done() < progress + 30:
            pass
        cluster.restart_storage(1)
    writers.check(database)


def test_a_conflict_that_no_class_merges_is_raised(cluster, database):
    with database.transaction() as connection:
        connection.root()["map"] = PersistentMapping()
    other = ZODB.DB(cluster.storage())
    manager = transaction.TransactionManager()
    late = other.open(manager).root()["map"]
    late["x"] = 1
    with database.transaction() as connection:
        connection.root()["map"]["x"] = 2
    with pytest.raises(POSException.ConflictError) as raised:
        manager.commit()
    assert raised.value.oid == late._p_oid
    manager.abort()
    assert late["x"] == 2
    other.close()


def test_the_database_is_opened_as_it_was(cluster, database):
    tids = []
    for n in range(3):
        with database.transaction() as connection:
            connection.root()["n"] = n
        tids.append(database.lastTransaction())
    other = ZODB.DB(cluster.storage(read_only=True))
    for past, error in (
        (database, POSException.ReadOnlyHistoryError), (other, POSException.ReadOnlyError),
    ):
        for n, tid in enumerate(tids):
            connection = past.open(at=tid)
            assert connection.root()["n"] == n
            connection.root()["n"] = "changed"
            with pytest.raises(error):
                transaction.commit()
            transaction.abort()
            connection.close()
        connection = past.open(before=tids[0])
        assert "n" not in connection.root()
        connection.close()
        with pytest.raises(ValueError, match="future"):
            past.open(at=p64(u64(tids[-1]) + (1 << 40)))
    other.close()


def test_many_transactions_are_undone_at_once(database):
    for n in range(4):
        with database.transaction(f"set {n}") as connection:
            connection.root()["n"] = n
    told = database.undoInfo(0, 20, {"description": b"set 3"})
    assert [entry["description"] for entry in told] == ["set 3"]
    database.undoMultiple([entry["id"] for entry in database.undoInfo(0, 3)])
    transaction.get().note("back to 0")
    transaction.commit()
    with database.transaction() as connection:
        assert connection.root()["n"] == 0
    assert database.undoLog(0, 1)[0]["description"].endswith("back to 0")
    database.undo(database.undoLog(0, 1)[0]["id"])
    transaction.commit()
    with database.transaction() as connection:
        assert connection.root()["n"] == 3


def told(storage):
    return [
        (t.tid, t.user, t.description, t.extension_bytes,
         [(r.oid, r.tid, r.data, r.data_txn) for r in t])
        for t in storage.iterator()
    ]


def test_transactions_are_copied_between_clusters_and_files(storage, database, tmp_path):
    for n in range(3):
        with database.transaction(f"set {n}") as connection:
            connection.root()["n"] = n
            connection.root()[n] = Length(n)
    database.undo(database.undoInfo()[0]["id"])
    transaction.commit()
    file = FileStorage(str(tmp_path / "Data.fs"))
    file.copyTransactionsFrom(storage)
    assert told(file) == told(storage)
    with Cluster() as cluster:
        copy = cluster.storage()
        copy.copyTransactionsFrom(file)
        assert told(copy) == told(storage)
        assert copy.lastTransaction() == storage.lastTransaction()
        # And work goes on, with new oids.
        copied = ZODB.DB(copy)
        with copied.transaction() as connection:
            connection.root()["new"] = Length(1)
            connection.add(connection.root()["new"])
        with copied.transaction() as connection:
            root = connection.root()
            assert (root["n"], root[1](), root["new"]()) == (1, 1, 1)
            assert len({root[0]._p_oid, root[1]._p_oid, root["new"]._p_oid}) == 3
        copied.close()
    file.close()


def test_a_part_of_a_database_is_exported_and_imported(database, tmp_path):
    path = tmp_path / "part.zexp"
    with database.transaction() as connection:
        connection.root()["tree"] = OOBTree({n: Length(n) for n in range(200)})
    with database.transaction() as connection:
        tree = connection.root()["tree"]
        connection.exportFile(tree._p_oid, str(path))
    with Cluster() as cluster:
        other = ZODB.DB(cluster.storage())
        with other.transaction() as connection:
            connection.root()["copy"] = connection.importFile(str(path))
        with other.transaction() as connection:
            copy = connection.root()["copy"]
            assert {n: length() for n, length in copy.items()} == {n: n for n in range(200)}
        other.close()
