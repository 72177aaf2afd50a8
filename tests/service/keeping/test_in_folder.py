"""A plain pool: where its files lie, what it notices, and what it leaves alone."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from holdfast.core.errors import (
    DamagedError,
    HoldfastError,
    InvalidError,
    NameRefusedError,
    NoRepositoryError,
    ObjectNotFoundError,
    RecordExistsError,
    StorageFullError,
)
from holdfast.core.progress import Silence
from holdfast.core.records import Shape
from holdfast.service.keeping.in_folder import FolderKeeper
from holdfast.service.keeping.naming import beside, expanded, file_name, place

MIB = 1 << 20
FILES = {b"a.txt": b"first", b"sub/b.bin": bytes(range(256)) * 20}


@pytest.fixture
def root(tmp_path):
    return tmp_path / "plain"


def seen(root):
    """What a person sees: every file that is not ours."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".holdfast" not in path.relative_to(root).parts
    }


def ours(root, folder):
    return sorted(path.name for path in (root / ".holdfast" / folder).iterdir())


# --- names ----------------------------------------------------------------------------------------


def test_a_file_lies_under_the_name_that_the_template_gives(folder, root):
    target = replace(folder.TARGET, name_template="db $D $M")
    folder.put(b"content", name="x.tar.gz", target=target, manual=False)
    assert seen(root) == {"db 2026-01-01T12:00:00 auto.gz": b"content"}


def test_files_of_a_tree_lie_in_a_folder_under_their_own_names(folder, root):
    target = replace(folder.TREE, name_template="$I", folder="clients/one")
    backup = folder.put_tree(FILES, target=target)
    base = f"clients/one/{backup.uid}"
    assert seen(root) == {f"{base}/{os.fsdecode(path)}": raw for path, raw in FILES.items()}
    assert os.lstat(root / base / "a.txt").st_mtime_ns == folder.NOON


def test_without_a_template_files_lie_in_a_folder_of_their_target(folder, root):
    folder.put(b"1", name="a/b.sql", target=replace(folder.TARGET, name=".."))
    assert seen(root) == {"_../a%2Fb.sql": b"1"}


def test_a_name_that_is_taken_is_not_taken_again(folder, root):
    one, two = folder.put(b"one"), folder.put(b"two")
    assert (one.path, two.path) == ("nightly/dump.sql", f"nightly/dump~{two.uid[:8]}.sql")
    assert seen(root) == {one.path: b"one", two.path: b"two"}


def test_what_is_somebody_elses_is_not_touched(folder, root):
    (root / "nightly").mkdir()
    (root / "nightly" / "dump.sql").write_bytes(b"mine")
    backup = folder.put(b"ours")
    assert backup.path != "nightly/dump.sql"
    folder.keeper.delete(backup)
    folder.reopen()
    assert seen(root) == {"nightly/dump.sql": b"mine"}
    assert folder.found() == {}


@pytest.mark.parametrize("template", ["a/$I", "..", "$I\n", "", "x" * 250 + "$I", ".holdfast"])
def test_templates_that_lead_elsewhere_are_refused(folder, root, template):
    with pytest.raises(InvalidError):
        folder.keeper.begin(
            folder.order("x", target=replace(folder.TARGET, name_template=template))
        )
    assert seen(root) == {}


@pytest.mark.parametrize("where", ["..", "a/../../b", ".holdfast", ".holdfast/tmp", "a\0b"])
def test_folders_that_lead_elsewhere_are_refused(folder, where):
    target = replace(folder.TARGET, name_template="$I", folder=where)
    with pytest.raises(InvalidError):
        folder.keeper.begin(folder.order("x", target=target))


@pytest.mark.parametrize("uid", ["", "..", "a/b", ".x", "x" * 65])
def test_a_uid_that_is_no_name_is_refused(folder, uid):
    with pytest.raises(InvalidError):
        folder.keeper.begin(folder.order("x", uid=uid))


def test_nothing_goes_through_a_link_that_somebody_plants(folder, root, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "nightly").symlink_to(outside)
    with pytest.raises(HoldfastError):
        folder.put(b"content")
    assert list(outside.iterdir()) == []
    assert folder.rows == {}
    (root / "nightly").unlink()
    backup = folder.put(b"content")
    (outside / "dump.sql").write_bytes(b"content")
    (root / "nightly").rename(root / "real")
    (root / "nightly").symlink_to(outside)
    with pytest.raises(HoldfastError):
        folder.read(backup)
    with pytest.raises(HoldfastError):
        folder.keeper.delete(backup)
    assert (outside / "dump.sql").exists()


def test_only_the_owner_can_read(folder, root):
    backup = folder.put(b"content")
    tree = folder.put_tree(FILES)
    assert stat.S_IMODE((root / backup.path).stat().st_mode) == 0o600
    assert stat.S_IMODE((root / tree.path).stat().st_mode) == 0o700
    assert stat.S_IMODE((root / ".holdfast").stat().st_mode) == 0o700


def test_names_are_made_as_documented():
    at = 1_767_268_800_000_000_000
    assert expanded("$I-$D-$M-$X", uid="u", created=at, manual=True) == (
        "u-2026-01-01T12:00:00-manual-$X"
    )
    assert beside("f/a.txt", "12345678-9") == "f/a~12345678.txt"
    assert file_name("x" * 300 + ".gz") == "x" * 252 + ".gz"
    assert len(beside("é" * 127, "12345678").encode()) <= 255
    assert file_name("50%") == "50%25"


# --- the recycle bin and renaming -----------------------------------------------------------------


def test_the_recycle_bin_is_a_place(folder, root):
    backup, tree = folder.put(b"content"), folder.put_tree(FILES)
    for each in (backup, tree):
        folder.keeper.move(each, recycled=True)
    assert seen(root) == {}
    assert ours(root, "recycle") == sorted([backup.uid, tree.uid])
    assert not (root / "nightly").exists()
    for each in (backup, tree):
        folder.keeper.move(each, recycled=False)
    assert set(seen(root)) == {"nightly/dump.sql", "nightly/all/a.txt", "nightly/all/sub/b.bin"}


def test_what_comes_back_pushes_nothing_aside(folder, root):
    backup = folder.put(b"old")
    folder.keeper.move(backup, recycled=True)
    other = folder.put(b"new")
    assert other.path == backup.path
    with pytest.raises(RecordExistsError):
        folder.keeper.move(backup, recycled=False)
    folder.keeper.delete(other)
    (root / "nightly").mkdir()
    (root / backup.path).write_bytes(b"somebody's")
    with pytest.raises(RecordExistsError):
        folder.keeper.move(backup, recycled=False)
    assert folder.read(backup) == b"old"


def test_renaming_moves_all_of_a_backup(folder, root):
    backup, tree = folder.put(b"content"), folder.put_tree(FILES)
    assert folder.keeper.rename(backup, "new/place.sql") == "new/place.sql"
    assert folder.keeper.rename(tree, "all") == "all"
    assert set(seen(root)) == {"new/place.sql", "all/a.txt", "all/sub/b.bin"}
    assert not (root / "nightly").exists()
    # The catalog may not know yet.
    assert folder.read(backup) == b"content"
    folder.reopen()
    assert folder.found()[backup.uid].kept.path == "new/place.sql"
    assert folder.keeper.verify(tree, lambda _: None).good


def test_renaming_replaces_nothing(folder, root):
    one, two = folder.put(b"one", name="1"), folder.put(b"two", name="2")
    tree = folder.put_tree(FILES)
    (root / "empty").mkdir()
    (root / "mine").write_bytes(b"mine")
    for path in (two.path, "mine", "empty", tree.path):
        with pytest.raises(RecordExistsError):
            folder.keeper.rename(one, path)
    for path in ("../x", "/x", ".holdfast/journal.jsonl", "", "a/../b"):
        with pytest.raises(InvalidError):
            folder.keeper.rename(one, path)
    assert folder.keeper.rename(one, one.path) == one.path
    assert (folder.read(one), folder.read(two)) == (b"one", b"two")


def test_what_is_renamed_in_the_bin_comes_back_under_its_new_name(folder, root):
    backup = folder.put(b"content")
    folder.keeper.move(backup, recycled=True)
    folder.keeper.rename(backup, "later.sql")
    assert folder.read(backup) == b"content"
    folder.keeper.move(backup, recycled=False)
    assert seen(root) == {"later.sql": b"content"}


def test_deleting_takes_the_files_from_the_disk(folder, root):
    for backup in (folder.put(b"x" * 3 * MIB), folder.put_tree(FILES)):
        folder.keeper.delete(backup)
    assert seen(root) == {}
    assert [ours(root, each) for each in ("tmp", "lists", "recycle")] == [[], [], []]


def test_what_is_forgotten_stays_on_the_disk_and_is_nobodys(folder, root):
    backup, tree = folder.put(b"content"), folder.put_tree(FILES)
    before = seen(root)
    for each in (backup, tree):
        folder.keeper.forget(each)
        folder.keeper.delete(each)  # too late
    assert seen(root) == before
    assert ours(root, "lists") == []
    assert folder.put(b"new").path != backup.path


def test_deleting_once_more_takes_nothing_that_came_since(folder, root):
    backup = folder.put(b"content")
    folder.keeper.delete(backup)
    (root / "nightly").mkdir()
    (root / backup.path).write_bytes(b"content")
    folder.keeper.delete(backup)
    folder.reopen()
    folder.keeper.delete(backup)
    assert seen(root) == {backup.path: b"content"}
    with pytest.raises(ObjectNotFoundError):
        folder.read(backup)


def test_what_has_a_damaged_line_can_be_deleted(folder, root):
    backup, tree, last = folder.put(b"content"), folder.put_tree(FILES), folder.put(b"x", name="x")
    path = root / ".holdfast" / "journal.jsonl"
    for each in (backup, tree):
        flip(path, path.read_bytes().index(each.uid.encode()))
    folder.reopen()
    assert set(folder.found()) == {last.uid}
    (root / tree.path / "a.txt").write_bytes(b"FIRST")
    for each in (backup, tree):
        folder.keeper.delete(each)
    assert set(seen(root)) == {"nightly/x", "nightly/all/a.txt", "nightly/all/sub/b.bin"}


# --- what is not as it was kept -------------------------------------------------------------------


def flip(path, at):
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


def test_each_flipped_byte_is_found(folder, root):
    """I4: in a file and in files of a tree, verifying tells, and reading gives nothing wrong."""
    backup, tree = folder.put(b"some content", name="s"), folder.put_tree({b"f": b"in a tree"})
    for each, path, size in (
        (backup, root / backup.path, 12),
        (tree, root / tree.path / "f", 9),
    ):
        for at in range(size):
            flip(path, at)
            assert not folder.keeper.verify(each, lambda _: None).good
            with pytest.raises(DamagedError):
                folder.content_of(folder.keeper.open_path(each, "s" if each is backup else "f"))
            flip(path, at)
        assert folder.keeper.verify(each, lambda _: None).good


def test_each_flipped_byte_of_a_list_is_found(folder, root):
    tree = folder.put_tree({b"f": b"content"})
    path = root / ".holdfast" / "lists" / f"{tree.uid}.jsonl"
    for at in range(path.stat().st_size):
        flip(path, at)
        verified = folder.keeper.verify(tree, lambda _: None)
        assert not verified.good, at
        flip(path, at)
    assert folder.keeper.verify(tree, lambda _: None).good


def test_each_flipped_byte_of_the_journal_is_found_and_costs_no_backup(folder, root):
    backup, other = folder.put(b"content"), folder.put(b"another", name="other")
    path = root / ".holdfast" / "journal.jsonl"
    for at in range(path.read_bytes().rindex(b"\n", 0, -1)):
        flip(path, at)
        folder.reopen()
        assert folder.keeper.problems(read_data=False, progress=Silence()), at
        assert folder.read(backup) == b"content"
        assert folder.read(other) == b"another"
        flip(path, at)
    folder.reopen()
    assert folder.keeper.problems(read_data=True, progress=Silence()) == []


def test_a_range_of_a_changed_file_is_given_as_far_as_it_is_right(folder, root):
    """I4."""
    content = os.urandom(3 * MIB)
    backup = folder.put(content)
    flip(root / backup.path, 2 * MIB + 5)
    assert folder.read(backup, 0, MIB) == content[:MIB]
    with pytest.raises(DamagedError):
        folder.read(backup, 2 * MIB, 1)


def test_a_lost_list_of_a_single_file_is_made_up_for(folder, root):
    content = os.urandom(3 * MIB)
    backup = folder.put(content)
    path = root / ".holdfast" / "lists" / f"{backup.uid}.jsonl"
    path.unlink()
    assert folder.read(backup, MIB + 1, 5) == content[MIB + 1 : MIB + 6]
    flip(root / backup.path, 0)
    with pytest.raises(DamagedError):
        folder.read(backup, MIB + 1, 5)


@pytest.mark.parametrize("how", ["longer", "shorter", "gone", "a folder", "a link", "a pipe"])
def test_what_was_changed_by_hand_is_told_and_not_trusted(folder, root, how):
    backup = folder.put(b"content")
    path = root / backup.path
    path.unlink()
    match how:
        case "longer":
            path.write_bytes(b"content, more")
        case "shorter":
            path.write_bytes(b"cont")
        case "a folder":
            path.mkdir()
        case "a link":
            (root / "content").write_bytes(b"content")
            path.symlink_to(root / "content")
        case "a pipe":
            os.mkfifo(path)
    with pytest.raises(HoldfastError):
        folder.read(backup)
    assert not folder.keeper.verify(backup, lambda _: None).good
    assert folder.keeper.problems(read_data=False, progress=Silence())
    assert folder.found() == {}


def test_what_is_missing_from_a_tree_is_named(folder, root):
    tree = folder.put_tree(FILES)
    (root / tree.path / "sub" / "b.bin").unlink()
    (root / tree.path / "a.txt").write_bytes(b"FIRST")
    verified = folder.keeper.verify(tree, lambda _: None)
    assert sorted(verified.damaged) == [
        "a.txt: its content is not what was kept",
        "sub/b.bin: it is gone",
    ]
    with pytest.raises(DamagedError):
        folder.content_of(folder.keeper.archive(tree, "tar"))


# --- several processes, another disk, a full one --------------------------------------------------

_OTHER = """
import sys
from pathlib import Path
from holdfast.core.records import Target
from holdfast.service.keeping.contract import Order
from holdfast.service.keeping.in_folder import FolderKeeper
keeper = FolderKeeper(Path(sys.argv[1]), lambda group: {}, pool="pool-1")
keeper.prepare(create=False)
target = Target(id=7, uid="t", name="nightly", pool_id=3)
for number in range(40):
    order = Order(uid=f"{sys.argv[2]}-{number}", target=target, name="dump.sql", received=1)
    incoming = keeper.begin(order)
    incoming.write(b"%d" % number)
    incoming.finish().result(20)
keeper.close()
"""


def test_several_processes_work_on_one_pool(folder, root):
    others = [
        subprocess.Popen([sys.executable, "-c", _OTHER, str(root), name]) for name in ("one", "two")
    ]
    mine = [folder.put(b"mine") for _ in range(40)]
    for other in others:
        assert other.wait(60) == 0
    found = folder.found()
    assert len(found) == 120
    assert len({each.kept.path for each in found.values()}) == 120
    assert folder.keeper.problems(read_data=True, progress=Silence()) == []
    for backup in mine:
        folder.keeper.delete(backup)
    assert len(folder.found()) == 80


def test_a_start_leaves_what_others_have_under_their_hands(folder, root):
    wanted = folder.order()
    incoming = folder.keeper.begin(wanted)
    incoming.write(b"first half, ")
    tree_order = folder.order("all", target=folder.TREE)
    tree = folder.keeper.begin_tree(tree_order)
    other = folder.make(folder.record)
    incoming.write(b"second half")
    incoming.finish().result(20)
    tree.file(b"f").end()
    tree.finish().result(20)
    other.close()
    assert folder.read(folder.rows[wanted.uid]) == b"first half, second half"
    assert folder.keeper.verify(folder.rows[tree_order.uid], lambda _: None).good


def test_another_disk_in_its_place_is_noticed(folder, root):
    backup = folder.put(b"content")
    root.rename(root.with_name("away"))
    for act in (lambda: folder.read(backup), lambda: folder.put(b"x")):
        with pytest.raises(HoldfastError):
            act()
    other = FolderKeeper(root, folder.record, pool="pool-2")
    other.prepare(create=True)
    other.close()
    for act in (
        lambda: folder.put(b"x"),
        lambda: folder.keeper.delete(backup),
        lambda: folder.keeper.move(backup, recycled=True),
        lambda: folder.make(folder.record),
    ):
        with pytest.raises(NoRepositoryError):
            act()


def test_an_absent_pool_is_not_made_by_the_way(tmp_path):
    keeper = FolderKeeper(tmp_path / "none", lambda _: {}, pool="p")
    with pytest.raises(NoRepositoryError):
        keeper.prepare(create=False)
    assert not (tmp_path / "none").exists()
    keeper.close()


@pytest.fixture
def small_disk(tmp_path):
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(path)],
        check=False, capture_output=True, timeout=30,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True, timeout=30)


def test_a_full_disk_refuses_and_gives_its_room_back(small_disk, folder):
    folder.keeper.close()
    folder.make = lambda record: _made(small_disk / "plain", record)
    folder.keeper = folder.make(folder.record)
    kept = folder.put(b"x" * MIB)
    for attempt in (folder.put, lambda content: folder.put_tree({b"a": b"", b"big": content})):
        with pytest.raises(StorageFullError):
            attempt(bytes(8 * MIB))
        time.sleep(0.1)
        room = os.statvfs(small_disk)
        assert room.f_bavail * room.f_bsize > 4 * MIB
    assert folder.read(kept) == b"x" * MIB
    assert folder.read(folder.put(b"y" * MIB)) == b"y" * MIB
    (small_disk / "ballast").write_bytes(bytes(4 * MIB - 65536))

    def fill_up():
        for number in range(1000):
            folder.put(b"z" * 100, name=str(number))

    with pytest.raises(StorageFullError):
        fill_up()
    before = set(folder.rows)
    folder.reopen()
    assert before <= set(folder.found())
    folder.keeper.delete(kept)
    (small_disk / "ballast").unlink()
    assert folder.read(folder.put(b"again")) == b"again"
    assert folder.keeper.problems(read_data=True, progress=Silence()) == []


def _made(root, record):
    keeper = FolderKeeper(root, record, pool="pool-1")
    keeper.prepare(create=True)
    return keeper


# --- the journal ----------------------------------------------------------------------------------


def test_a_line_that_was_cut_short_is_cut_off(folder, root):
    one = folder.put(b"one", name="1")
    path = root / ".holdfast" / "journal.jsonl"
    whole = path.read_bytes()
    two = folder.put(b"two", name="2")
    line = path.read_bytes()[len(whole) :]
    for length in (1, len(line) // 2, len(line) - 1):
        path.write_bytes(whole + line[:length])
        folder.reopen()
        assert set(folder.found()) == {one.uid}
        three = folder.put(b"three", name="3")
        assert set(folder.found()) == {one.uid, three.uid}
        assert folder.keeper.problems(read_data=False, progress=Silence()) == []
        folder.keeper.delete(three)
    del two


def test_the_journal_is_made_anew_where_most_of_it_no_longer_counts(folder, root, monkeypatch):
    monkeypatch.setattr("holdfast.service.keeping.journal._COMPACT_FROM", 10)
    kept = [folder.put(b"%d" % n, name=f"k{n}", facts={"n": n}) for n in range(5)]
    folder.keeper.move(kept[0], recycled=True)
    folder.keeper.rename(kept[1], "renamed")
    for _ in range(20):
        folder.keeper.delete(folder.put(b"going", name="going"))
    path = root / ".holdfast" / "journal.jsonl"
    before, found = path.stat().st_size, folder.found()
    other = folder.make(folder.record)
    assert path.stat().st_size < before / 3
    # The one that was open all the while goes on with the new one.
    assert folder.found() == found
    assert folder.put(b"more", name="more").uid in folder.found()
    assert len({each.order.uid for each in other.found()}) == 6
    other.close()
    for number, backup in enumerate(kept):
        assert folder.read(backup) == b"%d" % number


def test_every_line_can_be_read_and_checked_with_plain_tools(folder, root):
    import hashlib
    import json

    folder.put(b"content", facts={"note": "ü"})
    folder.put_tree(FILES)
    for path in (root / ".holdfast").rglob("*.jsonl"):
        for line in path.read_bytes().splitlines():
            record = json.loads(line)
            body = line[: line.rindex(b',"check":')] + b"}"
            assert record["check"] == hashlib.sha256(body).hexdigest()[:16]


def test_an_archive_begins_at_once(folder):
    backup = folder.put_tree({b"big": os.urandom(8 * MIB)})
    for format_ in ("tar", "tar.gz", "tar.xz", "zip"):
        began = time.monotonic()
        pieces = folder.keeper.archive(backup, format_).pieces()
        assert next(each for each in pieces if each)
        assert time.monotonic() - began < 20  # 0.3 where the machine has nothing else to do
        pieces.close()


def test_a_part_of_an_archive_is_what_the_whole_has_there(folder):
    backup = folder.put_tree(FILES)
    whole = folder.content_of(folder.keeper.archive(backup, "tar"))
    part = folder.content_of(folder.keeper.archive(backup, "tar"), 700, 1000)
    assert part == whole[700:1700]


def test_where_a_backup_would_lie_is_told_for_moving(folder):
    target = replace(folder.TREE, name_template="$I", folder="x", shape=Shape.MULTI)
    assert place(target, name="n", uid="u", received=1, manual=True) == "x/u"


def test_a_backup_that_somebody_removed_says_where_it_was(folder, root):
    backup = folder.put(b"x")
    (root / backup.path).unlink()
    with pytest.raises(ObjectNotFoundError, match=r"nightly/dump.sql is gone"):
        folder.keeper.open(backup)


# --- depth ----------------------------------------------------------------------------------------


def test_folders_deeper_than_calls_or_descriptors_go_are_removed(folder, root, monkeypatch):
    """By hand, or by an earlier version, folders may have come to lie deeper than we take them."""
    backup = folder.put_tree(FILES)
    monkeypatch.chdir(root / backup.path)
    for depth in range(2 * sys.getrecursionlimit()):
        os.mkdir("in")
        os.chdir("in")
        if not depth % 500:
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY))
    monkeypatch.undo()
    folder.keeper.delete(backup)
    assert seen(root) == {}
    assert ours(root, "tmp") == []


def test_a_removal_that_broke_off_is_ended_at_the_next_start(folder, root, monkeypatch):
    backup = folder.put_tree({b"a/b/c": b"1", b"a/d/e": b"2"})

    def breaks(*_):
        raise OSError(5, "broken")

    monkeypatch.setattr("holdfast.service.keeping.disk.Disk.remove_folder", breaks)
    with pytest.raises(HoldfastError):
        folder.keeper.delete(backup)
    monkeypatch.undo()
    assert len(ours(root, "tmp")) > 1
    folder.reopen()
    assert ours(root, "tmp") == []
    assert seen(root) == {}


def test_names_that_are_too_deep_are_refused(folder, root):
    with pytest.raises(NameRefusedError):
        folder.put_tree({b"d/" * 256 + b"file": b"x"})
    with pytest.raises(NameRefusedError):
        folder.put_tree({b"d" * 250 + b"/" + b"/".join([b"e" * 250] * 17): b"x"})
    assert seen(root) == {}
    assert ours(root, "tmp") == []
    backup = folder.put_tree({b"d/" * 255 + b"file": b"x"})
    folder.keeper.delete(backup)
    assert seen(root) == {}
