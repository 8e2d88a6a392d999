"""ZConfig and zodburi."""

import json
import os
from urllib.parse import quote

import pytest
import ZODB.config
from zodburi import UnknownDatabaseKeywords, resolve_uri

import neozodb
from neozodb.testing import Cluster


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


def test_an_address_is_quoted_as_others_are(tmp_path):
    name = "My cluster: a/b@c?d#e%f,ä"
    masters = tmp_path / "50% & more,?#.json"
    with Cluster(name=name, masters=2) as cluster:
        addresses = ",".join(
            master.replace("127", "%31%32%37").replace(":", "%3A")
            for master in cluster.masters.split()
        )
        factory, options = resolve_uri(
            f"neo://{quote(name, safe='')}@{addresses}"
            f"?dynamic_master_list={quote(str(masters), safe='')}&database_name=a%20b"
        )
        storage = factory()
        assert storage.getName() == f"neo({name})"
        storage.close()
        assert options["database_name"] == "a b"
        assert json.loads(masters.read_text()) == cluster.masters.split()
    assert os.listdir(tmp_path) == [masters.name]


def test_masters_with_addresses_of_ipv6_are_told_apart():
    factory, _ = resolve_uri("neo://main@[::1]:1,[::1]:2?wait=0.2")
    with pytest.raises(neozodb.NEOStorageUnavailable, match=r"\[::1\]:1.*\[::1\]:2"):
        factory()


@pytest.mark.parametrize("uri, words", [
    ("neo://127.0.0.1:1", "CLUSTER@HOST"),
    ("neo://a@b:1/path", "option=value"),
    ("neo://a@b:1#here", "option=value"),
    ("neo://a@b:1?name=c", "before the question mark"),
    ("neo://a@b:1?master-nodes=c", "before the question mark"),
    ("neo://a@b:1?read_only=perhaps", "read_only is 'perhaps'"),
    ("neo://a@b:1?cache-size=big", "cache_size is 'big'"),
    ("neo://a@b:1?wait=long", "wait is 'long'"),
    ("neo://a@b:1?read_only", "bad query field"),
])
def test_an_address_that_is_none_is_refused_with_words(uri, words):
    with pytest.raises(ValueError, match=words):
        resolve_uri(uri)


def test_an_option_that_there_is_not_is_told():
    with pytest.raises(UnknownDatabaseKeywords, match="raed_only"):
        resolve_uri("neo://a@b:1?raed_only=true")


@pytest.mark.parametrize("line, words", [
    ("cache-size big", "big.*line"),
    ("compress brotli", "compress is 'brotli'"),
    ("read-only perhaps", "read-only|perhaps"),
    ("raed-only true", "raed-only"),
    ("wait long", "long.*line"),
    ("ca /nowhere", "nowhere"),
])
def test_a_key_that_is_none_is_refused_with_words(cluster, line, words):
    with pytest.raises(Exception, match=words):
        ZODB.config.storageFromString(f"""
            %import neozodb
            <NEOStorage>
              master_nodes {cluster.masters}
              name {cluster.name}
              {line}
            </NEOStorage>
        """)
