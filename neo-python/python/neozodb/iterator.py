"""Transactions and records in the shape that ZODB's tools expect."""

import zope.interface
from ZODB import interfaces
from ZODB.BaseStorage import DataRecord, TransactionRecord


@zope.interface.implementer(interfaces.IStorageTransactionInformation)
class Transaction(TransactionRecord):
    """A committed transaction. Iterating over it gives its records, as often as asked."""

    def __init__(self, storage, stream, tid, user, description, extension, packed):
        super().__init__(tid, "p" if packed else " ", user, description, extension)
        self._storage = storage
        self._stream = stream

    def __iter__(self):
        objects = self._stream.objects_of(self)
        for oid, data, data_txn in objects:
            yield DataRecord(oid, self.tid, data, data_txn)


class Transactions:
    """An iterator over transactions; what is committed after it was made is not part of it."""

    def __init__(self, storage, start, stop):
        self._storage = storage
        self._stream = storage._iterate(start, stop)
        self._last = None

    def __iter__(self):
        return self

    def __next__(self):
        if self._stream is None:
            raise StopIteration
        self._last = None
        found = next(self._stream)
        self._last = found[0]
        return Transaction(self._storage, self, *found)

    def objects_of(self, transaction):
        """What a transaction wrote: on the way for the last one, else asked for again."""
        tid = transaction.tid
        if self._stream is not None and self._last == tid:
            self._last = None
            return self._stream.objects()
        stream = self._storage._iterate(tid, tid)
        # A pack may have removed all of it meanwhile.
        return stream.objects() if next(stream, None) else []

    def close(self):
        """Lets go of what was read ahead."""
        self._stream = None
