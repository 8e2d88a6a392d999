import pytest

from neozodb.testing import Cluster


@pytest.fixture
def cluster():
    with Cluster(storages=2) as cluster:
        yield cluster


@pytest.fixture
def storage(cluster):
    storage = cluster.storage()
    yield storage
    storage.close()
