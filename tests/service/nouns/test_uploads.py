"""Uploads in several requests: where their files are until the end, and who waits for whom."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from holdfast.core.access import SHELL
from holdfast.core.errors import HoldfastError, InvalidError
from holdfast.core.records import BackupState, Shape

FILES = [("/", "a.txt"), ("/sub/dir", "ü.txt")]


def send(service, target, files=FILES):
    service.uploads.begin(SHELL, target, files, manual=True)
    for folder, name in files:
        part = service.uploads.receive(SHELL, target, folder, name)
        part.write(name.encode())
        part.finish().result(30)


def test_plain_pools_alone_are_enough(service, make_target, pool, tmp_path):
    """Also for somebody who never made a repository pool."""
    if pool.name == "plain":
        service.pools.remove(SHELL, "main")
    target = make_target(shape=Shape.MULTI)
    send(service, target)
    made = service.uploads.finish(SHELL, target)
    found = {each.path: each.size for each in service.backups.entries(SHELL, made) if each.size}
    assert found == {"a.txt": 5, "sub/dir/ü.txt": 6}
    assert service.backups.list(SHELL, states=list(BackupState)) == [made]
    left = [path for path in (tmp_path / "plain").glob("*") if not path.name.startswith(".")]
    assert [path.name for path in left] == ([f"t-{made.uid}"] if pool.name == "plain" else [])


def test_one_that_is_being_finished_keeps_no_other_waiting(service, make_target, monkeypatch):
    """Numbers of rows come again once an upload was terminated; each upload is itself all the
    same.
    """
    slow, quick = (make_target(name, shape=Shape.MULTI) for name in ("slow", "quick"))
    send(service, slow)
    begun, go_on = threading.Event(), threading.Event()
    put = service.uploads._put

    def puts(tree, path, part):
        begun.set()
        assert go_on.wait(60)
        put(tree, path, part)

    monkeypatch.setattr(service.uploads, "_put", puts)

    def finish():
        with suppress(HoldfastError):  # it is terminated meanwhile
            service.uploads.finish(SHELL, slow)

    finishing = threading.Thread(target=finish)
    finishing.start()
    assert begun.wait(60)
    monkeypatch.undo()
    service.uploads.terminate(SHELL, slow)
    service.ground.clock.advance(1)
    send(service, quick)
    try:
        assert service.uploads.finish(SHELL, quick).files == len(FILES)
    finally:
        go_on.set()
        finishing.join(60)


def test_paths_too_deep_are_refused_at_once(service, make_target):
    target = make_target(shape=Shape.MULTI)
    for folder in ("/d" * 256, "/" + "/".join(["e" * 200] * 21), "/" + "e" * 256):
        with pytest.raises(InvalidError):
            service.uploads.begin(SHELL, target, [(folder, "file")], manual=True)
    send(service, target, [("/d" * 255, "file")])
    assert service.uploads.finish(SHELL, target).files == 1
