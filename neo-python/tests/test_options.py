"""The options of the constructor that say where things are kept, and what is done about damage."""

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys

import pytest
import ZODB
import ZODB.config
from ZODB.utils import p64, z64
from zodburi import resolve_uri

import neozodb
from helpers import BINARIES, SECONDS, commit, free_port, running, section
from neozodb.testing import Cluster

# As the logs of nodes are.
ENTRY = re.compile(r'\d{4}-\d\d-\d\dT[\d:.]+Z +[A-Z]+ client\{cluster="\w+"\}\S* neo_\w+')


def in_a_process(program, *arguments):
    """A process has one log."""
    done = subprocess.run(
        # A newer Python warns of any fork where there are threads.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, *map(str, arguments)],
        capture_output=True, text=True, timeout=SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


OPENED = """
import os, sys
import neozodb
masters, name, log = sys.argv[1:]
for _ in range(2):
    neozodb.Storage(masters, name, logfile=log).close()
os.rename(log, log + ".1")
neozodb.Storage(masters, name, logfile=log).close()
try:
    neozodb.Storage(masters, name, logfile=log + ".2")
except ValueError as error:
    print(error)
# It goes to that of the others.
neozodb.Storage(masters, name).close()
"""


def test_a_storage_logs_into_a_file_which_may_be_moved_away(cluster, tmp_path):
    log = tmp_path / "neo.log"
    log.write_text("before\n")
    said = in_a_process(OPENED, cluster.masters, cluster.name, log)
    assert f"goes to {log} already" in said
    for path, times in (log.with_name("neo.log.1"), 2), (log, 2):
        lines = path.read_text().splitlines()
        if times == 2 and path != log:
            assert lines.pop(0) == "before"
        assert sum("the client is ready" in line for line in lines) == times
        assert all(ENTRY.match(line) for line in lines), lines
    assert sorted(os.listdir(tmp_path)) == ["neo.log", "neo.log.1"]


FORKED = """
import os, sys
import neozodb
masters, name, log = sys.argv[1:]
storage = neozodb.Storage(masters, name, logfile=log)
child = os.fork()
if child == 0:
    neozodb.Storage(masters, name, logfile=log).close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
storage.close()
"""


def test_a_child_process_logs_into_the_same_file(cluster, tmp_path):
    log = tmp_path / "neo.log"
    in_a_process(FORKED, cluster.masters, cluster.name, log)
    assert log.read_text().count("the client is ready") == 2


CONFIGURED = """
import sys
import ZODB.config
from zodburi import resolve_uri
kind, text = sys.argv[1:]
if kind == "uri":
    resolve_uri(text)[0]().close()
else:
    ZODB.config.storageFromString(text).close()
"""


@pytest.mark.parametrize("kind", ["uri", "section"])
def test_the_log_and_the_list_of_masters_are_configured(cluster, tmp_path, kind):
    log, masters = tmp_path / "neo.log", tmp_path / "masters.json"
    if kind == "uri":
        at = cluster.masters.replace(" ", ",")
        text = f"neo://{cluster.name}@{at}?logfile={log}&dynamic_master_list={masters}"
    else:
        text = "%import neozodb\n" + section(cluster, logfile=log, dynamic_master_list=masters)
    in_a_process(CONFIGURED, kind, text)
    assert "the client is ready" in log.read_text()
    assert json.loads(masters.read_text()) == cluster.masters.split()


def test_masters_that_were_learnt_are_enough_for_the_next_start(tmp_path):
    path = tmp_path / "masters.json"
    with Cluster(masters=2, storages=1) as cluster:
        all_of_them = cluster.masters.split()
        storage = neozodb.Storage(all_of_them[0], cluster.name, dynamic_master_list=path)
        oid = storage.new_oid()
        commit(storage, {oid: (z64, b"x")})
        storage.close()
        assert sorted(json.loads(path.read_text())) == sorted(all_of_them)
        cluster.kill_master(1)
        with pytest.raises(neozodb.NEOStorageUnavailable):
            neozodb.Storage(all_of_them[0], cluster.name, wait=0.5)
        for master_nodes in "", all_of_them[0]:
            storage = neozodb.Storage(
                master_nodes, cluster.name, dynamic_master_list=str(path), read_only=True, wait=60
            )
            assert storage.load(oid)[0] == b"x"
            storage.close()


@pytest.mark.parametrize("text", ["remember the milk", '["m"]', "[1]"])
def test_a_list_of_masters_that_is_none_is_left_alone(cluster, tmp_path, text):
    path = tmp_path / "notes"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{path}.*correct it, or remove it"):
        cluster.storage(dynamic_master_list=path)
    assert path.read_text() == text


def test_paths_and_flags_that_are_none_are_refused_with_words(cluster, tmp_path):
    nowhere = tmp_path / "nowhere" / "file"
    for option, value, error, words in [
        ("logfile", nowhere, FileNotFoundError, "nowhere"),
        ("logfile", tmp_path, IsADirectoryError, str(tmp_path)),
        ("logfile", "", ValueError, "logfile is empty"),
        ("dynamic_master_list", nowhere, ValueError, "nowhere.*No such file"),
        ("dynamic_master_list", "", ValueError, "dynamic_master_list is empty"),
        ("dynamic_master_list", tmp_path / "new", ValueError, "needs the address of a master"),
        ("ignore_wrong_checksum", "false", ValueError, "ignore_wrong_checksum is 'false'"),
        ("read_only", "no", ValueError, "read_only is 'no'"),
        ("sync", None, ValueError, "sync is None"),
        ("cache_size", "20MB", ValueError, "cache_size is '20MB': give a number of bytes"),
        ("cache_size", -1, ValueError, "cache_size is -1"),
        ("cache_size", 1 << 70, ValueError, "cache_size is"),
        ("wait", "long", ValueError, "wait is 'long': give a number of seconds"),
    ]:
        masters = "" if words.startswith("needs") else cluster.masters
        with pytest.raises(error, match=words):
            neozodb.Storage(masters, cluster.name, **{option: value})
    for option, path in ("logfile", nowhere), ("dynamic_master_list", nowhere):
        with pytest.raises(Exception, match="nowhere"):
            ZODB.config.storageFromString("%import neozodb\n" + section(cluster, **{option: path}))


@contextlib.contextmanager
def on_disk(directory):
    """A cluster of processes on SQLite; gives the addresses of its masters."""
    command = BINARIES / "neosimple", "--dir", directory, "--port", free_port()
    with open(directory.with_suffix(".log"), "ab") as log, running(
        *command, cwd=directory.parent, stdout=subprocess.PIPE, stderr=log, text=True
    ) as process:
        told = process.stdout.readline()
        assert told.startswith("RUNNING")
        yield re.search(r"masters=(\S+)", told)[1]


def damage(directory, change):
    """Changes values in the databases of a cluster that does not run."""
    databases = [path for path in directory.rglob("*.sqlite")]
    assert databases
    for path in databases:
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            for id, value in database.execute("SELECT id, value FROM data").fetchall():
                changed = change(value)
                if changed is not None:
                    database.execute("UPDATE data SET value = ? WHERE id = ?", (changed, id))


SALVAGED = """
import sys
import ZODB.config
from ZODB.utils import p64
text, log = sys.argv[1:]
storage = ZODB.config.storageFromString(text)
for oid in 1, 2, 3:
    print(storage.load(p64(oid))[0][:9])
print([record.data[:9] for transaction in storage.iterator() for record in transaction])
storage.close()
"""


def test_damaged_objects_are_given_out_if_that_is_wanted_and_the_log_says_so(tmp_path):
    directory, log = tmp_path / "main", tmp_path / "neo.log"
    stored = [b"as it was", b"squeezed " * 100, b"untouched"]
    with on_disk(directory) as masters:
        storage = neozodb.Storage(masters, "main", compress="zlib")
        commit(storage, {p64(n): (z64, data) for n, data in enumerate(stored, 1)})
        storage.close()

    def change(value):
        if value == stored[0]:
            return b"as it is."
        if value != stored[2]:
            return value[:-8] + bytes(8)

    damage(directory, change)
    with on_disk(directory) as masters:
        storage = neozodb.Storage(masters, "main")
        for oid in 1, 2:
            with pytest.raises(neozodb.WrongChecksum, match=f"{oid:016x}"):
                storage.load(p64(oid))
        with pytest.raises(neozodb.WrongChecksum):
            [list(transaction) for transaction in storage.iterator()]
        assert storage.load(p64(3))[0] == stored[2]
        storage.close()
        text = (
            f"%import neozodb\n<NEOStorage>\n  master_nodes {masters}\n  name main\n"
            f"  read-only true\n  ignore-wrong-checksum true\n  logfile {log}\n</NEOStorage>\n"
        )
        told = in_a_process(SALVAGED, text, log)
        # What can't be decompressed is empty.
        assert told.splitlines() == [
            "b'as it is.'", "b''", "b'untouched'", "[b'as it is.', b'', b'untouched']"
        ]
        warnings = [line for line in log.read_text().splitlines() if " WARN " in line]
        for oid in 1, 2:
            assert sum(f"oid={oid:016x}" in line for line in warnings) == 2
        assert not any(f"oid={3:016x}" in line for line in warnings)
        factory, _ = resolve_uri(f"neo://main@{masters}?ignore-wrong-checksum=true")
        storage = factory()
        assert storage.load(p64(1))[0] == b"as it is."
        # It is the database all the same, and is mended so.
        with ZODB.DB(storage).transaction() as connection:
            connection.root()["x"] = 1
        storage.close()
