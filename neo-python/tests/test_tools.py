"""The tools around ZODB, as their users start them."""

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
from ZODB.FileStorage import FileStorage

from helpers import PROGRAMS, TESTDATA, run, running, section
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
    place of its first; what has no data repeats none; that a pack has been through it is lost."""
    for line in lines:
        txn = json.loads(line)
        last = {record[0]: record for record in txn["records"]}
        txn["records"] = [[oid, data_txn if size is not None else None, size, sha256]
                          for oid, data_txn, size, sha256 in last.values()]
        txn["status"] = " "
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


def test_runzeo_serves_a_cluster_to_zeo_clients(cluster, tmp_path):
    socket, config = tmp_path / "zeo.sock", tmp_path / "zeo.conf"
    config.write_text(SERVER.format(socket=socket) + section(cluster))
    command = PROGRAMS / "runzeo", "-C", config
    with open(tmp_path / "log", "wb") as log, running(
        *command, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT
    ):
        direct = ZODB.DB(cluster.storage())
        served = [ZODB.DB(ClientStorage(str(socket), wait_timeout=60)) for _ in range(2)]
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


def until(database, holds):
    """Waits for the invalidation that makes it so."""
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    while not holds(connection.root()):
        manager.begin()
    connection.close()
