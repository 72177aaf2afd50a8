"""After a power failure, in any legal state of the disk, a directory store is sound."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest

from holdfast.core.errors import ObjectExistsError, ObjectNotFoundError
from holdfast.store.contract import FileKind
from holdfast.store.directory import DirectoryStore
from holdfast.store.layout import FOLDERS
from holdfast.testing.crash_directory import (
    EXHAUSTIVE,
    FOLDER,
    CrashState,
    RecordedFiles,
    Step,
    crash_states,
)
from holdfast.testing.store_contract import keep, named, sample

PACK, SNAPSHOT = FileKind.PACK, FileKind.SNAPSHOT


SCRATCH = "/dev/shm" if Path("/dev/shm").is_dir() else None  # thousands of small trees are laid out


@pytest.fixture
def quick():
    """A folder where making thousands of others takes no time."""
    with TemporaryDirectory(dir=SCRATCH) as scratch:
        yield Path(scratch)


def held(folder):
    """What the files below a folder hold."""
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


class History:
    """What was done through a recorded store, and after which step each answer came."""

    def __init__(self, folder, files):
        self.files = files
        self.store = DirectoryStore(folder, files=files)
        self.asked = []
        self.answered = []

    def put(self, kind, data):
        self._do("put", kind, data, lambda: keep(self.store, kind, data))

    def put_all(self, kind, datas):
        """Each of them was asked for; all are answered together."""
        at = len(self.files.steps)
        self.asked += [(at, "put", kind, named(data)) for data in datas]
        self.store.put_all(kind, [(named(data), data) for data in datas])
        at = len(self.files.steps)
        self.answered += [(at, "put", kind, named(data)) for data in datas]

    def remove(self, kind, data):
        self._do("remove", kind, data, lambda: self.store.remove(kind, named(data)))

    def _do(self, what, kind, data, act):
        self.asked.append((len(self.files.steps), what, kind, named(data)))
        with suppress(ObjectExistsError):  # relied upon like an answer
            act()
        self.answered.append((len(self.files.steps), what, kind, named(data)))

    def promised(self, after):
        """What must be there, and what must not, if the power fails after so many steps."""
        there, gone = set(), set()
        for at, what, *key in self.answered:
            if at <= after:
                (there if what == "put" else gone).add(tuple(key))
                (gone if what == "put" else there).discard(tuple(key))
        for at, what, *key in self.asked:
            if at <= after and what == "remove":
                there.discard(tuple(key))
            if at <= after and what == "put":
                gone.discard(tuple(key))
        return there, gone


def violations(state, history):
    """What is wrong with a disk in this state."""
    with TemporaryDirectory(dir=SCRATCH) as scratch:
        folder = Path(scratch)
        state.write_to(folder)
        store = DirectoryStore(folder)
        found = {(kind, each.name) for kind in FOLDERS for each in store.list(FileKind(kind))}
        there, gone = history.promised(state.after)
        wrong = [f"lost {kind} {name}" for kind, name in there - found]
        wrong += [f"came back {kind} {name}" for kind, name in gone & found]
        wrong += [
            f"torn {kind} {name}"
            for kind, name in found
            if named(store.get(FileKind(kind), name)) != name
        ]
        store.sweep(-60)
        left = {path.name for path in folder.rglob("*") if path.is_file()}
        wrong += [f"left over {name}" for name in left - {name for _, name in found}]
        return wrong


def prepared(folder):
    for kind in FOLDERS:
        (folder / kind).mkdir(parents=True)
    keep(DirectoryStore(folder), PACK, b"from before")
    keep(DirectoryStore(folder), SNAPSHOT, b"to be removed")
    return folder


def live(history):
    """Puts in old and new folders, one of a taken name, and a removal, in no more than 60 steps."""
    history.put(PACK, sample(1000, 1))
    history.put(PACK, b"from before")
    history.put(SNAPSHOT, sample(500))
    history.put(SNAPSHOT, sample(500))
    history.remove(SNAPSHOT, b"to be removed")
    history.put(PACK, b"")


def test_every_legal_state_is_sound(tmp_path):
    """F4, I1, I5: acknowledged objects are there and whole, removed ones gone, leftovers swept."""
    folder = prepared(tmp_path / "repository")
    history = History(folder, RecordedFiles(folder))
    live(history)
    assert 20 < len(history.files.steps) <= EXHAUSTIVE
    states = list(crash_states(history.files))
    assert len(states) > 50
    for state in states:
        assert violations(state, history) == [], f"after step {state.after}"


def test_every_state_of_many_written_together_is_sound(tmp_path):
    """F4, I1, I5: those that share their syncs are as safe as those that do not."""
    folder = prepared(tmp_path / "repository")
    history = History(folder, RecordedFiles(folder))
    history.put_all(SNAPSHOT, [b"1", b"2", b"to be removed", b"3", b"4"])  # in several threads
    history.put_all(PACK, [b"5", b"from before"])
    assert len(history.files.steps) <= EXHAUSTIVE
    for state in crash_states(history.files):
        assert violations(state, history) == [], f"after step {state.after}"


def test_every_state_of_several_writers_is_sound(tmp_path):
    """F4, I1, I2: whatever is on its way at once, in one folder and in several."""
    folder = prepared(tmp_path / "repository")
    history = History(folder, RecordedFiles(folder))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(partial(history.put, SNAPSHOT), [b"1", b"2", b"3", b"4"]))
        list(threads.map(partial(history.put, PACK), [b"5", b"6"]))
    assert len(history.files.steps) <= EXHAUSTIVE
    for state in crash_states(history.files):
        assert violations(state, history) == [], f"after step {state.after}"


@pytest.mark.parametrize("samples", [500, pytest.param(20_000, marks=pytest.mark.long)])
def test_sampled_states_of_a_longer_life_are_sound(tmp_path, samples):
    """F4, I1, I5: hundreds of steps, by seed."""
    random = Random(4)
    folder = prepared(tmp_path / "repository")
    history = History(folder, RecordedFiles(folder))
    datas = [sample(random.randrange(3000), seed) for seed in range(40)]
    for data in datas:
        history.put(random.choice([PACK, SNAPSHOT, FileKind.INDEX]), data)
    for _, what, kind, name in list(history.answered):
        if what == "put" and random.random() < 0.4:
            history.remove(kind, next(data for data in datas if named(data) == name))
    assert len(history.files.steps) > 300
    for state in crash_states(history.files, samples=samples):
        assert violations(state, history) == [], f"after step {state.after}"


def test_init_can_be_done_again_after_any_of_its_states(quick):
    """I5: folders that are half there are completed, and what is then put is safe."""
    folder = quick / "repository"
    folder.mkdir()
    files = RecordedFiles(folder)
    DirectoryStore(folder, files=files).create()
    for number, state in enumerate(crash_states(files, samples=20)):
        again = quick / str(number)
        again.mkdir()
        state.write_to(again)
        history = History(again, RecordedFiles(again))
        history.store.create()
        history.put(PACK, b"x")
        for later in crash_states(history.files, samples=5, seed=number):
            assert violations(later, history) == []


class NoSync(RecordedFiles):
    def sync(self, descriptor):
        pass


class NoFolderSync(RecordedFiles):
    def sync_folder(self, path):
        pass


class SyncAfterNaming(RecordedFiles):
    """Gives the name first, as a store in a hurry would."""

    def create(self, path):
        self.held = None
        return super().create(path)

    def sync(self, descriptor):
        self.held = self._open[descriptor]

    def sync_folder(self, path):
        if self.held is not None:
            self.steps.append(Step("sync", file=self.held))
            self.held = None
        super().sync_folder(path)


@pytest.mark.parametrize("files", [NoSync, NoFolderSync, SyncAfterNaming])
def test_careless_stores_are_caught(tmp_path, files):
    """The states tell a store that syncs too little, or too late, from one that does not."""
    folder = prepared(tmp_path / "repository")
    recorded = files(folder)
    recorded.held = None
    history = History(folder, recorded)
    live(history)
    assert any(violations(state, history) for state in crash_states(recorded))


def test_last_state_holds_what_the_program_sees(tmp_path):
    """With everything synced there is one state, and it is the folder itself."""
    folder = prepared(tmp_path / "repository")
    files = RecordedFiles(folder)
    History(folder, files).put(PACK, sample(100))
    [state] = [each for each in crash_states(files) if each.after == len(files.steps)]
    (tmp_path / "again").mkdir()
    state.write_to(tmp_path / "again")
    assert held(tmp_path / "again") == held(folder)


def test_what_lies_in_a_lost_folder_is_lost(tmp_path):
    """A file whose folder's name was never safe is nowhere."""
    CrashState(1, {"a/b": 0, "c": FOLDER, "c/d": 0}, {0: b"x"}).write_to(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["c", "c/d"]


def test_unsynced_content_may_be_anything_in_between(tmp_path):
    """Nothing, half, zeros, or all of it."""
    files = RecordedFiles(tmp_path)
    descriptor = files.create(str(tmp_path / "file"))
    files.write(descriptor, memoryview(b"abcd"))
    files.sync_folder(str(tmp_path))
    contents = {state.contents[0] for state in crash_states(files) if state.after == 3}
    assert contents == {b"", b"ab", bytes(4), b"abcd"}
    files.sync(descriptor)
    files.close(descriptor)
    [state] = [each for each in crash_states(files) if each.after == 4]
    assert state.contents == {0: b"abcd"}


def test_missing_objects_stay_missing(tmp_path):
    """A put that never began shows in no state."""
    folder = prepared(tmp_path / "repository")
    files = RecordedFiles(folder)
    with pytest.raises(ObjectNotFoundError):
        DirectoryStore(folder, files=files).remove(PACK, named(b"never"))
    assert len(list(crash_states(files))) == 1
