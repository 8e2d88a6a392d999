"""docs/zodb.md, from its beginning to its end."""

import contextlib
import os
import re
import shlex
import subprocess

import pytest
import ZODB
import ZODB.config
from relstorage.options import Options
from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
from relstorage.storage import RelStorage
from ZEO.ClientStorage import ClientStorage
from ZODB.FileStorage import FileStorage
from ZODB.utils import z64

import neozodb
from helpers import BINARIES, PROGRAMS, REPOSITORY, SECONDS, TESTDATA, free_port, running
from test_tools import FILE, as_copied, describe


def blocks():
    """(section, language, file that it stands for, text) of each block of the guide."""
    section = None
    fence = re.compile(
        r"^##+ ([^\n]*)$|^```(\w+)(?: run-by-test=\w+| file=(\S+))?\n(.*?)^```$", re.M | re.S
    )
    for found in fence.finditer((REPOSITORY / "docs/zodb.md").read_text()):
        heading, *block = found.groups()
        if heading:
            section = heading
        else:
            yield section, *block


class Reader:
    """Somebody who does what the guide says, in a directory of theirs."""

    def __init__(self, directory, stack):
        self.directory, self.stack, self.names = directory, stack, {}
        self.masters = None
        self.ports = {"10000": str(free_port()), "8100": str(free_port())}

    def here(self, text):
        """A text of the guide, with ports that are free."""
        for port, free in self.ports.items():
            text = text.replace(port, free)
        return text

    def follow(self, *sections):
        done = 0
        for section, language, file, text in blocks():
            if section in sections:
                done += 1
                {"sh": self.sh, "xml": self.write, "python": self.python}[language](
                    self.here(text), file
                )
        assert done >= len(sections)

    def write(self, text, file):
        (self.directory / file).write_text(text)

    def python(self, text, file):
        exec(compile(text, "docs/zodb.md", "exec"), self.names)

    def sh(self, text, file):
        for line in text.splitlines():
            # What serves until it is stopped.
            if line.startswith(("neosimple", "runzeo")):
                self.serve(line)
            else:
                self.run(line)

    def environment(self):
        path = f"{PROGRAMS}:{BINARIES}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path}

    def run(self, line):
        done = subprocess.run(
            shlex.split(line), cwd=self.directory, env=self.environment(), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def serve(self, line):
        log = self.stack.enter_context(open(self.directory / "log", "ab"))
        process = self.stack.enter_context(running(
            *shlex.split(line), cwd=self.directory, env=self.environment(),
            stdout=subprocess.PIPE, stderr=log, text=True,
        ))
        if line.startswith("neosimple"):
            told = process.stdout.readline()
            assert told.startswith("RUNNING")
            self.masters = re.search(r"masters=(\S+)", told)[1]
            self.ports["9999"] = re.search(r"admin=\S+:(\d+)", told)[1]

    def storage(self, **options):
        """Of the cluster that was started last."""
        return neozodb.Storage(self.masters, "main", **options)


@pytest.fixture
def reader(tmp_path):
    with contextlib.ExitStack() as stack:
        yield Reader(tmp_path, stack)


def fill(storage):
    source = FileStorage(str(TESTDATA / "undo.fs"), read_only=True)
    storage.copyTransactionsFrom(source)
    source.close()


def more(storage, name):
    """Another transaction of an application."""
    database = ZODB.DB(storage)
    with database.transaction(f"add {name}") as connection:
        connection.root()[name] = name
    return database


def compared(reader, source):
    storage = reader.storage(read_only=True)
    assert list(as_copied(describe(storage))) == list(as_copied(describe(source)))
    storage.close()


def checked(reader, caplog):
    with caplog.at_level("INFO"):
        reader.follow("Check the copy")
    assert "Found 0 records that could not be loaded" in caplog.text


def test_the_guide_runs(reader, caplog):
    path = str(reader.directory / "Data.fs")
    source = FileStorage(path)
    fill(source)
    reader.follow("Run a cluster", "From FileStorage")
    # It is in use, and copied once more.
    database = more(source, "later")
    reader.follow("From FileStorage")
    compared(reader, source)
    database.close()
    checked(reader, caplog)
    reader.follow("Open it")
    text = (reader.directory / "zope.conf").read_text()
    text = re.sub(r"mount-point .*\n", "", text).replace("zodb_db", "zodb")
    database = ZODB.config.databaseFromString(text)
    with database.transaction() as connection:
        assert connection.root()["hello"] == "world"
    database.close()
    reader.follow("Old clients")
    client = ClientStorage(("127.0.0.1", int(reader.ports["8100"])), wait_timeout=60)
    database = ZODB.DB(client)
    with database.transaction() as connection:
        assert connection.root()["hello"] == "world"
    database.close()
    reader.follow("Undo, history and the past", "Packing")
    # All of it is younger than 30 days; the last pack was up to its own time.
    storage = reader.storage(read_only=True)
    assert len(storage.history(z64, 99)) == 1
    assert storage.undoLog() == []
    storage.close()
    reader.follow("Backup, and the way back")
    backup = FileStorage(str(reader.directory / "backup.fs"), read_only=True)
    compared(reader, backup)
    before = backup.lastTransaction()
    backup.close()
    more(reader.storage(), "after the backup").close()
    reader.follow("Backup, and the way back")
    backup = FileStorage(str(reader.directory / "backup.fs"), read_only=True)
    compared(reader, backup)
    assert backup.lastTransaction() > before
    reader.follow("A cluster from a backup")
    compared(reader, backup)
    backup.close()
    reader.follow("What is different")
    # What repozo calls a backup.
    (copy,) = reader.directory.glob("20*.fs")
    assert copy.read_bytes() == (reader.directory / "backup.fs").read_bytes()
    assert {section for section, *_ in blocks()} == {
        "Run a cluster", "From FileStorage", "From ZEO", "From RelStorage", "Check the copy",
        "Open it", "Old clients", "Undo, history and the past", "Packing",
        "Backup, and the way back", "A cluster from a backup", "What is different",
    }


def test_the_guide_runs_from_zeo(reader, caplog):
    path = reader.directory / "Data.fs"
    source = FileStorage(str(path))
    fill(source)
    source.close()
    config = "<zeo>\n  address 127.0.0.1:8100\n</zeo>\n" + FILE.format("1", path)
    reader.write(reader.here(config), "server.conf")
    reader.serve("runzeo -C server.conf")
    reader.follow("Run a cluster", "From ZEO")
    checked(reader, caplog)
    source = FileStorage(str(path), read_only=True)
    compared(reader, source)
    source.close()


def test_the_guide_runs_from_relstorage(reader, caplog):
    directory = reader.directory / "relstorage"
    options = Options(keep_history=True)
    source = RelStorage(Sqlite3Adapter(str(directory), pragmas={}, options=options), options=options)
    fill(source)
    database = more(source, "own")
    reader.follow("Run a cluster", "From RelStorage")
    checked(reader, caplog)
    compared(reader, source)
    database.close()
