"""Backups of modules without a repository: what a source gives is kept in memory."""

from __future__ import annotations

import io

import pytest

from holdfast.core.clock import SystemClock
from holdfast.core.errors import PathNotFoundError
from holdfast.core.source import UP, Found, Problem
from holdfast.sources.modules import Asked


class _Kept:
    """See `core.source.Kept`."""

    def __init__(self, files):
        self.files = files

    def open(self, name):
        if name not in self.files:
            raise PathNotFoundError(name)
        return io.BytesIO(self.files[name])


@pytest.fixture
def ask(tmp_path):
    """A question to a module."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def make(resource="", /, **parameters):
        return Asked(
            resource=str(resource), parameters=parameters, scratch=scratch, clock=SystemClock()
        )

    return make


@pytest.fixture
def read():
    return _read


def _read(content):
    """All of a content, which is closed then."""
    parts, buffer = [], memoryview(bytearray(100_000))
    try:
        while count := content.readinto(buffer):
            parts.append(bytes(buffer[:count]))
    finally:
        content.close()
    return b"".join(parts)


@pytest.fixture
def keep():
    """What a keeper would keep of a module: the files below the root, and the problems.

    As in the engine, an OSError costs that file, anything else the backup.
    """

    def take(module, question, *, meanwhile=lambda _: None):
        files, problems, depth = {}, [], 0
        with module.open(question) as source:
            [root] = source.roots
            for step in source.walk():
                if step is UP:
                    depth -= 1
                    continue
                assert not isinstance(step, Problem)
                assert isinstance(step, Found)
                if step.entry.kind == "dir":
                    depth += 1
                    continue
                if step.problem:
                    problems.append(step.problem.message)
                name = step.path.removeprefix(root + b"/").decode()
                meanwhile(name)
                try:
                    files[name] = _read(source.open(step.path, step.entry))
                except OSError as error:
                    problems.append(error.strerror)
        assert depth == 0
        return _Kept(files), problems

    return take
