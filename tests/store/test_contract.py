"""Every store keeps every promise of the contract."""

import pytest

from holdfast.store.directory import DirectoryStore
from holdfast.store.memory import MemoryStore
from holdfast.store.retry import RetryStore
from holdfast.testing.store_contract import PROMISES


def directory(tmp_path):
    return DirectoryStore(tmp_path / "repository")


def memory(tmp_path):
    return MemoryStore()


def retried(tmp_path):
    return RetryStore(MemoryStore())


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize(
    "factory", [directory, memory, retried], ids=lambda factory: factory.__name__
)
def test_store_keeps_promise(factory, promise, tmp_path):
    """Each check of the conformance suite holds."""
    store = factory(tmp_path)
    store.create()
    promise(store)
    store.close()
