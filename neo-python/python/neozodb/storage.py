"""The storage: what has to be Python over the extension module."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import zope.interface
from ZODB import interfaces
from ZODB.BaseStorage import copy
from ZODB.ConflictResolution import ConflictResolvingStorage
from ZODB.POSException import ReadOnlyError
from ZODB.TimeStamp import TimeStamp
from ZODB.UndoLogCompatible import UndoLogCompatible
from ZODB._compat import dumps, loads
from ZODB.utils import load_current, maxtid, z64

from . import _neozodb
from .iterator import Transactions

_open_storages: weakref.WeakSet[Storage] = weakref.WeakSet()


def _after_fork() -> None:
    for storage in list(_open_storages):
        storage._forked()


os.register_at_fork(after_in_child=_after_fork)


class PackProgress(NamedTuple):
    """How far the cluster is with its packs."""

    #: The last order that is known and not done everywhere: the tid of its transaction, or None.
    order: bytes | None
    #: Copies of partitions that have done it.
    cells_done: int
    #: Copies of partitions that are readable.
    cells: int
    #: The tid up to which there was a pack, or is one: what was before may be gone.
    packed_at: bytes
    #: The same of packs of all objects: what is not newer can't be undone.
    whole_packed_at: bytes


def _words(text: str | bytes) -> bytes:
    """Bytes of a user or a description."""
    return text.encode("utf-8") if isinstance(text, str) else bytes(text)


def _extension(transaction: Any) -> bytes:
    """The extension, as bytes: verbatim, where the transaction has them."""
    try:
        return bytes(transaction.extension_bytes)
    except AttributeError:
        extension = getattr(transaction, "extension", None)
        return bytes(dumps(extension, 3)) if extension else b""


def _described(
    tid: bytes, user: bytes, description: bytes, extension: bytes, /, **more: object
) -> dict[str, Any]:
    """A transaction as ZODB lists it: what is in the extension is beside the rest."""
    try:
        described = dict(loads(extension)) if extension else {}
    except Exception:
        # What another application put there may need its classes.
        described = {}
    described.update(
        time=TimeStamp(tid).timeTime(), user_name=user, description=description, **more
    )
    return described


def _compression(compress: bool | str | None) -> int | None:
    """None for none, 0 for LZ4, or the level of zlib."""
    if compress is None or compress is True:
        return 0
    if compress is False:
        return None
    name, _, level = (part.strip().lower() for part in str(compress).partition("="))
    if (name, level) == ("lz4", ""):
        return 0
    if name == "zlib" and level in ("", *"123456789"):
        return int(level or 6)
    raise ValueError(
        f"compress is {compress!r}: use true, false, lz4, zlib, or zlib=1 (fast) to zlib=9 (small)"
    )


def _masters(master_nodes: str | Iterable[str]) -> list[str]:
    """Addresses, one by one."""
    if isinstance(master_nodes, str):
        return master_nodes.split()
    masters = list(master_nodes)
    if not all(isinstance(master, str) for master in masters):
        raise ValueError(f"master_nodes is {master_nodes!r}: each is a string, HOST:PORT")
    return masters


def _flag(option: str, value: object) -> bool:
    """True or False: words would all be true."""
    if value not in (False, True):
        raise ValueError(f"{option} is {value!r}: use True or False")
    return bool(value)


def _bytes(option: str, value: int) -> int:
    """A number of bytes: words that mean one are for configurations."""
    if not isinstance(value, int) or not 0 <= value <= sys.maxsize:
        raise ValueError(f"{option} is {value!r}: give a number of bytes, as 20 << 20 for 20 MiB")
    return value


def _seconds(option: str, value: float) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{option} is {value!r}: give a number of seconds") from None


def _path(option: str, value: str | os.PathLike[str] | None) -> str | None:
    """An absolute path, or None."""
    if value is None:
        return None
    path = os.path.expanduser(os.fspath(value))
    if not path:
        raise ValueError(f"{option} is empty: give the path of a file")
    return os.path.abspath(path)


@zope.interface.implementer(
    interfaces.IStorage,
    interfaces.IMultiCommitStorage,
    interfaces.IPrefetchStorage,
    interfaces.IStorageUndoable,
    interfaces.IStorageIteration,
    interfaces.IStorageCurrentRecordIteration,
    interfaces.IStorageRestoreable,
    interfaces.IExternalGC,
    interfaces.ReadVerifyingStorage,
)
class Storage(ConflictResolvingStorage, UndoLogCompatible, _neozodb.BaseStorage):
    """A database of a neo cluster, for ``ZODB.DB``.

    :param master_nodes: addresses of masters, ``HOST:PORT``, separated by spaces; one that
        answers is enough, the others are learnt. May be empty where `dynamic_master_list` has some.
    :param name: the name of the cluster.
    :param compress: ``True`` (the default) for LZ4 where it helps, ``False`` for none; ``"zlib"``, or
        ``"zlib=1"`` to ``"zlib=9"``, for what is smaller and slower.
    :param logfile: a file for the log of the storage: at its end, as the logs of nodes are. A
        process has one log: all its storages name the same file, or none. ``$RUST_LOG`` says how
        much is logged, as ``neo_client=debug`` does; ``info`` otherwise.
    :param cache_size: bytes of objects that are kept in memory, for all threads together.
    :param read_only: refuses to write.
    :param ignore_wrong_checksum: gives out data that matches its checksum on no replica, and logs
        a warning, instead of raising `WrongChecksum`; where it can't be decompressed, ``b""``. To
        save what is left of a damaged database, best with `read_only`.
    :param dynamic_master_list: a file that keeps the masters that the storage learns of: a JSON
        list, read beside `master_nodes`. With it, a cluster is found when all of `master_nodes`
        are gone.
    :param ca: TLS: not available in this version.
    :param cert: TLS: not available in this version.
    :param key: TLS: not available in this version.
    :param sync: whether each transaction begins with a question to the master, so that it sees
        everything that was committed anywhere before.
    :param wait: seconds to wait until the cluster serves.

    One storage serves any number of threads; each may have a transaction of its own in progress.
    """

    def __init__(
        self,
        master_nodes: str | Iterable[str],
        name: str,
        compress: bool | str | None = None,
        logfile: str | os.PathLike[str] | None = None,
        cache_size: int = 20 << 20,
        read_only: bool = False,
        ignore_wrong_checksum: bool = False,
        dynamic_master_list: str | os.PathLike[str] | None = None,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        *,
        sync: bool = True,
        wait: float = 10.0,
    ) -> None:
        if ca or cert or key:
            raise ValueError("TLS (ca, cert, key) is not available in this version")
        dynamic_master_list = _path("dynamic_master_list", dynamic_master_list)
        masters = _masters(master_nodes)
        if not masters and dynamic_master_list is None:
            raise ValueError("master_nodes is empty: give at least one HOST:PORT")
        if not name or not isinstance(name, str):
            raise ValueError(f"name is {name!r}: give the name of the cluster")
        self.__name__ = f"neo({name})"
        self._is_read_only = _flag("read_only", read_only)
        self._sync_always = _flag("sync", sync)
        # Not used here: `DemoStorage` takes that of the storage for its changes.
        self._lock = threading.RLock()
        self._counted: tuple[int, bytes | None] = 0, None
        logfile = _path("logfile", logfile)
        if logfile is not None:
            _neozodb._log_to(logfile)
        _open_storages.add(self)
        self._open(
            masters,
            name,
            cache_size=_bytes("cache_size", cache_size),
            read_only=self._is_read_only,
            compression=_compression(compress),
            timeout=_seconds("wait", wait),
            dynamic_master_list=dynamic_master_list,
            ignore_wrong_checksum=_flag("ignore_wrong_checksum", ignore_wrong_checksum),
            weak=weakref.ref(self),
        )
        self._sort_key = f"neo:{name}"

    def _is_refused(self) -> ReadOnlyError:
        return ReadOnlyError(f"{self.__name__} was opened with read_only, and refuses to write")

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} {self.__name__}>"

    # --- IStorage ---

    def getName(self) -> str:
        """``neo(CLUSTER)``."""
        return self.__name__

    def sortKey(self) -> str:
        """The same for all clients of a cluster: the order in which databases commit together."""
        return self._sort_key

    def isReadOnly(self) -> bool:
        """Whether it was opened so that it refuses to write."""
        return self._is_read_only

    def __len__(self) -> int:
        """How many objects there are. They are counted, once for each state of the database."""
        count, tid = self._counted
        if tid is None or tid != self.lastTransaction():
            self._counted = count, tid = self._count()
        return count

    def __bool__(self) -> bool:
        return True

    def registerDB(self, wrapper: Any) -> None:
        """ZODB's database gives itself: it is told what others change."""
        super_register = super().registerDB
        super_register(wrapper)
        self._register(wrapper)

    def sync(self, force: bool = True) -> None:
        """Afterwards `lastTransaction` is at least what was committed before the call; unless the
        storage was opened with ``sync=False``."""
        if force and self._sync_always:
            self._sync()

    def new_oid(self) -> bytes:
        """An oid that nobody was given before."""
        if self._is_read_only:
            raise self._is_refused()
        return super().new_oid()

    def tpc_begin(self, transaction: Any, tid: bytes | None = None, status: str = " ") -> None:
        """Begins to commit; others may commit at the same time.

        :param transaction: ZODB's ``IStorageTransactionMetaData``.
        :param tid: imposes the tid, for `restore`: greater than all that there are.
        :param status: imposes it: ``"p"`` for a transaction that a pack was through.
        """
        if self._is_read_only:
            raise self._is_refused()
        self._begin(
            transaction,
            _words(transaction.user),
            _words(transaction.description),
            _extension(transaction),
            tid,
            status == "p",
        )

    def tpc_transaction(self) -> None:
        """No transaction stands out: several may be in progress."""
        return None

    def getTid(self, oid: bytes) -> bytes:
        """The serial of the newest revision, of what was committed before the call."""
        serial: bytes = load_current(self, oid)[1]
        return serial

    def history(self, oid: bytes, size: int = 1) -> list[dict[str, Any]]:
        """The newest revisions, newest first, at most `size`: ``time``, ``tid``, ``user_name``,
        ``description``, ``size``, and what the extension has."""
        return [
            _described(tid, user, description, extension, tid=tid, size=length)
            for tid, length, user, description, extension in self._history(oid, size)
        ]

    def pack(
        self,
        t: float | None = None,
        referencesf: object = None,
        gc: object = None,
        *,
        oids: Iterable[bytes] | None = None,
        wait: bool = True,
    ) -> bytes | None:
        """Removes what was replaced up to the time `t`, in seconds since 1970; None means now.

        No garbage is collected, whatever `gc` says: what nothing refers to stays until it is
        deleted. `referencesf` is not used.

        :param oids: only of these objects.
        :param wait: whether to return when it is done, and not as soon as it is ordered; then the
            order is returned, for `wait_pack`. Who waits may be interrupted: the pack goes on.
        """
        if self._is_read_only:
            raise self._is_refused()
        if isinstance(oids, (bytes, str)):
            raise ValueError(f"oids is {oids!r}: give a list of oids, 8 bytes each")
        t = time.time() if t is None else t
        at = TimeStamp(*time.gmtime(t)[:5], t % 60).raw()
        order = self._order_pack(at, None if oids is None else list(oids))
        if not wait:
            return order
        self.wait_pack(order)
        return None

    def pack_progress(self) -> PackProgress:
        """How far the cluster is with its packs: see `PackProgress`."""
        return PackProgress(*self._pack_progress())

    # --- IStorageUndoable: `undo` is in the extension ---

    def supportsUndo(self) -> bool:
        """It does."""
        return True

    def undoLog(
        self,
        first: int = 0,
        last: int = -20,
        filter: Callable[[dict[str, Any]], object] | None = None,
    ) -> list[dict[str, Any]]:
        """What can be undone, newest first: those from `first` up to `last`, of what `filter`
        takes; a negative `last` is how many at most."""
        if last < 0:
            last = first - last
        found: list[dict[str, Any]] = []
        if first < last:
            count = 0
            for tid, user, description, extension, packed in self._undo_log():
                told = _described(tid, user, description, extension, id=tid)
                if packed or (filter is not None and not filter(told)):
                    continue
                if count >= first:
                    found.append(told)
                count += 1
                if count >= last:
                    break
        return found

    def undoInfo(
        self, first: int = 0, last: int = -20, specification: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """As `undoLog`, of those that have what `specification` has, as ``{"user_name": b"me"}``."""
        found: list[dict[str, Any]] = super().undoInfo(first, last, specification)
        return found

    # --- IStorageIteration ---

    def iterator(self, start: bytes | None = None, stop: bytes | None = None) -> Transactions:
        """Transactions from `start` to `stop`, both included, ascending; what is committed later
        is not among them."""
        return Transactions(self, start or z64, stop or maxtid)

    # --- IStorageRestoreable: `restore` is in the extension ---

    def copyTransactionsFrom(self, other: Any, verbose: int = 0) -> None:
        """Copies all transactions of another storage, with their tids, into this one."""
        copy(other, self, verbose)
