"""`rubackup_api`: its environment, its files, and starting and stopping."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from holdfast.cli.rubackup_api import listen_at, read_environment, translated
from holdfast.core.errors import ConfigurationError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "rubackup"


def test_the_process_wins_over_the_file(tmp_path):
    (tmp_path / "rubackup_api.env").write_text(
        "# comment\n\nAPP_HOST='api.local'\nexport APP_PORT=6000\nHOLDFAST_DATA=/data\n"
    )
    found = read_environment(tmp_path, {"APP_PORT": "7000", "HOME": "/x"})
    assert found == {
        "APP_HOST": "api.local", "APP_PORT": "7000", "HOLDFAST_DATA": "/data", "HOME": "/x",
    }  # fmt: skip


def test_files_that_are_there_are_read(tmp_path):
    """The examples can be used as they are."""
    for name in ("rubackup_api.env", "rubackup_api_logger.conf"):
        shutil.copy(EXAMPLES / name, tmp_path)
    found = read_environment(tmp_path, {})
    assert found["APP_HOST"] == "api.rubackup.local"
    assert found["HOLDFAST_LOG_CONFIG"] == str(tmp_path / "rubackup_api_logger.conf")
    assert read_environment(tmp_path / "nothing", {"A": "b"}) == {"A": "b"}


@pytest.mark.parametrize("line", ["APP_HOST", "PATH=/x", "APP_HSOT=x"])
def test_a_file_that_cannot_be_meant_so(tmp_path, line):
    (tmp_path / "rubackup_api.env").write_text(f"APP_PORT=1\n{line}\n")
    with pytest.raises(ConfigurationError, match="line 2"):
        read_environment(tmp_path, {})


def test_variables_in_the_words_of_the_configuration():
    given = {"APP_HOST": "api.local", "RB_SERVER_HOST": "10.0.0.1", "DEBUG": "True"}
    assert translated(given | {"HOLDFAST_LISTEN_HOSTS": "a:b"}) == {
        "HOLDFAST_RUBACKUP_HOST": "api.local",
        "HOLDFAST_LISTEN_HOSTS": "a:b:api.local",
        "HOLDFAST_RUBACKUP_SERVER_ADDRESS": "10.0.0.1",
        "HOLDFAST_LOG_DEBUG": "true",
    }
    assert translated({"APP_HOST": "10.0.0.2", "DEBUG": "False"}) == {
        "HOLDFAST_RUBACKUP_HOST": "10.0.0.2"
    }


@pytest.mark.parametrize(
    ("url", "elsewhere"),
    [
        ("postgresql://u:p@here:1/db", "postgresql://u:p@there:5433/db"),
        ("postgresql+psycopg://u:p@here/db?x=y", "postgresql+psycopg://u:p@there:5433/db?x=y"),
        ("postgresql://[::1]:1/db", "postgresql://there:5433/db"),
        ("postgresql:///db", "postgresql://there:5433/db"),
    ],
)
def test_another_database_server(url, elsewhere):
    given = {"DB_HOST": "there", "DB_PORT": "5433"}
    assert translated(given, url=url)["HOLDFAST_DATABASE_URL"] == elsewhere
    assert translated({}, url=url)["HOLDFAST_DATABASE_URL"] == url


def test_a_database_server_needs_a_password():
    with pytest.raises(ConfigurationError, match="DB_HOST"):
        translated({"DB_HOST": "there"})


def test_where_it_listens():
    assert listen_at({}) == "127.0.0.1:5656"
    assert listen_at({"APP_HOST": "::1", "APP_PORT": "80"}) == "[::1]:80"
    for wrong in ({"APP_PORT": "x"}, {"APP_PORT": "70000"}, {"APP_HOST": "no.such.name.invalid"}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            listen_at(wrong)


def test_the_logger_configuration_is_used(tmp_path):
    """Acts that matter, and requests, each in its file; the server's own log goes on."""
    program = (
        "import sys, logging\n"
        "from pathlib import Path\n"
        "import structlog\n"
        "from holdfast.service import logs\n"
        "logs.set_up(Path(sys.argv[1]), 'web', config=sys.argv[2])\n"
        "structlog.get_logger('holdfast.audit').info('sign.in', subject='user root')\n"
        "structlog.get_logger('holdfast.web').info('request', path='/x', status=500)\n"
        "logging.getLogger('_granian').error('broken pipe')\n"
        "logging.shutdown()\n"
    )
    config = tmp_path / "logger.conf"
    config.write_text(
        (EXAMPLES / "rubackup_api_logger.conf")
        .read_text()
        .replace("/opt/rubackup/log", str(tmp_path))
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "data"), str(config)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    api = (tmp_path / "rubackup-api.log").read_text()
    access = (tmp_path / "rubackup-api.access.log").read_text()
    assert "- [INFO] - 'sign.in subject='user root''" in access
    assert "request path='/x' status=500" in api
    assert "[ERROR] - 'broken pipe'" in api
    assert "sign.in" not in api
    assert ran.stderr.splitlines() == [*access.splitlines(), *api.splitlines()]
    own = [json.loads(line) for line in (tmp_path / "data/log/web.log").read_text().splitlines()]
    assert [each["event"] for each in own] == ["sign.in", "request", "broken pipe"]
    assert logging.getLogger("rb_api").handlers == []


@pytest.mark.parametrize("text", ["", "[loggers]\nkeys=root\n", "nonsense"])
def test_a_logger_configuration_that_is_none(tmp_path, text):
    from holdfast.service import logs

    path = tmp_path / "logger.conf"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        logs._configure(path)


def test_start_stop(tmp_path):
    """It serves over TLS until it is stopped; there is one for a data folder."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        second = held.getsockname()[1]
    environment = os.environ | {
        "HOLDFAST_DATA": str(tmp_path / "data"),
        "APP_HOST": "localhost",
        "APP_PORT": str(port),
        "HOLDFAST_LISTEN_RESTBACKUP": f"127.0.0.1:{second}",
    }

    def call(act):
        return [sys.executable, "-m", "holdfast.cli.rubackup_api", f"--{act}"]

    def run(act):
        return subprocess.run(
            call(act), env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    stopped = run("stop")
    assert stopped.returncode == 1
    assert "no rubackup_api runs" in stopped.stderr
    with (tmp_path / "said").open("w") as said:
        serving = subprocess.Popen(call("start"), env=environment, stdout=said, stderr=said)
    try:
        _wait_for(f"https://localhost:{port}/api/v1/swagger.json", serving)
        assert "RuBackup API Logger initializing" in (tmp_path / "said").read_text()
        again = run("start")
        assert again.returncode == 11
        assert "already" in again.stderr
        assert run("stop").returncode == 0
        assert serving.wait(60) == 0
        said = (tmp_path / "said").read_text()
        assert f"RuBackup REST API is running on [https://127.0.0.1:{port}]" in said
    finally:
        serving.terminate()
        serving.wait(60)


def _wait_for(url, process):
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    deadline = time.monotonic() + 240
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10, context=context) as answer:
                assert answer.status == 200
                return
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
