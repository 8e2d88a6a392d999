"""What a client hears of the others: at the begin of a transaction, and after an interruption."""

import socket
import threading

import transaction
import ZODB
from ZODB.utils import z64

import neozodb
from helpers import commit
from test_storage import Told


def test_without_sync_a_transaction_sees_what_this_client_has_heard_of(cluster, storage):
    oid = storage.new_oid()
    before = commit(storage, {oid: (z64, b"1")})
    late, synced = cluster.storage(sync=False), cluster.storage()
    told = Told(late)
    late.registerDB(told)
    assert late.lastTransaction() == before
    after = commit(storage, {oid: (before, b"2")})
    # It asks nobody: what it is told of is not over yet, and a question would not end before.
    told.is_told.wait()
    late.sync()
    synced.sync()
    asked = []
    asks = threading.Thread(target=lambda: asked.append(late.lastTransaction()))
    asks.start()
    told.go_on.set()
    asks.join()
    assert told.tids == [(before, after)]
    assert asked == [after] and synced.lastTransaction() == after
    late.close()
    synced.close()


def test_a_database_without_sync_does_not_ask_the_master(cluster):
    asked = []

    class Counting(neozodb.Storage):
        def _sync(self):
            asked.append(self._sync_always)
            super()._sync()

    for sync in False, True:
        database = ZODB.DB(Counting(cluster.masters, cluster.name, sync=sync))
        with database.transaction() as connection:
            connection.root()["x"] = sync
        manager = transaction.TransactionManager()
        connection = database.open(manager)
        manager.begin()
        connection.sync()
        database.close()
        assert set(asked) == ({True} if sync else set())


class Line:
    """A way to a master that can be held up, and cut."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.to, self.server = (host, int(port)), socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.server.getsockname()[1]}"
        self.sockets = []
        self.is_open = threading.Event()
        self.is_open.set()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        near, _ = self.server.accept()
        far = socket.create_connection(self.to)
        self.sockets += [near, far]
        # Others are refused.
        self.server.close()
        for source, sink in (near, far), (far, near):
            threading.Thread(target=self.forward, args=(source, sink), daemon=True).start()

    def forward(self, source, sink):
        try:
            while data := source.recv(1 << 16):
                self.is_open.wait()
                sink.sendall(data)
        except OSError:
            pass

    def hold_up(self):
        self.is_open.clear()

    def cut(self):
        for it in self.sockets:
            it.shutdown(socket.SHUT_RDWR)
        self.is_open.set()


class Missed:
    """What a storage tells invalidations to."""

    transform_record_data = untransform_record_data = references = staticmethod(lambda data: data)

    def __init__(self):
        self.told, self.is_cleared = [], threading.Event()

    def invalidate(self, tid, oids=()):
        self.told.append(tid)

    def invalidateCache(self):
        self.told.append(None)
        self.is_cleared.set()


def test_who_missed_transactions_is_told_to_forget_what_it_has(cluster, storage):
    oid = storage.new_oid()
    first = commit(storage, {oid: (z64, b"1")})
    line = Line(cluster.masters)
    late = neozodb.Storage(line.address, cluster.name)
    missed = Missed()
    late.registerDB(missed)
    assert late.load(oid) == (b"1", first)
    line.hold_up()
    second = commit(storage, {oid: (first, b"2")})
    third = commit(storage, {oid: (second, b"3")})
    assert late.lastTransaction() == first and missed.told == []
    line.cut()
    late.sync()
    assert missed.told == [None]
    assert late.lastTransaction() == third
    assert late.load(oid) == (b"3", third)
    # From then on it hears of each again.
    fourth = commit(storage, {oid: (third, b"4")})
    late.sync()
    assert missed.told == [None, fourth]
    late.close()


def test_objects_of_a_database_that_missed_transactions_are_read_again(cluster, storage):
    line = Line(cluster.masters)
    late = ZODB.DB(neozodb.Storage(line.address, cluster.name))
    database = ZODB.DB(storage)
    with database.transaction() as connection:
        connection.root()["n"] = 1
    manager = transaction.TransactionManager()
    connection = late.open(manager)
    manager.begin()
    assert connection.root()["n"] == 1
    line.hold_up()
    for n in 2, 3:
        with database.transaction() as other:
            other.root()["n"] = n
    assert connection.root()["n"] == 1
    line.cut()
    manager.begin()
    assert connection.root()["n"] == 3
    late.close()
    database.close()
