import pytest
import transaction

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


@pytest.fixture(autouse=True)
def no_transaction_is_left():
    yield
    transaction.abort()
