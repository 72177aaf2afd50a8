from __future__ import annotations

import pytest


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
