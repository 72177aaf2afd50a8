"""Verification names everything that is not as it was received."""

from __future__ import annotations

import json
import sqlite3
import zipfile

import pytest

from holdfast.core.errors import DamagedError, NothingStoredError
from holdfast.sources.restapi.giving.export import export
from holdfast.sources.restapi.giving.verify import verify
from holdfast.sources.restapi.kept.archive import open_archive
from holdfast.sources.restapi.kept.collector import open_collector
from holdfast.testing.api_projects import store_run, write_project

PAGES = [[{"id": n * 10 + m} for m in range(10)] for n in range(4)]


@pytest.fixture(params=["zip", "sqlite", "filesystem"])
def project(tmp_path, request):
    storage = {"storage_type": request.param}
    return write_project(tmp_path / "shop", "http://127.0.0.1:1/items", storage=storage)


@pytest.fixture
def zipped(tmp_path):
    return write_project(tmp_path / "zipped", "http://127.0.0.1:1/items")


def rewrite(project, change):
    """Replaces the archive by one in which `change(name, body)` decided (None: left out)."""
    path = project.place.pages
    with zipfile.ZipFile(path) as old:
        members = [(info.filename, old.read(info)) for info in old.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, body in members:
            if (changed := change(name, body)) is not None:
                new.writestr(name, changed)


def found(project):
    return [(finding.place, finding.message) for finding in verify(project).findings]


def test_a_good_archive_has_no_findings(project):
    """Everything stored is read, counted and right."""
    store_run(project, PAGES, announced=40, repeated=0)
    store_run(project, PAGES[:1], mode="update", whole=False)
    verdict = verify(project)
    assert (verdict.findings, verdict.members, verdict.records) == ([], 5, 50)
    assert verdict.unproven == 0


def test_changed_bytes_are_named(zipped):
    """A page that was exchanged for another valid one is found by its digest."""
    store_run(zipped, PAGES, announced=40)
    other = json.dumps({"data": [{"id": 1}]}).encode()
    rewrite(zipped, lambda name, body: other if name == "page_2.json" else body)
    (place, message), *_ = found(zipped)
    assert place == "storage.zip page_2.json"
    assert "SHA-256" in message


def test_flipped_bits_are_named(zipped):
    """A damaged byte in the archive is found wherever it lies."""
    store_run(zipped, PAGES)
    path = zipped.place.pages
    content = bytearray(path.read_bytes())
    content[content.index(b"page_3.json") + 40] ^= 0xFF
    path.write_bytes(content)
    assert [place for place, _ in found(zipped)] == ["storage.zip page_3.json"]


@pytest.mark.parametrize("lost", ["page_2.json", "page_4.json"])
def test_missing_pages_are_named(zipped, lost):
    """A page that vanished is named, in the middle and at the end."""
    store_run(zipped, PAGES, announced=40)
    rewrite(zipped, lambda name, body: None if name == lost else body)
    findings = found(zipped)
    assert (f"storage.zip {lost}", "it is missing") in findings
    assert any("30 records, but the API announced 40" in message for _, message in findings)


def test_fewer_records_than_announced_are_said(zipped):
    """Records that were received twice do not make up for missing ones."""
    store_run(zipped, PAGES, announced=40, repeated=2)
    ((place, message),) = found(zipped)
    assert place == "storage.zip"
    assert "holds 38 records, but the API announced 40" in message


def test_archives_of_the_original_program_are_checked_too(zipped):
    """Without evidence the pages themselves tell: JSON, gaps, and the total they announce."""
    zipped.place.folder.mkdir()
    with zipfile.ZipFile(zipped.place.pages, "w") as archive:
        archive.writestr("page_1.json", json.dumps({"data": [1, 2], "total": 5}))
        archive.writestr("page_3.json", "<html>")
        archive.writestr("page_4.json", json.dumps({"rows": []}))
    verdict = verify(zipped)
    messages = {finding.place: finding.message for finding in verdict.findings}
    assert verdict.unproven == 3
    assert messages["storage.zip page_2.json"] == "it is missing"
    assert "not JSON" in messages["storage.zip page_3.json"]
    assert "data_key" in messages["storage.zip page_4.json"]
    assert "announced 5" in messages["storage.zip"]


def test_details_files_and_earlier_runs_are_read_too(tmp_path):
    """Everything that a project keeps is verified, not the pages alone."""
    project = write_project(
        tmp_path / "p",
        "http://127.0.0.1:1/",
        follow={
            "follow_mode": "prefix",
            "follow_pattern": "http://127.0.0.1:1/",
            "follow_item_key": "id",
        },
        files={"fetch_mode": "prefix", "keys": "url", "root_url": "http://127.0.0.1:1/"},
    )
    store_run(project, PAGES)
    store_run(project, PAGES[:2])
    for label in ("details", "files"):
        with open_collector(project.place, label, keep=True) as collector:
            collector.add("1.json", b'{"x":1}', {})
            collector.publish()
    assert (verify(project).findings, verify(project).members) == ([], 8)
    with sqlite3.connect(project.place.ledger) as ledger:
        ledger.execute("UPDATE response SET sha256 = 'feed' WHERE archive = 'files'")
        ledger.execute("UPDATE response SET sha256 = 'feed' WHERE archive LIKE 'previous/%'")
    ledger.close()
    places = [place for place, _ in found(project)]
    assert places[-1] == "files.zip 1.json"
    assert len(places) == 5


def test_a_cut_archive_is_one_finding(zipped):
    """An archive that lost its end is a sentence, not a traceback."""
    store_run(zipped, PAGES)
    content = zipped.place.pages.read_bytes()
    zipped.place.pages.write_bytes(content[: len(content) // 2])
    assert any("cannot be read" in message for _, message in found(zipped))


def test_nothing_stored_is_said(project):
    """There is nothing to verify before the first run."""
    with pytest.raises(NothingStoredError):
        verify(project)


def test_damage_of_a_replaced_run_is_only_a_note(zipped):
    """Once a newer complete run is there, damage of an earlier one does not concern the state."""
    store_run(zipped, PAGES)
    store_run(zipped, PAGES[:2])
    (earlier,) = zipped.place.previous.glob("*.zip")
    earlier.write_bytes(earlier.read_bytes()[:100])
    kinds = {finding.kind for finding in verify(zipped).findings}
    assert kinds == {"earlier"}


def test_too_few_records_are_no_damage(zipped):
    """What is stored is intact where the API gave less than it announced."""
    store_run(zipped, PAGES, announced=41, repeated=0)
    assert [finding.kind for finding in verify(zipped).findings] == ["short"]


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def pack_otherwise(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("page_1.json", '{"data": []}' * 100)


def point_elsewhere(path):
    content = path.read_bytes()
    at = content.rfind(b"PK\5\6")
    path.write_bytes(content[: at + 16] + b"\xff\xff\xff\x7f" + content[at + 20 :])


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: flip(path, 0),
        lambda path: flip(path, 60),
        lambda path: flip(path, path.read_bytes().find(b"PK\1\2") + 1),
        lambda path: path.write_bytes(path.read_bytes()[:-30]),
        lambda path: path.write_bytes(b""),
        pack_otherwise,
        point_elsewhere,
    ],
    ids=["header", "content", "directory", "cut", "empty", "method", "elsewhere"],
)
def test_damage_names_the_verbs_that_help(zipped, tmp_path, harm):
    """Whatever is wrong with an archive, the remedy is one of `holdfast api`, not the engine's."""
    store_run(zipped, PAGES)
    harm(zipped.place.pages)
    with pytest.raises(DamagedError) as caught, open_archive(zipped.place) as archive:
        export(zipped, archive, str(tmp_path / "out.jsonl"))
    assert "holdfast api" in caught.value.advice
    assert "holdfast check" not in caught.value.advice
