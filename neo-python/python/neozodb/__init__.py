"""A ZODB storage on a neo cluster: distributed, replicated, with full history.

    from neozodb import Storage
    import ZODB

    db = ZODB.DB(Storage("127.0.0.1:10000", "main"))

In zope.conf, or any other ZConfig file::

    %import neozodb
    <zodb_db main>
      <NEOStorage>
        master_nodes 127.0.0.1:10000
        name main
      </NEOStorage>
    </zodb_db>

With zodburi: ``neo://main@127.0.0.1:10000``.
"""

from ._neozodb import __version__
from .errors import (
    IncompleteTransaction,
    NEOStorageClosed,
    NEOStorageError,
    NEOStorageUnavailable,
    NoSpace,
    OutcomeUnknown,
    WrongChecksum,
)
from .storage import PackProgress, Storage

__all__ = [
    "IncompleteTransaction",
    "NEOStorageClosed",
    "NEOStorageError",
    "NEOStorageUnavailable",
    "NoSpace",
    "OutcomeUnknown",
    "PackProgress",
    "Storage",
    "WrongChecksum",
    "__version__",
]
