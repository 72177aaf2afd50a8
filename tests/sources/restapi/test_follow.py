"""Following records to their details."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import pytest

from holdfast.core.errors import FetchError, NothingStoredError, ProjectError, UsageError
from holdfast.sources.restapi.details.follow import follow, plan
from holdfast.sources.restapi.giving.export import Selection, export
from holdfast.sources.restapi.giving.verify import verify
from holdfast.sources.restapi.kept.archive import open_archive
from holdfast.sources.restapi.kept.ledger import Ledger
from holdfast.sources.restapi.project.sections import DEFAULT_PARALLEL
from holdfast.testing.api_listing import Listing
from holdfast.testing.api_projects import store_run, write_project
from holdfast.testing.api_server import (
    ApiServer,
    error_object,
    json_reply,
    malformed,
    server_error,
    tree,
)

FAST = {"retry": {"max_retries": 2, "initial_delay": 0.01}}


@pytest.fixture
def api():
    with ApiServer() as server:
        server.details["/items/"] = lambda key: {"key": key, "more": f"about {key}"}
        yield server


def project_of(tmp_path, api, records, *, rule, **sections):
    rule = {"follow_item_key": "id", **rule}
    if "follow_pattern" in rule and rule["follow_pattern"].startswith("/"):
        rule["follow_pattern"] = api.url + rule["follow_pattern"]
    project = write_project(
        tmp_path / "p", f"{api.url}/list", follow=rule, request=FAST, **sections
    )
    store_run(project, [records])
    return project


def stored(project, label="details"):
    with zipfile.ZipFile(project.place.folder / f"{label}.zip") as archive:
        return {info.filename: json.loads(archive.read(info)) for info in archive.infolist()}


PREFIX = {"follow_mode": "prefix", "follow_pattern": "/items/"}


def test_prefix_asks_for_each_key_escaped(tmp_path, api):
    """The key is appended to the prefix; odd characters reach the API as they are."""
    keys = ["1", "a b", "100%?x#y&z", "ключ"]
    project = project_of(tmp_path, api, [{"id": key} for key in keys], rule=PREFIX)
    (report,) = follow(project)
    assert (report.fetched, report.misses, report.label) == (4, 0, "details")
    assert [document["key"] for document in stored(project).values()] == keys
    assert "1.json" in stored(project)


def test_item_sends_the_key_as_a_parameter(tmp_path, api):
    """In mode item the key is follow_param, over follow_params.json, in a query or a body."""
    api.routes["/one"] = lambda request: json_reply(
        {"query": request.query, "body": request.json() if request.body else None}
    )
    rule = {"follow_mode": "item", "follow_pattern": "/one", "follow_param": "q.id"}
    project = project_of(tmp_path, api, [{"id": 5}], rule=rule)
    (project.folder / "follow_params.json").write_text('{"lang": "en", "q": {"x": true}}')
    follow(project)
    assert stored(project)["5.json"]["query"]["q.id"] == "5"
    posting = project_of(tmp_path, api, [{"id": 5}], rule={**rule, "follow_http_mode": "POST"})
    follow(posting)
    assert stored(posting)["5.json"]["body"] == {"lang": "en", "q": {"x": True, "id": 5}}


def test_item_fills_its_pattern_from_the_record(tmp_path, api):
    """{names} in the pattern are the record's fields, escaped, nested ones by dotted names."""
    rule = {"follow_mode": "item", "follow_pattern": "/items/{owner.code}-{id}"}
    project = project_of(tmp_path, api, [{"id": 5, "owner": {"code": "../x?"}}], rule=rule)
    follow(project)
    assert stored(project)["5.json"]["key"] == "../x?-5"


def test_url_follows_the_links_of_the_record(tmp_path, api):
    """In mode url the record says where to go; relative links belong to the API's host."""
    rule = {"follow_mode": "url", "follow_url_key": "links.self"}
    records = [
        {"id": 1, "links": {"self": f"{api.url}/items/one"}},
        {"id": 2, "links": {"self": "/items/two?full=1"}},
        {"id": 3, "links": {}},
    ]
    project = project_of(tmp_path, api, records, rule=rule)
    follow(project)
    assert [(n, d["key"]) for n, d in stored(project).items()] == [
        ("1.json", "one"),
        ("2.json", "two"),
    ]


def test_drilldown_visits_every_node_once(tmp_path, api):
    """From the records' keys downwards until lists are empty, each node asked for once."""
    children = {"r1": ["a", "b"], "r2": ["b", "c"], "a": ["d"], "d": ["r1", "e"]}
    api.details["/node/"] = tree(children)
    rule = {
        "follow_mode": "drilldown",
        "follow_pattern": "/node/",
        "follow_data_key": "children",
        "follow_item_key": "code",
    }
    project = project_of(tmp_path, api, [{"code": "r1"}, {"code": "r2"}], rule=rule)
    (report,) = follow(project)
    nodes = {"r1", "r2", "a", "b", "c", "d", "e"}
    assert {document["code"] for document in stored(project).values()} == nodes
    assert report.fetched == 7
    assert all(count == 1 for target, count in api.counts().items() if "/node/" in target)
    children["c"] = ["f"]
    (again,) = follow(project, mode="continue")
    assert (again.fetched, again.present) == (0, 7)


def test_paginated_rules_read_all_pages(tmp_path, api):
    """A rule with pages goes on until a page is empty, however short one in the middle is."""
    parts = Listing([{"n": n} for n in range(25)], short_pages={2: 4}, total=None, data="parts")
    api.listings["/parts"] = parts
    rule = {
        "rules": [
            {
                "name": "parts",
                "follow_mode": "item",
                "follow_pattern": f"{api.url}/parts",
                "follow_param": "of",
                "follow_data_key": "parts",
                "follow_item_key": "id",
                "iterate_by": "page",
                "params": {
                    "page_number_param": "page", "page_size_param": "size", "page_size_limit": 10,
                },
            }
        ]
    }  # fmt: skip
    project = project_of(tmp_path, api, [{"id": 1}, {"id": 2}], rule=rule)
    follow(project)
    found = stored(project, "details_parts")
    assert [len(found[f"1_page_{page}.json"]["parts"]) for page in (1, 2, 3, 4)] == [10, 6, 5, 0]
    assert len(found) == 8
    with open_archive(project.place) as archive:
        export(project, archive, str(tmp_path / "parts.json"), selection=Selection(part="parts"))
    assert len(json.loads((tmp_path / "parts.json").read_text())) == 42


def test_a_page_that_repeats_ends_the_pages(tmp_path, api):
    """An API that gives its last page again and again does not keep us busy."""
    api.listings["/parts"] = Listing([{"n": n} for n in range(25)], past_end="repeat", total=None)
    rule = {
        "follow_mode": "item", "follow_pattern": "/parts", "follow_data_key": "data",
        "iterate_by": "page", "params": {"page_number_param": "page", "page_size_limit": 10,
        "page_size_param": "size"},
    }  # fmt: skip
    project = project_of(tmp_path, api, [{"id": 1}], rule=rule)
    follow(project)
    assert sorted(stored(project)) == ["1_page_1.json", "1_page_2.json", "1_page_3.json"]


def test_one_missing_detail_is_a_line(tmp_path, api):
    """A 404 is listed and everything else is fetched; asking again fetches only what is missing."""
    api.details["/items/"] = lambda key: None if key == "3" else {"key": key}
    project = project_of(tmp_path, api, [{"id": n} for n in range(9)], rule=PREFIX)
    (report,) = follow(project)
    assert (report.fetched, report.misses) == (8, 1)
    assert report.first_misses[0].status == 404
    listed = (project.place.folder / "details_skipped.list").read_text().splitlines()
    assert listed[0] == "filename;filesize;reason;url"
    assert listed[1].startswith("3.json;;")
    api.details["/items/"] = lambda key: {"key": key}
    (again,) = follow(project, mode="continue")
    assert (again.fetched, again.present, again.misses) == (1, 8, 0)
    assert len(stored(project)) == 9
    assert not (project.place.folder / "details_skipped.list").exists()


def test_a_rerun_that_fails_keeps_what_was_there(tmp_path, api):
    """I2: a full rerun replaces what it can fetch and keeps the earlier answer about the rest."""
    project = project_of(tmp_path, api, [{"id": 1}, {"id": 2}], rule=PREFIX)
    follow(project)
    api.details["/items/"] = lambda key: {"key": key, "new": 1} if key == "1" else None
    (report,) = follow(project)
    assert [miss.kept for miss in report.first_misses] == [True]
    assert [document.get("new") for document in stored(project).values()] == [1, None]
    api.details.clear()
    before = (project.place.folder / "details.zip").read_bytes()
    api.script("/items/1", server_error(), forever=True)
    api.script("/items/2", server_error(), forever=True)
    (report,) = follow(project)
    assert report.misses == 2
    assert [d.get("new") for d in stored(project).values()] == [1, None]
    assert before


def test_transient_faults_are_tried_again(tmp_path, api):
    """Errors, malformed JSON and error objects with status 200 cost a try, not the record."""
    project = project_of(tmp_path, api, [{"id": n} for n in range(4)], rule=PREFIX)
    api.script("/items/1", server_error(503))
    api.script("/items/2", malformed(), server_error(502))
    api.script("/items/3", error_object())
    (report,) = follow(project)
    assert (report.fetched, report.misses) == (4, 0)
    assert stored(project)["3.json"]["key"] == "3"


def test_too_many_failures_in_a_row_end_it(tmp_path, api):
    """When the API is down it is not hammered to the last record; what was there stays."""
    project = project_of(tmp_path, api, [{"id": n} for n in range(500)], rule=PREFIX)
    follow(project)
    api.requests.clear()
    api.details.clear()
    api.routes.clear()
    for number in range(500):
        api.script(f"/items/{number}", server_error(), forever=True)
    with pytest.raises(FetchError):
        follow(project)
    assert len(api.requests) < 300
    assert len(stored(project)) == 500


def test_evidence_is_kept_and_verifies(tmp_path, api):
    """Each detail has its address, status, time and digest beside it."""
    project = project_of(tmp_path, api, [{"id": 1}], rule=PREFIX)
    follow(project)
    ledger = Ledger(project.place.ledger)
    proof = ledger.latest("details", "1.json").proof()
    ledger.close()
    assert proof["url"] == f"{api.url}/items/1"
    assert proof["status"] == 200
    assert verify(project).findings == []


def test_html_is_read_by_the_projects_script(tmp_path, api):
    """With resp_type html the script makes JSON of each page."""
    (tmp_path / "p").mkdir()
    script = "def process(page):\n    return {'length': len(page)}\n"
    (tmp_path / "p" / "read.py").write_text(script)
    project = project_of(
        tmp_path, api, [{"id": 1}], rule=PREFIX,
        project={"resp_type": "html"}, code={"postfetch": "read.py", "follow": "read.py"},
    )  # fmt: skip
    api.script("/items/1", json_reply("x" * 10))
    follow(project)
    assert stored(project) == {"1.json": {"length": 12}}


def test_details_are_exported_by_default(tmp_path, api):
    """Where a project follows, its details are what is exported, as the original does it."""
    project = project_of(tmp_path, api, [{"id": 1}], rule=PREFIX)
    follow(project)
    with open_archive(project.place) as archive:
        for part, key in ((None, "key"), ("records", "id")):
            export(project, archive, str(tmp_path / "o.json"), selection=Selection(part=part))
            assert key in json.loads((tmp_path / "o.json").read_text())[0]


def test_what_cannot_be_followed_is_a_sentence(tmp_path, api):
    """No rule, no records, another mode: each is explained."""
    project = project_of(tmp_path, api, [{"id": 1}], rule=PREFIX)
    with pytest.raises(UsageError, match="no mode"):
        follow(project, mode="sideways")
    empty = write_project(tmp_path / "e", api.url, follow={**PREFIX, "follow_item_key": "id"})
    with pytest.raises(NothingStoredError):
        follow(empty)
    plain = write_project(tmp_path / "f", api.url)
    with pytest.raises(ProjectError, match=r"no \[follow\]"):
        follow(plain)
    assert plan(project)["rules"][0]["records"] == 1
    assert not (project.place.folder / "details.zip").exists()


def test_a_killed_follow_goes_on_where_it_was(tmp_path, api):
    """I5: after SIGKILL nothing that was stored is asked for again."""
    project = project_of(tmp_path, api, [{"id": n} for n in range(300)], rule=PREFIX)
    api.latency = 0.02
    code = (
        "import sys; from pathlib import Path;"
        "from holdfast.sources.restapi.project.project import load_project;"
        "from holdfast.sources.restapi.details.follow import follow;"
        "follow(load_project(Path(sys.argv[1])))"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(project.folder)]) as process:
        deadline = time.monotonic() + 120
        while len(api.requests) < 100 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    asked = len(api.requests)
    (report,) = follow(project)
    assert 0 < report.present <= asked
    assert report.present + report.fetched == 300
    assert len(stored(project)) == 300
    in_flight = 2 * DEFAULT_PARALLEL
    assert len(api.requests) - asked == report.fetched
    assert asked - report.present <= in_flight


def test_a_tree_begins_with_the_key_of_the_records(tmp_path, api):
    """Members of its lists may call their keys by another name than the records do."""
    api.details["/tree/"] = lambda key: {
        "children": [{"code": f"{key}.{n}"} for n in range(2 if key.count(".") < 2 else 0)]
    }
    rule = {"follow_mode": "drilldown", "follow_pattern": f"{api.url}/tree/",
            "follow_data_key": "children", "follow_item_key": "code"}  # fmt: skip
    project = write_project(tmp_path / "p", f"{api.url}/list", follow=rule)
    store_run(project, [[{"id": "a"}, {"id": "b"}]])
    (report,) = follow(project)
    assert (report.fetched, report.misses) == (2 * (1 + 2 + 4), 0)
