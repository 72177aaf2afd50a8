"""The promises of `holdfast.store.contract`, each as a check for any store.

For the tests of a store of your own:

    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
    def test_my_store(promise):
        promise(open_my_store())

Each check wants an empty store on which `create` was called, and leaves objects behind.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from holdfast.core.errors import ObjectExistsError, ObjectNotFoundError, StoreError
from holdfast.store.contract import CONFIG_NAME, FileKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.store.contract import Store

    Promise = Callable[[Store], None]

THREADS: Final = 8


def named(data: bytes) -> str:
    """The only name that every store takes for these bytes: servers check the digest."""
    return sha256(data).hexdigest()


def sample(size: int, seed: int = 0) -> bytes:
    """Bytes that do not repeat within a store's blocks, equal for equal arguments."""
    blocks = (sha256(b"%d %d" % (seed, number)).digest() for number in range(size // 32 + 1))
    return b"".join(blocks)[:size]


def keep(store: Store, kind: FileKind, data: bytes) -> str:
    """Puts the bytes under the name that is theirs."""
    name = CONFIG_NAME if kind is FileKind.CONFIG else named(data)
    store.put(kind, name, data)
    return name


def objects_come_back_whole(store: Store) -> None:
    """Every kind, and every size from nothing to several megabytes."""
    for kind in FileKind:
        data = sample(1000, seed=len(kind))
        assert store.get(kind, keep(store, kind, data)) == data
    for size in (0, 1, 4095, 65537, 5_000_001):
        data = sample(size)
        assert store.get(FileKind.PACK, keep(store, FileKind.PACK, data)) == data


def any_buffer_is_taken(store: Store) -> None:
    """A view of a larger buffer is stored as it was at the time of the call."""
    buffer = bytearray(sample(3000))
    wanted = bytes(buffer[1000:2000])
    store.put(FileKind.PACK, named(wanted), memoryview(buffer)[1000:2000])
    buffer[:] = bytes(3000)
    assert store.get(FileKind.PACK, named(wanted)) == wanted


def ranges_are_exact(store: Store) -> None:
    """From the start and from the end, empty and whole ones included."""
    data = sample(10_000)
    name = keep(store, FileKind.PACK, data)
    for offset, length in ((0, 10_000), (0, 1), (9_999, 1), (1234, 5678), (0, 0), (10_000, 0)):
        assert store.get_range(FileKind.PACK, name, offset, length) == data[offset:][:length]
    for offset, length in ((-1, 1), (-4, 4), (-10_000, 10_000), (-5000, 100), (-10, 0)):
        assert store.get_range(FileKind.PACK, name, offset, length) == data[offset:][:length]


def a_short_read_is_an_error(store: Store) -> None:
    """Never fewer bytes than were asked for."""
    name = keep(store, FileKind.PACK, sample(100))
    for offset, length in ((0, 101), (99, 2), (100, 1), (500, 1), (-101, 1), (-1, 2), (101, 0)):
        try:
            part = store.get_range(FileKind.PACK, name, offset, length)
        except ObjectNotFoundError as error:
            raise AssertionError("the object is there") from error
        except StoreError:
            continue
        raise AssertionError(f"{length} bytes from {offset} of 100 gave {len(part)}")


def what_is_absent_is_said_to_be(store: Store) -> None:
    """Each way to ask for an object that is not there ends with ObjectNotFoundError."""
    for kind in FileKind:
        name = CONFIG_NAME if kind is FileKind.CONFIG else named(b"absent")
        _refused(ObjectNotFoundError, store.get, kind, name)
        _refused(ObjectNotFoundError, store.get_range, kind, name, 0, 1)
        _refused(ObjectNotFoundError, store.get_range, kind, name, -1, 1)
        _refused(ObjectNotFoundError, store.get_range, kind, name, 0, 0)
        _refused(ObjectNotFoundError, store.stat, kind, name)
        _refused(ObjectNotFoundError, store.remove, kind, name)
        assert list(store.list(kind)) == []


def a_taken_name_stays_as_it_is(store: Store) -> None:
    """A second put is refused, whatever it brings."""
    for kind in FileKind:
        data = sample(500, seed=len(kind))
        name = keep(store, kind, data)
        _refused(ObjectExistsError, store.put, kind, name, data)
        assert store.get(kind, name) == data
    _refused(ObjectExistsError, store.put, FileKind.CONFIG, CONFIG_NAME, b"another")
    assert store.get(FileKind.CONFIG, CONFIG_NAME) == sample(500, seed=len(FileKind.CONFIG))


def listings_name_each_object_once(store: Store) -> None:
    """With its size, under its own kind, and as `stat` tells it."""
    kept: dict[FileKind, dict[str, int]] = {
        kind: {keep(store, kind, sample(size, seed=len(kind))): size for size in range(40, 45)}
        for kind in FileKind
        if kind is not FileKind.CONFIG
    }
    kept[FileKind.CONFIG] = {keep(store, FileKind.CONFIG, b"12345"): 5}
    for kind, sizes in kept.items():
        found = list(store.list(kind))
        assert {each.name: each.size for each in found} == sizes
        assert len(found) == len(sizes)
        assert all(store.stat(kind, each.name) == each for each in found)


def what_was_removed_is_gone(store: Store) -> None:
    """For every way to ask; and the name can be used again."""
    for kind in FileKind:
        data = sample(2000, seed=len(kind))
        name = keep(store, kind, data)
        assert store.get_range(kind, name, 10, 10) == data[10:20]
        store.remove(kind, name)
        _refused(ObjectNotFoundError, store.get, kind, name)
        _refused(ObjectNotFoundError, store.get_range, kind, name, 10, 10)
        _refused(ObjectNotFoundError, store.stat, kind, name)
        _refused(ObjectNotFoundError, store.remove, kind, name)
        assert list(store.list(kind)) == []
        store.put(kind, name, data)
        assert store.get(kind, name) == data


def only_names_of_ours_are_taken(store: Store) -> None:
    """Nothing else becomes a path, a key or an address."""
    digest = named(b"")
    strange = ["", ".", "..", "../" + digest, digest[:63], digest + "0", digest.upper(), "config"]
    strange += [digest[:62] + "/0", digest[:63] + "\n", "\0" * 64, "é" * 64, "٣" * 64]
    wrong: list[tuple[FileKind, str]]
    wrong = [(kind, name) for kind in FileKind if kind != FileKind.CONFIG for name in strange]
    wrong += [(FileKind.CONFIG, name) for name in (digest, "", "../config", "Config")]
    for kind, name in wrong:
        _refused(ValueError, store.put, kind, name, b"x")
        _refused(ValueError, store.get, kind, name)
        _refused(ValueError, store.get_range, kind, name, 0, 1)
        _refused(ValueError, store.stat, kind, name)
        _refused(ValueError, store.remove, kind, name)


def folders_can_be_made_twice(store: Store) -> None:
    """And nothing in them is touched."""
    name = keep(store, FileKind.SNAPSHOT, b"kept")
    store.create()
    assert store.get(FileKind.SNAPSHOT, name) == b"kept"


def sweeping_spares_whole_objects(store: Store) -> None:
    """However old they are said to be."""
    names = {kind: keep(store, kind, sample(100)) for kind in FileKind}
    store.sweep(0)
    assert all(store.get(kind, name) == sample(100) for kind, name in names.items())


def room_kept_aside_is_no_object(store: Store) -> None:
    """As much as was asked for or none; given back, none; and no listing names it."""
    for size in (1000, 5000, 10):
        kept = store.reserve(size)
        assert kept == 0 or kept >= size
    assert all(list(store.list(kind)) == [] for kind in FileKind)
    name = keep(store, FileKind.PACK, b"beside it")
    assert store.sweep(0) == 0
    assert store.reserve(0) == 0
    assert store.get(FileKind.PACK, name) == b"beside it"


def threads_do_not_disturb_each_other(store: Store) -> None:
    """Puts, reads and removals at once: each object is its own."""

    def live(seed: int) -> None:
        for size in (10, 3000, 70_000):
            data = sample(size, seed)
            name = keep(store, FileKind.PACK, data)
            assert store.get(FileKind.PACK, name) == data
            assert store.get_range(FileKind.PACK, name, -9, 5) == data[-9:-4]
            if seed % 2:
                store.remove(FileKind.PACK, name)

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(live, range(2 * THREADS)))
    assert len(list(store.list(FileKind.PACK))) == THREADS * 3


def one_of_many_puts_wins(store: Store) -> None:
    """Where puts are atomic, exactly one; elsewhere at least one; and a reader sees it whole."""
    data = sample(100_000)

    def attempt(_: int) -> bool:
        try:
            store.put(FileKind.PACK, named(data), data)
        except ObjectExistsError:
            return False
        return True

    with ThreadPoolExecutor(THREADS) as threads:
        won = sum(threads.map(attempt, range(THREADS)))
    assert won == 1 if store.properties.put_if_absent else won >= 1
    assert store.get(FileKind.PACK, named(data)) == data


def forked_processes_share_it(store: Store) -> None:
    """Where the store says so: the child reads what the parent wrote, and the other way round."""
    if not store.properties.forkable:
        return
    data = sample(1000)
    name = keep(store, FileKind.PACK, data)
    assert store.get_range(FileKind.PACK, name, 0, 5) == data[:5]
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if store.get_range(FileKind.PACK, name, 5, 5) == data[5:10]:
                keep(store, FileKind.SNAPSHOT, b"from the child")
                status = 0
        finally:
            os._exit(status)  # nothing of the parent's is to be unwound here
    assert store.get_range(FileKind.PACK, name, 10, 5) == data[10:15]
    assert os.waitpid(child, 0)[1] == 0
    assert store.get(FileKind.SNAPSHOT, named(b"from the child")) == b"from the child"


PROMISES: Final[tuple[Promise, ...]] = (
    objects_come_back_whole,
    any_buffer_is_taken,
    ranges_are_exact,
    a_short_read_is_an_error,
    what_is_absent_is_said_to_be,
    a_taken_name_stays_as_it_is,
    listings_name_each_object_once,
    what_was_removed_is_gone,
    only_names_of_ours_are_taken,
    folders_can_be_made_twice,
    sweeping_spares_whole_objects,
    room_kept_aside_is_no_object,
    threads_do_not_disturb_each_other,
    one_of_many_puts_wins,
    forked_processes_share_it,
)


def _refused(wanted: type[Exception], call: Callable[..., object], *arguments: object) -> None:
    try:
        call(*arguments)
    except wanted:
        return
    raise AssertionError(f"{wanted.__name__} was to be raised")
