"""Names, certificates, addresses, and keeping processes running."""

from __future__ import annotations

import signal
import socket
import ssl
import stat
import subprocess
import sys
import time

import pytest

from holdfast.cli.supervising import Supervisor
from holdfast.core.errors import AddressInUseError, ConfigurationError, WorkerDiedError
from holdfast.web.addresses import address, check_free
from holdfast.web.app import Faces, nothing_here
from holdfast.web.security import KnownHosts, client_address
from holdfast.web.tls import certificate_for


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost:5656", True), ("127.0.0.1", True), ("[::1]:5656", True), ("10.1.2.3", True),
        ("backup.example.com", True), ("BACKUP.example.com:1", True),
        ("evil.example.com", False), ("", False), ("localhost.evil.com", False),
    ],
)  # fmt: skip
def test_only_own_names_are_answered_to(host, known):
    """F39: a page can make a name point here, but not one of ours."""
    assert KnownHosts(nothing_here, ["backup.example.com"])._known(host) is known


def test_a_proxy_is_believed_only_where_it_is_trusted():
    scope = {
        "type": "http", "client": ("10.0.0.1", 1),
        "headers": [(b"x-forwarded-for", b"6.6.6.6, 1.2.3.4")],
    }  # fmt: skip
    assert client_address(scope, []) == "10.0.0.1"
    assert client_address(scope, ["10.0.0.1"]) == "1.2.3.4"


def test_the_longer_path_owns():
    chan, pocket = object(), object()
    faces = Faces({"/api/backup": chan, "/api/backups": pocket, "/restic": chan}, nothing_here)
    assert faces._owner("/api/backup/x/download") is chan
    assert faces._owner("/api/backups") is pocket
    assert faces._owner("/restic/a/b/config") is chan
    assert faces._owner("/elsewhere") is nothing_here


@pytest.mark.parametrize("text", ["", "5656", "host:", "host:x", ":1"])
def test_no_address(text):
    with pytest.raises(ConfigurationError):
        address(text)


def test_addresses():
    assert address("127.0.0.1:1") == ("127.0.0.1", 1)
    assert address("[::1]:2") == ("::1", 2)


@pytest.mark.parametrize("willing", [False, True])
def test_a_port_is_not_shared_with_strangers(willing):
    """Not even with one that is willing to, as our own listeners are."""
    with socket.socket() as other:
        if willing:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        place = other.getsockname()
        with pytest.raises(AddressInUseError):
            check_free(place)
    check_free(place)


def test_where_nobody_can_listen():
    with pytest.raises(ConfigurationError, match="cannot listen on"):
        check_free(("192.0.2.1", 5656))


def test_an_automatic_certificate_is_good_for_its_names(tmp_path):
    """And stays until a name is added; keys are nobody else's to read."""
    made = certificate_for("auto", tmp_path, ["backup.example.com"])
    assert made is not None
    context = ssl.create_default_context(cafile=str(tmp_path / "tls" / "ca.pem"))
    context.load_cert_chain(made.certificate, made.key)
    for name in ("ca.key", "server.key"):
        assert stat.S_IMODE((tmp_path / "tls" / name).stat().st_mode) == 0o600
    first = made.certificate.read_bytes()
    assert certificate_for("auto", tmp_path, ["backup.example.com"]) == made
    assert made.certificate.read_bytes() == first
    certificate_for("auto", tmp_path, ["other.example.com"])
    assert made.certificate.read_bytes() != first


def test_other_words_for_tls(tmp_path):
    assert certificate_for("off", tmp_path, []) is None
    for wrong in ("on", "/nothing:/there"):
        with pytest.raises(ConfigurationError):
            certificate_for(wrong, tmp_path, [])


SUPERVISED = """
import sys
from holdfast.cli import supervising
supervising._LOOK_EVERY = 0.01
real = supervising.Supervisor._start
def start(self, arguments):
    import subprocess
    return subprocess.Popen([sys.executable, "-c", *arguments], pass_fds=(self._lifeline_end,))
supervising.Supervisor._start = start
child = '''
import pathlib, sys, time
p = pathlib.Path(sys.argv[1]); n = len(p.read_text()) if p.exists() else 0
p.write_text("x" * (n + 1))
if n == 0: sys.exit(75)
if n == 1: sys.exit(9)
time.sleep(600)
'''
supervising.Supervisor({"web": [child, sys.argv[1]]}, restart_code=75).run()
"""


def test_children_are_started_again_and_ended_together(tmp_path):
    """At once where they ask for it, after a while where they died."""
    starts = tmp_path / "starts"
    parent = subprocess.Popen([sys.executable, "-c", SUPERVISED, str(starts)])
    deadline = time.monotonic() + 30
    while not starts.exists() or len(starts.read_text()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(30) == 0


def test_a_child_that_cannot_start_ends_it_all(monkeypatch):
    """With its own words above, and not for ever."""
    monkeypatch.setattr(
        Supervisor,
        "_start",
        lambda _self, _arguments: subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"]),
    )
    before = {number: signal.getsignal(number) for number in (15, 2, 1)}
    try:
        with pytest.raises(WorkerDiedError):
            Supervisor({"web": []}, restart_code=75).run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_child_ends_with_its_parent(tmp_path):
    """SIGKILL of the parent, too."""
    script = (
        "import os, subprocess, sys, time\n"
        "from holdfast.cli.supervising import LIFELINE\n"
        "end, mine = os.pipe()\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time;"
        "from holdfast.cli.supervising import end_with_parent as e; e(); time.sleep(600)'],"
        " pass_fds=(end,), env=os.environ | {LIFELINE: str(end)})\n"
        "os.close(end); print(child.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(1)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while _is_there(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_there(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
