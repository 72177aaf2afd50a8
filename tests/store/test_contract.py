"""Every store keeps every promise of the contract."""

import pytest

from holdfast.core.secret import Secret
from holdfast.store.cache import CachedStore
from holdfast.store.directory import DirectoryStore
from holdfast.store.memory import MemoryStore
from holdfast.store.rest import RestStore
from holdfast.store.retry import RetryStore
from holdfast.store.s3 import S3Options, S3Store
from holdfast.store.throttle import ThrottledStore
from holdfast.testing.faulty_store import FaultyStore
from holdfast.testing.store_contract import PROMISES

S3 = S3Options(access_key="key", secret_key=Secret("secret"))

MAKERS = {
    "directory": lambda use: DirectoryStore(use("tmp_path") / "repository"),
    "memory": lambda _: MemoryStore(),
    "s3": lambda use: S3Store(use("bucket"), options=S3),
    "s3 in a folder": lambda use: S3Store(f"{use('bucket')}/some/folder", options=S3),
    "rest": lambda use: RestStore(use("rest_server")().url),
    "rest 1": lambda use: RestStore(use("rest_server")(version=1, ranges=False).url),
    "retry": lambda _: RetryStore(MemoryStore()),
    "throttle": lambda _: ThrottledStore(MemoryStore(), upload=10**6, download=10**6),
    "cache": lambda use: CachedStore(MemoryStore(), use("tmp_path") / "cache"),
    "faulty": lambda _: FaultyStore(MemoryStore()),
}


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("maker", MAKERS)
def test_store_keeps_promise(maker, promise, request):
    """Each check of the conformance suite holds for each store."""
    store = MAKERS[maker](request.getfixturevalue)
    store.create()
    promise(store)
    store.close()
