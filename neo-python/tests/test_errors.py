"""Errors of the client as the exceptions that ZODB's users know."""

import pytest
import transaction
from transaction.interfaces import TransientError
from ZODB import POSException

import neozodb
from neozodb import _neozodb

EXPECTED = {
    "relies on": POSException.ReadConflictError,
    "changed by transaction": POSException.ConflictError,
    "not ready": neozodb.NEOStorageUnavailable,
    "timed out": neozodb.NEOStorageUnavailable,
    "can't be completed": neozodb.IncompleteTransaction,
    "is unknown": neozodb.OutcomeUnknown,
    "read-only": POSException.ReadOnlyError,
    "too large": neozodb.NEOStorageError,
    "no space left": neozodb.NoSpace,
    "checksum": neozodb.WrongChecksum,
    "packed away": POSException.ReadConflictError,
    "revision is missing": POSException.UndoError,
    "can't be undone": POSException.UndoError,
    "other cluster": neozodb.NEOStorageError,
    "denied": neozodb.NEOStorageError,
    "node failed": neozodb.NEOStorageError,
    "misuse": POSException.StorageTransactionError,
    "client is closed": neozodb.NEOStorageClosed,
    # Of the application itself, which comes from Rust only.
    "for some reason": neozodb.NEOStorageError,
}


def expected(words):
    """What it should be, by the words that are special to it."""
    return next(cls for special, cls in EXPECTED.items() if special in words)


def test_what_may_be_retried_is_what_python_retries():
    told = _neozodb._errors()
    assert len(told) == len(EXPECTED)
    for words, is_retryable, raised in told:
        assert isinstance(raised, TransientError) == is_retryable, words
        # As the loops of `transaction` and of servers ask.
        is_retried = transaction.TransactionManager()._retryable(type(raised), raised)
        assert is_retried == is_retryable, words
        assert isinstance(raised, POSException.POSError), words
        assert type(raised) is expected(words), words


@pytest.mark.parametrize("name", [n for n in neozodb.__all__ if n[0] in "INOW" and n != "Storage"])
def test_own_exceptions_are_storage_errors(name):
    assert issubclass(getattr(neozodb, name), POSException.StorageError)
