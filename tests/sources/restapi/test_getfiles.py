"""Downloading the files that records name."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile

import pytest

from holdfast.core.errors import FetchError, NothingStoredError, ProjectError
from holdfast.sources.restapi.details.follow import follow
from holdfast.sources.restapi.details.getfiles import getfiles
from holdfast.sources.restapi.giving.verify import verify
from holdfast.testing.api_projects import store_run, write_project
from holdfast.testing.api_server import ApiServer, ServedFile, server_error, too_many

FAST = {"retry": {"max_retries": 3, "initial_delay": 0.01}}


@pytest.fixture
def api():
    with ApiServer() as server:
        for number in range(12):
            server.files[f"/docs/{number}.bin"] = ServedFile(1000 + number, seed=number)
            server.files[f"/get?id={number}"] = ServedFile(10 + number, seed=number)
        yield server


def project_of(tmp_path, api, records, **files):
    given = {"fetch_mode": "prefix", "root_url": api.url, "keys": "file", **files}
    project = write_project(tmp_path / "p", f"{api.url}/list", files=given, request=FAST)
    if records:
        store_run(project, [records])
    return project


def stored(project):
    path = project.place.folder / "files.zip"
    with zipfile.ZipFile(path) as archive:
        return {info.filename: len(archive.read(info)) for info in archive.infolist()}


def test_files_are_kept_under_their_path(tmp_path, api):
    """The prefix and the value make the address; the path is the name; contents are exact."""
    project = project_of(tmp_path, api, [{"file": f"/docs/{n}.bin"} for n in range(12)])
    report = getfiles(project)
    assert (report.fetched, report.misses) == (12, 0)
    assert stored(project) == {f"docs/{n}.bin": 1000 + n for n in range(12)}
    assert verify(project).findings == []
    with zipfile.ZipFile(project.place.folder / "files.zip") as archive:
        digest = hashlib.sha256(archive.read("docs/7.bin")).hexdigest()
    assert digest == api.files["/docs/7.bin"].sha256()


def test_ids_and_patterns_make_addresses(tmp_path, api):
    """A pattern takes the id; with naming by id the file is the id with the extension."""
    project = project_of(
        tmp_path, api, [{"deep": [{"n": 3}, {"n": 4}]}],
        fetch_mode="pattern", root_url=f"{api.url}/docs/{{}}.bin", keys="deep.n",
        storage_mode="id", default_ext="bin",
    )  # fmt: skip
    getfiles(project)
    assert stored(project) == {"3.bin": 1003, "4.bin": 1004}


def test_addresses_that_differ_in_the_query_are_different_files(tmp_path, api):
    """Eight documents behind one path are eight files."""
    project = project_of(tmp_path, api, [{"file": f"/get?id={n}"} for n in range(8)])
    getfiles(project)
    assert sorted(stored(project).values()) == list(range(10, 18))


def test_a_key_in_root_url_is_in_no_name(tmp_path, api):
    """What the project itself adds to addresses shows nowhere: in no name, no list, no evidence."""
    project = project_of(
        tmp_path, api, [{"file": 3}, {"file": 4}], fetch_mode="pattern",
        root_url=f"{api.url}/docs/{{}}.bin?token=s3cret",
    )  # fmt: skip
    getfiles(project)
    assert len(stored(project)) == 2
    for path in tmp_path.rglob("*"):
        assert "s3cret" not in path.name
        if path.is_file() and "storage" in path.parts:
            assert b"s3cret" not in path.read_bytes()


def test_new_records_bring_new_files(tmp_path, api):
    """Only what is not there yet is fetched, and what came since is fetched."""
    project = project_of(tmp_path, api, [{"file": "/docs/1.bin"}, {"file": "/docs/1.bin"}])
    assert getfiles(project).fetched == 1
    store_run(project, [[{"file": "/docs/1.bin"}, {"file": "/docs/2.bin"}]])
    report = getfiles(project)
    assert (report.fetched, report.present) == (1, 1)
    assert sorted(stored(project)) == ["docs/1.bin", "docs/2.bin"]
    assert max(api.counts().values()) == 1


def test_one_missing_file_is_a_line(tmp_path, api):
    """A 404 is listed; everything else is kept; the next run asks for it again."""
    records = [{"file": f"/docs/{n}.bin"} for n in (1, 99, 2)]
    project = project_of(tmp_path, api, records)
    report = getfiles(project)
    assert (report.fetched, report.misses, report.first_misses[0].status) == (2, 1, 404)
    listed = (project.place.folder / "files_skipped.list").read_text()
    assert "docs/99.bin;;" in listed
    api.files["/docs/99.bin"] = ServedFile(5)
    assert getfiles(project).misses == 0
    assert len(stored(project)) == 3


def test_transient_faults_and_cuts_are_mended(tmp_path, api):
    """A cut download goes on by range where it stopped; errors are tried again."""
    big = api.files["/docs/1.bin"] = ServedFile(3 << 20, seed=9, cuts=2)
    whole = api.files["/docs/2.bin"] = ServedFile(1 << 20, ranges=False, cuts=1)
    api.script("/docs/3.bin", server_error(503), too_many("0"))
    project = project_of(tmp_path, api, [{"file": f"/docs/{n}.bin"} for n in (1, 2, 3)])
    assert getfiles(project).misses == 0
    with zipfile.ZipFile(project.place.folder / "files.zip") as archive:
        assert hashlib.sha256(archive.read("docs/1.bin")).hexdigest() == big.sha256()
        assert hashlib.sha256(archive.read("docs/2.bin")).hexdigest() == whole.sha256()
    asked = [request.headers.get("range") for request in api.requests_to("/docs/1.bin")]
    assert asked[0] is None
    assert all(asked[1:])


@pytest.mark.parametrize("kind", ["zip", "filesystem"])
def test_no_file_leaves_the_archive(tmp_path, api, kind):
    """I10: names that try to climb out, are absolute or odd stay inside, and stay apart."""
    names = ["../../out.bin", "/../out.bin", "..\\out.bin", "C:\\out.bin", "a/../../out.bin"]
    for name in names:
        api.routes[name] = lambda _request: ServedFile(3).answer(_request)
    api.details.clear()
    project = project_of(
        tmp_path, api, [{"file": name} for name in names],
        fetch_mode="pattern", root_url=f"{api.url}/docs/1.bin?name={{}}", storage_mode="id",
        file_storage_type=kind,
    )  # fmt: skip
    assert getfiles(project).fetched == len(names)
    outside = [path for path in tmp_path.rglob("*out.bin*") if "p/storage/files" not in str(path)]
    assert outside == []
    if kind == "zip":
        assert len(stored(project)) == len(names)
        assert not any(".." in name.split("/") or name[0] == "/" for name in stored(project))


def test_files_can_be_plain_files(tmp_path, api):
    """With file_storage_type filesystem they lie in a folder, evidence included."""
    project = project_of(
        tmp_path,
        api,
        [{"file": f"/docs/{n}.bin"} for n in range(3)],
        file_storage_type="filesystem",
    )
    assert getfiles(project).fetched == 3
    folder = project.place.folder / "files"
    assert (folder / "docs" / "2.bin").stat().st_size == 1002
    assert (verify(project).findings, verify(project).members) == ([], 4)
    (folder / "docs" / "2.bin").write_bytes(b"other")
    assert [finding.place for finding in verify(project).findings] == ["files docs/2.bin"]
    (folder / "docs" / "2.bin").unlink()
    assert "missing" in verify(project).findings[0].message
    assert getfiles(project).fetched == 1


def test_a_name_in_the_way_of_another_is_a_line(tmp_path, api):
    """Where one file would have to be a folder for another, the rest still arrives."""
    api.files["/docs"] = ServedFile(3)
    project = project_of(
        tmp_path, api, [{"file": "/docs"}, {"file": "/docs/1.bin"}, {"file": "/get?id=1"}],
        file_storage_type="filesystem",
    )  # fmt: skip
    report = getfiles(project)
    assert (report.fetched, report.misses) == (2, 1)


def test_files_of_followed_details_are_found(tmp_path, api):
    """Where a project follows, the details say which files there are."""
    api.details["/items/"] = lambda key: {"docs": [{"url": f"/docs/{key}.bin"}]}
    project = write_project(
        tmp_path / "p", f"{api.url}/list", request=FAST,
        follow={"follow_mode": "prefix", "follow_pattern": f"{api.url}/items/",
                "follow_item_key": "id"},
        files={"fetch_mode": "prefix", "root_url": api.url, "keys": "docs.url"},
    )  # fmt: skip
    store_run(project, [[{"id": 4}, {"id": 5}]])
    follow(project)
    getfiles(project)
    assert stored(project) == {"docs/4.bin": 1004, "docs/5.bin": 1005}


def test_an_api_that_is_down_is_left_alone(tmp_path, api):
    """After several failures in a row it stops, says why, and keeps what there was."""
    project = project_of(tmp_path, api, [{"file": f"/docs/{n}.bin"} for n in range(12)] * 20)
    api.files.clear()
    for number in range(12):
        api.script(f"/docs/{number}.bin", server_error(), forever=True)
    with pytest.raises(FetchError):
        getfiles(project)
    assert not (project.place.folder / "files.zip").exists()


def test_what_is_missing_is_a_sentence(tmp_path, api):
    """No files section and no records are explained."""
    with pytest.raises(ProjectError, match=r"no \[files\]"):
        getfiles(write_project(tmp_path / "none", api.url))
    with pytest.raises(NothingStoredError):
        getfiles(project_of(tmp_path, api, []))


RUN = """
import re, sys
from pathlib import Path
from holdfast.sources.restapi.details.getfiles import getfiles
from holdfast.sources.restapi.project.project import load_project
getfiles(load_project(Path(sys.argv[1])))
status = Path("/proc/self/status")
print(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1] if status.exists() else 0)
"""


def test_a_killed_download_goes_on_where_it_was(tmp_path, api):
    """I5: after SIGKILL the files that were stored are not fetched again."""
    for number in range(200):
        api.files[f"/many/{number}"] = ServedFile(200)
    project = project_of(tmp_path, api, [{"file": f"/many/{n}"} for n in range(200)])
    api.latency = 0.02
    with subprocess.Popen([sys.executable, "-c", RUN, str(project.folder)]) as process:
        deadline = time.monotonic() + 120
        while len(api.requests) < 80 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    asked = len(api.requests)
    report = getfiles(project)
    assert report.present > 0
    assert report.present + report.fetched == 200
    assert len(api.requests) - asked == report.fetched
    assert len(stored(project)) == 200


def test_a_large_file_streams_in_flat_memory(tmp_path, api):
    """200 MB need no more than 80 MiB of memory from end to end."""
    api.files["/docs/1.bin"] = ServedFile(200_000_000)
    project = project_of(tmp_path, api, [{"file": "/docs/1.bin"}])
    ran = subprocess.run(
        [sys.executable, "-c", RUN, str(project.folder)], capture_output=True, text=True, check=True
    )
    assert stored(project) == {"docs/1.bin": 200_000_000}
    assert int(ran.stdout) < 80 << 10
