"""Whole clusters in the process of the tests: no server is needed.

    from neozodb.testing import Cluster

    with Cluster() as cluster:
        db = ZODB.DB(cluster.storage())
        ...
        db.close()
"""

from __future__ import annotations

from typing import Any

from . import _neozodb
from .storage import Storage


class Cluster(_neozodb.BaseCluster):
    """A cluster of its own, with its data in memory, until `stop` or the end of a ``with``.

    :param name: the name of the cluster.
    :param masters: number of masters.
    :param storages: number of storage nodes.
    :param replicas: copies of each partition beside the first; 1, or 0 with one storage node.
    :param partitions: number of partitions.

    Any process of the machine can reach it: `masters` are addresses of the loopback interface. In
    a child process after a fork only that works, with a storage of the child's own: the cluster
    itself stays the parent's.
    """

    def storage(self, **options: Any) -> Storage:
        """Opens a storage on it; the options are those of `neozodb.Storage`."""
        return Storage(self.masters, self.name, **options)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
