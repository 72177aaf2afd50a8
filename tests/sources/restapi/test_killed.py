"""A run may die at any moment (I5): the next one goes on, asks for nothing that was stored, and
keeps nothing twice.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import zipfile

import pytest

from holdfast.core.errors import AuthError, ProjectBusyError, StorageFullError
from holdfast.core.outcome import Outcome
from holdfast.sources.restapi.collecting.run import run_project
from holdfast.sources.restapi.giving.info import describe
from holdfast.sources.restapi.kept import collector as collecting
from holdfast.sources.restapi.kept.archive import open_archive
from holdfast.sources.restapi.kept.collector import open_collector
from holdfast.sources.restapi.kept.keepers import open_keeper
from holdfast.sources.restapi.kept.ledger import Ledger
from holdfast.sources.restapi.project.place import Place, StorageKind
from holdfast.testing.api_listing import Listing
from holdfast.testing.api_server import on_page, server_error

KINDS = list(StorageKind)


def start(folder, mode="full"):
    code = (
        "import sys; from pathlib import Path;"
        "from holdfast.sources.restapi.project.project import load_project;"
        "from holdfast.sources.restapi.collecting.run import run_project;"
        "run_project(load_project(Path(sys.argv[1])), sys.argv[2])"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(folder), mode])


def stored_numbers(project):
    if not project.place.ledger.exists():
        return set()
    ledger = Ledger(project.place.ledger)
    runs = ledger.runs()
    numbers = {response.number for response in ledger.responses(runs[-1].id)} if runs else set()
    ledger.close()
    return numbers


@pytest.mark.parametrize("seed", range(6))
def test_killed_run_goes_on(api, workshop, ids, seed):
    """SIGKILL at a random moment, several times: each stored page was asked for once."""
    api.listings["/items"] = Listing([{"id": number} for number in range(1, 1201)])
    api.latency = 0.02
    project = workshop.project(request={"parallelism": 4})
    generator = random.Random(seed)
    kept: list[tuple[int, set[int]]] = []
    for _ in range(3):
        process = start(project.folder)
        before = len(api.requests)
        deadline = time.monotonic() + 20
        wanted = before + generator.randint(1, 18)
        while len(api.requests) < wanted and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(generator.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept.append((len(api.requests), stored_numbers(project)))
    report = run_project(project, "full")
    assert report.outcome is Outcome.SUCCEEDED
    assert ids(project) == list(range(1, 1201))
    for since, numbers in kept:
        asked = {int(request.query["page"]) for request in api.requests[since:]}
        assert not asked & numbers
    assert max(len(numbers) for _, numbers in kept) > 0


def test_killed_rerun_leaves_the_archive_alone(api, workshop, ids):
    """While a new run collects, and after it was killed, the old archive is there untouched."""
    listing = Listing([{"id": number} for number in range(1, 101)])
    api.listings["/items"] = listing
    project = workshop.project()
    run_project(project, "full")
    before = project.place.pages.read_bytes()
    listing.records = [{"id": number} for number in range(1, 2001)]
    api.latency = 0.02
    process = start(project.folder)
    while len(api.requests) < 20:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert project.place.pages.read_bytes() == before
    assert ids(project) == list(range(1, 101))
    told = describe(project)["statistics"]["storage"]
    assert (told["unfinished"], told["unfinished_run"]["pages"] > 0) == (True, True)
    run_project(project, "full")
    assert ids(project) == list(range(1, 2001))


def test_a_run_that_ended_after_its_first_page_still_learns_the_stride(api, workshop, ids):
    """The server caps pages at 20 of 50: a run cut off before it knew loses nothing later."""
    api.listings["/items"] = Listing(
        [{"id": number} for number in range(1, 96)], style="skip", largest_size=20, total=None
    )
    api.script("/items", server_error(403), when=on_page(20, param="skip"))
    project = workshop.project(
        project={"iterate_by": "skip"},
        params={"page_size_limit": 50, "count_skip_param": "skip"},
        data={"total_number_key": None},
    )
    with pytest.raises(AuthError):
        run_project(project, "full")
    report = run_project(project, "full")
    assert report.resumed == 1
    assert ids(project) == list(range(1, 96))


class Crash(BaseException):
    pass


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("step", ["publish", "set_aside", "batch", "expire"])
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_each_step_of_publishing(  # noqa: PLR0917 - fixtures
    tmp_path, monkeypatch, kind, keep, step, after
):
    """Before or after any step: readers see the old or the new archive whole, and the next
    opening finishes it.
    """
    place = Place(kind, tmp_path / "storage")
    with open_collector(place, keep=False) as collector:
        for number in (1, 2, 3):
            collector.add(f"page_{number}.json", b"[%d]" % number, {}, number=number)
        collector.publish(keep_runs=1)
    target, name = {
        "publish": (type(open_keeper(place)), "publish"),
        "set_aside": (type(open_keeper(place)), "set_aside"),
        "batch": (Ledger, "save_run"),
        "expire": (collecting, "_expire"),
    }[step]
    original = getattr(target, name)
    calls = []

    def crashing(*arguments, **options):
        calls.append(1)
        if name == "save_run" and len(calls) < 3:
            return original(*arguments, **options)
        if after:
            original(*arguments, **options)
        raise Crash

    with open_collector(place, keep=keep, mode="again") as collector:
        collector.add("page_3.json", b"[33]", {}, number=3)
        collector.add("page_4.json", b"[4]", {}, number=4)
        monkeypatch.setattr(target, name, crashing)
        try:
            collector.publish(keep_runs=1)
        except Crash:
            pass
    monkeypatch.undo()
    with open_collector(place, keep=True, mode="third") as collector:
        collector.discard()
    with open_archive(place) as archive:
        found = {page.number: page.body for page in archive.pages(archive.base())}
        assert all(page.evidence for page in archive.pages(archive.base()))
    wanted = {3: b"[33]", 4: b"[4]"}
    assert found == ({1: b"[1]", 2: b"[2]"} | wanted if keep else wanted)
    if kind is StorageKind.ZIP:
        with zipfile.ZipFile(place.pages) as archive:
            assert archive.testzip() is None


def test_what_a_power_failure_took_is_fetched_again(tmp_path):
    """A row whose bytes never reached the disk is no stored page."""
    place = Place(StorageKind.ZIP, tmp_path / "storage")
    with open_collector(place, keep=False) as collector:
        for number in (1, 2, 3):
            collector.add(f"page_{number}.json", b"x" * 1000, {}, number=number)
        partial = place.partial("storage", collector.run.id)
        last = collector.collected("page_3.json")
    with partial.open("r+b") as file:
        file.truncate(last.end - 3)
    with open_collector(place, keep=False) as collector:
        assert collector.resumed
        assert collector.has("page_2.json")
        assert not collector.has("page_3.json")


def test_one_run_at_a_time(tmp_path):
    """A second run is told so, and a dead one holds nothing."""
    place = Place(StorageKind.ZIP, tmp_path / "storage")
    with open_collector(place, keep=False), pytest.raises(ProjectBusyError):
        open_collector(place, keep=False)
    open_collector(place, keep=False).close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_a_sentence(tmp_path):
    """What is published stays; the error says what to do."""
    place = Place(StorageKind.ZIP, tmp_path / "storage")
    with open_collector(place, keep=False) as collector:
        collector.add("page_1.json", b"[1]", {}, number=1)
        collector.publish()
    before = place.pages.read_bytes()
    with open_collector(place, keep=False, mode="again") as collector:
        collector._file.close()
        collector._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
        with pytest.raises(StorageFullError, match="no room"):
            collector.add("page_1.json", os.urandom(100000), {}, number=1)
    assert place.pages.read_bytes() == before
