"""The conformance suite finds each kind of broken store."""

import pytest

from holdfast.core.errors import ObjectExistsError, ObjectNotFoundError, StoreError
from holdfast.store.contract import FileKind, Properties, Stat
from holdfast.store.memory import MemoryStore
from holdfast.testing.store_contract import PROMISES


class Truncating(MemoryStore):
    def put(self, kind, name, data):
        super().put(kind, name, data[:1_000_000])


class Aliasing(MemoryStore):
    def put(self, kind, name, data):
        super().put(kind, name, data)
        self._objects[kind, name] = data, 1


class OffByOne(MemoryStore):
    def get_range(self, kind, name, offset, length):
        return super().get_range(kind, name, offset, length) if offset >= 0 else b"x" * length


class ShortReading(MemoryStore):
    def get_range(self, kind, name, offset, length):
        data = self.get(kind, name)
        return data[offset:][:length]


class EmptyForMissing(MemoryStore):
    def get(self, kind, name):
        try:
            return super().get(kind, name)
        except ObjectNotFoundError:
            return b""


class Replacing(MemoryStore):
    def put(self, kind, name, data):
        self._objects.pop((kind, name), None)
        super().put(kind, name, data)


class Doubling(MemoryStore):
    def list(self, kind):
        yield from super().list(kind)
        yield from super().list(kind)


class Wrongly(MemoryStore):
    def list(self, kind):
        for each in super().list(kind):
            yield Stat(each.name, each.size + 1, each.mtime)


class Undead(MemoryStore):
    def remove(self, kind, name):
        self.stat(kind, name)


class Trusting(MemoryStore):
    def get(self, kind, name):
        try:
            return super().get(kind, name)
        except ValueError:
            raise ObjectNotFoundError("") from None


class Resetting(MemoryStore):
    def create(self):
        self._objects.clear()


class OverSweeping(MemoryStore):
    def sweep(self, older_than):
        count = len(self._objects)
        self._objects.clear()
        return count


class Forgetful(MemoryStore):
    """Keeps the latest ten objects."""

    def put(self, kind, name, data):
        super().put(kind, name, data)
        for key in list(self._objects)[:-10]:
            del self._objects[key]


class Stingy(MemoryStore):
    def reserve(self, size):
        return size // 2


class Racing(MemoryStore):
    def put(self, kind, name, data):
        try:
            super().put(kind, name, data)
        except ObjectExistsError:
            if kind is not FileKind.PACK:
                raise


class NotForkable(MemoryStore):
    @property
    def properties(self):
        return Properties(put_if_absent=True, local=True, connections=1, forkable=True)

    @properties.setter
    def properties(self, value):
        pass


BROKEN = {
    "objects_come_back_whole": Truncating,
    "any_buffer_is_taken": Aliasing,
    "ranges_are_exact": OffByOne,
    "a_short_read_is_an_error": ShortReading,
    "what_is_absent_is_said_to_be": EmptyForMissing,
    "a_taken_name_stays_as_it_is": Replacing,
    "listings_name_each_object_once": Doubling,
    "what_was_removed_is_gone": Undead,
    "only_names_of_ours_are_taken": Trusting,
    "folders_can_be_made_twice": Resetting,
    "sweeping_spares_whole_objects": OverSweeping,
    "room_kept_aside_is_no_object": Stingy,
    "threads_do_not_disturb_each_other": Forgetful,
    "one_of_many_puts_wins": Racing,
    "forked_processes_share_it": NotForkable,
}


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_each_promise_can_be_broken(promise):
    """And its check says so."""
    store = BROKEN[promise.__name__]()
    with pytest.raises((AssertionError, StoreError)):
        promise(store)


def test_wrong_sizes_are_found():
    """A listing that tells other sizes is as bad as one that doubles."""
    [promise] = [each for each in PROMISES if each.__name__ == "listings_name_each_object_once"]
    with pytest.raises(AssertionError):
        promise(Wrongly())
