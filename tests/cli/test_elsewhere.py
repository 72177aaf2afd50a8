"""The command line on a repository across a network, with the cache of a distant store."""

from __future__ import annotations

from holdfast.testing.rest_server import RestServer


def test_rest_server(holdfast, source, tmp_path, monkeypatch):
    """I1: what goes to a REST server comes back; credentials come from the environment."""
    with RestServer(tmp_path / "served", user="ann", password="key") as server:
        monkeypatch.setenv("HOLDFAST_REPOSITORY", f"rest:{server.url}")
        assert holdfast("init").code == 1
        monkeypatch.setenv("HOLDFAST_REST_USERNAME", "ann")
        monkeypatch.setenv("HOLDFAST_REST_PASSWORD", "key")
        assert holdfast("init").code == 0
        assert holdfast("backup", source).code == 0
        assert holdfast("check", "--read-data").code == 0
        assert holdfast("restore", f"latest:{source}", "-t", tmp_path / "out").code == 0
        assert holdfast("forget", "latest", "--prune").code == 0
        assert holdfast("store", "probe").code == 0
    assert (tmp_path / "out" / "a.txt").read_text() == "first"
    cached = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert cached


def test_a_server_that_is_not_there(holdfast):
    """It is told in a sentence, without waiting for a quarter of an hour."""
    ended = holdfast("snapshots", "-r", "rest:http://127.0.0.1:9/")
    assert ended.code == 1
    assert "holdfast: " in ended.err
    assert "Traceback" not in ended.err


def test_old_caches_are_cleared_away(holdfast, repository, tmp_path):
    """--cleanup-cache removes caches that nobody used for 30 days, and nothing else."""
    import os

    root = tmp_path / "cache"
    old, fresh, foreign = root / ("a" * 64), root / ("b" * 64), root / "notes"
    for folder in (old, fresh, foreign):
        folder.mkdir(parents=True)
    os.utime(old, (1, 1))
    os.utime(foreign, (1, 1))
    assert holdfast("snapshots", "--cleanup-cache").code == 0
    assert not old.exists()
    assert fresh.exists()
    assert foreign.exists()
