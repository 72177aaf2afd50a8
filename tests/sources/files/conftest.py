"""Walking as a keeper does, and losing privileges."""

import os
import pickle
import select
import shutil
import stat
import tempfile
from dataclasses import dataclass, field

import pytest

from holdfast.core.entries import Entry, Kind
from holdfast.core.source import UP, Found, Problem

NOBODY = 65534
PATIENCE = 30.0


@dataclass
class Walked:
    """What a walk gave, by path."""

    tree: list[str] = field(default_factory=list)
    """Where it lies in the tree."""
    found: list[Found] = field(default_factory=list)
    entries: dict[bytes, Entry] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def below(self, root):
        """Paths relative to a root, as text."""
        prefix = root + b"/"
        return [os.fsdecode(p[len(prefix) :]) for p in self.entries if p.startswith(prefix)]

    def messages(self):
        return {problem.path: problem.message for problem in self.problems}


@pytest.fixture
def walk():
    """Walks a source and holds the stream to what `core.source` says of it."""

    def run(source, between=id, *, relative=False):
        walked = Walked()
        above: list[bytes] = []
        places: list[str] = []
        last = [b""]
        for step in source.walk():
            between(step)
            if step is UP:
                above.pop()
                places.pop()
                last.pop()
                continue
            if isinstance(step, Problem):
                walked.problems.append(step)
                continue
            assert isinstance(step, Found)
            place = [*places, os.fsdecode(step.entry.name)]
            walked.tree.append("/".join(place))
            walked.found.append(step)
            if above:
                assert step.path == above[-1] + b"/" + step.entry.name
            else:
                assert relative or step.path == b"/" + step.entry.name
            assert step.entry.name > last[-1], "out of order"
            last[-1] = step.entry.name
            walked.entries[step.path] = step.entry
            if step.problem:
                walked.problems.append(step.problem)
            if step.entry.kind is Kind.DIR:
                above.append(step.path)
                places.append(place[-1])
                last.append(b"")
        assert not above, "folders left open"
        assert len(set(walked.tree)) == len(walked.tree)
        return walked

    return run


@pytest.fixture
def root(tmp_path):
    """An empty folder as a path of bytes."""
    folder = tmp_path / "root"
    folder.mkdir()
    return os.fsencode(folder)


@pytest.fixture
def public():
    """An empty folder, as bytes, that everybody reaches."""
    folder = tempfile.mkdtemp(prefix="holdfast-public-")
    os.chmod(folder, 0o755)
    yield os.fsencode(folder)
    for path, names, _ in os.walk(folder):
        for name in names:
            if not os.path.islink(os.path.join(path, name)):
                os.chmod(os.path.join(path, name), stat.S_IRWXU)
    shutil.rmtree(folder)


@pytest.fixture
def unprivileged():
    """Calls a function as somebody who is not root, in a process of its own where needed."""

    def call(function):
        if os.geteuid() != 0:
            return function()
        return _in_child(function, drop=True)

    return call


@pytest.fixture
def in_child():
    """Calls a function in a forked process."""
    return _in_child


def _in_child(function, *, drop=False):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            if drop:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            try:
                answer = (True, function())
            except BaseException as error:  # noqa: BLE001  raised again in the parent
                answer = (False, error)
            with os.fdopen(writing, "wb") as stream:
                pickle.dump(answer, stream)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        assert select.select([stream], [], [], PATIENCE)[0], "the child hangs"
        went_well, value = pickle.load(stream)
    os.waitpid(child, 0)
    if not went_well:
        raise value
    return value


@pytest.fixture
def make():
    """Makes files below a folder from {name: content}; a name that ends in a slash is a folder."""

    def fill(folder, tree):
        for name, content in tree.items():
            path = os.path.join(folder, os.fsencode(name))
            if path.endswith(b"/"):
                os.makedirs(path, exist_ok=True)
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)

    return fill
