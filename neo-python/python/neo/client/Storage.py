"""``from neo.client.Storage import Storage``."""

from neozodb import Storage

__all__ = ["Storage"]
