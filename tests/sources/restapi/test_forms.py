"""Answers that are not plain JSON, scripts of the project's own, query modes, and WARC."""

from __future__ import annotations

import gzip
import json
import zipfile

import pytest

from holdfast.core.errors import HookError
from holdfast.sources.restapi.collecting.run import run_project
from holdfast.sources.restapi.kept.archive import open_archive
from holdfast.sources.restapi.records.xml import parse_xml
from holdfast.testing.api_listing import Listing
from holdfast.testing.loopback import Reply


def serve(api, count=45, **options):
    api.listings["/items"] = Listing([{"id": number} for number in range(1, count + 1)], **options)


def xml(document):
    rows = "".join(
        f'<item id="{row["id"]}"><name>n{row["id"]}</name></item>' for row in document["data"]
    )
    return Reply(
        200,
        f"<r><total>{document['total']}</total><items>{rows}</items></r>".encode(),
        {"Content-Type": "text/xml"},
    )


def html(document):
    rows = "".join(f"<li>{row['id']}</li>" for row in document["data"])
    return Reply(
        200,
        f"<html><b>{document['total']}</b>{rows}</html>".encode(),
        {"Content-Type": "text/html"},
    )


def script(workshop, name, text):
    workshop.folder.mkdir(parents=True, exist_ok=True)
    (workshop.folder / name).write_text(text)
    return name


def test_xml(api, workshop):
    """Pages are stored as the JSON of their XML; keys lead into it."""
    serve(api, render=xml)
    project = workshop.project(
        project={"resp_type": "xml"},
        data={"data_key": "r.items.item", "total_number_key": "r.total", "item_key": "@id"},
    )
    report = run_project(project, "full")
    assert (report.records, report.announced) == (45, 45)
    with zipfile.ZipFile(project.place.pages) as archive:
        first = json.loads(archive.read("page_1.json"))["r"]["items"]["item"][0]
    assert first == {"@id": "1", "name": "n1"}


def test_xml_in_all_its_shapes():
    """Attributes, text beside them, repetition, emptiness, prefixes as they are written."""
    assert parse_xml(b'<a x="1">t<b>1</b><b>2</b><c/><n:d xmlns:n="u"> v </n:d></a>') == {
        "a": {
            "@x": "1",
            "b": ["1", "2"],
            "c": None,
            "n:d": {"@xmlns:n": "u", "#text": "v"},
            "#text": "t",
        }
    }


@pytest.mark.parametrize(
    "body",
    [
        b"<a>",
        b"no",
        b"<a>" * 600 + b"</a>" * 600,
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    ],
)
def test_hostile_xml_is_refused(body):
    """Entities, endless nesting and broken documents are errors, not expansions."""
    with pytest.raises(ValueError, match="XML"):
        parse_xml(body)


def test_html_by_a_script(api, workshop):
    """code.postfetch turns a page into records."""
    serve(api, render=html)
    name = script(
        workshop,
        "read.py",
        (
            "import re\nprint('this harms nothing')\n"
            "def process(body):\n    text = body.decode()\n"
            "    return {'total': int(re.search('<b>(.*?)</b>', text)[1]),"
            " 'rows': [{'id': int(n)} for n in re.findall('<li>(.*?)</li>', text)]}\n"
        ),
    )
    project = workshop.project(
        project={"resp_type": "html"}, data={"data_key": "rows"}, code={"postfetch": name}
    )
    assert run_project(project, "full").unique == 45


def test_hooks_are_asked_at_their_moments(api, workshop):
    """before_run and before_request change what is sent; the others see what came."""
    serve(api, 25)
    log = (
        "import json\ndef hook(ctx):\n"
        "    with open('log', 'a') as f: f.write(json.dumps(ctx) + '\\n')\n"
    )
    hooks = {
        "before_run": script(
            workshop,
            "a.py",
            "def run(ctx):\n    return {'params': {'q': 'x'}, 'headers': {'X-H': '1'}}\n",
        ),
        "before_request": script(
            workshop,
            "b.py",
            "def hook(ctx):\n    return {'params': {**ctx['params'], 'n': ctx['page']}}\n",
        ),
        "after_response": script(workshop, "c.py", log),
        "after_page": script(workshop, "d.py", log),
        "after_run": script(workshop, "e.py", log),
    }
    run_project(workshop.project(hooks=hooks), "full")
    assert [request.query["n"] for request in api.requests] == ["1", "2"]
    assert {request.query["q"] for request in api.requests} == {"x"}
    assert api.requests[0].headers["x-h"] == "1"
    seen = [json.loads(line) for line in (workshop.folder / "log").read_text().splitlines()]
    assert [one["response"]["status_code"] for one in seen if "response" in one] == [200, 200]
    assert [one["page"] for one in seen if "bytes_written" in one] == [1, 2]
    assert seen[-1]["records_processed"] == 25
    assert all(one["mode"] == "full" for one in seen)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def hook(ctx):\n    raise KeyError('boom')\n", "boom"),
        ("import time\ndef hook(ctx):\n    time.sleep(60)\n", "longer than 1 seconds"),
        ("def other(ctx):\n    pass\n", "no function hook or run"),
        ("import sys\nsys.exit(3)\n", "failed"),
        ("this is not python\n", "failed"),
        ("def hook(ctx):\n    return {1, 2}\n", "failed"),
    ],
)
def test_a_hook_that_fails_or_hangs_is_a_sentence(api, workshop, text, said):
    """The run stops, names the script, and takes nothing away."""
    serve(api, 25)
    run_project(workshop.project(), "full")
    before = workshop.project().place.pages.read_bytes()
    project = workshop.project(hooks={"after_page": script(workshop, "h.py", text), "timeout": 1})
    with pytest.raises(HookError, match=said) as caught:
        run_project(project, "full")
    assert "h.py" in str(caught.value)
    assert project.place.pages.read_bytes() == before


def test_query_modes(api, workshop):
    """`params` writes a matrix into the address, `mixed` adds url_params to the query."""
    serve(api, 5)
    project = workshop.project(
        params={"query_mode": "params"}, side={"url_params.json": {"a": "b"}}
    )
    run_project(project, "full")
    assert api.requests[0].target == "/items;a=b;size=20;page=1"
    api.requests.clear()
    workshop.folder.joinpath("url_params.json").write_text('{"a": "b & c"}')
    run_project(
        workshop.project(params={"query_mode": "mixed"}, side={"params.json": {"z": [1, 2]}}),
        "full",
    )
    assert api.requests[0].target == "/items?a=b+%26+c&size=20&page=1&z=1&z=2"


def test_parameters_of_all_types(api, workshop):
    """None is left out, lists repeat, objects are JSON; force_flat_params writes lists as JSON
    too.
    """
    serve(api, 5)
    side = {"params.json": {"n": None, "l": ["a", "b"], "o": {"k": True}, "t": True}}
    run_project(workshop.project(side=side), "full")
    assert "l=a&l=b" in api.requests[0].target
    assert api.requests[0].query["o"] == '{"k":true}'
    assert api.requests[0].query["t"] == "True"
    assert "n=" not in api.requests[0].target
    run_project(workshop.project(side=side, params={"force_flat_params": True}), "full")
    assert api.requests[-1].query["l"] == '["a","b"]'
    assert api.requests[-1].query["t"] == "true"


def test_answers_in_other_character_sets(api, workshop, ids):
    """What the header names is turned into UTF-8; what JSON allows beyond the usual is kept."""
    body = '{"data": [{"id": "Привет"}], "total": 1}'
    api.routes["/items"] = lambda _request: Reply(
        200, body.encode("cp1251"), {"Content-Type": "application/json; charset=windows-1251"}
    )
    project = workshop.project()
    run_project(project, "full")
    assert ids(project) == ["Привет"]
    odd = b'\xef\xbb\xbf{"data": [{"id": 123456789012345678901234567890, "x": NaN}], "total": "1"}'
    api.routes["/items"] = lambda _request: Reply(200, odd, {"Content-Type": "application/json"})
    assert run_project(project, "full").announced == 1
    assert ids(project) == [123456789012345678901234567890]


def test_warc(api, workshop):
    """storage.warc writes every response as a record that holds what the archive holds."""
    serve(api, 45)
    project = workshop.project(storage={"warc": True})
    run_project(project, "full")
    path = next((project.place.folder / "warc").glob("*.warc.gz"))
    text = gzip.decompress(path.read_bytes())
    assert text.count(b"WARC-Type: response") == 3
    assert text.count(b"WARC/1.1") == 4
    with open_archive(project.place) as archive:
        for page in archive.pages(archive.base()):
            assert page.body in text
            assert f"WARC-Target-URI: {page.evidence['url']}".encode() in text
