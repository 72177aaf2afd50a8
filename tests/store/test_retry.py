"""Retrying gets through what passes, and stops at what does not."""

from itertools import count
from random import Random

import pytest

from holdfast.core.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StorageFullError,
    StoreBusyError,
    StoreDeniedError,
    StoreError,
)
from holdfast.store.contract import FileKind
from holdfast.store.memory import MemoryStore
from holdfast.store.retry import Patience, RetryStore
from holdfast.testing.fake_clock import FakeClock
from holdfast.testing.faulty_store import (
    FaultyStore,
    Trouble,
    always,
    at_random,
    each_call_failing,
    script,
)
from holdfast.testing.store_contract import keep, named, sample

PACK = FileKind.PACK
DATA = sample(1000)


def around(faulty, **options):
    return RetryStore(faulty, clock=FakeClock(), random=Random(1), **options)


@pytest.mark.parametrize("trouble", [Trouble.BUSY, Trouble.BUSY_AFTER])
def test_any_one_failing_call_goes_unnoticed(trouble):
    """Whichever call of a session fails, before or after its effect, the session ends well."""
    for faulty in each_call_failing(MemoryStore, trouble):
        store = around(faulty)
        store.create()
        name = keep(store, PACK, DATA)
        assert store.get(PACK, name) == DATA
        assert store.get_range(PACK, name, -7, 7) == DATA[-7:]
        assert store.stat(PACK, name).size == len(DATA)
        assert [each.name for each in store.list(PACK)] == [name]
        store.sweep(0)
        store.remove(PACK, name)
        assert list(faulty.inner.list(PACK)) == []


def test_lost_answer_of_a_put_is_settled_by_what_is_there():
    """A put that took place although its answer was lost is success."""
    store = around(FaultyStore(MemoryStore(), script({1: Trouble.BUSY_AFTER})))
    keep(store, PACK, DATA)
    assert store.get(PACK, named(DATA)) == DATA


@pytest.mark.parametrize("other", [DATA[:-1], bytes(1000)], ids=["shorter", "as long"])
def test_other_bytes_under_the_name_are_no_success(other):
    """After a lost answer, a name taken by anything else than the very object is an error."""
    inner = MemoryStore()
    inner.put(PACK, named(DATA), other)
    store = around(FaultyStore(inner, script({1: Trouble.BUSY})))
    with pytest.raises(ObjectExistsError):
        store.put(PACK, named(DATA), DATA)
    assert inner.get(PACK, named(DATA)) == other


def test_torn_put_is_not_taken_for_whole():
    """Half an object under the name is found out, though the second try says that it exists."""

    class Torn(MemoryStore):
        def put(self, kind, name, data):
            if any(self.list(kind)):
                super().put(kind, name, data)
            super().put(kind, name, data[:10])
            raise StoreBusyError("broke off")

    store = around(Torn())
    with pytest.raises(ObjectExistsError):
        store.put(PACK, named(DATA), DATA)


def test_first_put_of_a_taken_name_is_refused():
    """Without a failure before it, a taken name is what it says, even with equal bytes."""
    store = around(MemoryStore())
    keep(store, PACK, DATA)
    with pytest.raises(ObjectExistsError):
        keep(store, PACK, DATA)


def test_name_said_to_be_taken_and_not_to_be_read_is_asked_for_again():
    """A store that is behind itself gets time, then the truth counts."""
    faulty = FaultyStore(MemoryStore(), script({1: Trouble.BUSY_AFTER, 3: Trouble.MISSING}))
    around(faulty).put(PACK, named(DATA), DATA)
    assert faulty.inner.get(PACK, named(DATA)) == DATA


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (Trouble.DENIED, StoreDeniedError),
        (Trouble.BROKEN, StoreError),
        (Trouble.FULL, StorageFullError),
    ],
)
def test_permanent_errors_come_at_once(trouble, error):
    """What no other try can mend is not tried again, and costs no time."""
    faulty = FaultyStore(MemoryStore(), always(trouble, "put"))
    store = RetryStore(faulty)
    with pytest.raises(error):
        keep(store, PACK, DATA)
    assert len(faulty.calls) == 1


def test_missing_objects_are_missing_at_once():
    """Not-found is an answer, for reads and for removals."""
    faulty = FaultyStore(MemoryStore())
    store = around(faulty)
    with pytest.raises(ObjectNotFoundError):
        store.get(PACK, named(b""))
    with pytest.raises(ObjectNotFoundError):
        store.remove(PACK, named(b""))
    assert len(faulty.calls) == 2


def test_patience_ends_by_tries():
    """Ten tries, then the error, which says so; waits grow and are spread."""
    clock = FakeClock()
    seen = []
    faulty = FaultyStore(MemoryStore(), always(Trouble.BUSY, "get"))
    store = RetryStore(faulty, clock=clock, random=Random(3), on_retry=seen.append)
    with pytest.raises(StoreBusyError, match="10 tries"):
        store.get(PACK, named(b""))
    assert len(faulty.calls) == 10
    assert [retry.attempt for retry in seen] == list(range(1, 10))
    assert clock.slept == pytest.approx(sum(retry.wait for retry in seen))
    for retry, full in zip(seen, [0.5, 1, 2, 4, 8, 16, 32, 60, 60], strict=True):
        assert full / 2 <= retry.wait <= full
    assert seen[0].what == f"reading pack {named(b'')[:8]}"


def test_patience_ends_by_deadline():
    """No try starts after the deadline."""
    clock = FakeClock()
    faulty = FaultyStore(MemoryStore(), always(Trouble.BUSY, "get"))
    store = RetryStore(faulty, clock=clock, patience=Patience(deadline=10), random=Random(1))
    with pytest.raises(StoreBusyError):
        store.get(PACK, named(b""))
    assert clock.slept <= 10
    assert 3 < len(faulty.calls) < 8


def live(store, seed, steps=60):
    """A random life; returns what must be there at its end."""
    random = Random(seed)
    truth = {}
    numbers = count()
    for _ in range(steps):
        kind = random.choice([FileKind.PACK, FileKind.INDEX, FileKind.SNAPSHOT])
        mine = [key for key in truth if key[0] is kind]
        act = random.choice(["put", "put", "get", "range", "remove", "list"])
        if act == "put":
            data = sample(random.randrange(200), seed=next(numbers))
            if (kind, named(data)) not in truth:
                truth[kind, keep(store, kind, data)] = data
        elif act == "list":
            assert {each.name for each in store.list(kind)} == {name for _, name in mine}
        elif mine:
            key = random.choice(mine)
            if act == "get":
                assert store.get(*key) == truth[key]
            elif act == "range" and truth[key]:
                assert store.get_range(*key, -1, 1) == truth[key][-1:]
            elif act == "remove":
                store.remove(*key)
                del truth[key]
    return truth


def test_random_faults_change_nothing():
    """I1, I3: with a fifth of all calls failing, some after their effect, 5,000 lives end well."""
    for seed in range(5000):
        faulty = FaultyStore(MemoryStore(), at_random(seed, 0.2), clock=FakeClock())
        truth = live(around(faulty), seed)
        held = {
            (kind, each.name): faulty.inner.get(kind, each.name)
            for kind in FileKind
            for each in faulty.inner.list(kind)
        }
        assert held == truth, f"seed {seed}"
