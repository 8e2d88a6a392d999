"""Transactions and records in the shape that ZODB's tools expect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import zope.interface
from ZODB import interfaces
from ZODB.BaseStorage import DataRecord, TransactionRecord

if TYPE_CHECKING:
    from ._neozodb import TransactionIterator
    from .storage import Storage


@zope.interface.implementer(interfaces.IStorageTransactionInformation)
class Transaction(TransactionRecord):
    """A committed transaction. Iterating over it gives its records, as often as asked.

    It has ``tid``, ``status`` (``"p"`` when a pack was through it, else a space), ``user``,
    ``description``, ``extension`` and ``extension_bytes``.
    """

    tid: bytes
    status: str

    def __init__(
        self,
        storage: Storage,
        stream: Transactions,
        tid: bytes,
        user: bytes,
        description: bytes,
        extension: bytes,
        packed: bool,
    ) -> None:
        super().__init__(tid, "p" if packed else " ", user, description, extension)
        self._storage = storage
        self._stream = stream

    def __iter__(self) -> Iterator[DataRecord]:
        """Records with ``oid``, ``tid``, ``data`` (None for a deletion) and ``data_txn``, the tid
        of the revision that it repeats."""
        objects = self._stream.objects_of(self)
        for oid, data, data_txn in objects:
            yield DataRecord(oid, self.tid, data, data_txn)


class Transactions(Iterator[Transaction]):
    """An iterator over transactions; what is committed after it was made is not part of it."""

    def __init__(self, storage: Storage, start: bytes, stop: bytes) -> None:
        self._storage = storage
        self._stream: TransactionIterator | None = storage._iterate(start, stop)
        self._last: bytes | None = None

    def __iter__(self) -> Transactions:
        return self

    def __next__(self) -> Transaction:
        if self._stream is None:
            raise StopIteration
        self._last = None
        found = next(self._stream)
        self._last = found[0]
        return Transaction(self._storage, self, *found)

    def objects_of(
        self, transaction: Transaction
    ) -> list[tuple[bytes, bytes | None, bytes | None]]:
        """What a transaction wrote: on the way for the last one, else asked for again."""
        tid = transaction.tid
        if self._stream is not None and self._last == tid:
            self._last = None
            return self._stream.objects()
        stream = self._storage._iterate(tid, tid)
        # A pack may have removed all of it meanwhile.
        return stream.objects() if next(stream, None) else []

    def close(self) -> None:
        """Lets go of what was read ahead; it is at its end then."""
        self._stream = None
