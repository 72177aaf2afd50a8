"""The trial of a store finds what is wrong with it, and leaves nothing behind."""

from threading import current_thread, main_thread

import pytest

from holdfast.core.errors import ObjectExistsError
from holdfast.store.contract import FileKind, Stat
from holdfast.store.directory import DirectoryStore
from holdfast.store.memory import MemoryStore
from holdfast.store.probe import Verdict, probe
from holdfast.store.rest import RestStore
from holdfast.testing.fake_clock import FakeClock
from holdfast.testing.faulty_store import FaultyStore, Trouble, always
from holdfast.testing.store_contract import keep

GOOD, MIND, BAD = Verdict.GOOD, Verdict.MIND, Verdict.BAD
PACK = FileKind.PACK


@pytest.fixture
def clock():
    return FakeClock()


def verdicts(store, clock=None):
    return {finding.subject: finding.verdict for finding in probe(store, clock=clock)}


def test_good_stores_are_found_good(tmp_path, clock):
    """In memory and on a disk: only the digests of uploads are not theirs to check."""
    for store in (MemoryStore(clock=clock), DirectoryStore(tmp_path)):
        store.create()
        kept = keep(store, PACK, b"of somebody else")
        found = verdicts(store, clock if isinstance(store, MemoryStore) else None)
        assert found.pop("digests") is MIND
        assert set(found.values()) == {GOOD}
        assert [each.name for each in store.list(PACK)] == [kept]


def test_figures_are_told(clock):
    """For people in a sentence, for programs as numbers."""
    store = FaultyStore(
        MemoryStore(clock=clock), always(Trouble.SLOW, "put", "get"), delay=0.5, clock=clock
    )
    [speed] = [each for each in probe(store, clock=clock) if each.subject == "speed"]
    assert speed.figures["put_milliseconds"] == pytest.approx(500)
    assert speed.figures["up_bytes_per_second"] == pytest.approx(16 << 20)
    assert "500.0 ms" in speed.message
    assert "16.000 MiB/s up" in speed.message


def test_rest_servers_that_only_append(rest_server):
    """Nothing can be removed there: said, counted, and harmless."""
    store = RestStore(rest_server(append_only=True).url)
    store.create()
    found = {finding.subject: finding for finding in probe(store, clock=FakeClock())}
    assert found["digests"].verdict is GOOD
    assert found["removing"].verdict is MIND
    assert found["clock"].verdict is MIND
    assert found["clean up"].verdict is MIND
    assert found["clean up"].figures["objects"] == len(list(store.list(PACK))) > 10


@pytest.mark.parametrize(("lag", "verdict"), [(3, MIND), (60, BAD)])
def test_late_listings_are_measured(clock, lag, verdict):
    """A few seconds are told; a minute is too much."""
    store = FaultyStore(MemoryStore(clock=clock), lag=lag, clock=clock)
    [listing] = [each for each in probe(store, clock=clock) if each.subject == "listing"]
    assert listing.verdict is verdict
    assert listing.figures["lag_seconds"] == pytest.approx(min(lag, 10), abs=0.5)


@pytest.mark.parametrize(
    ("trouble", "method", "subject"),
    [
        (Trouble.WRONG, "get", "write and read"),
        (Trouble.SHORT, "get", "write and read"),
        (Trouble.DENIED, "put", "write and read"),
        (Trouble.FULL, "put", "write and read"),
        (Trouble.MISSING, "get", "write and read"),
        (Trouble.WRONG, "get_range", "parts"),
        (Trouble.SHORT, "get_range", "parts"),
        (Trouble.BUSY, "list", "listing"),
    ],
)
def test_faults_are_found(clock, trouble, method, subject):
    """Each under its subject, as bad, and nothing of the trial stays."""
    inner = MemoryStore(clock=clock)
    found = verdicts(FaultyStore(inner, always(trouble, method), clock=clock), clock)
    assert found[subject] is BAD
    assert found["clean up"] is GOOD
    assert list(inner.list(PACK)) == []


def test_useless_store_ends_the_trial(clock):
    """What cannot be written to is not tried out further."""
    assert list(verdicts(FaultyStore(MemoryStore(), always(Trouble.DENIED, "put")), clock)) == [
        "write and read",
        "clean up",
    ]


class Replacing(MemoryStore):
    """Takes whatever comes under any name."""

    def put(self, kind, name, data):
        if any(each.name == name for each in self.list(kind)):
            self.remove(kind, name)
        super().put(kind, name, data)


class Lenient(MemoryStore):
    """Gives what there is beyond the end."""

    def get_range(self, kind, name, offset, length):
        return self.get(kind, name)[offset:][:length]


class Careless(MemoryStore):
    """Checks before it writes, and lets two writers through in between."""

    def put(self, kind, name, data):
        try:
            super().put(kind, name, data)
        except ObjectExistsError:
            if current_thread() is main_thread():
                raise


class Forgetful(MemoryStore):
    """Keeps what it was told to remove."""

    def remove(self, kind, name):
        self.stat(kind, name)


class Jumping(MemoryStore):
    """Its clock is an hour further with each object."""

    def stat(self, kind, name):
        found = super().stat(kind, name)
        number = [each.name for each in self.list(kind)].index(name)
        return Stat(name, found.size, found.mtime + number * 3600 * 10**9)


@pytest.mark.parametrize(
    ("store", "subject", "verdict"),
    [
        (Replacing, "overwriting", BAD),
        (Lenient, "parts", BAD),
        (Careless, "rivals", MIND),
        (Forgetful, "removing", BAD),
        (Jumping, "clock", BAD),
    ],
)
def test_lies_are_found(clock, store, subject, verdict):
    """Stores that break one promise are told by it."""
    assert verdicts(store(clock=clock), clock)[subject] is verdict


@pytest.mark.interop
def test_trial_harms_no_repository(tmp_path, stock_restic):
    """I2, I6: even where nothing of it can be removed, stock restic finds the repository sound."""
    restic = stock_restic(tmp_path / "repository")
    (tmp_path / "file").write_bytes(b"content")
    restic("init")
    restic("backup", tmp_path / "file")
    store = DirectoryStore(tmp_path / "repository")
    before = len(list(store.list(PACK)))
    probe(FaultyStore(store, always(Trouble.DENIED, "remove")), clock=FakeClock())
    assert len(list(store.list(PACK))) > before
    restic("check", "--read-data")
    restic("prune")
    assert len(list(store.list(PACK))) == before
    restic("check", "--read-data")
