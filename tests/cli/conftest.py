"""A command line to run in this process or in one of its own, and a repository to run it on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.cli.main import run

if TYPE_CHECKING:
    from collections.abc import Callable

PASSWORD = "correct horse"


@dataclass(frozen=True)
class Ended:
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> list[Any]:
        """The JSON of each line of standard output."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def last(self) -> Any:
        return self.json[-1]

    @property
    def error(self) -> Any:
        """The last line of standard error, as JSON."""
        return json.loads(self.err.splitlines()[-1])


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the person who runs the tests has a say."""
    for name in list(os.environ):
        if name.startswith(("HOLDFAST_", "RESTIC_", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HOLDFAST_REPOSITORY", str(tmp_path / "repository"))
    monkeypatch.setenv("HOLDFAST_PASSWORD", PASSWORD)


@pytest.fixture
def holdfast(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs a command line in this process."""

    def call(*arguments: str | Path) -> Ended:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        sys.stdout.flush()
        captured = capfd.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


@pytest.fixture
def process() -> Callable[..., subprocess.Popen[str]]:
    """Starts a command line as a process of its own."""

    def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "holdfast", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    return start


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty repository, made once: stretching a password takes a while."""
    place = tmp_path_factory.mktemp("made") / "repository"
    ended = subprocess.run(
        [sys.executable, "-m", "holdfast", "init", "-q", "-r", str(place)],
        env={**os.environ, "HOLDFAST_PASSWORD": PASSWORD},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return place


@pytest.fixture
def repository(_made: Path, tmp_path: Path) -> Path:
    """An empty repository, which the environment names."""
    return Path(shutil.copytree(_made, tmp_path / "repository"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small tree with a name that is not UTF-8."""
    top = tmp_path / "source"
    (top / "folder").mkdir(parents=True)
    (top / "a.txt").write_text("first")
    (top / "folder" / "b.txt").write_text("second")
    (top / "folder" / "link").symlink_to("b.txt")
    Path(os.fsdecode(os.fsencode(top) + b"/odd\xff\n")).write_text("odd")
    return top
