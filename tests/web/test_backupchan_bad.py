"""Bad input to the Backup-chan face: refused with a sentence, and nothing of it stays."""

from __future__ import annotations

import json
import os
import random
import string
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.web.chan import BOUNDARY, FORM, MANUAL, Chan, files_below, form, tar_of, zip_of
from tests.web.conftest import make_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.web.conftest import Answer

SOME = os.urandom(200_000)
BODY = form(MANUAL, ("backup_file", "x.tar", SOME))
PATIENT = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def chan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chan]:
    """A server that waits for a second only."""
    home = tmp_path_factory.mktemp("bad")
    roots = home / "roots"
    roots.mkdir()
    configuration = f"backupchan: {{location_roots: ['{roots}']}}\nlimits: {{idle: 1.0}}\n"
    server = make_server(home / "data", configuration=configuration)
    server.start()
    yield Chan(server, roots)
    server.stop()
    log = (server.data / "log" / "web.log").read_text()
    assert '"event": "unexpected"' not in log
    assert '"level": "error"' not in log


@pytest.fixture(params=["single", "multi", "single-repository", "multi-repository"])
def target(request: pytest.FixtureRequest, chan: Chan) -> str:
    shape, _, pool = request.param.partition("-")
    return chan.target(backup_type=shape, **({"location": "main"} if pool else {}))


def nothing_is_left(chan: Chan, target: str) -> None:
    """Neither in the list nor on the disk; what runs is over within moments."""
    found = chan("GET", f"target/{target}").json()
    assert found["backups"] == []
    assert files_below(chan.roots / found["target"]["name"]) == []
    left = chan.unfinished()
    left += [path for path in (chan.server.data / "scratch").rglob("*") if path.is_file()]
    assert left == []


def refused(answer: Answer, status: int) -> None:
    assert answer.status == status, answer.body
    assert answer.json()["success"] is False
    assert answer.json()["message"]


# --- bodies ---------------------------------------------------------------------------------------


def test_bodies_that_are_not_what_they_say(chan: Chan, target: str) -> None:
    """Cut, stalled, longer, shorter, chunked and cut, without end: kept by none of them."""
    upload = f"target/{target}/upload"
    said = f"Content-Length: {len(BODY)}"
    chunked = "Transfer-Encoding: chunked"
    begin = b"%x\r\n" % len(BODY)
    refused(chan.raw(chan.head("POST", upload, FORM, said), BODY[:-1000], half=True), 400)
    refused(chan.raw(chan.head("POST", upload, FORM, said), BODY[:100_000]), 408)
    more = f"Content-Length: {len(BODY) + 50}"
    refused(chan.raw(chan.head("POST", upload, FORM, more), BODY), 408)
    less = f"Content-Length: {len(BODY) - 50}"
    refused(chan.raw(chan.head("POST", upload, FORM, less), BODY), 400)
    refused(chan.raw(chan.head("POST", upload, FORM, chunked), begin, BODY[:1000], half=True), 400)
    refused(chan.raw(chan.head("POST", upload, FORM)), 400)
    for lengths in (("Content-Length: -5",), ("Content-Length: 5", "Content-Length: 7"),
                    ("Content-Length: five",)):  # fmt: skip
        assert chan.raw(chan.head("POST", upload, FORM, *lengths), BODY).status == 400
    # The end of a form is its own, not any two dashes.
    unended = form(MANUAL, ("backup_file", "x", b"abc--"))[: -len(BOUNDARY) - 8]
    refused(
        chan.raw(chan.head("POST", upload, FORM, f"Content-Length: {len(unended)}"), unended), 400
    )
    nothing_is_left(chan, target)


def test_bodies_in_other_ways(chan: Chan, target: str) -> None:
    """Chunked, in small pieces, asked for leave, fields last: taken."""
    upload = f"target/{target}/upload"
    said = f"Content-Length: {len(BODY)}"
    last = form(("backup_file", "x.tar", SOME), ("manual", None, b"false"))
    for answer in (
        chan.raw(
            chan.head("POST", upload, FORM, "Transfer-Encoding: chunked"),
            b"%x\r\n" % len(BODY), BODY, b"\r\n0\r\n\r\n",
        ),
        chan.raw(
            chan.head("POST", upload, FORM, said), BODY[:100], 0.5, BODY[100:-9], 0.5, BODY[-9:]
        ),
        chan.raw(chan.head("POST", upload, FORM, f"Content-Length: {len(last)}"), last),
    ):  # fmt: skip
        assert answer.status == 200, answer.body
    assert len(chan.kept(target)) == 3
    chan("DELETE", f"target/{target}/all", {"delete_files": True})


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "multipart/form-data", "multipart/form-data; boundary=other",
     'multipart/form-data; boundary="\xff\xfe"', "multipart/form-data; ;;=;boundary*0*=a%ff",
     "multipart/form-data; boundary=" + "x" * 5000, "", "\x80"],
)  # fmt: skip
def test_content_types(chan: Chan, content_type: str) -> None:
    target = chan.target()
    upload = f"target/{target}/upload"
    lines = (f"Content-Type: {content_type}", f"Content-Length: {len(BODY)}")
    refused(chan.raw(chan.head("POST", upload, *lines), BODY), 400)
    nothing_is_left(chan, target)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([("backup_file", "x", b"abc")], "Parameter 'manual' required"),
        ([MANUAL], "No files specified"),
        ([MANUAL, ("other", "x", b"abc")], "No files specified"),
        ([("manual", None, b"perhaps"), ("backup_file", "x", b"abc")], "'manual' must be"),
        ([("manual", None, b"\xff"), ("backup_file", "x", b"abc")], "'manual' must be"),
        ([("manual", None, b"1" * (2 << 20)), ("backup_file", "x", b"abc")], "too long"),
        ([MANUAL, ("backup_file", "", b"abc")], "needs a name"),
        ([MANUAL, ("backup_file", "..", b"abc")], "needs a name"),
        ([MANUAL, ("backup_file", "a/..", b"abc")], "needs a name"),
        ([MANUAL, ("backup_file", b"\xff\xfe.bin", b"abc")], "not UTF-8"),
        ([MANUAL, ("other" * (1 << 20), "x", b"abc")], "too much of the form"),
    ],
)
def test_forms(chan: Chan, target: str, parts: Any, message: str) -> None:
    answer = chan.upload(target, *parts)
    refused(answer, 400)
    assert message in answer.json()["message"]
    nothing_is_left(chan, target)


@pytest.mark.parametrize(
    "name",
    ["x" * 300 + ".txt", "a." + "y" * 250, "nul\0x", "ünïcödé.tar", "-rf", "%2e%2e%2fx",
     ".holdfast", "con:", " ", "a\tb", "'; DROP TABLE backup; --"],
)  # fmt: skip
def test_names_of_files(chan: Chan, target: str, name: str) -> None:
    """Odd but harmless: kept, and given back byte for byte under a name that a file can have."""
    backup = chan.put(target, SOME, name)["id"]
    answer = chan("GET", f"backup/{backup}/download")
    assert answer.status == 200, answer.body
    saved = answer.headers["content-disposition"].partition('filename="')[2].rstrip('"')
    assert 0 < len(saved) <= 255
    assert not set(saved) & set('/\\\0\n\r"')
    if answer.body != SOME:
        assert list(chan.files(backup).values()) == [SOME]
    chan("DELETE", f"backup/{backup}", {"delete_files": True})
    nothing_is_left(chan, target)


def test_json(chan: Chan) -> None:
    """Broken, deep, huge, of other types: one sentence, no target."""
    before = chan("GET", "stats").json()["total_targets"]
    for body in (
        b"", b"nul", b"[]", b"1", b'"x"', b"{", b'{"a":' * 100_000, b"[" * 200_000, b"\xff\xfe",
        b'{"name":"\\ud800"}', b'{"name":"a\0b"}', json.dumps(chan.draft(name="\ud800")).encode(),
        *(
            json.dumps(chan.draft(**changes)).encode()
            for changes in (
                {"recycle_value": 10**400}, {"recycle_value": 2**63}, {"recycle_value": 1e300},
                {"recycle_value": [1]}, {"deduplicate": {}}, {"deduplicate": 2}, {"alias": 1},
                {"name": None}, {"name": ["x"]}, {"tags": "x"}, {"tags": [1]}, {"tags": ["\0"]},
                {"backup_type": []}, {"backup_type": {}}, {"backup_type": 1}, {"location": 5},
            )
        ),
    ):  # fmt: skip
        refused(chan("POST", "target", body, {"Content-Type": "application/json"}), 400)
    refused(chan("POST", "target", b" " * (2 << 20)), 413)
    assert chan("GET", "stats").json()["total_targets"] == before
    path = f"target/{chan.target()}"
    refused(chan.raw(chan.head("PATCH", path, "Content-Length: 50"), b"{"), 408)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("target?page=99999999999999999999", 200), ("target?page=9223372036854775807", 200),
        ("target?page=", 400), ("target?page=-1", 400), ("target?page=%D9%A1", 400),
        ("target?page=1e3", 400), ("log?tail=-1", 400), ("log?tail=99999999999999999999", 200),
        ("target/%00", 404), ("target/%ff", 404), ("target/..", 404), ("target/%2e%2e", 404),
        ("target/a%2fb", 404), ("target/" + "x" * 7000, 404), ("target/", 404), ("target//x", 404),
        ("backup/%00/download", 404), ("backup/..%2f..%2fetc%2fpasswd/download", 404),
        ("jobs/force_run/%00", 404), ("jobs/force_run/", 404), ("target/search?name=%00", 400),
        ("target/search?tags=%00", 400), ("target/search?name=%ff", 200),
        ("target/search?type=triple", 400), ("target/search?deduplicate=perhaps", 400),
        ("target/search?name=%25_'%22;", 200), ("seq/%00", 404),
    ],
)  # fmt: skip
def test_addresses(chan: Chan, path: str, status: int) -> None:
    answer = chan("GET", path)
    assert answer.status == status, answer.body
    assert answer.json()["success"] is (status == 200)


# --- archives -------------------------------------------------------------------------------------


def special(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("odd")
    info.type = kind
    info.linkname = "../../etc/passwd"
    return info


def garbled(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(8) + content[middle + 8 :]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("x.tar.gz", tar_of(("a", SOME))[:-50_000], "cut short"),
        ("x.tar", tar_of(("a", SOME), mode="w")[:-50_000], "cut short"),
        ("x.zip", zip_of(("a", SOME))[:-50_000], "cut short"),
        ("x.tar.gz", garbled(tar_of(("a", SOME))), "damaged"),
        ("x.tar", tar_of((special(tarfile.CHRTYPE), b""), mode="w"), "device"),
        ("x.tar", tar_of((special(tarfile.FIFOTYPE), b""), mode="w"), "pipe"),
        ("x.tar", tar_of((special(tarfile.LNKTYPE), b""), mode="w"), "refused"),
        ("x.zip", zip_of(("../x", SOME)), "refused"),
        ("x.zip", zip_of(("/x", SOME)), "refused"),
        ("x.tar", tar_of(("../x", b""), ("more", SOME * 40), mode="w"), "refused"),
    ],
)
def test_archives(chan: Chan, name: str, content: bytes, why: str) -> None:
    """The reason is told, whenever it shows; nothing of the archive stays."""
    for place in ({}, {"location": "main"}):
        target = chan.target(backup_type="multi", **place)
        answer = chan.upload(target, MANUAL, ("backup_file", name, content))
        refused(answer, 400)
        assert why in answer.json()["message"]
        nothing_is_left(chan, target)


def test_zeros_are_no_bomb(chan: Chan) -> None:
    """Half of the room that the pool has may be taken by what packs a thousand times."""
    target = chan.target(backup_type="multi", location="main")
    zeros = bytes(80 << 20)
    for name, content in (("x.zip", zip_of(("z", zeros))), ("x.tgz", tar_of(("z", zeros)))):
        assert len(content) * 500 < len(zeros)
        backup = chan.put(target, content, name)
        assert backup["filesize"] == len(zeros)
    chan("DELETE", f"target/{target}", {"delete_files": True})


# --- aborted uploads ------------------------------------------------------------------------------


def abort(chan: Chan, number: int, targets: list[str]) -> None:
    """Cut somewhere: in the head, the form, the content, or right before the end."""
    drawn = random.Random(number)
    archive = tar_of(("a", drawn.randbytes(50_000)), ("b", b"x"))
    body = form(MANUAL, ("backup_file", drawn.choice(["a.tar.gz", "plain", "a.zip"]), archive))
    length = f"Content-Length: {len(body)}"
    cut = drawn.choice([0, 10, 120, len(body) // 2, len(body) - 3, drawn.randrange(len(body))])
    path = f"target/{drawn.choice(targets)}/upload"
    import socket

    with socket.create_connection(("127.0.0.1", chan.server.port), timeout=30) as wire:
        wire.sendall(chan.head("POST", path, FORM, length) + body[:cut])
        if drawn.random() < 0.3:  # a reset instead of an end
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def aborts(chan: Chan, number: int, eventually: Any) -> None:
    targets = [
        chan.target(backup_type=shape, **place)
        for shape in ("single", "multi")
        for place in ({}, {"location": "main"})
    ]
    for each in range(number):
        abort(chan, each, targets)

    def settled() -> bool:
        try:
            for target in targets:
                nothing_is_left(chan, target)
        except AssertionError:
            return False
        return True

    eventually(settled)
    for target in targets:  # every slot is free again
        assert chan.content(chan.put(target, SOME)["id"])
        chan("DELETE", f"target/{target}", {"delete_files": True})


def test_aborted_uploads_leave_nothing(chan: Chan, eventually: Any) -> None:
    aborts(chan, 300, eventually)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ten_thousand_aborted_uploads_leave_nothing(chan: Chan, eventually: Any) -> None:
    aborts(chan, 10_000, eventually)
    with open(f"/proc/{chan.server.process.pid}/status") as status:  # type: ignore[union-attr]
        resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    assert resident < 600 << 10


# --- anything -------------------------------------------------------------------------------------

WORDS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=300),
    st.sampled_from(["single", "multi", "count", "age", "none", "recycle", "delete", "$I", "main"]),
    st.lists(st.text(max_size=60), max_size=4), st.dictionaries(st.text(max_size=5), st.none()),
)  # fmt: skip
FIELDS = [
    "name", "backup_type", "recycle_criteria", "recycle_value", "recycle_action", "location",
    "name_template", "deduplicate", "alias", "min_backups", "num_backups", "tags", "delete_files",
    "is_recycled", "manual", "file_list",
]  # fmt: skip
ROUTES = [
    ("GET", "target{query}"), ("POST", "target"), ("GET", "target/search{query}"),
    ("GET", "target/{id}"), ("PATCH", "target/{id}"), ("DELETE", "target/{id}/all"),
    ("DELETE", "target/{id}/recycled"), ("POST", "target/{id}/upload"),
    ("GET", "backup/{id}/download"), ("DELETE", "backup/{id}"), ("PATCH", "backup/{id}"),
    ("GET", "recycle_bin"), ("DELETE", "recycle_bin"), ("GET", "jobs"), ("GET", "log{query}"),
    ("GET", "stats"), ("POST", "seq/{id}/begin"), ("GET", "seq/{id}"), ("POST", "seq/{id}/upload"),
    ("POST", "seq/{id}/finish"), ("POST", "seq/{id}/terminate"),
]  # fmt: skip
ADDRESS = string.ascii_letters + string.digits + "%-._~$&+,;=@'()*!"


@PATIENT
@given(
    route=st.sampled_from(ROUTES),
    fields=st.dictionaries(st.sampled_from(FIELDS), WORDS, max_size=len(FIELDS)),
    raw=st.one_of(st.none(), st.binary(max_size=200)),
    own=st.booleans(),
    text=st.text(ADDRESS, min_size=1, max_size=40),
    query=st.dictionaries(
        st.sampled_from(["page", "tail", "name", "tags", "type", "alias", "deduplicate"]),
        st.text(ADDRESS.replace("&", ""), max_size=20), max_size=3,
    ),
)  # fmt: skip
def test_anything_is_answered(  # noqa: PLR0917  hypothesis gives them by name
    chan: Chan, route: tuple[str, str], fields: Any, raw: bytes | None, own: bool, text: str,
    query: dict[str, str],
) -> None:  # fmt: skip
    """No status of 500, no hang, JSON always."""
    method, path = route
    target = chan.target(location="", backup_type="multi") if own else text
    asked = "?" + "&".join(f"{name}={value}" for name, value in query.items())
    path = path.format(id=target, query=asked)
    body = None if method == "GET" else raw if raw is not None else fields
    answer = chan(method, path, body)
    assert answer.status < 500, (answer.status, answer.body)
    assert isinstance(answer.json(), dict)


@PATIENT
@given(st.one_of(st.binary(max_size=400), st.lists(st.binary(max_size=60), max_size=5)))
def test_any_form_is_answered(chan: Chan, content: bytes | list[bytes]) -> None:
    """Bytes of any kind, and bytes between boundaries."""
    if isinstance(content, list):
        mark = f"--{BOUNDARY}".encode()
        content = b"\r\n".join(part for each in content for part in (mark, each)) + b"\r\n" + mark
        content += b"--\r\n"
    target = chan.target(location="")
    answer = chan("POST", f"target/{target}/upload", content, dict([FORM.split(": ")]))
    assert answer.status == 400, answer.body
    assert chan.backups(target) == []
