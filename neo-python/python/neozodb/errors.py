"""Exceptions, by what to do about them.

Those of ZODB are raised where ZODB has them: ``ConflictError``, ``ReadConflictError``,
``POSKeyError``, ``UndoError``, ``ReadOnlyError``, ``StorageTransactionError``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from transaction.interfaces import TransientError
from ZODB import POSException

#: The serial of what is committed, and the one that the transaction started from.
Serials: TypeAlias = "tuple[bytes, bytes | None] | None"
_Maker: TypeAlias = "Callable[[str, bytes | None, Serials], Any]"


class NEOStorageError(POSException.StorageError):
    """The cluster, or the storage, failed; the message says how."""


class NEOStorageUnavailable(NEOStorageError, TransientError):
    """The cluster does not serve at the moment. Nothing was committed: try again."""


class IncompleteTransaction(NEOStorageError, TransientError):
    """Too many nodes failed during the transaction. Nothing was committed: try again."""


class OutcomeUnknown(NEOStorageError):
    """Nobody could tell in time whether the transaction is committed.

    Do not redo it blindly: look at the data first.
    """


class NoSpace(NEOStorageError):
    """The disks of the storage nodes are full. Reads go on."""


class WrongChecksum(NEOStorageError):
    """No replica has the data as it was stored. `Storage` has an option to read it all the same."""


class NEOStorageClosed(NEOStorageError):
    """The storage is closed, or was opened before a fork, by the parent process."""


def _conflict(message: str, oid: bytes | None, serials: Serials) -> Any:
    return POSException.ConflictError(oid=oid, serials=serials)


def _read_conflict(message: str, oid: bytes | None, serials: Serials) -> Any:
    return POSException.ReadConflictError(oid=oid, serials=serials)


def _key(message: str, oid: bytes | None, serials: Serials) -> Any:
    return POSException.POSKeyError(oid)


def _undo(message: str, oid: bytes | None, serials: Serials) -> Any:
    return POSException.UndoError(message, oid)


def _plain(cls: type[Exception]) -> _Maker:
    return lambda message, oid, serials: cls(message)


_KINDS: dict[str, _Maker] = {
    "conflict": _conflict,
    "read-conflict": _read_conflict,
    "key": _key,
    "checksum": _plain(WrongChecksum),
    "unavailable": _plain(NEOStorageUnavailable),
    "incomplete": _plain(IncompleteTransaction),
    "unknown-outcome": _plain(OutcomeUnknown),
    "read-only": _plain(POSException.ReadOnlyError),
    "undo": _undo,
    "misuse": _plain(POSException.StorageTransactionError),
    "transaction": _plain(POSException.StorageTransactionError),
    "no-space": _plain(NoSpace),
    "closed": _plain(NEOStorageClosed),
    "storage": _plain(NEOStorageError),
}


def make(kind: str, message: str, oid: bytes | None, serials: Serials) -> Exception:
    """The exception for an error of the extension module."""
    error: Exception = _KINDS[kind](message, oid, serials)
    return error
