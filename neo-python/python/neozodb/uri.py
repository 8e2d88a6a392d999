"""zodburi: ``neo://CLUSTER@MASTER1,MASTER2?option=value``.

``%`` quotes a character, as in any address: ``neo://my%20cluster@...``. Options are those of
`neozodb.Storage`, with ``_`` or ``-``; the others are the database's, as zodburi has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote

from ZConfig.datatypes import SuffixMultiplier, asBoolean

from .config import compress
from .storage import Storage

_size = SuffixMultiplier({"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30})

_OPTIONS: dict[str, Callable[[str], Any]] = {
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


def _value(uri: str, option: str, text: str) -> Any:
    try:
        return _OPTIONS[option](text)
    except ValueError as error:
        raise ValueError(f"{uri!r}: {option} is {text!r}: {error}") from None


def resolve(uri: str) -> tuple[Callable[[], Storage], dict[str, str]]:
    """A factory of the storage, and the options that are the database's."""
    # `urlsplit` takes brackets for those of one host.
    scheme, _, rest = uri.partition("://")
    if scheme != "neo":
        raise ValueError(f"{uri!r} is no neo address: it begins with neo://")
    rest, question, query = rest.partition("?")
    where, _, path = rest.partition("/")
    if path or "#" in uri:
        raise ValueError(f"{uri!r}: after the masters comes only ?option=value")
    name, at, masters = where.rpartition("@")
    if not at or not name or not masters:
        raise ValueError(f"{uri!r}: write neo://CLUSTER@HOST:PORT,HOST:PORT")
    keywords: dict[str, Any] = {}
    database: dict[str, str] = {}
    options = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(question))
    for option, value in options:
        key = option.replace("-", "_")
        if key in ("master_nodes", "name"):
            raise ValueError(f"{uri!r}: {option} goes before the question mark")
        if key in _OPTIONS:
            keywords[key] = _value(uri, key, value)
        else:
            database[option] = value
    addresses = [unquote(master) for master in masters.split(",") if master]

    def factory() -> Storage:
        return Storage(addresses, unquote(name), **keywords)

    return factory, database
