"""Exceptions, by what to do about them.

Those of ZODB are raised where ZODB has them: ``ConflictError``, ``ReadConflictError``,
``POSKeyError``, ``UndoError``, ``ReadOnlyError``, ``StorageTransactionError``.
"""

from transaction.interfaces import TransientError
from ZODB import POSException


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
    """No replica has the data as it was stored."""


class NEOStorageClosed(NEOStorageError):
    """The storage is closed."""


def _conflict(message, oid, serials):
    return POSException.ConflictError(oid=oid, serials=serials)


def _read_conflict(message, oid, serials):
    return POSException.ReadConflictError(oid=oid, serials=serials)


def _key(message, oid, serials):
    return POSException.POSKeyError(oid)


def _undo(message, oid, serials):
    return POSException.UndoError(message, oid)


def _plain(cls):
    return lambda message, oid, serials: cls(message)


_KINDS = {
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


def make(kind, message, oid, serials):
    """The exception for an error of the extension module."""
    return _KINDS[kind](message, oid, serials)
