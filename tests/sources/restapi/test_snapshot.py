"""Archives as snapshots of a repository."""

from __future__ import annotations

import json
import zipfile

import pytest

from holdfast.cli.api_keep import keep_in_repository, repository_settings
from holdfast.cli.api_options import output_of
from holdfast.core.clock import SystemClock
from holdfast.core.entries import Kind
from holdfast.core.errors import NothingStoredError, ProjectError
from holdfast.core.outcome import Outcome
from holdfast.core.secret import Secret
from holdfast.core.source import UP, Found
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.tree import blob_id
from holdfast.repo.repository import Repository
from holdfast.repo.saving.backup import BackupOptions, back_up
from holdfast.repo.saving.sealing import SealingPlan
from holdfast.sources.modules import Asked, module
from holdfast.sources.restapi.giving.snapshot import ApiSource
from holdfast.sources.restapi.kept.collector import open_collector
from holdfast.store.directory import DirectoryStore
from holdfast.store.memory import MemoryStore
from holdfast.testing.api_projects import store_run, write_project

PASSWORD = Secret("secret")


class Nobody:
    def item(self, action, path, kind, size):
        pass

    def problem(self, problem):
        raise AssertionError(problem)

    def progress(self, counts, current):
        pass


def keep(repository, project, *, workers=0):
    latest = max(repository.snapshots(), key=lambda snapshot: snapshot.time, default=None)
    options = BackupOptions(hostname="h", parent=latest, sealing=SealingPlan(workers=workers))
    with ApiSource(project) as source:
        return back_up(repository, source, options, observer=Nobody(), lock=None)


def contents(repository, tree, path=""):
    found = {}
    for node in repository.load_tree(tree):
        here = f"{path}/{node.raw_name().decode()}"
        if node.type == Kind.DIR:
            found |= contents(repository, blob_id(node.subtree), here)
        else:
            found[here] = b"".join(repository.load_blob(b, BlobKind.DATA) for b in node.blobs())
    return found


@pytest.fixture(params=["zip", "sqlite", "filesystem"])
def project(tmp_path, request):
    storage = {"storage_type": request.param}
    project = write_project(
        tmp_path / "shop", "http://127.0.0.1:1/items", storage=storage,
        follow={"follow_mode": "prefix", "follow_pattern": "http://127.0.0.1:1/",
                "follow_item_key": "id"},
    )  # fmt: skip
    store_run(project, [[{"id": 1}, {"id": 2}], [{"id": 3}]], announced=3, repeated=0)
    with open_collector(project.place, "details", keep=True) as collector:
        for name in ("1.json", "a.b.json", "a/b.json", "a/b.json/c", "z.json"):
            collector.add(name, json.dumps({"name": name}).encode(), {})
        collector.publish()
    return project


def test_a_snapshot_holds_everything_and_can_be_browsed(project):
    """I1: pages, details, records and evidence are files of the snapshot, byte for byte."""
    repository = Repository.init(MemoryStore(), PASSWORD)
    result = keep(repository, project)
    files = contents(repository, result.snapshot.tree)
    records = [json.loads(line) for line in files["/shop/records.jsonl"].splitlines()]
    assert records == [{"id": 1}, {"id": 2}, {"id": 3}]
    assert json.loads(files["/shop/storage/page_2.json"])["data"] == [{"id": 3}]
    assert json.loads(files["/shop/details/a/b.json/~"]) == {"name": "a/b.json"}
    assert json.loads(files["/shop/details/a/b.json/c"]) == {"name": "a/b.json/c"}
    evidence = [json.loads(line) for line in files["/shop/evidence.jsonl"].splitlines()]
    assert len(evidence) == 7
    assert evidence[0]["url"].endswith("page=1")
    assert json.loads(files["/shop/run.json"])["announced"] == 3
    assert result.outcome is Outcome.SUCCEEDED


def test_the_next_snapshot_reads_only_what_is_new(project):
    """Stored responses that did not change are not read again; what came is added."""
    repository = Repository.init(MemoryStore(), PASSWORD)
    keep(repository, project)
    store_run(project, [[{"id": 3, "v": 2}]], mode="update", whole=False)
    counts = keep(repository, project).counts
    assert counts.files_unmodified >= 5
    assert counts.files_new == 1
    files = contents(repository, max(repository.snapshots(), key=lambda s: s.time).tree)
    assert b'{"id":3,"v":2}' in files["/shop/records.jsonl"]


def test_worker_processes_read_it_too(project, tmp_path):
    """Whoever reads the files may be another process than the one that listed them."""
    repository = Repository.init(DirectoryStore(tmp_path / "repository"), PASSWORD)
    result = keep(repository, project, workers=2)
    assert len(contents(repository, result.snapshot.tree)) == 10


def test_the_walk_is_in_the_order_of_trees(project):
    """Names come sorted within each folder, and each folder is closed."""
    depth, last = 0, {}
    with ApiSource(project) as source:
        for step in source.walk():
            if step is UP:
                last.pop(depth, None)
                depth -= 1
                continue
            assert isinstance(step, Found)
            assert last.get(depth, b"") < step.entry.name
            last[depth] = step.entry.name
            depth += step.entry.kind is Kind.DIR
    assert depth == 0


def test_a_damaged_page_makes_the_snapshot_partial(tmp_path):
    """I4: what cannot be read as it was stored is a problem, never other bytes."""
    project = write_project(tmp_path / "p", "http://127.0.0.1:1/")
    store_run(project, [[{"id": 1}]], repeated=0)
    with zipfile.ZipFile(project.place.pages) as archive:
        offset = archive.getinfo("page_1.json").header_offset
    content = bytearray(project.place.pages.read_bytes())
    content[offset + 60] ^= 0xFF
    project.place.pages.write_bytes(content)
    problems = []
    observer = Nobody()
    observer.problem = problems.append
    repository = Repository.init(MemoryStore(), PASSWORD)
    options = BackupOptions(sealing=SealingPlan(workers=0))
    with ApiSource(project) as source:
        result = back_up(repository, source, options, observer=observer, lock=None)
    assert result.outcome is Outcome.PARTIAL
    assert {problem.path for problem in problems} >= {b"/p/storage/page_1.json"}


@pytest.mark.parametrize("secret", [{"password_file": "word"}, {"password_env": "SHOP_WORD"}])
def test_a_project_keeps_itself_in_its_repository(tmp_path, monkeypatch, secret):
    """With a repository named in section storage, one call makes a tagged snapshot."""
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SHOP_WORD", "secret")
    storage = {"storage_type": "repository", "repository": "../repo", **secret}
    project = write_project(tmp_path / "p", "http://127.0.0.1:1/", storage=storage)
    (project.folder / "word").write_text("secret\n")
    store_run(project, [[{"id": 1}]], repeated=0)
    Repository.init(DirectoryStore(tmp_path / "repo"), PASSWORD)
    result = keep_in_repository(project, output_of(quiet=True))
    assert result.snapshot.file.tags == ["api:p"]
    assert result.snapshot.file.paths == ["/p"]


def test_what_is_missing_is_a_sentence(tmp_path):
    """Nothing stored and no repository are explained."""
    project = write_project(tmp_path / "p", "http://127.0.0.1:1/")
    with pytest.raises(NothingStoredError):
        ApiSource(project)
    with pytest.raises(ProjectError, match=r"storage\.repository is missing"):
        repository_settings(project)
    asked = Asked(resource=str(project.folder), scratch=project.folder, clock=SystemClock())
    with pytest.raises(NothingStoredError):
        module("api").open(asked)
