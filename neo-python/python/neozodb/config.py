"""ZConfig: the section ``<NEOStorage>``."""

from ZConfig.datatypes import asBoolean
from ZODB.config import BaseConfig

from .storage import Storage


def compress(text):
    """``true``, ``false``, ``lz4``, ``zlib`` or ``zlib=1`` to ``zlib=9``."""
    try:
        return asBoolean(text)
    except ValueError:
        return text


class NEOStorage(BaseConfig):
    """Opens the storage of a section."""

    def open(self):
        config = self.config
        names = config.getSectionAttributes()
        return Storage(**{name: getattr(config, name) for name in names})
