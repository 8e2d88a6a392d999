#!/usr/bin/env python3
"""ZODB's storages side by side, each as its users run it, in one run on one machine.

    python benches/zodb/compare.py --bin target/release [--quick] [--only NAME,..] [--json FILE]

It wants ZEO, RelStorage and psycopg2 beside neozodb, and PostgreSQL. It takes about ten
minutes, with --quick two, and prints a table in Markdown.

Every client is a process of its own. All storages are durable at a commit, as they come: FileStorage
and ZEO by fsync, PostgreSQL and SQLite by their defaults, neo by a sync on every replica. FileStorage
and RelStorage on SQLite answer loads in the client's own process: they are shown for reference.
A pack removes the same revisions of all of them. There is no garbage, but all of them look for it
except neo.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import transaction
import ZODB
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from ZODB.Connection import TransactionMetaData
from ZODB.serialize import referencesf
from ZODB.utils import maxtid, p64, z64

SIZES = {"128 B": 128, "4 KiB": 4096, "100 KiB": 102400}


class Plan(NamedTuple):
    """How much is done."""

    size: int
    seconds: float
    objects: int
    #: Of each object, which a pack removes.
    revisions: int
    undos: int


def plan(size, seconds, quick):
    large = size > 10_000
    return Plan(
        size, seconds,
        objects=(100 if large else 300) if quick else (500 if large else 2_000),
        revisions=2 if quick else 3 if large else 10,
        undos=5 if quick else 20,
    )


clock = time.perf_counter


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_for(condition, process, what):
    end = time.monotonic() + 60
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{what} does not start")
        time.sleep(0.05)


def reachable(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Target:
    """A storage with its servers, in a directory of its own."""

    #: Whether it is asked over a network.
    network = True
    processes = ()

    def __init__(self, directory, binaries):
        self.directory, self.binaries = directory, binaries
        self.processes = []

    def spawn(self, *words, **options):
        log = open(self.directory / "log", "ab")
        process = subprocess.Popen(
            words, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options
        )
        self.processes.append(process)
        return process

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGINT if "postgres" in process.args[-1] else signal.SIGTERM)
        for process in self.processes:
            process.wait(60)

    def address(self):
        """What a client process needs to open it."""
        raise NotImplementedError


class FileStorage(Target):
    name, network = "FileStorage", False

    def start(self):
        pass

    def address(self):
        return "file", str(self.directory / "Data.fs")


class ZEO(Target):
    name = "ZEO"

    def start(self):
        self.port = free_port()
        runzeo = Path(sys.executable).parent / "runzeo"
        process = self.spawn(
            str(runzeo), "-a", f"127.0.0.1:{self.port}", "-f", str(self.directory / "Data.fs")
        )
        wait_for(lambda: reachable(self.port), process, "runzeo")

    def address(self):
        return "zeo", self.port


class RelSQLite(Target):
    name, network = "RelStorage SQLite", False

    def start(self):
        pass

    def address(self):
        return "relsqlite", str(self.directory / "rel")


class RelPostgreSQL(Target):
    name = "RelStorage PostgreSQL"

    def start(self):
        # PostgreSQL refuses to run as root.
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self.as_user = as_user if os.geteuid() == 0 else []
        self.data = Path(tempfile.mkdtemp(prefix="pg-"))
        if self.as_user:
            shutil.chown(self.data, "postgres")
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        where = found[-1] if found else Path("/usr/bin")
        run = [*self.as_user, str(where / "initdb"), "-D", str(self.data / "db"), "-A", "trust",
               "-U", "bench"]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL, cwd=self.data)
        self.port = free_port()
        process = self.spawn(
            *self.as_user, str(where / "postgres"), "-D", str(self.data / "db"), "-h", "127.0.0.1",
            "-k", str(self.data), "-p", str(self.port), "-c", "max_connections=100", "-c",
            "application_name=postgres",
        )
        wait_for(lambda: reachable(self.port), process, "postgres")
        time.sleep(0.5)
        import psycopg2

        with contextlib.closing(psycopg2.connect(self.dsn("postgres"))) as connection:
            connection.autocommit = True
            connection.cursor().execute("CREATE DATABASE zodb")

    def dsn(self, database):
        return f"host=127.0.0.1 port={self.port} user=bench dbname={database}"

    def address(self):
        return "relpostgres", self.dsn("zodb")

    def stop(self):
        super().stop()
        shutil.rmtree(self.data, ignore_errors=True)


class Neo(Target):
    storages, replicas = 1, 0
    name = "neo, 1 storage"

    def start(self):
        self.port = free_port()
        process = self.spawn(
            str(self.binaries / "neosimple"), "--dir", str(self.directory / "neo"), "--processes",
            "--port", str(self.port), "--storages", str(self.storages), "--replicas",
            str(self.replicas),
        )
        running = lambda: b"RUNNING" in (self.directory / "log").read_bytes()
        wait_for(running, process, "neosimple")

    def address(self):
        return "neo", self.port


class NeoReplicated(Neo):
    storages, replicas = 2, 1
    name = "neo, 2 storages, 1 replica"


TARGETS = [FileStorage, ZEO, RelSQLite, RelPostgreSQL, Neo, NeoReplicated]


def open_storage(address):
    kind, where = address
    if kind == "file":
        from ZODB.FileStorage import FileStorage

        return FileStorage(where)
    if kind == "zeo":
        from ZEO import ClientStorage

        return ClientStorage.ClientStorage(("127.0.0.1", where), wait_timeout=60)
    if kind == "neo":
        from neozodb import Storage

        # As ZEO does by default: what others have committed is told, and not asked for.
        return Storage(f"127.0.0.1:{where}", "main", sync=False, cache_size=200 << 20)
    from relstorage.options import Options
    from relstorage.storage import RelStorage

    options = Options(keep_history=True, cache_local_mb=200)
    if kind == "relsqlite":
        from relstorage.adapters.sqlite.adapter import Sqlite3Adapter as Adapter

        Path(where).mkdir(exist_ok=True)
        return RelStorage(Adapter(where, pragmas={}, options=options), options=options)
    from relstorage.adapters.postgresql import PostgreSQLAdapter as Adapter

    return RelStorage(Adapter(where, options=options), options=options)


def value(size, salt):
    """What compresses as pickles do: a half of it is noise."""
    return random.Random(salt).randbytes(size // 2) + b"x" * (size - size // 2)


def poll(storage):
    if hasattr(storage, "poll_invalidations"):
        storage.poll_invalidations()


def commit(storage, stores):
    txn = TransactionMetaData()
    storage.tpc_begin(txn)
    for oid, serial, data in stores:
        storage.store(oid, serial, data, "", txn)
    storage.tpc_vote(txn)
    return storage.tpc_finish(txn)


# --- what a client process measures: each gives a dictionary of figures ---


def commits(storage, plan, barrier, seed):
    data = [value(plan.size, seed * 1000 + n) for n in range(8)]
    oid = storage.new_oid()
    serial = commit(storage, [(oid, z64, data[0])])
    barrier.wait(120)
    times, end = [], clock() + plan.seconds
    while clock() < end:
        begun = clock()
        serial = commit(storage, [(oid, serial, data[len(times) % 8])])
        times.append(clock() - begun)
    return {"per_s": len(times) / plan.seconds, "p50_us": statistics.median(times) * 1e6}


def loads(storage, plan, barrier, seed):
    """Objects of another process: nothing of them is cached here."""
    oids = stored_oids(plan)
    random.Random(seed).shuffle(oids)
    poll(storage)
    barrier.wait(120)
    figures = {}
    for name in ("cold", "cached"):
        times = []
        for oid in oids:
            begun = clock()
            storage.load(oid)
            times.append(clock() - begun)
        figures[f"{name}_p50_us"] = statistics.median(times) * 1e6
    return figures


def prefetches(storage, plan, barrier, seed):
    oids = stored_oids(plan)
    poll(storage)
    barrier.wait(120)
    if not hasattr(storage, "prefetch"):
        return {}
    begun = clock()
    for at in range(0, len(oids), 100):
        some = oids[at:at + 100]
        try:
            storage.prefetch(some, maxtid)
        except TypeError:
            storage.prefetch(some)
        for oid in some:
            storage.load(oid)
    return {"us": (clock() - begun) / len(oids) * 1e6}


def iteration(storage, plan, barrier, seed):
    barrier.wait(120)
    begun, count = clock(), 0
    for txn in storage.iterator():
        for record in txn:
            count += len(record.data or b"") > 0
    return {"records_per_s": count / (clock() - begun)}


def undos(storage, plan, barrier, seed):
    oid, serial = storage.new_oid(), z64
    for n in range(3 * plan.undos):
        serial = commit(storage, [(oid, serial, value(plan.size, n))])
    poll(storage)
    ids = [entry["id"] for entry in storage.undoLog(0, -2 * plan.undos)]
    barrier.wait(120)
    times = []
    for undone in ids[:plan.undos]:
        begun = clock()
        txn = TransactionMetaData()
        storage.tpc_begin(txn)
        storage.undo(undone, txn)
        storage.tpc_vote(txn)
        storage.tpc_finish(txn)
        times.append(clock() - begun)
    return {"p50_us": statistics.median(times) * 1e6}


def pack(storage, plan, barrier, seed):
    """What `db_revise` has left behind."""
    poll(storage)
    barrier.wait(120)
    begun = clock()
    storage.pack(time.time(), referencesf)
    return {"revisions_per_s": plan.objects * plan.revisions / (clock() - begun)}


class Thing(Persistent):
    def __init__(self, data):
        self.data = data


def db_commits(storage, plan, barrier, seed):
    database = ZODB.DB(storage)
    connection = database.open()
    # The eight begin in one bucket.
    for attempt in transaction.manager.attempts(50):
        with attempt:
            thing = connection.root()["things"][seed] = Thing(b"")
    barrier.wait(120)
    times, end = [], clock() + plan.seconds
    while clock() < end:
        begun = clock()
        transaction.begin()
        thing.data = value(plan.size, len(times) % 8)
        transaction.commit()
        times.append(clock() - begun)
    connection.close()
    database.close()
    return {"per_s": len(times) / plan.seconds, "p50_us": statistics.median(times) * 1e6}


def read_all(connection, ahead):
    """Microseconds for an object; some of them are prefetched before they are read."""
    begun = clock()
    things = list(connection.root()["many"].values())
    for at in range(0, len(things), 100):
        some = things[at:at + 100]
        if ahead:
            connection.prefetch(some)
        for thing in some:
            assert thing.data
    return (clock() - begun) / len(things) * 1e6


def db_loads(storage, plan, barrier, seed):
    """A connection that has nothing, above a storage that has nothing, and above one that has all
    that another connection has read."""
    database = ZODB.DB(storage, cache_size=10_000)
    barrier.wait(120)
    figures = {}
    for name in ("cold", "cached"):
        manager = transaction.TransactionManager()
        figures[name] = read_all(database.open(manager), ahead=False)
    database.close()
    return figures


def db_prefetches(storage, plan, barrier, seed):
    database = ZODB.DB(storage, cache_size=10_000)
    connection = database.open()
    barrier.wait(120)
    figures = {"us": read_all(connection, ahead=True)}
    connection.close()
    database.close()
    return figures


def db_undos(storage, plan, barrier, seed):
    database = ZODB.DB(storage)
    for n in range(3 * plan.undos):
        with database.transaction() as connection:
            connection.root()["undone"] = Thing(value(plan.size, n))
    barrier.wait(120)
    times = []
    for entry in database.undoInfo(0, -plan.undos):
        begun = clock()
        database.undo(entry["id"])
        transaction.commit()
        times.append(clock() - begun)
    database.close()
    return {"p50_us": statistics.median(times) * 1e6}


def stored_oids(plan):
    return [p64((1 << 32) + n) for n in range(plan.objects)]


def fill(storage, plan, barrier, seed):
    """What is loaded later."""
    oids = stored_oids(plan)
    for at in range(0, len(oids), 100):
        commit(storage, [(oid, z64, value(plan.size, at)) for oid in oids[at:at + 100]])
    return {}


def db_fill(storage, plan, barrier, seed):
    database = ZODB.DB(storage)
    with database.transaction() as connection:
        root = connection.root()
        root["things"] = OOBTree()
        for process in range(8):
            # So that processes do not meet in one bucket.
            root["things"][process] = Thing(b"")
        root["many"] = OOBTree()
        for n in range(plan.objects):
            root["many"][n] = Thing(value(plan.size, n))
    database.close()
    return {}


def db_revise(storage, plan, barrier, seed):
    """Many revisions of what is filled in."""
    database = ZODB.DB(storage, cache_size=10_000)
    connection = database.open()
    things = list(connection.root()["many"].values())
    for revision in range(plan.revisions):
        for at in range(0, len(things), 100):
            for n, thing in enumerate(things[at:at + 100]):
                thing.data = value(plan.size, revision * 100 + n)
            transaction.commit()
    connection.close()
    database.close()
    return {}


def client(address, work, plan, barrier, seed, results):
    storage = open_storage(address)
    try:
        results.put(globals()[work](storage, plan, barrier, seed))
    except BaseException as error:
        barrier.abort()
        results.put({"error": repr(error)})
        raise
    finally:
        storage.close()


def run(target, work, plan, processes=1):
    """The work in so many processes; rates are added up, times are the median of the processes."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    clients = [
        context.Process(
            target=client, args=(target.address(), work, plan, barrier, n, results)
        )
        for n in range(processes)
    ]
    for process in clients:
        process.start()
    told = [results.get(timeout=300) for _ in clients]
    for process in clients:
        process.join()
    for figures in told:
        if "error" in figures:
            raise RuntimeError(f"{target.name}: {work}: {figures['error']}")
    return {
        key: sum(figures[key] for figures in told) if key == "per_s"
        else statistics.median(figures[key] for figures in told)
        for key in told[0]
    }


def measure(target, plans, note):
    """All rows of a storage: {row: figure}."""
    processes = (1,) if target.name == "FileStorage" else (1, 8)

    def note_commits(level, work, plan, label):
        for count in processes:
            row = f"{level}: commits/s, {count} process{'es' * (count > 1)}, {label}"
            note(row, run(target, work, plan, count)["per_s"])

    for label, plan in plans.items():
        note_commits("storage", "commits", plan, label)
        target = restart(target)
        run(target, "fill", plan)
        figures = run(target, "loads", plan)
        note(f"storage: cold load p50, us, {label}", figures["cold_p50_us"])
        note(f"storage: cached load p50, us, {label}", figures["cached_p50_us"])
        figures = run(target, "prefetches", plan)
        if figures:
            note(f"storage: load after prefetch of 100, us, {label}", figures["us"])
        note(f"storage: iteration, records/s, {label}",
             run(target, "iteration", plan)["records_per_s"])
        note(f"storage: undo p50, us, {label}", run(target, "undos", plan)["p50_us"])
        target = restart(target)
        run(target, "db_fill", plan)
        figures = run(target, "db_loads", plan)
        note(f"DB: cold load, us, {label}", figures["cold"])
        note(f"DB: cached load, us, {label}", figures["cached"])
        note(f"DB: load after prefetch of 100, us, {label}", run(target, "db_prefetches", plan)["us"])
        note_commits("DB", "db_commits", plan, label)
        note(f"DB: undo p50, us, {label}", run(target, "db_undos", plan)["p50_us"])
        # Nothing but what is packed.
        target = restart(target)
        run(target, "db_fill", plan)
        run(target, "db_revise", plan)
        note(f"storage: pack, revisions/s, {label}", run(target, "pack", plan)["revisions_per_s"])
        target = restart(target)
    target.stop()


def restart(target):
    """The same storage, empty."""
    target.stop()
    shutil.rmtree(target.directory)
    target.directory.mkdir()
    fresh = type(target)(target.directory, target.binaries)
    fresh.start()
    return fresh


def table(rows):
    names = list(rows)
    lines = ["| | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    # In the order of one that has them all.
    fullest = sorted(rows.values(), key=len, reverse=True)
    labels = list(dict.fromkeys(label for figures in fullest for label in figures))
    for label in labels:
        cells = []
        for name in names:
            figure = rows[name].get(label)
            cells.append("" if figure is None else f"{figure:,.0f}" if figure >= 100
                         else f"{figure:.1f}")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bin", type=Path, required=True, help="where neosimple is")
    parser.add_argument("--seconds", type=float, help="of each measurement of commits: 2, or 0.5")
    parser.add_argument("--quick", action="store_true", help="less of all: whether it works")
    parser.add_argument("--dir", type=Path, help="on the disk to be measured")
    parser.add_argument("--only", help="names of storages, or parts of them, separated by commas")
    parser.add_argument("--sizes", help="128,4096,102400: only these")
    parser.add_argument("--json", type=Path, help="the figures, for programs")
    arguments = parser.parse_args()
    wanted = {int(size) for size in arguments.sizes.split(",")} if arguments.sizes else None
    seconds = arguments.seconds or (0.5 if arguments.quick else 2)
    plans = {label: plan(size, seconds, arguments.quick)
             for label, size in SIZES.items() if wanted is None or size in wanted}
    rows, begun = {}, clock()
    for cls in TARGETS:
        only = arguments.only
        if only and not any(part.lower() in cls.name.lower() for part in only.split(",")):
            continue
        with tempfile.TemporaryDirectory(dir=arguments.dir, prefix="bench-") as directory:
            target = cls(Path(directory) / "target", arguments.bin.resolve())
            target.directory.mkdir()
            target.start()
            figures = rows[cls.name] = {}

            def note(row, figure, name=cls.name, figures=figures):
                figures[row] = figure
                print(f"{name:30} {row:50} {figure:12,.1f}", file=sys.stderr, flush=True)

            measure(target, plans, note)
    print(f"{clock() - begun:.0f} s", file=sys.stderr)
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
