"""The tools around ZODB, as their users start them."""

import contextlib
import json
import shutil
import subprocess
import sys

import pytest
import transaction
import ZODB
import ZODB.config
from BTrees.Length import Length
from ZEO.ClientStorage import ClientStorage
from ZEO.Exceptions import ServerException
from ZODB.FileStorage import FileStorage
from ZODB.utils import z64

from helpers import PROGRAMS, TESTDATA, between, delete, run, running, section
from neozodb.testing import Cluster

sys.path.append(str(TESTDATA))
from compare_zodb import compare, describe, expected  # noqa: E402

DATABASES = sorted(path.stem for path in TESTDATA.glob("*.fs"))

FILE = "<filestorage {}>\n  path {}\n</filestorage>\n"


def own(directory, name):
    """A copy of a database: tools leave an index beside what they open."""
    return shutil.copy(TESTDATA / f"{name}.fs", directory)


def as_copied(lines):
    """A manifest as the tools copy it: in a transaction, each object has its last record, at the
    place of its first; what has no data repeats none."""
    for line in lines:
        txn = json.loads(line)
        last = {record[0]: record for record in txn["records"]}
        txn["records"] = [[oid, data_txn if size is not None else None, size, sha256]
                          for oid, data_txn, size, sha256 in last.values()]
        yield json.dumps(txn)


@pytest.mark.parametrize("tool", ["zodbconvert", "zodb-convert"])
@pytest.mark.parametrize("name", DATABASES)
def test_a_database_is_converted_to_neo_and_back(tmp_path, name, tool):
    back, manifest = tmp_path / "back.fs", tmp_path / "manifest.jsonl"
    wanted = list(as_copied(expected(str(TESTDATA / f"{name}.jsonl"))))
    manifest.write_text("\n".join(wanted) + "\n")
    with Cluster(storages=2, partitions=4) as cluster:
        there, here = tmp_path / "there.conf", tmp_path / "back.conf"
        there.write_text(
            "%import neozodb\n"
            + FILE.format("source", own(tmp_path, name)) + section(cluster, "destination")
        )
        here.write_text(
            "%import neozodb\n"
            + section(cluster, "source", read_only="true") + FILE.format("destination", back)
        )
        run(tool, there, cwd=tmp_path)
        storage = cluster.storage(read_only=True)
        found = list(describe(storage))
        storage.close()
        run(tool, here, cwd=tmp_path)
    assert found == wanted
    assert compare(str(back), str(manifest), last=False) is None


@pytest.mark.parametrize("tool", ["zodbconvert", "zodb-convert"])
def test_a_conversion_goes_on_where_it_ended(cluster, tmp_path, tool):
    path, config = tmp_path / "Data.fs", tmp_path / "convert.conf"
    config.write_text(
        "%import neozodb\n" + FILE.format("source", path) + section(cluster, "destination")
    )
    for n in range(2):
        database = ZODB.DB(str(path))
        with database.transaction() as connection:
            connection.root()[n] = Length(n)
        database.close()
        run(tool, "--incremental", config, cwd=tmp_path)
    storage, source = cluster.storage(), FileStorage(str(path), read_only=True)
    assert list(describe(storage)) == list(describe(source))
    source.close()
    storage.close()


def test_zodbconvert_does_not_write_over_what_is_there(cluster, storage, tmp_path):
    ZODB.DB(storage).close()
    config = tmp_path / "convert.conf"
    config.write_text(
        "%import neozodb\n"
        + FILE.format("source", own(tmp_path, "undo")) + section(cluster, "destination")
    )
    said = run("zodbconvert", config, cwd=tmp_path, status=1)
    assert "the destination storage has data" in said


def test_zodb_convert_reads_the_configuration_of_zope(cluster, storage, tmp_path):
    fill = FileStorage(str(TESTDATA / "btrees.fs"), read_only=True)
    storage.copyTransactionsFrom(fill)
    zope, config = tmp_path / "zope.conf", tmp_path / "convert.conf"
    zope.write_text(
        "%import neozodb\n<zodb_db main>\n" + section(cluster) + "mount-point /\n</zodb_db>\n"
    )
    path = tmp_path / "Data.fs"
    config.write_text(FILE.format("destination", path))
    run("zodb-convert", "--source-zope-conf", zope, config, cwd=tmp_path)
    copy = FileStorage(str(path), read_only=True)
    assert list(describe(copy)) == list(describe(storage)) == list(describe(fill))
    fill.close()
    copy.close()


def packed(storage):
    """A database with all that a pack meets: of some objects the past is gone, one is gone, and
    what an undo repeated is."""
    database = ZODB.DB(storage)

    def change(**numbers):
        with database.transaction(f"change {numbers}") as connection:
            for name, n in numbers.items():
                connection.root()[name].change(n)
        return database.lastTransaction()

    with database.transaction("begin") as connection:
        for name in ("stays", "changes", "goes", "undone"):
            connection.root()[name] = Length(0)
    change(changes=1, undone=1)
    change(undone=10)
    database.undo(database.undoInfo()[0]["id"])
    transaction.commit()
    with database.transaction("delete") as connection:
        goes = connection.root().pop("goes")
        oid, serial = goes._p_oid, goes._p_serial
    delete(storage, oid, serial)
    change(changes=2)
    database.pack()
    change(changes=4, stays=1)
    database.undo(database.undoInfo()[0]["id"])
    transaction.commit()
    return database


def check_packed(database):
    with database.transaction() as connection:
        root = connection.root()
        found = {name: root[name]() for name in root}
        assert found == {"stays": 0, "changes": 3, "undone": 1}
        assert len(database.history(root["changes"]._p_oid, 9)) == 3


@pytest.mark.parametrize("tool", ["zodbconvert", "zodb-convert"])
def test_what_a_pack_has_left_is_converted(cluster, storage, tmp_path, tool):
    database = packed(storage)
    back, manifest = tmp_path / "back.fs", tmp_path / "manifest.jsonl"
    config = tmp_path / "convert.conf"
    config.write_text(
        "%import neozodb\n"
        + section(cluster, "source", read_only="true") + FILE.format("destination", back)
    )
    run(tool, config, cwd=tmp_path)
    manifest.write_text("\n".join(describe(storage)) + "\n")
    database.close()
    assert compare(str(back), str(manifest), last=False) is None
    database = ZODB.DB(str(back))
    check_packed(database)
    with Cluster() as other:
        copy = other.storage()
        copy.copyTransactionsFrom(database.storage)
        assert list(describe(copy)) == list(as_copied(describe(database.storage)))
        other_database = ZODB.DB(copy)
        check_packed(other_database)
        other_database.close()
    database.close()


def test_zodbpack_packs_a_cluster(cluster, storage, tmp_path):
    database = ZODB.DB(storage)
    for n in range(3):
        with database.transaction() as connection:
            connection.root()["n"] = n
    config = tmp_path / "pack.conf"
    config.write_text("%import neozodb\n" + section(cluster))
    # By default, a day of history is kept; a negative number of days is all up to now.
    for days, left in ((), 4), (("--days", 1), 4), (("--days=-1",), 1):
        run("zodbpack", *days, config, cwd=tmp_path)
        assert len(database.history(z64, 9)) == left
    database.close()


def test_zodbverify_reads_every_object(storage, caplog):
    from zodbverify.verify import verify_zodb

    source = FileStorage(str(TESTDATA / "btrees.fs"), read_only=True)
    storage.copyTransactionsFrom(source)
    source.close()
    with caplog.at_level("INFO"):
        verify_zodb(storage)
    assert f"Scanned {len(storage)} records" in caplog.text
    assert "Found 0 records that could not be loaded" in caplog.text


SERVER = """
%import neozodb
<zeo>
  address {socket}
</zeo>
"""


@contextlib.contextmanager
def zeo_server(cluster, directory):
    """Serves a cluster; gives the address."""
    socket, config = directory / "zeo.sock", directory / "zeo.conf"
    config.write_text(SERVER.format(socket=socket) + section(cluster))
    command = PROGRAMS / "runzeo", "-C", config
    with open(directory / "log", "wb") as log, running(
        *command, cwd=directory, stdout=log, stderr=subprocess.STDOUT
    ):
        yield str(socket)


def test_runzeo_serves_a_cluster_to_zeo_clients(cluster, tmp_path):
    with zeo_server(cluster, tmp_path) as socket:
        direct = ZODB.DB(cluster.storage())
        served = [ZODB.DB(ClientStorage(socket, wait_timeout=60)) for _ in range(2)]
        with served[0].transaction() as connection:
            connection.root()["n"] = Length(1)
        with direct.transaction() as connection:
            connection.root()["n"].change(10)
        # What was changed beside the server reaches its clients.
        until(served[1], lambda root: root.get("n") is not None and root["n"]() == 11)
        # Merged by the server.
        first, second = transaction.TransactionManager(), transaction.TransactionManager()
        numbers = [
            served[n].open(manager).root()["n"] for n, manager in enumerate((first, second))
        ]
        until(served[0], lambda root: root["n"]() == 11)
        for number, manager in zip(numbers, (first, second)):
            manager.begin()
            number.change(100)
        first.commit()
        second.commit()
        with direct.transaction() as connection:
            assert connection.root()["n"]() == 211
        last = served[0].undoInfo()[0]["id"]
        served[0].undo(last)
        transaction.commit()
        with direct.transaction() as connection:
            assert connection.root()["n"]() == 111
            oid = connection.root()["n"]._p_oid
        assert len(direct.history(oid, 9)) == len(served[1].history(oid, 9)) == 5
        for database in (*served, direct):
            database.close()


def test_zeo_clients_pack_the_cluster_behind_their_server(cluster, tmp_path):
    with zeo_server(cluster, tmp_path) as socket:
        database = ZODB.DB(ClientStorage(socket, wait_timeout=60))
        storage = cluster.storage()
        tids = []
        for n in range(5):
            with database.transaction() as connection:
                connection.root()["n"] = n
            tids.append(database.lastTransaction())

        def left():
            told = [entry["tid"] for entry in storage.history(z64, 9)]
            assert [entry["tid"] for entry in database.history(z64, 9)] == told
            return told

        database.pack(between(tids[2], tids[3]))
        assert left() == tids[:1:-1]
        # What the server raised, as ZEO tells it.
        with pytest.raises(ServerException, match="UndoError"):
            database.undo(tids[2])
            transaction.commit()
        transaction.abort()
        database.undo(tids[4])
        transaction.commit()
        with database.transaction() as connection:
            assert connection.root()["n"] == 3
        # The storage of the client, as `zeopack` calls it.
        database.storage.pack(wait=True)
        assert left() == [database.lastTransaction()]
        database.close()
        storage.close()


def until(database, holds):
    """Waits for the invalidation that makes it so."""
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    while not holds(connection.root()):
        manager.begin()
    connection.close()
