"""What every keeper promises, held against each of them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import time
import zipfile
from concurrent.futures import wait

import pytest

from holdfast.core.errors import (
    ClosedError,
    HoldfastError,
    InvalidError,
    NameRefusedError,
    ObjectNotFoundError,
    PathNotFoundError,
    RecordExistsError,
)

MIB = 1 << 20
NOON = 1_767_268_800_000_000_000
FILES = {b"a.txt": b"first", b"sub/b.bin": os.urandom(3000), b"sub/deep/c": b"", b"z": b"z" * 99}


@pytest.fixture(params=["folder", "repository"])
def place(request):
    return request.getfixturevalue(request.param)


# --- one stream -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB, 5 * MIB + 17])
def test_what_was_put_is_given_back_byte_for_byte(place, size):
    """I1."""
    content = os.urandom(size)
    backup = place.put(content)
    assert (backup.size, backup.files) == (size, 1)
    place.reopen()
    outgoing = place.keeper.open(backup)
    assert outgoing.size == size
    assert place.content_of(outgoing) == content


def test_pieces_of_any_size_make_the_content(place):
    content = os.urandom(2 * MIB + 5)
    wanted = place.order()
    incoming = place.keeper.begin(wanted)
    at = 0
    for size in (1, 70_000, 300_000, 1, 2 * MIB):
        waiting = incoming.offer(content[at : at + size])
        at += size
        if waiting is not None:
            waiting.result(20)
    kept = incoming.finish().result(20)
    assert kept.size == len(content)
    assert place.read(place.rows[wanted.uid]) == content


def test_who_offers_faster_than_is_kept_must_wait(place):
    incoming = place.keeper.begin(place.order())
    waits = 0
    for _ in range(64):
        future = incoming.offer(bytes(MIB))
        if future is not None:
            waits += 1
            future.result(20)
    incoming.finish().result(20)
    assert waits > 0


@pytest.mark.parametrize(
    ("start", "length"),
    [(0, 1), (0, None), (5, 10), (MIB - 1, 2), (MIB, MIB), (3 * MIB, None), (4 * MIB + 1, 99),
     (4 * MIB + 7, None)],
)  # fmt: skip
def test_any_range_is_given(place, start, length):
    content = os.urandom(4 * MIB + 7)
    backup = place.put(content)
    stop = None if length is None else start + length
    assert place.read(backup, start, length) == content[start:stop]


def test_an_order_can_be_amended_until_its_end(place):
    for begin, target in (
        (place.keeper.begin, place.TARGET),
        (place.keeper.begin_tree, place.TREE),
    ):
        wanted = place.order(target=target, manual=True)
        incoming = begin(wanted)
        incoming.amend(manual=False)
        incoming.finish().result(20)
        assert place.rows[wanted.uid].manual is False
        assert place.found()[wanted.uid].order.manual is False


def test_a_group_is_recorded_together_before_anybody_is_answered(place):
    seen = []
    record = place.record
    futures = []

    def watching(group):
        seen.append([future.done() for future in futures])
        return record(group)

    place.record = watching
    place.reopen()
    streams = [place.keeper.begin(place.order(f"{n}.txt")) for n in range(50)]
    for n, stream in enumerate(streams):
        stream.write(b"%d" % n)
    futures = [stream.finish() for stream in streams]
    wait(futures, 20)
    assert all(future.result() for future in futures)
    assert sum(place.groups) == 50
    assert len(place.groups) < 50
    assert {place.read(backup) for backup in place.rows.values()} == {b"%d" % n for n in range(50)}


def test_two_backups_of_one_name_do_not_touch_each_other(place):
    """I2."""
    one, two = place.put(b"one"), place.put(b"two")
    assert (place.read(one), place.read(two)) == (b"one", b"two")
    place.keeper.delete(one)
    assert place.read(two) == b"two"


def test_less_than_was_announced_is_not_kept(place):
    incoming = place.keeper.begin(place.order(size=10))
    incoming.write(b"only so")
    with pytest.raises(InvalidError, match="10 bytes were announced, 7 came"):
        incoming.finish().result(20)
    assert place.rows == {}
    assert place.found() == {}


@pytest.mark.parametrize("size", [0, 100, 3 * MIB])
def test_what_is_abandoned_is_seen_by_nobody(place, size):
    incoming = place.keeper.begin(place.order())
    incoming.write(bytes(size))
    incoming.abandon()
    incoming.abandon()
    assert place.rows == {}
    place.reopen()
    assert place.found() == {}


def test_after_abandoning_nothing_is_taken(place):
    incoming = place.keeper.begin(place.order())
    incoming.abandon()
    with pytest.raises(ClosedError):
        incoming.write(bytes(3 * MIB))


def test_abandoning_after_the_end_changes_nothing(place):
    wanted = place.order()
    incoming = place.keeper.begin(wanted)
    incoming.write(b"whole")
    future = incoming.finish()
    incoming.abandon()
    future.result(20)
    assert place.read(place.rows[wanted.uid]) == b"whole"


def test_what_the_catalog_refuses_is_not_kept(place):
    place.refuse = lambda each: RecordExistsError("taken") if each.name == "no" else None
    streams = [place.keeper.begin(place.order(name)) for name in ("yes", "no")]
    futures = []
    for stream in streams:
        stream.write(b"x")
        futures.append(stream.finish())
    assert futures[0].result(20)
    with pytest.raises(RecordExistsError):
        futures[1].result(20)
    place.reopen()
    assert [each.order.name for each in place.found().values()] == ["yes"]


def test_what_the_catalog_could_not_write_is_found_later(place):
    """I5."""

    def broken(_group):
        raise RuntimeError("the catalog is away")

    record, place.record = place.record, broken
    place.reopen()
    wanted = place.order()
    incoming = place.keeper.begin(wanted)
    incoming.write(b"durable")
    with pytest.raises(RuntimeError, match="away"):
        incoming.finish().result(20)
    place.record = record
    place.reopen()
    found = place.found()[wanted.uid]
    place.record([(found.order, found.kept)])
    assert place.read(place.rows[wanted.uid]) == b"durable"


# --- trees ----------------------------------------------------------------------------------------


def test_a_tree_is_given_back_file_by_file(place):
    backup = place.put_tree(FILES)
    assert backup.files == len(FILES)
    assert backup.size == sum(map(len, FILES.values()))
    place.reopen()
    entries = {each.path: each for each in place.keeper.entries(backup)}
    assert set(entries) == {*map(os.fsdecode, FILES), "sub", "sub/deep"}
    assert entries["sub"].kind == "dir"
    assert (entries["a.txt"].size, entries["a.txt"].modified) == (5, NOON)
    for path, content in FILES.items():
        assert place.content_of(place.keeper.open_path(backup, os.fsdecode(path))) == content


def test_thousands_of_files_are_opened_one_after_the_other_in_seconds(place):
    names = [b"d%d/f%d" % (number % 3, number) for number in range(2000)]
    backup = place.put_tree(dict.fromkeys(names, b"x"))
    began = time.monotonic()
    for name in names:
        assert place.content_of(place.keeper.open_path(backup, name.decode())) == b"x"
    assert time.monotonic() - began < 30
    for wrong in ("d0", "d0/f1", "d0/f0/x", "none", ""):
        with pytest.raises(PathNotFoundError):
            place.keeper.open_path(backup, wrong)


def test_links_and_directories_are_kept_as_they_are(place):
    wanted = place.order("all", target=place.TREE)
    tree = place.keeper.begin_tree(wanted)
    tree.directory(b"empty", mode=0o750, mtime=NOON)
    tree.symlink(b"link", b"/etc/passwd", mtime=NOON)
    tree.finish().result(20)
    backup = place.rows[wanted.uid]
    entries = {each.path: each for each in place.keeper.entries(backup)}
    assert (entries["empty"].kind, entries["empty"].mode) == ("dir", 0o750)
    assert (entries["link"].kind, entries["link"].link) == ("symlink", "/etc/passwd")
    with pytest.raises(PathNotFoundError):
        place.keeper.open_path(backup, "link")


def test_names_keep_their_bytes(place):
    names = [b"caf\xe9", b"new\nline", b" -", b"x" * 255, "über".encode()]
    backup = place.put_tree({name: name for name in names})
    place.reopen()
    entries = sorted(os.fsencode(each.path) for each in place.keeper.entries(backup))
    assert entries == sorted(names)
    assert place.content_of(place.keeper.open_path(backup, os.fsdecode(names[0]))) == names[0]


@pytest.mark.parametrize(
    "path", [b"", b"..", b"a/../b", b"/abs", b"a//b", b"a/", b"x" * 256, b"n\0"]
)
def test_paths_that_lead_elsewhere_are_refused(place, path):
    tree = place.keeper.begin_tree(place.order("all", target=place.TREE))
    with pytest.raises(NameRefusedError):
        tree.file(path)
    with pytest.raises(NameRefusedError):
        tree.symlink(path, b"x")
    tree.abandon()


def test_nothing_is_written_through_a_link(place, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    tree = place.keeper.begin_tree(place.order("all", target=place.TREE))
    tree.symlink(b"door", os.fsencode(outside))

    def go_through():
        tree.file(b"door/in").end()
        tree.finish().result(20)

    with pytest.raises(NameRefusedError):
        go_through()
    tree.abandon()
    assert list(outside.iterdir()) == []
    assert place.rows == {}


def test_a_name_given_again_replaces_the_earlier_one(place):
    wanted = place.order("all", target=place.TREE)
    tree = place.keeper.begin_tree(wanted)
    for content in (b"first, longer", b"second"):
        file = tree.file(b"same")
        file.write(content)
        file.end()
    tree.finish().result(20)
    backup = place.rows[wanted.uid]
    assert (backup.size, backup.files) == (6, 1)
    assert [each.path for each in place.keeper.entries(backup)] == ["same"]
    assert place.content_of(place.keeper.open_path(backup, "same")) == b"second"


def test_the_digest_of_a_tree_tells_content_and_names(place):
    one = place.put_tree(FILES)
    same = place.put_tree(dict(reversed(FILES.items())))
    other = place.put_tree(FILES | {b"a.txt": b"First"})
    renamed = place.put_tree({b"x" + path: content for path, content in FILES.items()})
    assert one.sha256 == same.sha256
    assert len({one.sha256, other.sha256, renamed.sha256}) == 3


def test_an_abandoned_tree_leaves_nothing(place):
    tree = place.keeper.begin_tree(place.order("all", target=place.TREE))
    file = tree.file(b"half")
    file.write(bytes(2 * MIB))
    tree.abandon()
    place.reopen()
    assert place.found() == {}


def test_a_tree_whose_last_file_has_not_ended_is_not_kept(place):
    tree = place.keeper.begin_tree(place.order("all", target=place.TREE))
    tree.file(b"half").write(b"x")
    with pytest.raises(HoldfastError):
        tree.finish().result(20)
    assert place.found() == {}


# --- archives -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format_", "mode"), [("tar", "r:"), ("tar.gz", "r:gz"), ("tar.xz", "r:xz")]
)
def test_a_tree_comes_as_a_tar(place, format_, mode):
    backup = place.put_tree(FILES)
    raw = place.content_of(place.keeper.archive(backup, format_, top="top"))
    with tarfile.open(fileobj=io.BytesIO(raw), mode=mode) as packed:
        found = {each.name: each for each in packed}
        contents = {
            name: packed.extractfile(each).read() for name, each in found.items() if each.isfile()
        }
    assert contents == {f"top/{os.fsdecode(path)}": content for path, content in FILES.items()}
    assert found["top/sub/deep"].isdir()
    assert found["top/a.txt"].mtime == NOON // 10**9


def test_a_tree_comes_as_a_zip(place):
    backup = place.put_tree(FILES)
    raw = place.content_of(place.keeper.archive(backup, "zip", top="top"))
    with zipfile.ZipFile(io.BytesIO(raw)) as packed:
        assert packed.testzip() is None
        contents = {name: packed.read(name) for name in packed.namelist() if name[-1] != "/"}
    assert contents == {f"top/{os.fsdecode(path)}": content for path, content in FILES.items()}


def test_an_unknown_archive_format_is_refused(place):
    backup = place.put_tree(FILES)
    with pytest.raises(InvalidError, match="rar"):
        place.keeper.archive(backup, "rar")


# --- deleting, recycling --------------------------------------------------------------------------


def test_what_is_deleted_is_gone_for_every_reader(place):
    backup, other = place.put(b"x" * 100), place.put(b"other")
    place.keeper.delete(backup)
    with pytest.raises(HoldfastError):
        place.read(backup)
    place.keeper.delete(backup)  # again is no error
    assert set(place.found()) == {other.uid}
    place.reopen()
    assert set(place.found()) == {other.uid}


def test_what_is_recycled_is_still_read_and_comes_back(place):
    backup, tree = place.put(b"content"), place.put_tree(FILES)
    for each in (backup, tree):
        place.keeper.move(each, recycled=True)
        place.keeper.move(each, recycled=True)
    place.reopen()
    assert place.read(backup) == b"content"
    assert place.content_of(place.keeper.open_path(tree, "a.txt")) == b"first"
    assert set(place.found()) == {backup.uid, tree.uid}
    for each in (backup, tree):
        place.keeper.move(each, recycled=False)
        place.keeper.move(each, recycled=False)
    assert place.read(backup) == b"content"
    assert place.keeper.verify(tree, lambda _: None).good


def test_what_is_forgotten_is_no_backup_any_more(place):
    backup, tree, other = place.put(b"content"), place.put_tree(FILES), place.put(b"other")
    for each in (backup, tree):
        place.keeper.forget(each)
        place.keeper.forget(each)
    place.reopen()
    assert set(place.found()) == {other.uid}


def test_what_is_recycled_can_be_deleted(place):
    backup = place.put(b"content")
    place.keeper.move(backup, recycled=True)
    place.keeper.delete(backup)
    assert place.found() == {}


# --- proof and rebuilding -------------------------------------------------------------------------


def test_verifying_reads_every_byte(place):
    backup, tree = place.put(os.urandom(2 * MIB + 1)), place.put_tree(FILES)
    for each in (backup, tree):
        seen = []
        verified = place.keeper.verify(each, seen.append)
        assert verified.good
        assert verified.damaged == ()
        assert sum(seen) == verified.bytes == each.size


def test_the_facts_are_found_again_without_the_catalog(place):
    """I7."""
    one = place.put(
        b"one", name="a, b%c\n.sql", manual=False, facts={"note": "x, y", "n": 1}, received=NOON + 1
    )
    two = place.put_tree(FILES)
    rows = dict(place.rows)
    place.reopen()
    found = place.found()
    assert set(found) == {one.uid, two.uid}
    for uid, each in found.items():
        place.record([(each.order, each.kept)])
        was, now = rows[uid], place.rows[uid]
        for name in ("uid", "name", "size", "files", "sha256", "received", "manual", "facts",
                     "snapshot", "path", "repository_id"):  # fmt: skip
            assert getattr(now, name) == getattr(was, name), name
        assert (each.order.target.uid, each.order.target.name) == (place.TREE.uid, place.TREE.name)
    assert found[two.uid].order.target.shape == "multi"
    assert found[one.uid].order.target.face == "holdfast"


def test_a_backup_that_is_not_there_says_so(place):
    backup = place.put(b"x")
    place.keeper.delete(backup)
    with pytest.raises(ObjectNotFoundError):
        place.keeper.open(backup)


# --- the real restic ------------------------------------------------------------------------------


@pytest.mark.interop
def test_the_real_restic_reads_a_repository_of_the_server(repository, stock_restic):
    """I6."""
    content = os.urandom(3 * MIB)
    one = repository.put(content, name="a, b%.sql", facts={"note": "x, y"})
    repository.put_tree(FILES)
    repository.keeper.close()
    restic = stock_restic(repository.keeper.repository.store.address)
    restic("check", "--read-data")
    done = subprocess.run(
        ["restic", "dump", one.snapshot, "/nightly/a, b%25.sql"],
        env=os.environ
        | {
            "RESTIC_PASSWORD": "secret",
            "RESTIC_REPOSITORY": restic.repository,
            "RESTIC_CACHE_DIR": str(restic.cache),
        },
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == content
    (found,) = json.loads(restic("snapshots", "--json", "--tag", f"holdfast:backup={one.uid}"))
    assert found["paths"] == ["/nightly"]
    assert found["hostname"] == "holdfast"
    assert f"holdfast:sha256={one.sha256}" in found["tags"]
    assert found["time"].startswith("2026-01-01T12:00:00")
