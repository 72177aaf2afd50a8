"""`holdfast api`, the collecting half: what people type, what they read, and with what it ends."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from holdfast.cli.main import run as holdfast
from holdfast.testing.api_listing import Listing
from holdfast.testing.api_server import ApiServer, login_page, server_error, too_many


@pytest.fixture
def api():
    with ApiServer() as server:
        server.listings["/items"] = Listing([{"id": number} for number in range(1, 96)])
        yield server


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def project(api, here, capsys):
    holdfast(
        [
            "api",
            "create",
            "demo",
            "--url",
            f"{api.url}/items",
            "-k",
            "page",
            "-s",
            "20",
            "-d",
            "data",
            "-i",
            "id",
        ]
    )
    holdfast(["api", "detect", "-p", "demo", "--write-config"])
    capsys.readouterr()
    api.requests.clear()
    return here / "demo"


def test_create_writes_what_it_is_told(api, here, capsys):
    """Every option lands in the file; a second create changes nothing."""
    options = [
        "--url",
        f"{api.url}/items",
        "-k",
        "p",
        "-s",
        "7",
        "-d",
        "rows",
        "-i",
        "inn",
        "-e",
        "changed",
        "-b",
        "number",
        "-m",
        "POST",
        "-w",
        "full,update",
        "-v",
    ]
    assert holdfast(["api", "create", "demo", *options]) == 0
    text = (here / "demo" / "apibackuper.yaml").read_text()
    for line in (
        "page_number_param: p",
        "page_size_limit: 7",
        "data_key: rows",
        "item_key: inn",
        "change_key: changed",
        "iterate_by: page",
        "http_mode: POST",
        "work_modes: full,update",
        "initialized: true",
    ):
        assert line in text
    assert holdfast(["api", "validate-config", "-p", "demo"]) == 0
    assert holdfast(["api", "create", "demo", "--url", "http://other/"]) == 0
    assert (here / "demo" / "apibackuper.yaml").read_text() == text
    assert "there already" in capsys.readouterr().out


def test_create_from_a_file(here):
    """--config copies a project's file."""
    (here / "old.cfg").write_text("[settings]\nname = x\n")
    assert holdfast(["api", "create", "demo", "--config", "old.cfg"]) == 0
    assert (here / "demo" / "apibackuper.cfg").read_text() == "[settings]\nname = x\n"
    assert holdfast(["api", "create", "other", "--config", "none.cfg"]) != 0


def test_from_nothing_to_an_archive(project, capsys):
    """detect finds the way, run walks it, info tells of it."""
    assert holdfast(["api", "run", "-p", str(project)]) == 0
    out = capsys.readouterr().out
    assert "95 records in 5 pages" in out
    assert "the announced total is reached" in out
    assert holdfast(["api", "info", "--json", "-p", str(project)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["project"]["name"] == "demo"
    assert told["statistics"]["storage"]["total_records"] == 95
    assert told["statistics"]["storage"]["total_files"] == 5
    assert told["run"]["records_processed"] == 95
    assert holdfast(["api", "info", "-p", str(project)]) == 0
    assert "total_records: 95" in capsys.readouterr().out


STYLES = {
    "page": "", "skip": "", "range": "?from=0&to=20", "cursor": "", "cursor-header": "",
    "link": "", "next-url": "", "since-id": "?since_id=0",
}  # fmt: skip


@pytest.mark.parametrize("form", ["yaml", "ini"])
@pytest.mark.parametrize("style", STYLES)
def test_what_detect_writes_is_enough(api, here, capsys, style, form):
    """The first steps of the guide, for every way of paging: create, detect, run, and all is
    there.
    """
    api.listings["/way"] = Listing([{"id": number} for number in range(1, 96)], style=style)
    url = f"{api.url}/way{STYLES[style]}"
    if form == "ini":
        (here / "demo").mkdir()
        (here / "demo" / "apibackuper.cfg").write_text(
            f"[settings]\nname = x\n[project]\nurl = {url}\nhttp_mode = GET\niterate_by = page\n"
            "[params]\npage_size_limit = 100 ; a guess\n[data]\n[storage]\nstorage_type = zip\n"
        )
    else:
        holdfast(["api", "create", "demo", "--url", url])
    assert holdfast(["api", "detect", "-p", "demo", "--write-config"]) == 0
    assert holdfast(["api", "validate-config", "-p", "demo"]) == 0
    assert holdfast(["api", "run", "-p", "demo"]) == 0
    capsys.readouterr()
    assert holdfast(["api", "export", "-", "-p", "demo"]) == 0
    ids = [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()]
    assert ids == list(range(1, 96))


def test_detect_leaves_what_a_person_has_settled(api, here):
    """A way of paging that is set up is not replaced by another that was found."""
    holdfast(["api", "create", "demo", "--url", f"{api.url}/items", "-k", "p", "-s", "7"])
    holdfast(["api", "create", "skips", "--url", f"{api.url}/items", "-b", "skip"])
    for name, kept in (("demo", ["page_size_limit: 7", "iterate_by: page"]),
                       ("skips", ["iterate_by: skip", "page_size_limit: 100"])):  # fmt: skip
        holdfast(["api", "detect", "-p", name, "--write-config"])
        text = (here / name / "apibackuper.yaml").read_text()
        assert all(line in text for line in kept)


def test_info_before_any_run(project, capsys):
    """A fresh project is described, not a traceback."""
    assert holdfast(["api", "info", "--json", "-p", str(project)]) == 0
    assert json.loads(capsys.readouterr().out)["statistics"]["storage"] == {"file_exists": False}


def test_detect_prints_keys_and_a_test_read(project, api, capsys):
    """The lines that people know, and the proof."""
    assert holdfast(["api", "detect", "-p", str(project)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "data_key: data" in lines
    assert "total_number_key: total" in lines
    assert lines[-1] == "test read: page 2 gives 20 records, 20 of them not on page 1"
    assert len(api.requests) == 2


def test_detect_at_an_address_without_a_project(api, here, capsys):
    """--url needs no project."""
    assert holdfast(["api", "detect", "--url", f"{api.url}/items", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["found"]["data"]["data_key"] == "data"
    assert holdfast(["api", "detect"]) == 1


def test_detect_writes_into_ini_and_leaves_the_rest(api, here, capsys):
    """Comments and order stay; only what is missing is written."""
    text = (
        f"; mine\n[settings]\nname = x\n[project]\nurl = {api.url}/items ; here\nhttp_mode = GET\n"
        "[params]\npage_size_limit = 20\n[data]\ndata_key = data\n[storage]\nstorage_type = zip\n"
    )
    (here / "apibackuper.cfg").write_text(text)
    assert holdfast(["api", "detect", "--write-config"]) == 0
    changed = (here / "apibackuper.cfg").read_text().splitlines()
    assert [line for line in changed if line in text.splitlines()] == text.splitlines()
    assert "total_number_key = total" in changed
    assert holdfast(["api", "run"]) == 0


def test_estimate_prints_the_documented_lines(project, api, capsys):
    """Seven lines in their wording, from a page that was asked for as a run does."""
    assert holdfast(["api", "estimate", "full", "-p", str(project)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["Total records: 95", "Records per request: 20", "Total requests: 5"]
    assert lines[3].startswith("Average record size ")
    assert lines[3].endswith(" bytes")
    assert lines[4].startswith("Estimated size (json lines) ")
    assert lines[4].endswith(" MB")
    assert lines[5].startswith("Avg request time, seconds ")
    assert lines[6].startswith("Estimated all requests time, seconds ")
    assert len(api.requests) == 1
    assert api.requests[0].query["page"] == "1"


def test_validate_config_names_all_and_fails(here, capsys):
    """Every mistake with its line, the closest key for an unknown one, exit 1."""
    (here / "apibackuper.yaml").write_text(
        "settings:\n  name: x\nproject:\n  url: nowhere\n  http_mode: FETCH\nparams:\n"
        "  page_size_limit: 0\ndata:\n  data_kye: d\nstorage:\n  storage_type: zip\n"
    )
    assert holdfast(["api", "validate-config"]) == 1
    out = capsys.readouterr().out
    for said in (
        "line 4: project.url",
        "line 5: project.http_mode",
        "line 7: params.page_size_limit",
        "line 9: data.data_kye is no key; did you mean data_key?",
        "4 mistakes",
    ):
        assert said in out
    assert holdfast(["api", "validate-config", "--json"]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["mistakes"] == 4
    assert holdfast(["api", "run"]) == 1
    assert "line 4" in capsys.readouterr().err


def test_notes_fail_only_when_strict(project, capsys):
    """What has no effect is told; --strict makes it a mistake."""
    with (project / "apibackuper.yaml").open("a") as file:
        file.write("  split_files: true\n")
    assert holdfast(["api", "validate-config", "-p", str(project)]) == 0
    assert "split_files has no effect" in capsys.readouterr().out
    assert holdfast(["api", "validate-config", "--strict", "-p", str(project)]) == 1


def test_run_speaks_json(project, capsys):
    """The last line is the summary."""
    assert holdfast(["api", "run", "full", "--json", "-p", str(project)]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["message_type"] == "summary"
    assert (summary["outcome"], summary["records"], summary["published"]) == ("succeeded", 95, True)


def test_dry_run_asks_nothing(project, api, capsys):
    """Only a plan."""
    assert holdfast(["api", "run", "--dry-run", "-p", str(project)]) == 0
    assert json.loads(capsys.readouterr().out)["url"].endswith("/items")
    assert api.requests == []
    assert not (project / "storage").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["run", "incremental"],
        ["run", "continue"],
        ["update"],
        ["run", "update"],
        ["run", "--resume"],
    ],
)
def test_every_mode_begins_somewhere(project, words):
    """On a project without an archive each mode collects all."""
    assert holdfast(["api", *words, "-p", str(project)]) == 0


def test_partial_is_three_and_failed_is_one(project, api, capsys):
    """Exit codes tell the outcome: cut short 3, refused 1, and errors go to standard error."""
    api.listings["/items"].short_pages = {2: 3}
    assert holdfast(["api", "run", "-p", str(project)]) == 3
    assert "received 92 records of 95 announced" in capsys.readouterr().err
    api.script("/items", server_error(403), forever=True)
    assert holdfast(["api", "run", "-p", str(project)]) == 1
    err = capsys.readouterr().err
    assert "HTTP 403" in err
    assert "[auth]" in err


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda _folder: None, "is not a project"),
        (lambda folder: (folder / "apibackuper.yaml").write_text("a: [1\n"), "not valid YAML"),
        (
            lambda folder: (folder / "apibackuper.cfg").write_text("broken\n"),
            "before any [section]",
        ),
        (lambda folder: (folder / "apibackuper.yaml").write_bytes(b"\xff\xfe\x00"), "not UTF-8"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "estimate", "info", "detect", "validate-config", "update"])
def test_what_is_no_project_is_a_sentence(here, capsys, prepare, said, verb):
    """Exit 1, the reason, no traceback."""
    prepare(here)
    assert holdfast(["api", verb]) == 1
    printed = capsys.readouterr()
    assert said in printed.err + printed.out
    assert "Traceback" not in printed.err


def test_a_login_page_is_explained(project, api, capsys):
    """The sentence names the remedy."""
    api.script("/items", login_page(), forever=True)
    assert holdfast(["api", "run", "-p", str(project)]) == 1
    assert "[auth]" in capsys.readouterr().err


def test_work_modes_are_kept(project, capsys):
    """A mode that the project does not allow is refused by name."""
    file = project / "apibackuper.yaml"
    file.write_text(file.read_text().replace("full,incremental,update", "full"))
    assert holdfast(["api", "update", "-p", str(project)]) == 1
    assert "work_modes allows full, not update" in capsys.readouterr().err


def test_the_log_file_holds_requests_and_no_secrets(project, api):
    """settings.logfile gets a line for each request."""
    file = project / "apibackuper.yaml"
    text = file.read_text().replace("  name: demo\n", "  name: demo\n  logfile: requests.log\n", 1)
    file.write_text(text + "auth:\n  type: apikey\n  api_key: s3cr3t-0001\n  api_key_param: key\n")
    assert holdfast(["api", "run", "-p", str(project)]) == 0
    log = (project / "requests.log").read_text()
    assert log.count(" 200 ") == 5
    assert "s3cr3t-0001" not in log


def test_starting_is_quick():
    """Naming the verb loads no HTTP library."""
    code = (
        "import sys; import holdfast.cli.api;"
        "sys.exit(any(name in sys.modules for name in ('aiohttp', 'ruamel.yaml', 'pyarrow')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["api_key", "token", "key", "access_token", "secret", "sig"])
def test_a_key_in_the_address_is_never_shown(project, capsys, name):
    """What the request log hides, info, the plan and the check of the file hide too."""
    file = project / "apibackuper.yaml"
    file.write_text(file.read_text().replace("/items", f"/items?{name}=s3cr3t-value&lang=en"))
    for words in (["info"], ["info", "--json"], ["run", "--dry-run"], ["validate-config", "-v"]):
        assert holdfast(["api", *words, "-p", str(project)]) == 0
        said = capsys.readouterr()
        assert "s3cr3t" not in said.out + said.err
        assert f"{name}=***&lang=en" in said.out


def test_create_needs_a_name(here, capsys):
    """An empty name would make the present folder a project."""
    assert holdfast(["api", "create", ""]) == 1
    assert "needs a name" in capsys.readouterr().err
    assert list(here.iterdir()) == []


def test_what_is_no_project_lists_every_name(here, capsys):
    """All names that a project file may have are told."""
    assert holdfast(["api", "info"]) == 1
    said = capsys.readouterr().err
    assert "holdfast.cfg" in said
    assert "apibackuper.yml" in said


def test_a_failing_command_is_quoted(project, capsys):
    """What a command for a secret says on standard error is part of the error."""
    file = project / "apibackuper.yaml"
    (project / "token.py").write_text("import sys; sys.exit('the vault is shut')")
    auth = f"auth:\n  type: bearer\n  token_command: {sys.executable} token.py\n"
    file.write_text(file.read_text() + auth)
    assert holdfast(["api", "run", "-p", str(project)]) == 1
    said = capsys.readouterr().err
    assert "the vault is shut" in said
    assert "without a shell" in said


def test_everything_that_is_named_is_looked_at(project, capsys):
    """Files, variables, programs and certificates that are not there are all told at once, with
    their lines and beside other mistakes, before any run.
    """
    file = project / "apibackuper.yaml"
    begun = len(file.read_text().splitlines())
    file.write_text(
        file.read_text()
        + "  password_file: no.password\nauth:\n  type: oauth2\n  refresh_token_file: no.token\n"
        "  client_secret_env: NO_SUCH_SECRET\n  token_command: no-such-program x\n"
        "request:\n  verify_ssl: no.pem\n  timeout: soon\n"
    )
    (project / "params.json").write_text("{")
    (project / "headers.json").write_text('{"X-Key": "${NO_SUCH_KEY}"}')
    (project / "follow_params.json").write_text("[]")
    assert holdfast(["api", "validate-config", "-p", str(project)]) == 1
    said = capsys.readouterr().out
    for line, told in (
        (1, "storage.password_file: "),
        (4, "auth.refresh_token_file: "),
        (5, "auth.client_secret_env: the environment has no variable NO_SUCH_SECRET"),
        (6, "auth.token_command: there is no program no-such-program"),
        (8, "request.verify_ssl: there is no bundle"),
        (9, "request.timeout must be a number"),
    ):
        assert f"line {begun + line}: {told}" in said
    assert said.count("cannot be read: No such file") == 2
    assert "params.json cannot be read as JSON" in said
    assert "follow_params.json must hold a JSON object" in said
    assert "headers.json: the environment has no variable NO_SUCH_KEY" in said


@pytest.mark.parametrize("verb", ["run", "update", "estimate", "follow", "getfiles"])
def test_what_is_named_and_not_there_is_told_before_the_first_request(project, api, capsys, verb):
    """All of it at once, and not one thing at each try."""
    file = project / "apibackuper.yaml"
    file.write_text(
        file.read_text() + "auth:\n  type: bearer\n  token_file: no.token\n"
        "request:\n  verify_ssl: no.pem\n"
    )
    (project / "params.json").write_text("{")
    (project / "headers.json").write_text("[]")
    api.requests.clear()
    assert holdfast(["api", verb, "-p", str(project)]) == 1
    said = capsys.readouterr().err
    for told in ("auth.token_file", "request.verify_ssl", "params.json", "headers.json"):
        assert told in said
    assert api.requests == []


def test_what_is_named_and_there_is_no_mistake(project, capsys, monkeypatch):
    """A secret in a file, in the environment, from a program beside the project."""
    file = project / "apibackuper.yaml"
    (project / "secret").write_text("abc")
    (project / "give").write_text("#!/bin/sh\necho x")
    (project / "give").chmod(0o700)
    monkeypatch.setenv("A_SECRET", "x")
    for way in ("token_file: secret", "token_env: A_SECRET", "token_command: ./give it"):
        lines = file.read_text().partition("auth:")[0]
        file.write_text(f"{lines}auth:\n  type: bearer\n  {way}\n")
        assert holdfast(["api", "validate-config", "-p", str(project)]) == 0, capsys.readouterr()


ADDRESSES = [
    "http://user:s3cretpw@127.0.0.1:9/x",
    "http://user:p@s3cretpw@127.0.0.1:9/x",
    "http://user:s3cretpw#x@127.0.0.1:9/x",
    "http://user:s3cretpw/x@127.0.0.1:9/x",
    "ftp://user:s3cretpw@h/x",
    "ftp://h/x?api_key=s3cretpw",
    "http://user:s3cretpw@",
    "http://user:s3cretpw@127.0.0.1:99999/x",
    "http://user:s3cretpw@127.0.0.1:port/x",
    "http://user:s3cretpw@[::1/x",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("key", ["project.url", "auth.auth_url", "request.proxies"])
def test_a_password_in_an_address_is_never_shown(here, capsys, monkeypatch, address, key):
    """However the address is broken, no verb repeats the password, and none fails without a
    sentence.
    """
    section, _, word = key.partition(".")
    content = {
        "settings": {"name": "x"},
        "project": {"url": "http://127.0.0.1:9/x", "http_mode": "GET"},
        "params": {"page_size_limit": 10, "page_number_param": "page"},
        "data": {},
        "storage": {"storage_type": "zip"},
        "request": {"retry": {"max_retries": 0}},
    }
    if section == "auth":
        content["auth"] = {"type": "oauth2", "refresh_token": "r"}
    content[section][word] = f"http={address}" if word == "proxies" else address
    (here / "apibackuper.yaml").write_text(json.dumps(content))
    for verb in ("validate-config", "info", "run", "estimate", "detect"):
        holdfast(["api", verb])
        said = "".join(capsys.readouterr())
        assert said.strip()
        assert "s3cretpw" not in said
        assert "a mistake in Holdfast" not in said


def test_a_password_that_breaks_its_address_is_explained(here, capsys):
    """The sentence tells how to write the sign that broke it."""
    holdfast(["api", "create", "demo", "--url", "http://user:pass/word@127.0.0.1:9/x"])
    capsys.readouterr()
    assert holdfast(["api", "validate-config", "-p", "demo"]) == 1
    assert "in a password, @ is written %40" in capsys.readouterr().out


def test_keys_without_effect_are_named_by_runs(project, capsys):
    """By name and with the reason, in run as in validate-config; what says nothing is not."""
    file = project / "apibackuper.yaml"
    file.write_text(
        file.read_text().replace(
            "settings:", "settings:\n  checkpoint_interval_pages: 5\n  id: shop-7"
        )
        + "  max_file_size: 10M\n  split_files: false\n"
    )
    assert holdfast(["api", "run", "-p", "demo"]) == 0
    said = capsys.readouterr().err
    assert "storage.max_file_size has no effect: archives of any size are one file" in said
    assert "settings.checkpoint_interval_pages has no effect: every page is kept" in said
    assert "split_files" not in said
    assert holdfast(["api", "info", "--json", "-p", "demo"]) == 0
    assert json.loads(capsys.readouterr().out)["project"]["id"] == "shop-7"


@pytest.mark.parametrize("verb", ["run", "update", "detect", "estimate"])
def test_a_long_wait_is_said(project, api, capsys, verb):
    """Whoever waits for an API that asks for a day is told, whatever they are doing."""
    if verb == "update":
        assert holdfast(["api", "run", "-p", "demo"]) == 0
    api.script("/items", too_many("86400"), forever=True)
    assert holdfast(["api", verb, "-p", "demo"]) == 1
    assert "it asks to wait 86400 s: not waited for" in capsys.readouterr().err


def test_a_server_collects_only_from_where_its_policy_leads(project, api):
    """An egress policy holds for whatever the archiver does over the network."""
    from holdfast.core.errors import FetchError
    from holdfast.net.egress import PUBLIC_ONLY
    from holdfast.sources.restapi.collecting.detect import detect_project
    from holdfast.sources.restapi.collecting.estimate import estimate_project
    from holdfast.sources.restapi.collecting.run import Orders, run_project
    from holdfast.sources.restapi.project.project import load_project

    loaded = load_project(project)
    for act in (
        lambda: run_project(loaded, "full", Orders(egress=PUBLIC_ONLY)),
        lambda: detect_project(loaded, egress=PUBLIC_ONLY),
        lambda: estimate_project(loaded, egress=PUBLIC_ONLY),
    ):
        with pytest.raises(FetchError, match="where requests may not go"):
            act()
    assert api.requests == []


@pytest.mark.parametrize("verb", ["detect", "estimate"])
def test_a_look_that_fails_says_that_nothing_changed(project, api, capsys, verb):
    """Nothing was meant to be kept, so nothing is said to be."""
    api.script("/items", server_error(404), forever=True)
    assert holdfast(["api", verb, "-p", "demo"]) == 1
    said = capsys.readouterr().err
    assert "Nothing was stored or changed" in said
    assert "is kept" not in said


def test_old_scripts_may_say_profile(project, api, capsys):
    """apibackuper's other name of --dry-run is taken and not shown."""
    assert holdfast(["api", "run", "--profile", "-p", "demo"]) == 0
    assert json.loads(capsys.readouterr().out)["mode"] == "full"
    assert api.requests == []
    holdfast(["api", "run", "--help"])
    assert "profile" not in capsys.readouterr().out
