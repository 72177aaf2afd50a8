"""Taking uploads in: what was answered is durable, whatever else happens."""

from __future__ import annotations

import gc
import hashlib
import random
import threading
import time
from contextlib import suppress

import pytest

from holdfast.core.errors import (
    ClosedError,
    HoldfastError,
    LockLostError,
    NameRefusedError,
    StorageFullError,
    StoreBusyError,
    StoreError,
    VerificationError,
)
from holdfast.core.progress import Silence
from holdfast.core.secret import Secret
from holdfast.repo.format.chunker import MAX_SIZE
from holdfast.repo.format.pack import BlobKind, PackBuffer
from holdfast.repo.format.tree import blob_id
from holdfast.repo.lock import acquire
from holdfast.repo.repository import Repository
from holdfast.repo.saving.intake import About, Intake, IntakePlan
from holdfast.repo.saving.intake_stream import WindowPool
from holdfast.repo.saving.sealing import SealingPlan
from holdfast.repo.upkeep.check import ALL, check
from holdfast.store.contract import FileKind
from holdfast.store.directory import DirectoryStore
from holdfast.store.memory import MemoryStore
from holdfast.store.wrapped import WrappedStore
from holdfast.testing.faulty_store import FaultyStore, Trouble, always, each_call_failing
from holdfast.testing.killer import each_kill_in_fork

PASSWORD = Secret("secret")
MIB = 1 << 20
HERE = About(host="here")
SECONDS = 20.0
"""Longer than anything here takes."""


def _random(size, seed=1):
    return random.Random(seed).randbytes(size)


def _repository(store=None):
    return Repository.init(store or MemoryStore(), PASSWORD)


def _give(upload, content, piece=300_000):
    for at in range(0, len(content), piece):
        upload.write(content[at : at + piece])
    return upload


def _keep(intake, content, name=b"file", about=HERE):
    return _give(intake.begin(name, about), content).finish()


def _read(store, repository, kept):
    """The files of a kept snapshot, by who has never seen it."""
    fresh = Repository.unlocked(store, repository.objects.key)
    snapshot = fresh.load_snapshot(kept.snapshot)
    assert snapshot.tree == kept.tree
    return _files(fresh, snapshot.tree)


def _files(repository, tree, path=b""):
    found = {}
    for node in repository.load_tree(tree):
        here = path + node.raw_name()
        if node.type == "dir":
            found |= _files(repository, blob_id(node.subtree), here + b"/")
        elif node.type == "file":
            found[here] = b"".join(repository.load_blob(b, BlobKind.DATA) for b in node.blobs())
            assert node.size == len(found[here])
        else:
            found[here] = node.linktarget
    return found


def _assert_sound(repository):
    report = check(repository, read=ALL, lock=None, progress=Silence(), workers=0)
    assert report.sound, report


class Gate(WrappedStore):
    """Holds puts of one kind until it is opened."""

    def __init__(self, inner, kind):
        super().__init__(inner)
        self.kind = kind
        self.open = threading.Event()
        self.waiting = threading.Event()

    def put(self, kind, name, data):
        if kind is self.kind:
            self.waiting.set()
            assert self.open.wait(SECONDS)
        super().put(kind, name, data)


# --- content --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [0, 1, 256 << 10, (256 << 10) + 1, (512 << 10) + 1, 4 * MIB, 4 * MIB + 1, 21 * MIB]
)
def test_an_upload_is_kept_to_the_byte(size):
    """I1: whatever its size and the pieces it comes in."""
    content = _random(size)
    repository = _repository()
    about = About(host="db1", tags=("a=1", "b=2"), time=1_700_000_000_123_456_789)
    with Intake(repository) as intake:
        kept = _keep(intake, content, b"dump.sql", about).result(SECONDS)
    assert _read(repository.store, repository, kept) == {b"dump.sql": content}
    assert (kept.size, kept.files) == (size, 1)
    assert kept.sha256 == hashlib.sha256(content).digest()
    assert kept.added >= size
    snapshot = Repository.unlocked(repository.store, repository.objects.key).load_snapshot(
        kept.snapshot
    )
    assert snapshot.time == kept.time == about.time
    assert snapshot.file.hostname == "db1"
    assert snapshot.tags == ["a=1", "b=2"]
    assert snapshot.file.paths == ["/dump.sql"]
    _assert_sound(repository)


@pytest.mark.parametrize("piece", [1, 7, 65536, 5 * MIB, 9 * MIB])
def test_pieces_make_no_difference(piece):
    size = 300_000 if piece < 100 else 9 * MIB
    content = _random(size)
    repository = _repository()
    with Intake(repository) as intake:
        kept = _give(intake.begin(b"file", HERE), content, piece).finish().result(SECONDS)
    assert kept.sha256 == hashlib.sha256(content).digest()
    assert _read(repository.store, repository, kept) == {b"file": content}


def test_the_same_content_is_stored_once(back_up_tree):
    """A backup of the same bytes by another way of taking in adds nothing: the cuts are equal."""
    content = _random(20 * MIB)
    repository = _repository()
    back_up_tree(repository, {b"data": {b"file": content}})
    with Intake(repository) as intake:
        kept = _keep(intake, content).result(SECONDS)
        assert kept.added < 4000
        again = _keep(intake, content, b"other").result(SECONDS)
        assert again.added < 4000
    assert _read(repository.store, repository, again) == {b"other": content}


def test_an_upload_lies_in_its_folder():
    repository = _repository()
    with Intake(repository) as intake:
        upload = intake.begin(b"x", HERE, folder=b"a/b", mode=0o600, mtime=5 * 10**9)
        kept = _give(upload, b"content").finish().result(SECONDS)
    assert _read(repository.store, repository, kept) == {b"a/b/x": b"content"}
    file = repository.load_snapshot(kept.snapshot).file
    assert file.paths == ["/a/b/x"]
    assert (file.summary.dirs_new, file.summary.files_new) == (2, 1)


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0", b"x" * 256])
def test_names_that_lead_anywhere_are_refused(name):
    with Intake(_repository()) as intake:
        with pytest.raises(NameRefusedError):
            intake.begin(name, HERE)
        session = intake.begin_tree(HERE)
        for path in (b"../" + name, name + b"/", b"/" + name, b"a/" + name + b"/../b"):
            with pytest.raises(NameRefusedError):
                session.file(path)
            with pytest.raises(NameRefusedError):
                session.directory(path)
            with pytest.raises(NameRefusedError):
                session.symlink(path, b"target")
        session.abandon()


def test_tags_can_tell_what_is_known_at_the_end():
    repository = _repository()
    about = About(host="h", tags=("a",), closing_tags=lambda m: [f"size={m.size}", m.sha256.hex()])
    with Intake(repository) as intake:
        kept = _keep(intake, b"12345", about=about).result(SECONDS)
    tags = repository.load_snapshot(kept.snapshot).tags
    assert tags == ["a", "size=5", hashlib.sha256(b"12345").hexdigest()]


@pytest.mark.interop
def test_stock_restic_accepts_and_gives_back(tmp_path, stock_restic):
    """I6: check --read-data is clean, dump and restore give the very bytes."""
    repository = _repository(DirectoryStore(tmp_path / "r"))
    large = _random(12 * MIB)
    with Intake(repository) as intake:
        one = _keep(intake, large, b"large").result(SECONDS)
        small = [_keep(intake, b"small %d" % n, b"small") for n in range(20)]
        with intake.begin_tree(HERE) as session:
            _put_tree(session)
            tree = session.commit().result(SECONDS)
        answers = [future.result(SECONDS) for future in small]
    restic = stock_restic(tmp_path / "r")
    restic("check", "--read-data")
    for kept, name, content in (
        (one, "large", large),
        (answers[7], "small", b"small 7"),
    ):
        target = tmp_path / kept.snapshot
        restic("restore", kept.snapshot, "--target", str(target))
        assert (target / name).read_bytes() == content
    target = tmp_path / "tree"
    restic("restore", tree.snapshot, "--target", str(target))
    assert (target / "d/e/large").read_bytes() == _random(9 * MIB, 3)
    assert (target / "d/again").read_bytes() == b"text"
    assert (target / "link").readlink().as_posix() == "/etc/passwd"
    assert (target / "d").stat().st_mode & 0o7777 == 0o700
    listed = restic("dump", tree.snapshot, "/d/text")
    assert listed == "text"


def _put_tree(session):
    with session.file(b"d/text", mode=0o600, mtime=10**18) as file:
        file.write(b"te")
        file.write(b"xt")
    session.directory(b"d", mode=0o700)
    with session.file(b"d/e/large") as file:
        _give(file, _random(9 * MIB, 3))
    session.copy(b"d/again", b"d/text")
    session.symlink(b"link", b"/etc/passwd")
    session.file(b"empty").end()


# --- trees ----------------------------------------------------------------------------------------


def test_a_tree_is_kept_whole():
    """I1: files of any size, in any order, with the directories that nobody gave."""
    rnd = random.Random(5)
    content = {b"%d/%d/f%d" % (n % 3, n % 7, n): rnd.randbytes(rnd.randint(0, 9000))
               for n in range(3000)}  # fmt: skip
    content[b"0/large"] = rnd.randbytes(11 * MIB)
    content[b"\xff\xfe/\xc3\xa9"] = b"raw"
    paths = list(content)
    rnd.shuffle(paths)
    repository = _repository()
    with Intake(repository) as intake, intake.begin_tree(HERE, folder=b"top") as session:
        for path in paths:
            with session.file(path) as file:
                _give(file, content[path], 64 << 10)
        kept = session.commit().result(SECONDS)
    found = _read(repository.store, repository, kept)
    assert found == {b"top/" + path: each for path, each in content.items()}
    assert (kept.files, kept.size) == (len(content), sum(map(len, content.values())))
    _assert_sound(repository)


def test_what_is_given_again_replaces_what_was():
    repository = _repository()
    with Intake(repository) as intake, intake.begin_tree(HERE) as session:
        for content in (b"first", b"second"):
            with session.file(b"a") as file:
                file.write(content)
            session.copy(b"of " + content, b"a")
        session.symlink(b"b", b"target")
        with session.file(b"b") as file:
            file.write(b"now a file")
        kept = session.commit().result(SECONDS)
    assert _read(repository.store, repository, kept) == {
        b"a": b"second", b"of first": b"first", b"of second": b"second", b"b": b"now a file",
    }  # fmt: skip


@pytest.mark.parametrize("first", ["file", "symlink", "directory"])
def test_nothing_is_written_through_something_else(first):
    """A name is a directory or something else, never both; nothing of the upload is kept then."""
    repository = _repository()
    with Intake(repository) as intake, intake.begin_tree(HERE) as session:
        if first == "file":
            session.file(b"a").end()
        elif first == "symlink":
            session.symlink(b"a", b"/etc")
        session.file(b"a/passwd").end()
        if first == "directory":
            session.symlink(b"a", b"/etc")
        with pytest.raises(NameRefusedError):
            session.commit().result(SECONDS)
    assert not list(repository.snapshots())


def test_a_copy_of_nothing_is_refused():
    with Intake(_repository()) as intake, intake.begin_tree(HERE) as session:
        session.copy(b"a", b"b")
        session.file(b"b").end()
        with pytest.raises(NameRefusedError):
            session.commit().result(SECONDS)


def test_the_digest_of_a_tree_is_that_of_names_and_contents():
    """Order, times and modes make no difference, every name and byte does."""
    repository = _repository()

    def digest(*paths, mode=0o644, content=b"x"):
        with intake.begin_tree(HERE) as session:
            for path in paths:
                with session.file(path, mode=mode, mtime=hash(path)) as file:
                    file.write(content)
            return session.commit().result(SECONDS).sha256

    with Intake(repository) as intake:
        same = {digest(b"a", b"d/b"), digest(b"d/b", b"a"), digest(b"a", b"d/b", mode=0o600)}
        assert len(same) == 1
        others = {digest(b"a", b"d/c"), digest(b"a"), digest(b"a", b"d/b", content=b"y")}
        assert len(others | same) == 4


def test_a_file_that_broke_off_is_not_kept():
    """I4: a tree with half of a file in it is never committed."""
    repository = _repository()
    with Intake(repository) as intake, intake.begin_tree(HERE) as session:
        with suppress(RuntimeError), session.file(b"a") as file:
            file.write(b"half of it")
            raise RuntimeError
        with pytest.raises(ClosedError):
            session.commit()
    assert not list(repository.snapshots())


# --- groups ---------------------------------------------------------------------------------------


def test_uploads_that_end_together_share_a_commit():
    """Each has its own snapshot, and its answer only after the caller has recorded all of them."""
    store = Gate(MemoryStore(), FileKind.INDEX)
    repository = _repository(store)
    groups = []
    futures = []

    def record(group):
        for kept in group:
            assert repository.load_snapshot(kept.snapshot).tree == kept.tree
        assert not any(future.done() for future in futures[sum(map(len, groups)) :])
        groups.append(group)

    with Intake(repository, before_answer=record) as intake:
        futures += [_keep(intake, b"first", about=About(host="h", context=0))]
        assert store.waiting.wait(SECONDS)
        futures += [
            _keep(intake, b"content %d" % n, about=About(host="h", context=n))
            for n in range(1, 100)
        ]
        store.open.set()
        answers = [future.result(SECONDS) for future in futures]
    assert [len(group) for group in groups] == [1, 99]
    assert [kept.context for kept in answers] == list(range(100))
    assert len({kept.snapshot for kept in answers}) == 100
    assert len(list(store.list(FileKind.INDEX))) == 2
    for number, kept in enumerate(answers):
        expected = b"content %d" % number if number else b"first"
        assert _read(store, repository, kept) == {b"file": expected}


def test_who_cannot_be_recorded_is_not_answered():
    """I8: the hook's failure is every upload's of its group; the next group goes on."""
    repository = _repository()
    trouble = [StoreError("the catalog is down")]

    def record(_):
        if trouble:
            raise trouble[0]

    with Intake(repository, before_answer=record) as intake:
        for future in [_keep(intake, b"%d" % n) for n in range(5)]:
            with pytest.raises(StoreError, match="catalog is down"):
                future.result(SECONDS)
        trouble.clear()
        assert _keep(intake, b"later").result(SECONDS)


def test_who_is_refused_leaves_no_snapshot():
    """The caller may refuse single ones of a group, whose name was taken meanwhile."""
    repository = _repository()

    def record(group):
        return {each.snapshot: NameRefusedError("taken") for each in group if each.context}

    with Intake(repository, before_answer=record) as intake:
        kept = _keep(intake, b"1", about=About(host="h", context=False))
        refused = _keep(intake, b"2", about=About(host="h", context=True))
        with pytest.raises(NameRefusedError, match="taken"):
            refused.result(SECONDS)
        kept = kept.result(SECONDS)
    assert [snapshot.id for snapshot in repository.snapshots()] == [kept.snapshot]


def test_a_snapshot_that_cannot_be_stored_fails_its_group():
    """Nobody of the group is answered, and none of its snapshots stays."""
    store = FaultyStore(MemoryStore())
    repository = _repository(store)
    gate = Gate(store, FileKind.INDEX)
    repository.store = repository.objects.store = gate
    with Intake(repository) as intake:
        first = _keep(intake, b"first")
        assert gate.waiting.wait(SECONDS)
        group = [_keep(intake, b"%d" % n) for n in range(6)]
        met = iter(range(100))
        store._plan = lambda call: (
            Trouble.FULL
            if call.method == "put" and call.kind is FileKind.SNAPSHOT and next(met) == 4
            else None
        )
        gate.open.set()
        kept = first.result(SECONDS)
        for future in group:
            with pytest.raises(StorageFullError):
                future.result(SECONDS)
        store._plan = lambda _: None
        later = _keep(intake, b"later").result(SECONDS)
    found = {snapshot.id for snapshot in repository.snapshots()}
    assert found == {kept.snapshot, later.snapshot}


# --- what is on its way ---------------------------------------------------------------------------


def test_a_blob_is_not_taken_for_stored_before_it_is():
    """I1: of two uploads of one content, the one that ends is not answered before the pack that
    the other had begun is durable.
    """
    store = Gate(MemoryStore(), FileKind.PACK)
    repository = _repository(store)
    content = _random(9 * MIB)
    with Intake(repository) as intake:
        first = _give(intake.begin(b"first", HERE), content + bytes(4 * MIB))
        second = _give(intake.begin(b"second", HERE), content)
        answer = second.finish()
        assert store.waiting.wait(SECONDS)
        time.sleep(0.2)
        assert not answer.done()
        assert not list(store.list(FileKind.SNAPSHOT))
        store.open.set()
        kept = answer.result(SECONDS)
        first.abandon()
    assert kept.sha256 == hashlib.sha256(content).digest()
    assert _read(store, repository, kept) == {b"second": content}


def test_who_relies_on_a_pack_fails_with_it():
    """I1: the pack that another upload had begun cannot be stored: both fail, and the intake takes
    the same content again afterwards.
    """
    store = FaultyStore(MemoryStore(), always(Trouble.FULL, "put", kinds={FileKind.PACK}))
    store._plan, broken = lambda _: None, store._plan
    repository = _repository(store)
    content = _random(9 * MIB)
    with Intake(repository) as intake:
        store._plan = broken
        first = _give(intake.begin(b"first", HERE), content + bytes(4 * MIB))
        second = _give(intake.begin(b"second", HERE), content)
        with pytest.raises(StorageFullError):
            second.finish().result(SECONDS)
        with pytest.raises(StorageFullError):
            first.finish().result(SECONDS)
        store._plan = lambda _: None
        kept = _keep(intake, content).result(SECONDS)
        assert kept.added > 500_000  # what lay in the pack that failed
    assert _read(store, repository, kept) == {b"file": content}


def test_a_sealer_that_fails_tells_those_concerned(monkeypatch):
    """I8: never silently, and others go on."""
    repository = _repository()
    add = PackBuffer.add
    bad = _random(MIB, 7)
    blob = hashlib.sha256(bad[: 512 << 10]).digest()

    def failing(self, name, kind, plaintext):
        if bytes(plaintext)[:100] == bad[:100]:
            raise VerificationError("a sealed blob does not open to what was read")
        return add(self, name, kind, plaintext)

    monkeypatch.setattr(PackBuffer, "add", failing)
    with Intake(repository) as intake:
        good = _keep(intake, _random(9 * MIB, 8)).result(SECONDS)
        with pytest.raises(VerificationError):
            _keep(intake, bad).result(SECONDS)
        with pytest.raises(VerificationError):
            _keep(intake, bad[: 100 << 10]).result(SECONDS)
        assert _keep(intake, b"small").result(SECONDS)
        monkeypatch.undo()
        again = _keep(intake, bad).result(SECONDS)
    assert blob
    assert _read(repository.store, repository, again) == {b"file": bad}
    assert len(_read(repository.store, repository, good)[b"file"]) == 9 * MIB


def test_abandoned_uploads_leave_nothing():
    """A thousand of them, at any moment: no window, no thread, no place taken."""
    repository = _repository()
    content = _random(9 * MIB)
    with Intake(repository) as intake:
        _keep(intake, b"warm").result(SECONDS)
        threads = threading.active_count()
        rnd = random.Random(3)
        for number in range(1000):
            size = rnd.choice([0, 100, 300_000, 600_000]) if number % 50 else 9 * MIB
            if number % 3:
                upload = _give(intake.begin(b"x", HERE), content[:size], 200_000)
                upload.abandon()
                with pytest.raises(ClosedError):
                    upload.write(b"more")
            else:
                session = intake.begin_tree(HERE)
                _give(session.file(b"a"), content[:size], 200_000)
                session.abandon()
        _wait(lambda: not intake.state.sealing)
        state = intake.state
        assert (state.sealing, state.waiting, state.queued) == (0, 0, 0)
        assert not intake._live
        assert len(intake._windows._spare) <= 4
        assert threading.active_count() <= threads + 4  # the sealers and their writers
        kept = _keep(intake, content).result(SECONDS)
    assert len(list(repository.snapshots())) == 2
    assert _read(repository.store, repository, kept) == {b"file": content}
    _assert_sound(repository)


def test_a_retry_finds_what_was_sealed():
    """What an abandoned upload has brought so far is not sealed again."""
    repository = _repository()
    content = _random(25 * MIB)  # wherever it is cut, that is four chunks at least
    with Intake(repository) as intake:
        upload = _give(intake.begin(b"x", HERE), content)
        _wait(lambda: upload.account.data.blobs >= 3)
        upload.abandon()
        kept = _keep(intake, content).result(SECONDS)
        assert kept.added <= len(content) - 3 * (512 << 10) + 4000
    assert _read(repository.store, repository, kept) == {b"file": content}


def _wait(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_after_the_end_nothing_runs_and_nothing_is_locked():
    repository = _repository()
    before = threading.active_count()
    intake = Intake(repository)
    _keep(intake, _random(9 * MIB)).result(SECONDS)
    finished = _keep(intake, _random(5 * MIB, 2))
    under_way = _give(intake.begin(b"x", HERE), _random(5 * MIB, 3))
    intake.close()
    intake.close()
    assert finished.result(0)
    with pytest.raises(ClosedError):
        under_way.write(b"more")
    with pytest.raises(ClosedError):
        intake.begin(b"x", HERE)
    assert threading.active_count() == before
    assert not list(repository.store.list(FileKind.LOCK))
    gc.collect()


# --- who waits ------------------------------------------------------------------------------------


def test_too_many_streams_wait_and_are_refused():
    """Beyond the limit an upload waits unread: admitted in its turn, or told to come again."""
    plan = IntakePlan(admitted=1, admission_wait=1.0)
    repository = _repository()
    with Intake(repository, plan=plan) as intake:
        first = _give(intake.begin(b"first", HERE), _random(MIB))
        second, third = intake.begin(b"second", HERE), intake.begin(b"third", HERE)
        assert second.offer(b"small at first") is None
        waits = second.offer(_random(MIB, 2))
        assert not waits.done()
        assert intake.state.waiting == 1
        first.finish().result(SECONDS)
        waits.result(SECONDS)
        with pytest.raises(StoreBusyError):
            third.write(_random(MIB, 3))
        assert _keep(intake, b"small ones are not held up").result(SECONDS)
        kept = second.finish().result(SECONDS)
    expected = b"small at first" + _random(MIB, 2)
    assert _read(repository.store, repository, kept) == {b"second": expected}


def test_a_window_keeps_no_memory_for_what_was_left_over_once() -> None:
    """What stood far before it is given back to the system; the window itself stays as it is."""
    pool = WindowPool()
    memory = pool.take()
    memory[:] = b"x" * len(memory)
    pool.give_back(memory, MAX_SIZE)
    kept = MAX_SIZE - (1 << 20)
    assert not any(memory[:kept])
    assert bytes(memory[kept:]) == b"x" * (len(memory) - kept)
    memory[:] = b"x" * len(memory)
    pool.give_back(memory, 1 << 20)
    assert bytes(memory[:kept]) == b"x" * kept


def test_offering_never_waits():
    """A future says when the next piece may come; what was offered is kept in its order."""
    store = Gate(MemoryStore(), FileKind.PACK)
    repository = _repository(store)
    pieces = [_random(MIB, seed) for seed in range(120)]
    with Intake(repository) as intake:
        upload = intake.begin(b"file", HERE)
        left = iter(pieces)
        stuck = _offer_until_stuck(upload, left)
        assert stuck is not None, "nothing ever waits"
        store.open.set()
        stuck.result(SECONDS)
        assert _offer_until_stuck(upload, left) is None
        kept = upload.finish().result(SECONDS)
    assert kept.sha256 == hashlib.sha256(b"".join(pieces)).digest()


def _offer_until_stuck(upload, pieces):
    """Offers one piece after the other; the future that is not done, where there is no way on."""
    for piece in pieces:
        waited = upload.offer(piece)
        if waited is not None:
            with suppress(TimeoutError):
                waited.result(0.5)
            if not waited.done():
                return waited
    return None


def test_many_threads_at_once():
    repository = _repository()
    failures = []

    def work(number):
        try:
            rnd = random.Random(number)
            for _ in range(6):
                content = rnd.randbytes(rnd.choice([10, 5000, 400_000, 3 * MIB]))
                kept = _keep(intake, content, b"%d" % number).result(SECONDS)
                assert kept.sha256 == hashlib.sha256(content).digest()
                assert _read(repository.store, repository, kept) == {b"%d" % number: content}
        except Exception as error:  # noqa: BLE001  asserted on below
            failures.append(error)

    with Intake(repository, plan=IntakePlan(admitted=3)) as intake:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures
    _assert_sound(repository)


def test_making_large_trees_keeps_no_commit_waiting():
    """The one sealing thread is busy for long: what is in its open pack is committed all the
    same.
    """
    repository = _repository()
    plan = IntakePlan(sealing=SealingPlan(workers=1))
    waited = []
    with Intake(repository, plan=plan) as intake:
        answer = _keep(intake, _random(MIB))

        def busy(sealer):
            until = time.monotonic() + SECONDS
            while not answer.done() and time.monotonic() < until:
                sealer.attend()
            waited.append(answer.done())

        intake.put_work(busy)
        assert answer.result(SECONDS)
    assert waited == [True]


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        Trouble.FULL,
        Trouble.BUSY_AFTER,
        pytest.param(Trouble.BUSY, marks=pytest.mark.long),
        pytest.param(Trouble.BROKEN, marks=pytest.mark.long),
    ],
)
def test_what_was_answered_is_there_whatever_call_fails(trouble):
    """I1, I8: the n-th call to the store fails, for each n: every upload ends as what it is, the
    repository is sound, and the intake works on.
    """
    key = []

    def make():
        inner = MemoryStore()
        repository = Repository.init(inner, PASSWORD)
        key[:] = [repository.objects.key]
        return inner

    contents = [_random(600_000, 1), b"small", _random(600_000, 1) + b"more"]
    for store in each_call_failing(make, trouble):
        repository = _opened(store, key[0])
        if repository is None:
            continue
        answered = {}
        with Intake(repository, plan=IntakePlan(lock_wait=0.1)) as intake:
            for number, content in enumerate(contents):
                _try(intake, content, b"%d" % number, answered)
            store._plan = lambda _: None
            _try(intake, b"at last", b"last", answered)
        assert b"last" in answered
        fresh = Repository.unlocked(store.inner, key[0])
        _assert_sound(fresh)
        for name, (kept, content) in answered.items():
            assert _files(fresh, fresh.load_snapshot(kept.snapshot).tree) == {name: content}


def _opened(store, key):
    """None where the failing call was one that opening needs."""
    try:
        return Repository.unlocked(store, key)
    except StoreError:
        return None


def _try(intake, content, name, answered):
    try:
        kept = _keep(intake, content, name).result(SECONDS)
    except HoldfastError:
        return
    answered[name] = kept, content


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param((3, 11, 26, 40), id="sample"),
        pytest.param(None, id="all", marks=pytest.mark.long),
    ],
)
def test_a_killed_process_loses_no_answered_upload(tmp_path, steps, stock_restic):
    """I1, I5: killed at any write of the store: what was answered is whole, and the next process
    needs nobody's help.
    """
    numbers = iter(range(10_000))
    log = tmp_path / "answered"

    def act(files):
        store = DirectoryStore(path, files=files)
        repository = Repository.unlocked(store, key)
        with log.open("ab", buffering=0) as out, Intake(repository) as intake:

            def give(number):
                content = _random(600_000 if number % 2 else 5000, number)
                kept = _keep(intake, content, b"%d" % number).result(SECONDS)
                out.write(f"{number} {kept.snapshot}\n".encode())

            for first in (0, 4):  # four at a time
                threads = [threading.Thread(target=give, args=(first + n,)) for n in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()

    def prepared():
        path = tmp_path / f"r{next(numbers)}"
        log.write_bytes(b"")
        return path, Repository.init(DirectoryStore(path), PASSWORD).objects.key

    path, key = prepared()
    for run in each_kill_in_fork(act, steps=steps):
        assert run.killed or not run.returncode, run.output
        repository = Repository.unlocked(DirectoryStore(path), key)
        _assert_kept(repository, log.read_text())
        with Intake(repository) as intake:
            assert _keep(intake, b"the next one").result(SECONDS)
        _assert_sound(Repository.unlocked(DirectoryStore(path), key))
        path, key = prepared()
    stock_restic(path)("check")


def _assert_kept(repository, answered):
    for line in answered.splitlines():
        number, snapshot = line.split()
        content = _random(600_000 if int(number) % 2 else 5000, int(number))
        tree = repository.load_snapshot(snapshot).tree
        assert _files(repository, tree) == {number.encode(): content}


# --- others at the repository ---------------------------------------------------------------------


def test_the_lock_is_released_when_nothing_is_under_way():
    repository = _repository()
    with Intake(repository) as intake:
        _keep(intake, b"content").result(SECONDS)
        assert intake.state.locked
        acquire(repository.objects, exclusive=True, clock=repository.clock, wait=10).release()
        assert _keep(intake, b"more").result(SECONDS)


def test_a_lock_that_was_lost_commits_nothing():
    """F16: somebody removed the lock of this process: what was being committed fails, and the next
    upload is taken under a new one.
    """
    repository = _repository()
    with Intake(repository) as intake:
        _keep(intake, b"content").result(SECONDS)
        for item in list(repository.store.list(FileKind.LOCK)):
            repository.store.remove(FileKind.LOCK, item.name)
        with pytest.raises(LockLostError):
            _keep(intake, b"lost").result(SECONDS)
        kept = _keep(intake, b"found").result(SECONDS)
        assert intake.state.locked
    assert _read(repository.store, repository, kept) == {b"file": b"found"}
    assert len(list(repository.snapshots())) == 2


def test_small_uploads_do_not_wait_long_for_others():
    """While a prune has the repository for itself they are told to come again; large ones that
    have begun wait, and are kept.
    """
    repository = _repository()
    content = _random(9 * MIB)
    with Intake(repository, plan=IntakePlan(lock_wait=3.0)) as intake:
        large = _give(intake.begin(b"large", HERE), content)
        assert intake.yield_lock()
        lock = acquire(repository.objects, exclusive=True, clock=repository.clock, wait=5)
        answer = large.finish()
        began = time.monotonic()
        with pytest.raises(StoreBusyError, match="locked exclusively"):
            _keep(intake, b"small").result(SECONDS)
        assert time.monotonic() - began < 6
        assert not answer.done()
        lock.release()
        kept = answer.result(SECONDS)
        assert _keep(intake, b"small").result(SECONDS)
    assert _read(repository.store, repository, kept) == {b"large": content}
