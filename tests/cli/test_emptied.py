"""A folder that held files and holds none any more is never backed up as a success."""

from __future__ import annotations

import shutil
from itertools import product

import pytest


@pytest.fixture
def docs(tmp_path, monkeypatch):
    """`home/docs` with files, below the working directory `home`."""
    docs = tmp_path / "home" / "docs"
    (docs / "folder").mkdir(parents=True)
    (docs / "folder" / "file").write_text("text")
    monkeypatch.chdir(docs.parent)
    return docs


def emptied(docs):
    (docs / "folder" / "file").unlink()


def unmounted(docs):
    shutil.rmtree(docs)
    docs.mkdir()


def dangling(docs):
    shutil.rmtree(docs)
    docs.symlink_to("nowhere")


def moved(docs):
    docs.rename(docs.with_name("elsewhere"))
    docs.symlink_to("elsewhere")


NAMED = {"absolute": str, "relative": lambda docs: docs.name}


@pytest.mark.parametrize("names", list(product(NAMED, NAMED)), ids="-then-".join)
@pytest.mark.parametrize("change", [emptied, unmounted, dangling, moved])
def test_refused(holdfast, repository, docs, change, names):
    """F26: however it was named then and is named now; unless it is meant."""
    before, now = names
    assert holdfast("backup", NAMED[before](docs)).code == 0
    change(docs)
    ended = holdfast("backup", NAMED[now](docs))
    assert ended.code == 1
    assert "[source-empty]" in ended.err
    assert str(docs) in ended.err
    assert "--allow-empty" in ended.err
    assert len(list((repository / "snapshots").iterdir())) == 1
    assert holdfast("backup", NAMED[now](docs), "--allow-empty").code == 0
    assert holdfast("backup", NAMED[now](docs)).code == 0


@pytest.mark.parametrize("before", [".", ".."])
def test_the_working_directory(holdfast, repository, docs, monkeypatch, before):
    """It is called by its name."""
    monkeypatch.chdir(docs / "folder" if before == ".." else docs)
    assert holdfast("backup", before).code == 0
    monkeypatch.chdir(docs.parent)
    unmounted(docs)
    monkeypatch.chdir(docs)
    ended = holdfast("backup", ".")
    assert ended.code == 1
    assert f"{docs} holds no files" in ended.err
    assert holdfast("backup", docs).code == 1


def test_a_link_that_was_one_before(holdfast, repository, docs):
    """It is kept as it is, as ever."""
    docs.rename(docs.with_name("elsewhere"))
    docs.symlink_to("elsewhere")
    assert holdfast("backup", docs).code == 0
    assert holdfast("backup", docs).code == 0
