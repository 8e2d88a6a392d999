"""ZConfig: the section ``<NEOStorage>``."""

from __future__ import annotations

from ZConfig.datatypes import asBoolean
from ZODB.config import BaseConfig

from .storage import Storage


def compress(text: str) -> bool | str:
    """``true``, ``false``, ``lz4``, ``zlib`` or ``zlib=1`` to ``zlib=9``."""
    try:
        return bool(asBoolean(text))
    except ValueError:
        return text


class NEOStorage(BaseConfig):
    """Opens the storage of a section."""

    def open(self) -> Storage:
        """Opens it: each key is the argument of `neozodb.Storage` of that name."""
        config = self.config
        names = config.getSectionAttributes()
        return Storage(**{name: getattr(config, name) for name in names})
