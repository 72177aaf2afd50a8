"""Credentials: every kind works, none is ever shown, and rotated tokens outlive the run."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from holdfast.core.errors import AuthError, ProjectError
from holdfast.sources.restapi.asking.redact import Redactor
from holdfast.sources.restapi.collecting.run import Orders, run_project
from holdfast.testing.api_listing import Listing
from holdfast.testing.api_server import Guard, TokenDesk, malformed, on_page, server_error

SECRET = "s3cr3t-value-0001"


def serve(api, count=45):
    api.listings["/items"] = Listing([{"id": number} for number in range(1, count + 1)])


def assert_nowhere(folder, *secrets, but=()):
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in {"apibackuper.yaml", *but}:
            content = path.read_bytes()
            for secret in secrets:
                assert secret.encode() not in content, path


def test_basic(api, workshop, ids):
    """Name and password go as basic authentication."""
    serve(api)
    api.guard = Guard("basic", f"u:{SECRET}")
    project = workshop.project(auth={"type": "basic", "username": "u", "password": SECRET})
    run_project(project, "full")
    assert len(ids(project)) == 45
    assert_nowhere(project.folder, SECRET)


@pytest.mark.parametrize("where", ["file", "env", "command"])
def test_a_secret_from_elsewhere(  # noqa: PLR0917 - fixtures
    api, workshop, ids, monkeypatch, where, tmp_path
):
    """From a file beside the project, the environment or a command, whatever the current
    directory.
    """
    serve(api)
    api.guard = Guard("bearer", SECRET)
    workshop.folder.mkdir(parents=True)
    (workshop.folder / "token.txt").write_text(SECRET + "\n")
    monkeypatch.setenv("MY_TOKEN", SECRET)
    monkeypatch.chdir(tmp_path)
    value = {
        "file": "token.txt",
        "env": "MY_TOKEN",
        "command": f"{sys.executable} -c \"print(open('token.txt').read())\"",
    }[where]
    project = workshop.project(auth={"type": "bearer", f"token_{where}": value})
    run_project(project, "full")
    assert len(ids(project)) == 45
    assert_nowhere(project.folder, SECRET, but=("token.txt",))


@pytest.mark.parametrize("where", ["file", "env", "command"])
def test_a_missing_secret_is_a_sentence(api, workshop, where):
    """It names the key and what is not there, before any request."""
    project = workshop.project(auth={"type": "bearer", f"token_{where}": "nothing-there"})
    with pytest.raises(ProjectError, match=f"auth.token_{where}"):
        run_project(project, "full")
    assert api.requests == []


def test_an_api_key_in_any_header_or_the_query(api, workshop, ids):
    """The key reaches the API and nothing else."""
    serve(api)
    api.guard = Guard("apikey", SECRET, name="X-Custom")
    project = workshop.project(
        auth={"type": "apikey", "api_key": SECRET, "api_key_header": "X-Custom"}
    )
    run_project(project, "full")
    assert_nowhere(project.folder, SECRET)
    api.guard = Guard("apikey", SECRET, name="apikey", where="query")
    project = workshop.project(
        auth={"type": "apikey", "api_key": SECRET, "api_key_param": "apikey"}
    )
    lines = []
    run_project(project, "full", Orders(log=lines.append))
    assert len(ids(project)) == 45
    assert_nowhere(project.folder, SECRET)
    assert lines
    assert SECRET not in "\n".join(lines)


def test_an_api_key_that_the_api_repeats_in_its_links(api, workshop, ids):
    """The next address carries the key back to us: it is followed, resumed, and not kept."""
    api.listings["/items"] = Listing([{"id": number} for number in range(1, 96)], style="next-url")
    api.guard = Guard("apikey", SECRET, name="apikey", where="query")
    project = workshop.project(
        project={"iterate_by": "next_url"},
        params={"page_number_param": None},
        data={"next_url_key": "next"},
        auth={"type": "apikey", "api_key": SECRET, "api_key_param": "apikey"},
    )
    api.script("/items", server_error(404), when=on_page(4))
    run_project(project, "full")
    report = run_project(project, "full")
    assert report.resumed == 3
    assert ids(project) == list(range(1, 96))
    assert_nowhere(project.folder, SECRET)


def test_a_refused_login_names_no_secret(api, workshop):
    """401 fails at once, with what to check and without what was sent."""
    serve(api)
    api.guard = Guard("bearer", "another-token")
    project = workshop.project(auth={"type": "bearer", "token": SECRET})
    with pytest.raises(AuthError, match="401") as caught:
        run_project(project, "full")
    assert SECRET not in str(caught.value)
    assert "[auth]" in caught.value.advice
    assert len(api.requests) == 1


def test_oauth_rotation_outlives_the_run(api, workshop, ids):
    """Each refresh token works once: the second run uses the one that the first was given."""
    serve(api)
    desk = TokenDesk(refresh_token=SECRET, rotate=True)
    api.guard = desk
    auth = {
        "type": "oauth2",
        "token": "stale-token-xyz",
        "refresh_token": SECRET,
        "auth_url": f"{api.url}/oauth/token",
    }
    project = workshop.project(auth=auth)
    run_project(project, "full")
    desk.left.clear()
    run_project(project, "full")
    assert len(ids(project)) == 45
    kept = project.folder / ".holdfast" / "oauth2.json"
    if os.name == "posix":
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    values = [value for value in json.loads(kept.read_text()).values() if isinstance(value, str)]
    assert_nowhere(project.folder, *values, but=("oauth2.json",))


def test_oauth_rotation_in_a_file_of_its_own(api, workshop, ids):
    """A refresh token from a file is put back into that file."""
    serve(api)
    desk = TokenDesk(refresh_token=SECRET, rotate=True)
    api.guard = desk
    workshop.folder.mkdir(parents=True)
    (workshop.folder / "refresh").write_text(SECRET)
    auth = {"type": "oauth2", "refresh_token_file": "refresh", "auth_url": f"{api.url}/oauth/token"}
    project = workshop.project(auth=auth)
    run_project(project, "full")
    rotated = (workshop.folder / "refresh").read_text().strip()
    assert rotated != SECRET
    desk.left.clear()
    run_project(project, "full")
    assert len(ids(project)) == 45
    assert (workshop.folder / "refresh").read_text().strip() != rotated


def test_client_credentials(api, workshop, ids):
    """A client's id and secret are enough."""
    serve(api)
    api.guard = TokenDesk(client=("me", SECRET))
    auth = {
        "type": "oauth2",
        "client_id": "me",
        "client_secret": SECRET,
        "auth_url": f"{api.url}/oauth/token",
    }
    project = workshop.project(auth=auth)
    run_project(project, "full")
    assert len(ids(project)) == 45


def test_credentials_stay_with_their_host(api, workshop):
    """A next address on another host gets no credentials."""
    from holdfast.testing.api_server import ApiServer
    from holdfast.testing.loopback import json_reply

    with ApiServer() as other:
        other.routes["/items"] = lambda _request: json_reply({"data": [{"id": 2}]})
        api.routes["/items"] = lambda _request: json_reply(
            {"data": [{"id": 1}], "next": f"{other.url}/items"}
        )
        project = workshop.project(
            project={"iterate_by": "next_url"},
            data={"next_url_key": "next"},
            auth={"type": "bearer", "token": SECRET},
            side={"headers.json": {"X-Api-Key": SECRET, "X-Plain": "1"}},
        )
        run_project(project, "full")
        assert "authorization" not in other.requests[0].headers
        assert "x-api-key" not in other.requests[0].headers
        assert other.requests[0].headers["x-plain"] == "1"
        assert api.requests[0].headers["authorization"] == f"Bearer {SECRET}"


def test_credentials_do_not_follow_a_redirect_elsewhere(api, workshop):
    """A redirect to another host takes no secret header along."""
    from holdfast.testing.api_server import ApiServer
    from holdfast.testing.loopback import Reply, json_reply

    with ApiServer() as other:
        other.routes["/items"] = lambda _request: json_reply({"data": [{"id": 1}]})
        api.routes["/items"] = lambda _request: Reply(302, b"", {"Location": f"{other.url}/items"})
        project = workshop.project(
            auth={"type": "apikey", "api_key": SECRET, "api_key_header": "X-Odd"}
        )
        run_project(project, "full")
        assert "x-odd" not in other.requests[0].headers


def test_secrets_do_not_show_in_errors(api, workshop):
    """A key in the address stays out of the sentence."""
    serve(api)
    api.script("/items", malformed(), forever=True)
    project = workshop.project(
        path=f"/items?api_key={SECRET}",
        request={"retry": {"max_retries": 1, "initial_delay": 0.01}},
    )
    lines = []
    with pytest.raises(Exception, match="malformed") as caught:
        run_project(project, "full", Orders(log=lines.append))
    assert SECRET not in str(caught.value) + "\n".join(lines)


def test_redactor():
    """What sounds secret is hidden by its name, what is known to be secret everywhere."""
    redactor = Redactor([SECRET])
    url = f"https://user:pass@h/p?access_token=abc&page_token=7&q={SECRET}&page=2"
    assert redactor.url(url) == "https://h/p?access_token=***&page_token=7&q=***&page=2"
    assert redactor.tree({"password": "x", "a": [SECRET], "keyword": "k"}) == {
        "password": "***",
        "a": ["***"],
        "keyword": "k",
    }
    assert redactor.headers([("Set-Cookie", "a=b"), ("X", SECRET)]) == [
        ["Set-Cookie", "***"],
        ["X", "***"],
    ]
    assert redactor.body(b"{}") == b"{}"


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_no_secret_is_in_the_process_list(api, workshop):
    """However a secret is given, no command line of the run, its scripts or its commands has it,
    and none of them passes it on in its environment.
    """
    api.latency = 0.03
    serve(api, 400)
    api.guard = Guard("bearer", "from-a-command-1")
    workshop.folder.mkdir(parents=True)
    (workshop.folder / "give.py").write_text("print('from-a-' + 'command-1')")
    (workshop.folder / "hook.py").write_text("def hook(context):\n    return {}\n")
    workshop.project(
        auth={"type": "bearer", "token_command": f"{sys.executable} give.py"},
        hooks={"before_request": "hook.py"},
        side={"headers.json": {"X-Token": "s3cret-header"}, "params.json": {"key": "s3cret-param"}},
        request={"proxies": {"https": "http://user:s3cret-proxy@127.0.0.1:1"}},
    )
    command = [sys.executable, "-m", "holdfast", "api", "run", "-q", "-p", str(workshop.folder)]
    process = subprocess.Popen(command, start_new_session=True)
    seen = set()
    while process.poll() is None:
        for found in Path("/proc").glob("[0-9]*"):
            try:
                if os.getsid(int(found.name)) == process.pid:
                    seen.add((found / "cmdline").read_bytes())
                    seen.add((found / "environ").read_bytes())
            except OSError:
                continue  # it has ended meanwhile
        time.sleep(0.005)
    assert process.returncode == 0
    assert any(b"hook.py" in line for line in seen)
    assert not any(b"s3cret" in line or b"from-a-command-1" in line for line in seen)
