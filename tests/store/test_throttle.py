"""Limits hold on the whole, without making anybody wait for nothing."""

import os

import pytest

from holdfast.store.contract import FileKind
from holdfast.store.memory import MemoryStore
from holdfast.store.throttle import ThrottledStore
from holdfast.testing.fake_clock import FakeClock
from holdfast.testing.store_contract import keep, named, sample

PACK = FileKind.PACK


def test_uploads_keep_to_their_rate():
    """Ten times 100 KiB at 50 KiB a second take 18 seconds: the last is still being paid for."""
    clock = FakeClock()
    store = ThrottledStore(MemoryStore(), upload=50, clock=clock)
    for seed in range(10):
        keep(store, PACK, sample(100 << 10, seed))
    assert clock.slept == pytest.approx(18)
    assert store.get(PACK, named(sample(100 << 10, 3)))
    assert clock.slept == pytest.approx(18)


def test_downloads_keep_to_their_rate():
    """Whole objects and ranges share one limit, and uploads do not count."""
    clock = FakeClock()
    store = ThrottledStore(MemoryStore(), download=50, clock=clock)
    name = keep(store, PACK, sample(100 << 10))
    for _ in range(2):
        store.get(PACK, name)
        store.get_range(PACK, name, 0, 50 << 10)
    store.get_range(PACK, name, 0, 1)
    assert clock.slept == pytest.approx(6)


def test_unused_time_is_not_saved_up():
    """A pause is followed by the same rate, not by a burst."""
    clock = FakeClock()
    store = ThrottledStore(MemoryStore(), upload=1, clock=clock)
    keep(store, PACK, sample(1024, 1))
    clock.advance(3600)
    keep(store, PACK, sample(1024, 2))
    keep(store, PACK, sample(1024, 3))
    assert clock.slept == pytest.approx(1)


def test_forked_processes_share_the_limit(tmp_path):
    """What a child sends, its parent waits for."""
    clock = FakeClock()
    store = ThrottledStore(MemoryStore(), upload=1, clock=clock)
    child = os.fork()
    if child == 0:
        try:
            keep(store, PACK, sample(5 * 1024))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    keep(store, PACK, b"mine")
    assert clock.slept == pytest.approx(5)
