"""zodburi: ``neo://CLUSTER@MASTER1,MASTER2?option=value``."""

from urllib.parse import parse_qsl, unquote, urlsplit

from ZConfig.datatypes import asBoolean, SuffixMultiplier

from .config import compress
from .storage import Storage

_size = SuffixMultiplier({"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30})

_OPTIONS = {
    "compress": compress,
    "read_only": asBoolean,
    "cache_size": _size,
    "sync": asBoolean,
    "wait": float,
    "ignore_wrong_checksum": asBoolean,
    "logfile": str,
    "dynamic_master_list": str,
    "ca": str,
    "cert": str,
    "key": str,
}


def resolve(uri):
    """A factory of the storage, and the options that are the database's."""
    parts = urlsplit(uri)
    if parts.scheme != "neo":
        raise ValueError(f"{uri!r} is no neo address: it begins with neo://")
    if parts.path not in ("", "/") or parts.fragment:
        raise ValueError(f"{uri!r}: after the masters comes only ?option=value")
    name, at, masters = parts.netloc.rpartition("@")
    if not at or not name or not masters:
        raise ValueError(f"{uri!r}: write neo://CLUSTER@HOST:PORT,HOST:PORT")
    keywords, database = {}, {}
    for option, value in parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True):
        key = option.replace("-", "_")
        if key in ("master_nodes", "name"):
            raise ValueError(f"{uri!r}: {option} goes before the question mark")
        if key in _OPTIONS:
            keywords[key] = _OPTIONS[key](value)
        else:
            database[option] = value

    def factory():
        return Storage(masters.replace(",", " "), unquote(name), **keywords)

    return factory, database
