"""ZConfig and zodburi."""

import pytest
import ZODB.config
from zodburi import resolve_uri


@pytest.mark.parametrize("package", ["neozodb", "neo.client"])
def test_zconfig_opens_a_storage(cluster, package):
    database = ZODB.config.databaseFromString(f"""
        %import {package}
        <zodb main>
          <NEOStorage>
            master_nodes {cluster.masters}
            name {cluster.name}
            compress zlib=3
            cache-size 1MB
            read-only false
          </NEOStorage>
        </zodb>
    """)
    with database.transaction() as connection:
        connection.root()["x"] = 1
    database.close()


def test_zodburi_opens_a_storage(cluster):
    masters = cluster.masters.replace(" ", ",")
    factory, options = resolve_uri(
        f"neo://{cluster.name}@{masters}?cache-size=1MB&read_only=true&database_name=other"
    )
    assert options["database_name"] == "other"
    for _ in range(2):
        storage = factory()
        assert storage.isReadOnly()
        storage.close()


@pytest.mark.parametrize("uri, words", [
    ("neo://127.0.0.1:1", "CLUSTER@HOST"),
    ("neo://a@b:1/path", "option=value"),
    ("neo://a@b:1?name=c", "before the question mark"),
])
def test_an_address_that_is_none_is_refused_with_words(uri, words):
    with pytest.raises(ValueError, match=words):
        resolve_uri(uri)
