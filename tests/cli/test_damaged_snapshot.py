from __future__ import annotations

import pytest

from holdfast.core.errors import StoreError
from holdfast.store.directory import DirectoryStore


@pytest.mark.parametrize(
    "words",
    [
        ("snapshots",),
        ("ls", "latest"),
        ("find", "a.txt"),
        ("stats",),
        ("tag", "--add", "x", "latest"),
        ("forget", "--keep-last", "5"),
    ],
)
def test_one_damaged_snapshot_hides_no_other(holdfast, repository, source, words):
    """I2: a snapshot file that cannot be read is named, and the others are worked with."""
    assert holdfast("backup", source).code == 0
    (damaged,) = (repository / "snapshots").iterdir()
    assert holdfast("backup", "--force", source).code == 0
    damaged.chmod(0o600)
    damaged.write_bytes(damaged.read_bytes()[:50])
    ended = holdfast(*words)
    assert ended.code == 0, ended.err
    assert damaged.name[:8] in ended.err


def test_a_healthy_snapshot_is_restored_beside_a_damaged_one(
    holdfast, repository, source, tmp_path
):
    """I1: committed snapshots stay restorable, whatever happened to another one's file."""
    assert holdfast("backup", source).code == 0
    (damaged,) = (repository / "snapshots").iterdir()
    assert holdfast("backup", "--force", source).code == 0
    damaged.chmod(0o600)
    damaged.write_bytes(b"")
    ended = holdfast("restore", "latest", "--target", tmp_path / "out")
    assert ended.code == 0, ended.err
    assert (tmp_path / "out" / str(source).lstrip("/") / "a.txt").read_text() == "first"


def test_removing_a_damaged_snapshot_is_said(holdfast, repository, source):
    """I8: what would go, what stays without --forget, what went; by its name, too. Others stay."""
    assert holdfast("backup", source).code == 0
    (damaged,) = (repository / "snapshots").iterdir()
    assert holdfast("backup", "--force", source).code == 0
    damaged.chmod(0o600)
    damaged.write_bytes(b"x" * 60)
    short = damaged.name[:8]
    checked = holdfast("check")
    assert checked.code == 1
    assert "of 2 snapshots it hits 1" in checked.err
    assert f"hits / in {short}" in checked.err
    for words, fate in (
        (("--forget", "--dry-run"), "would be removed"),
        ((), "left; --forget removes it"),
        (("--forget", "--host", "elsewhere"), None),
        (("--forget", short), "removed"),
    ):
        ended = holdfast("repair", "snapshots", *words)
        assert ended.code == 0
        assert ended.out == (
            f"snapshot {short} is lost as a whole: {fate}\n"
            if fate
            else "no snapshot has lost anything\n"
        )
    assert holdfast("check").code == 0
    assert len(list((repository / "snapshots").iterdir())) == 1


def test_a_snapshot_that_cannot_be_fetched_is_not_removed(
    holdfast, repository, source, monkeypatch
):
    """I1: whether it is damaged cannot be told, so it stays."""
    assert holdfast("backup", source).code == 0
    (unread,) = (repository / "snapshots").iterdir()
    real = DirectoryStore.get

    def get(store, kind, name):
        if name == unread.name:
            raise StoreError(f"cannot read {name}: Input/output error")
        return real(store, kind, name)

    monkeypatch.setattr(DirectoryStore, "get", get)
    ended = holdfast("repair", "snapshots", "--forget")
    assert ended.code == 3
    assert "could not be fetched" in ended.err
    monkeypatch.undo()
    assert unread.exists()
