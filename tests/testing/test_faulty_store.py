"""The faulty store does to each call what its plan says, and nothing else."""

import pytest

from holdfast.core.errors import (
    ObjectNotFoundError,
    StorageFullError,
    StoreBusyError,
    StoreDeniedError,
    StoreError,
)
from holdfast.store.contract import FileKind
from holdfast.store.memory import MemoryStore
from holdfast.testing.fake_clock import FakeClock
from holdfast.testing.faulty_store import (
    POSSIBLE,
    FaultyStore,
    Trouble,
    always,
    at_random,
    each_call_failing,
    nth,
    script,
)
from holdfast.testing.store_contract import keep, named

PACK, INDEX = FileKind.PACK, FileKind.INDEX
DATA = b"some bytes"


def test_script_goes_by_the_number_of_the_call():
    """And all calls are written down, failing or not."""
    store = FaultyStore(MemoryStore(), script({2: Trouble.BUSY, 3: Trouble.MISSING}))
    name = keep(store, PACK, DATA)
    with pytest.raises(StoreBusyError):
        store.get(PACK, name)
    with pytest.raises(ObjectNotFoundError):
        store.get(PACK, name)
    assert store.get(PACK, name) == DATA
    assert [call.method for call in store.calls] == ["put", "get", "get", "get"]
    assert [(call.number, trouble) for call, trouble in store.fired] == [
        (2, Trouble.BUSY),
        (3, Trouble.MISSING),
    ]


@pytest.mark.parametrize(
    ("trouble", "error", "happened"),
    [
        (Trouble.BUSY, StoreBusyError, False),
        (Trouble.BUSY_AFTER, StoreBusyError, True),
        (Trouble.BROKEN, StoreError, False),
        (Trouble.DENIED, StoreDeniedError, False),
        (Trouble.FULL, StorageFullError, False),
    ],
)
def test_puts_fail_before_or_after_their_effect(trouble, error, happened):
    """As the trouble says."""
    store = FaultyStore(MemoryStore(), always(trouble, "put"))
    with pytest.raises(error):
        keep(store, PACK, DATA)
    assert bool(list(store.inner.list(PACK))) is happened


def test_torn_puts_leave_half():
    """Under the object's own name."""
    store = FaultyStore(MemoryStore(), always(Trouble.TORN, "put"))
    with pytest.raises(StoreError):
        keep(store, PACK, DATA)
    assert store.inner.get(PACK, named(DATA)) == DATA[:5]


def test_reads_lie():
    """Too short, or with one wrong bit, and the store keeps a straight face."""
    short = FaultyStore(MemoryStore(), always(Trouble.SHORT, "get", "get_range"))
    wrong = FaultyStore(MemoryStore(), always(Trouble.WRONG, "get", "get_range"))
    for store in (short, wrong):
        keep(store, PACK, DATA)
    assert short.get(PACK, named(DATA)) == DATA[:-1]
    assert short.get_range(PACK, named(DATA), 0, 4) == DATA[:3]
    for read in (wrong.get(PACK, named(DATA)), wrong.get_range(PACK, named(DATA), 0, 10)):
        assert sum(a != b for a, b in zip(read, DATA, strict=True)) == 1


def test_undeletable_objects_stay():
    """Only those of the kinds that were named."""
    store = FaultyStore(MemoryStore(), always(Trouble.DENIED, "remove", kinds={PACK}))
    keep(store, PACK, DATA)
    keep(store, INDEX, DATA)
    store.remove(INDEX, named(DATA))
    with pytest.raises(StoreDeniedError):
        store.remove(PACK, named(DATA))


def test_listings_lag_behind():
    """By the clock: neither what was put nor what was removed meanwhile shows yet."""
    clock = FakeClock()
    store = FaultyStore(MemoryStore(), lag=60, clock=clock)
    old, passing = keep(store, PACK, b"old"), keep(store, PACK, b"passing")
    clock.advance(61)
    new = keep(store, PACK, b"new")
    store.remove(PACK, old)
    store.remove(PACK, passing)
    store.put(PACK, passing, b"passing")
    assert {each.name for each in store.list(PACK)} == {old, passing}
    clock.advance(61)
    assert {each.name for each in store.list(PACK)} == {new, passing}
    assert store.get(PACK, new) == b"new"


def test_stale_listings_miss_the_latest_changes():
    """Of their kind."""
    store = FaultyStore(MemoryStore(), script({5: Trouble.STALE}))
    first = keep(store, PACK, b"1")
    second = keep(store, PACK, b"2")
    keep(store, INDEX, b"index")
    store.remove(PACK, first)
    assert {each.name for each in store.list(PACK)} == {first}
    assert {each.name for each in store.list(PACK)} == {second}


def test_slow_calls_take_time():
    """Of the clock that was given."""
    clock = FakeClock()
    store = FaultyStore(MemoryStore(), always(Trouble.SLOW, "put"), delay=7, clock=clock)
    keep(store, PACK, DATA)
    assert clock.slept == 7


def test_random_troubles_are_those_of_their_seed():
    """The same seed, the same life; another seed, another; about as many as were asked for."""

    def fired(seed):
        store = FaultyStore(MemoryStore(), at_random(seed, 0.3), clock=FakeClock())
        for number in range(200):
            try:
                keep(store, PACK, b"%d" % number)
            except StoreBusyError:
                continue
        return [(call.number, trouble) for call, trouble in store.fired]

    assert fired(1) == fired(1) != fired(2)
    assert 40 < len(fired(1)) < 80


def test_nth_counts_only_calls_that_can_fail_so():
    """A full store is no trouble for reads."""
    store = FaultyStore(MemoryStore(), nth(2, Trouble.FULL))
    name = keep(store, PACK, DATA)
    store.get(PACK, name)
    with pytest.raises(StorageFullError):
        keep(store, INDEX, DATA)


def test_each_call_fails_once():
    """As many runs as calls, and one that gets through."""
    runs = []
    for store in each_call_failing(MemoryStore, Trouble.BROKEN):
        try:
            name = keep(store, PACK, DATA)
            store.get(PACK, name)
            store.remove(PACK, name)
        except StoreError:
            pass
        runs.append([call.method for call, _ in store.fired])
    assert runs == [["put"], ["get"], ["remove"], []]


def test_each_method_has_its_troubles():
    """Those that change something can lose their answer; those that read can lie."""
    for method in ("create", "put", "remove"):
        assert Trouble.BUSY_AFTER in POSSIBLE[method]
    for method in ("get", "get_range"):
        assert {Trouble.SHORT, Trouble.WRONG} <= POSSIBLE[method]
    store = FaultyStore(MemoryStore(), lambda _: Trouble.BUSY)
    calls = {
        "create": store.create,
        "put": lambda: keep(store, PACK, DATA),
        "get": lambda: store.get(PACK, named(DATA)),
        "get_range": lambda: store.get_range(PACK, named(DATA), 0, 1),
        "stat": lambda: store.stat(PACK, named(DATA)),
        "list": lambda: list(store.list(PACK)),
        "remove": lambda: store.remove(PACK, named(DATA)),
        "sweep": lambda: store.sweep(0),
    }
    assert set(calls) == set(POSSIBLE)
    for call in calls.values():
        with pytest.raises(StoreBusyError):
            call()


def test_fake_clock_runs_only_when_told():
    """Sleeping and advancing move both clocks, a jump the wall clock alone."""
    clock = FakeClock(now=1_000)
    start = clock.monotonic()
    clock.sleep(2)
    clock.advance(3)
    assert (clock.now(), clock.monotonic()) == (5_000_001_000, start + 5)
    clock.jump(-1)
    assert (clock.now(), clock.monotonic()) == (4_000_001_000, start + 5)
    assert clock.slept == 2
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)
