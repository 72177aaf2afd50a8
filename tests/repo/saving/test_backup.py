from __future__ import annotations

import errno
import hashlib
import os
from contextlib import suppress

import pytest

from holdfast.core.entries import Kind
from holdfast.core.errors import (
    HoldfastError,
    InterruptedByUserError,
    LockLostError,
    SourceEmptyError,
    SourceError,
    SourceMissingError,
    StoreError,
)
from holdfast.core.outcome import Outcome
from holdfast.core.secret import Secret
from holdfast.core.source import UP, Found, Problem
from holdfast.repo.damage import record_damage
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.tree import blob_id
from holdfast.repo.lock import acquire
from holdfast.repo.repository import Repository
from holdfast.repo.saving.backup import BackupOptions, back_up
from holdfast.repo.saving.sealing import SMALL_FILE, SealingPlan
from holdfast.store.contract import FileKind
from holdfast.store.memory import MemoryStore
from holdfast.testing.faulty_store import Trouble, each_call_failing
from holdfast.testing.memory_source import File, MemorySource

PASSWORD = Secret("secret")
INLINE = SealingPlan(workers=0)


class Notes:
    """An observer that keeps what it is told."""

    def __init__(self):
        self.items = []
        self.problems = []

    def item(self, action, path, kind, size):
        self.items.append((action, path, kind, size))

    def problem(self, problem):
        self.problems.append(problem)

    def progress(self, counts, current):
        pass


def _run(repository, source, *, lock=None, observer=None, sealing=INLINE, **options):
    latest = max(repository.snapshots(), key=lambda s: s.time, default=None)
    options.setdefault("parent", latest)
    return back_up(
        repository,
        source,
        BackupOptions(hostname="here", sealing=sealing, **options),
        observer=observer or Notes(),
        lock=lock,
    )


def _content(repository, tree, path=b""):
    """Every file below a tree with its bytes, read back through the store."""
    found = {}
    for node in repository.load_tree(tree):
        here = path + b"/" + node.raw_name()
        if node.type == Kind.DIR:
            found |= _content(repository, blob_id(node.subtree), here)
        else:
            blobs = [repository.load_blob(blob, BlobKind.DATA) for blob in node.blobs()]
            found[here] = b"".join(blobs)
            assert len(found[here]) == node.size
    return found


def _fresh(repository):
    """The same repository as somebody else opens it."""
    return Repository.unlocked(repository.store, repository.objects.key, cache_root=None)


def _kept(repository, result):
    return _content(_fresh(repository), result.snapshot.tree)


@pytest.fixture
def repository():
    return Repository.init(MemoryStore(), PASSWORD)


TREE = {
    b"data": {
        b"a.txt": b"alpha",
        b"empty": b"",
        b"dir": {b"b\xff\n": b"beta" * 1000, b"deep": {b"c": b"x"}},
        b"large": os.urandom(3 << 20) + bytes(2 << 20),
    }
}
FILES = {
    b"/data/a.txt": b"alpha",
    b"/data/empty": b"",
    b"/data/dir/b\xff\n": b"beta" * 1000,
    b"/data/dir/deep/c": b"x",
    b"/data/large": TREE[b"data"][b"large"],
}


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("version", [1, 2])
def test_what_was_backed_up_is_given_back(workers, version, tmp_path):
    """I1: every byte of every file comes back, however many workers there were, in both versions of
    the format.
    """
    from holdfast.store.directory import DirectoryStore

    repository = Repository.init(DirectoryStore(tmp_path), PASSWORD, version=version)
    result = _run(repository, MemorySource(TREE), sealing=SealingPlan(workers=workers))
    assert result.outcome is Outcome.SUCCEEDED
    assert _kept(repository, result) == FILES
    assert result.counts.files_new == len(FILES)
    assert result.counts.dirs_new == 3


def test_nothing_new_stores_nothing(repository):
    """An unchanged tree is the same tree: no blob is stored, no file is read."""
    first = _run(repository, MemorySource(TREE))
    source = MemorySource(TREE)
    source.open = None
    second = _run(repository, source)
    assert second.tree == first.tree
    assert second.counts.files_unmodified == len(FILES)
    assert second.counts.dirs_unmodified == 3
    assert second.counts.data.blobs == second.counts.trees.blobs == 0
    assert second.snapshot.file.parent == first.snapshot.id


def test_skip_if_unchanged_makes_no_snapshot(repository):
    """--skip-if-unchanged leaves the last snapshot the last one."""
    _run(repository, MemorySource(TREE))
    assert _run(repository, MemorySource(TREE), skip_if_unchanged=True).snapshot is None
    assert len(list(repository.snapshots())) == 1


def test_only_what_changed_is_read_and_stored(repository):
    """A changed file is read again, its neighbours are not; the parent chain of trees is new."""
    _run(repository, MemorySource(TREE))
    tree = {b"data": TREE[b"data"] | {b"a.txt": File(b"ALPHA", mtime=1), b"new": b"new"}}
    notes = Notes()
    result = _run(repository, MemorySource(tree), observer=notes)
    changed = {(action, path) for action, path, kind, _ in notes.items if kind is Kind.FILE}
    assert ("changed", b"/data/a.txt") in changed
    assert ("new", b"/data/new") in changed
    assert result.counts.files_unmodified == 4
    assert result.counts.data.blobs == 2
    assert _kept(repository, result) == FILES | {b"/data/a.txt": b"ALPHA", b"/data/new": b"new"}


def test_forced_runs_read_all_and_store_nothing_twice(repository):
    """Without a parent every file is read again, and deduplication finds every blob."""
    _run(repository, MemorySource(TREE))
    result = _run(repository, MemorySource(TREE), parent=None)
    assert result.counts.files_new == len(FILES)
    assert result.counts.data.blobs == result.counts.trees.blobs == 0


def test_equal_content_is_stored_once(repository):
    """Deduplication within one run, across batches and within one."""
    tree = {b"data": {f"{n:04}".encode(): b"same" * 100 for n in range(300)}}
    result = _run(repository, MemorySource(tree), sealing=SealingPlan(workers=0))
    assert result.counts.data.blobs == 1
    assert len(_kept(repository, result)) == 300


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_files_around_the_smallest_chunk_survive(repository, extra):
    """The border between small files and chunked ones loses no byte."""
    content = os.urandom(SMALL_FILE + extra)
    result = _run(repository, MemorySource({b"data": {b"f": content}}))
    assert _kept(repository, result) == {b"/data/f": content}


def test_holes_are_passed_over_and_come_back_as_zeros(repository):
    """F22: a hole is not read, and its bytes are zeros."""
    hole = 40 << 20
    content = os.urandom(700_000) + bytes(hole) + os.urandom(900_000)
    read = []
    file = File(content, holes=((700_000, hole),), on_read=lambda _: read.append(1))
    result = _run(repository, MemorySource({b"data": {b"sparse": file}}))
    assert _kept(repository, result) == {b"/data/sparse": content}
    plain = Repository.init(MemoryStore(), PASSWORD, polynomial=repository.config.polynomial)
    assert _run(plain, MemorySource({b"data": {b"sparse": content}})).counts.bytes == len(content)
    assert len(read) < 12  # 40 MiB of zeros would be 5 windows and more each time it is tried


def test_holes_cut_as_zeros_do(repository):
    """A sparse file and its dense copy are the same blobs."""
    content = os.urandom(600_000) + bytes(20 << 20) + os.urandom(600_000)
    sparse = File(content, holes=((600_000, 20 << 20),))
    result = _run(repository, MemorySource({b"data": {b"a": sparse, b"b": content}}))
    (data,) = _fresh(repository).load_tree(result.tree)
    a, b = _fresh(repository).load_tree(blob_id(data.subtree))
    assert a.content == b.content


# --- sources that misbehave -------------------------------------------------------------------


def test_a_lost_root_among_others_is_partial(repository):
    """F26: what is there is kept, what is missing is named, and the outcome says so (I8)."""
    notes = Notes()
    result = _run(repository, MemorySource(TREE, [b"/data", b"/gone"]), observer=notes)
    assert result.outcome is Outcome.PARTIAL
    assert [problem.path for problem in notes.problems] == [b"/gone"]
    assert result.snapshot.file.paths == ["/data"]
    assert _kept(repository, result) == FILES


def test_no_root_left_is_a_failure(repository):
    """F26: a source that vanished is an error, never an empty snapshot."""
    with pytest.raises(SourceMissingError, match="/gone"):
        _run(repository, MemorySource({}, [b"/gone"]))
    assert not list(repository.snapshots())


def test_a_root_that_turned_empty_is_a_failure(repository):
    """F26: an unmounted disk does not become an empty backup, unless that is meant."""
    _run(repository, MemorySource(TREE))
    with pytest.raises(SourceEmptyError, match="/data"):
        _run(repository, MemorySource({b"data": {}}))
    assert len(list(repository.snapshots())) == 1
    result = _run(repository, MemorySource({b"data": {}}), allow_empty=True)
    assert _kept(repository, result) == {}


def test_empty_folders_alone_are_no_data(repository):
    """F26: a mount point with its skeleton is as empty as one without; a root that never held a
    file is not.
    """
    skeleton = {b"data": {b"dir": {b"sub": {}}}, b"bare": {b"dir": {}}}
    roots = [b"/data", b"/bare"]
    _run(repository, MemorySource(skeleton, roots))
    _run(repository, MemorySource(TREE | {b"bare": {}}, roots))
    parent = max(repository.snapshots(), key=lambda s: s.time)
    with pytest.raises(SourceEmptyError, match="/data holds no files, but did"):
        _run(repository, MemorySource(skeleton, roots), parent=parent)
    assert len(list(repository.snapshots())) == 2
    assert _run(repository, MemorySource(skeleton, roots), parent=parent, allow_empty=True).snapshot


def test_a_file_of_each_root_is_enough(repository):
    """Roots within roots, and a root that is a file."""
    tree = {b"data": {b"in": {b"deep": {b"file": b"x"}}, b"one": b"y"}}
    roots = [b"/data", b"/data/in", b"/data/one"]
    parent = _run(repository, MemorySource(tree, roots)).snapshot
    assert _run(repository, MemorySource(tree, roots), parent=parent).snapshot
    tree[b"data"][b"in"] = {b"deep": {}}
    with pytest.raises(SourceEmptyError, match="/data/in holds"):
        _run(repository, MemorySource(tree, roots), parent=parent)


@pytest.mark.parametrize("tree", [{b"bad": None}, {b"data": {b"dir": {b"bad": None}}}])
def test_where_nothing_can_be_read_there_is_no_snapshot(repository, tree):
    """F26: not even a first one, of folders alone."""
    bad = File(b"content", on_read=_raise(errno.EIO))
    if b"bad" in tree:
        source = MemorySource({b"bad": bad}, [b"/bad"])
    else:
        source = MemorySource({b"data": {b"dir": {b"bad": bad}}})
    with pytest.raises(SourceError, match=r"not one file .*/bad: Input/output error"):
        _run(repository, source)
    assert not list(repository.snapshots())


def test_a_root_that_may_not_be_read_is_not_called_missing(repository):
    """I8: why, in the error."""

    class Closed(MemorySource):
        def walk(self):
            for root in self.roots:
                yield Problem(root, "scan", os.strerror(errno.EACCES), root=True)

    with pytest.raises(SourceError, match=r"can be read: /data \(Permission denied\)") as caught:
        _run(repository, Closed(TREE))
    assert caught.value.code == "source-failed"


def _raise(number):
    def on_read(_):
        raise OSError(number, os.strerror(number))

    return on_read


@pytest.mark.parametrize("size", [10, 2 << 20])
def test_an_unreadable_file_is_named_and_left_out(repository, size):
    """F26: one bad file ends nothing: it is listed, the others are kept, the outcome is partial."""
    tree = {b"data": {b"bad": File(bytes(size), on_read=_raise(errno.EIO)), b"good": b"good"}}
    result = _run(repository, MemorySource(tree))
    assert result.outcome is Outcome.PARTIAL
    assert [(p.path, p.during) for p in result.problems] == [(b"/data/bad", "read")]
    assert _kept(repository, result) == {b"/data/good": b"good"}


@pytest.mark.parametrize("size", [10, 2 << 20])
def test_a_file_that_keeps_changing_is_kept_and_marked(repository, size):
    """F27: stored size and stored bytes always agree, and the run says what changed under it."""

    def grow(file):
        file.mtime += 1
        file.content += b"more"

    tree = {b"data": {b"log": File(b"l" * size, on_read=grow)}}
    result = _run(repository, MemorySource(tree))
    assert [(p.path, p.during) for p in result.problems] == [(b"/data/log", "changed")]
    assert result.outcome is Outcome.PARTIAL
    (kept,) = _kept(repository, result).values()
    assert len(kept) >= size


def test_a_file_that_changed_once_is_read_again(repository):
    """F27: a change during the first read costs a second one, and the result is consistent."""

    def change(file):
        if file.content[:1] == b"o":
            file.mtime += 1
            file.content = b"new content"

    tree = {b"data": {b"f": File(b"old", on_read=change)}}
    result = _run(repository, MemorySource(tree))
    assert result.outcome is Outcome.SUCCEEDED
    assert _kept(repository, result) == {b"/data/f": b"new content"}


@pytest.mark.parametrize("size", [10, 2 << 20])
def test_a_file_that_shrinks_while_it_is_read_keeps_what_was_read(repository, size):
    """F27: a file cut short under the reader has the size of what was read."""

    def cut(file):
        file.mtime += 1
        file.content = file.content[: len(file.content) // 2]

    result = _run(repository, MemorySource({b"data": {b"f": File(b"s" * size, on_read=cut)}}))
    assert len(_kept(repository, result)) == 1  # _content compares length and size


def test_a_small_file_that_grew_large_is_chunked(repository):
    """A file that outgrew its batch between scan and read is read like a large one."""
    file = File(b"small")
    source = MemorySource({b"data": {b"f": file}})
    big = os.urandom(2 << 20)
    walk = source.walk

    def grown():
        for step in walk():
            yield step
            file.content = big

    source.walk = grown
    assert _kept(repository, _run(repository, source)) == {b"/data/f": big}


def test_a_source_out_of_order_is_refused(repository):
    """Two nodes of one name, or unsorted ones, would make a tree that nobody can search."""
    source = MemorySource(TREE)
    steps = [step for step in source.walk() if isinstance(step, Found)][:1]
    source.walk = lambda: iter([*steps, UP, *steps, UP])
    with pytest.raises(HoldfastError):
        _run(repository, source)
    assert not list(repository.snapshots())


# --- stores that misbehave --------------------------------------------------------------------


def _opened(store):
    return Repository.open(store, PASSWORD)


@pytest.mark.parametrize("trouble", [Trouble.BROKEN, Trouble.BUSY_AFTER, Trouble.FULL])
def test_a_failing_store_never_costs_a_snapshot(trouble):
    """I1, I5 (F2, F11): whichever call fails, earlier snapshots stay whole and the next run
    succeeds.
    """
    small = {b"data": {b"a": b"one", b"d": {b"b": os.urandom(600_000)}}}
    more = {b"data": small[b"data"] | {b"c": b"three"}}
    base = MemoryStore()
    first = _run(Repository.init(base, PASSWORD), MemorySource(small))

    def copied():
        copy = MemoryStore()
        for kind in FileKind:
            for item in base.list(kind):
                copy.put(kind, item.name, base.get(kind, item.name))
        return copy

    for store in each_call_failing(copied, trouble):
        with suppress(StoreError):
            repository = _opened(store)
            lock = acquire(repository.objects, exclusive=False, clock=repository.clock)
            _run(repository, MemorySource(more), lock=lock)
        clean = _opened(store.inner)
        for snapshot in clean.snapshots():
            kept = _content(clean, snapshot.tree)
            assert kept[b"/data/a"] == b"one"
            assert len(kept) == (2 if snapshot.id == first.snapshot.id else 3)
        again = _run(clean, MemorySource(more))
        assert len(_kept(clean, again)) == 3


def test_init_that_fails_anywhere_can_be_repeated():
    """I5: an `init` that was cut short at any call is simply done again."""
    for store in each_call_failing(MemoryStore, Trouble.BUSY_AFTER):
        with suppress(HoldfastError):
            Repository.init(store, PASSWORD)
        with suppress(HoldfastError):
            Repository.init(store.inner, PASSWORD)
        result = _run(_opened(store.inner), MemorySource({b"data": {b"a": b"a"}}))
        assert result.snapshot is not None


def test_a_dry_run_changes_nothing(repository):
    """--dry-run counts what would be stored, and stores nothing."""
    before = {(kind, item.name) for kind in FileKind for item in repository.store.list(kind)}
    result = _run(repository, MemorySource(TREE), dry_run=True)
    after = {(kind, item.name) for kind in FileKind for item in repository.store.list(kind)}
    assert before == after
    assert result.snapshot is None
    assert result.counts.data.blobs > 3


def test_a_lost_lock_commits_nothing(repository):
    """F16: a run whose lock was taken away ends without a snapshot."""
    lock = acquire(repository.objects, exclusive=False, clock=repository.clock)
    repository.store.remove(FileKind.LOCK, lock.id)
    with pytest.raises(LockLostError):
        _run(repository, MemorySource(TREE), lock=lock)
    assert not list(repository.snapshots())


def _interrupting(source, after):
    walk = source.walk

    def interrupted():
        for number, step in enumerate(walk()):
            if number == after:
                raise InterruptedByUserError("stopped")
            yield step

    source.walk = interrupted
    return source


def test_an_interrupted_run_was_not_for_nothing(repository):
    """What was stored before an interrupt is indexed, and the next run uses it."""
    tree = {b"data": {f"{n:02}".encode(): os.urandom(1 << 20) for n in range(40)}}
    with pytest.raises(InterruptedByUserError):
        _run(
            repository,
            _interrupting(MemorySource(tree), 40),
            sealing=SealingPlan(workers=0, pack_size=4 << 20),
        )
    assert not list(repository.snapshots())
    repository.load_index()
    result = _run(repository, MemorySource(tree))
    assert result.counts.data.blobs < 40


def test_packs_of_a_killed_run_are_used(repository):
    """F1: packs that no index names are found by the next run, which stores only the rest."""
    _run(repository, MemorySource(TREE))
    for kind in (FileKind.SNAPSHOT, FileKind.INDEX):
        for item in list(repository.store.list(kind)):
            repository.store.remove(kind, item.name)
    again = _fresh(repository)
    result = _run(again, MemorySource(TREE))
    assert result.counts.data.blobs == result.counts.trees.blobs == 0
    assert _kept(again, result) == FILES


def test_a_lost_pack_is_written_again(repository):
    """F9: blobs of a pack that vanished are stored again, although their files did not change."""
    first = _run(repository, MemorySource(TREE))
    for item in list(repository.store.list(FileKind.PACK)):
        repository.store.remove(FileKind.PACK, item.name)
    again = _fresh(repository)
    result = _run(again, MemorySource(TREE))
    assert _kept(again, result) == FILES
    assert _content(_fresh(again), first.snapshot.tree) == FILES


@pytest.mark.parametrize("left", [0, 50, -1])
def test_a_truncated_pack_is_written_again(repository, left):
    """F3, F8: nobody needs to check first, and nothing is remembered: the listing of the packs
    tells their sizes.
    """
    first = _run(repository, MemorySource(TREE))
    for item in list(repository.store.list(FileKind.PACK)):
        raw = repository.store.get(FileKind.PACK, item.name)
        repository.store.remove(FileKind.PACK, item.name)
        repository.store.put(FileKind.PACK, item.name, raw[:left])
    again = _fresh(repository)
    assert again.cache is None
    result = _run(again, MemorySource(TREE))
    assert result.distrusted == 2
    assert _kept(again, result) == FILES
    assert _content(_fresh(again), first.snapshot.tree) == FILES


def test_a_damaged_pack_is_written_again(repository, tmp_path):
    """F8: what a check found damaged is stored again by the next run, and then reads well."""
    repository.cache = tmp_path
    first = _run(repository, MemorySource(TREE))
    packs = set(repository.index.packs())
    for pack in packs:
        raw = bytearray(repository.store.get(FileKind.PACK, pack.hex()))
        raw[100] ^= 1
        repository.store.remove(FileKind.PACK, pack.hex())
        repository.store.put(FileKind.PACK, pack.hex(), bytes(raw))
    record_damage(repository, packs)
    _run(repository, MemorySource(TREE))
    assert _content(_fresh(repository), first.snapshot.tree) == FILES


def test_the_snapshot_says_what_it_is(repository):
    """Paths, host, tags and the summary of the run are in the snapshot, for people and for
    rebuilding.
    """
    result = _run(repository, MemorySource(TREE), tags=("daily", "x"), excludes=("*.tmp",))
    file = _fresh(repository).load_snapshot(result.snapshot.id).file
    assert file.paths == ["/data"]
    assert file.hostname == "here"
    assert file.tags == ["daily", "x"]
    assert file.excludes == ["*.tmp"]
    assert file.summary.total_files_processed == len(FILES)
    assert file.summary.total_bytes_processed == sum(map(len, FILES.values()))


def test_trees_are_named_by_their_content(repository):
    """Every tree of a snapshot hashes to its name; load_blob would refuse it otherwise (I4)."""
    result = _run(repository, MemorySource(TREE))
    document = repository.load_blob(result.tree, BlobKind.TREE)
    assert hashlib.sha256(document).digest() == result.tree
