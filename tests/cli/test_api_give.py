"""`holdfast api` export, diff, verify, follow and getfiles on the command line."""

from __future__ import annotations

import contextlib
import json
import zipfile

import pytest
import typer

from holdfast.cli import api_give, main
from holdfast.core.errors import DamagedError, HoldfastError, PartialError, UsageError
from holdfast.testing.api_projects import store_run, write_project
from holdfast.testing.api_server import ApiServer, ServedFile, too_many


@pytest.fixture
def api():
    with ApiServer() as server:
        server.details["/items/"] = lambda key: {"key": key} if key != "3" else None
        for number in range(3):
            server.files[f"/files/{number}"] = ServedFile(100)
        yield server


@pytest.fixture
def project(tmp_path, api):
    project = write_project(
        tmp_path / "shop",
        f"{api.url}/list",
        follow={
            "follow_mode": "prefix", "follow_pattern": f"{api.url}/items/",
            "follow_item_key": "id",
        },
        files={"fetch_mode": "prefix", "root_url": f"{api.url}/files/", "keys": "id"},
    )  # fmt: skip
    store_run(project, [[{"id": n, "name": f"n{n}"} for n in range(4)]], announced=4, repeated=0)
    return project


@pytest.fixture
def run(project, capsys):
    app = typer.Typer()
    api_give.register(app)
    command = typer.main.get_command(app)

    def invoke(*arguments):
        words = [*arguments, "-p", str(project.folder)]
        try:
            command.main(words, standalone_mode=False)
        finally:
            invoke.said = capsys.readouterr()
        return invoke.said.out

    return invoke


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_export_says_what_it_wrote(run, tmp_path):
    """The summary names records, file and form; --json says the same for programs."""
    target = tmp_path / "out.csv"
    assert run("export", str(target)).startswith(f"4 records written to {target} (csv, ")
    assert target.read_text().splitlines()[1] == "0,n0"
    summary = lines(run("export", str(target), "--json", "--format", "jsonl"))[-1]
    assert (summary["records"], summary["format"]) == (4, "jsonl")


def test_export_to_standard_output_is_nothing_but_records(run):
    """`-` gives records only, selected and cut as asked."""
    said = run("export", "-", "--where", "id > 1", "--where", "name != n3", "--fields", "name")
    assert said == '{"name":"n2"}\n'


def test_export_refuses_unknown_forms(run):
    """A form that is none lists those that there are."""
    with pytest.raises(UsageError, match="no format 'xlsx'") as caught:
        run("export", "-", "--format", "xlsx")
    assert "parquet" in caught.value.advice


def test_diff_shows_one_line_a_change(run, project):
    """Added, changed and removed records, then the counts."""
    store_run(project, [[{"id": 0, "name": "n0"}, {"id": 1, "name": "x"}, {"id": 9}]])
    said = run("diff").splitlines()
    assert said[:2] == ["+ 9", "~ 1  name"]
    assert sorted(said[2:4]) == ["- 2", "- 3"]
    assert said[4].startswith("1 added, 1 changed, 2 removed between ")
    *changes, summary = lines(run("diff", "--json"))
    assert changes[0] == {"message_type": "change", "kind": "added", "key": 9, "fields": []}
    assert (summary["added"], summary["removed"]) == (1, 2)


def test_verify_says_what_is_sound(run):
    """Counts of what was read, and one sentence."""
    out = run("verify").splitlines()
    assert out[0].startswith("1 stored responses and files read (")
    assert out[0].endswith("), 4 records")
    assert out[1:] == ["everything is as it was received"]


def replace_page(project, body, *, keep=()):
    """Another program's archive: this page, and those of `keep` as they were."""
    with zipfile.ZipFile(project.place.pages) as old:
        kept = {name: old.read(name) for name in keep}
    with zipfile.ZipFile(project.place.pages, "w") as archive:
        archive.writestr("page_1.json", body)
        for name, content in kept.items():
            archive.writestr(name, content)


def test_verify_names_what_is_damaged(run, project):
    """Archive, member and what is wrong with it, then what to do; the command fails."""
    store_run(project, [[{"id": 1}], [{"id": 2}]], keep_runs=0)
    replace_page(project, '{"data": [{"id": 9}]}', keep=["page_2.json"])
    with pytest.raises(DamagedError, match="1 things are not as they were received") as caught:
        run("verify")
    assert caught.value.exit_code == 1
    assert "What is not named above is intact" in caught.value.advice
    assert "holdfast api run full" in caught.value.advice
    assert "storage.zip page_1.json: its SHA-256 is" in run.said.out
    assert "everything is" not in run.said.out


def test_verify_knows_another_program(run, project):
    """An archive that was replaced whole is one finding, and its form is checked."""
    replace_page(project, '{"data": []}')
    with pytest.raises(DamagedError):
        run("verify")
    assert "storage.zip: nothing in it is what was received: another program" in run.said.out
    assert "1 of them were stored without a digest: only their form was checked" in run.said.out


def test_verify_tells_fewer_than_announced_from_damage(run, project):
    """What is stored is sound, so the exit code is that of partial."""
    store_run(project, [[{"id": 1}]], announced=3)
    with pytest.raises(PartialError, match="fewer records are stored than the API announced") as c:
        run("verify")
    assert "What is stored is intact" in c.value.advice
    assert "holds 1 records, but the API announced 3" in run.said.out


def test_verify_notes_earlier_runs_that_are_damaged(run, project):
    """Damage in a run that a newer one has replaced is a note, and no failure."""
    store_run(project, [[{"id": 1}]], keep_runs=1)
    (earlier,) = project.place.previous.glob("*.zip")
    earlier.write_bytes(b"garbage")
    said = run("verify")
    assert f"note: earlier run {earlier.name}: " in said
    assert "the newest state is as it was received; earlier runs are not" in said
    notes = [line for line in lines(run("verify", "--json")) if line["message_type"] == "note"]
    assert [note["place"] for note in notes] == [earlier.name]


def test_verify_names_a_damaged_ledger(run, project):
    """The ledger is a finding of its own, with what will become of it."""
    project.place.ledger.write_bytes(b"garbage" * 1000)
    with pytest.raises(DamagedError):
        run("verify")
    assert "ledger.db: it is damaged; the archives were checked without its digests" in run.said.out
    assert "The next run makes it anew" in run.said.out


def test_follow_is_partial_when_one_is_missing(run, project):
    """One 404 is a line; the outcome is partial with its own exit code; then it goes on."""
    with pytest.raises(PartialError) as caught:
        run("follow", "full")
    assert caught.value.exit_code == 3
    assert "details: 3 fetched, 0 were there, 1 failed" in run.said.out
    assert "3.json: " in run.said.err
    assert "details_skipped.list" in caught.value.advice
    with pytest.raises(PartialError):
        run("follow", "continue", "--json")
    summary = next(row for row in lines(run.said.out) if row["message_type"] == "summary")
    assert (summary["present"], summary["misses"]) == (3, 1)


def test_follow_can_tell_its_plan(run, api):
    """A dry run makes no request."""
    assert lines(run("follow", "full", "--dry-run"))[0]["rules"][0]["records"] == 4
    assert api.requests == []


def test_getfiles_says_what_it_got(run):
    """Files fetched, there already, and failed."""
    with pytest.raises(PartialError, match="1 could not be fetched"):
        run("getfiles")
    assert "3 files fetched (300 B), 0 were there, 1 failed" in run.said.out


def test_a_project_in_a_repository_makes_a_snapshot(run, project, tmp_path, monkeypatch, capsys):
    """After getfiles the archive is a snapshot that `ls` can browse."""
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "cache"))
    place = tmp_path / "repo"
    monkeypatch.setenv("HOLDFAST_REPOSITORY", str(place))
    monkeypatch.setenv("HOLDFAST_PASSWORD", "secret")
    assert main.run(["init"]) == 0
    path = project.folder / "apibackuper.yaml"
    content = json.loads(path.read_text())
    content["storage"] = {"storage_type": "repository", "repository": str(place)}
    path.write_text(json.dumps(content))
    with pytest.raises(PartialError):
        run("getfiles", "--quiet")
    assert main.run(["ls", "latest", "--tag", "api:shop"]) == 0
    assert "/shop/files/files/0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("verb", "word", "wrong"),
    [("follow", "follow_item_key", "idd"), ("getfiles", "keys", "ids")],
)
def test_a_key_that_no_record_has_is_named(run, project, verb, word, wrong):
    """A misspelt key is no success with nothing fetched: it is said beside those that there are."""
    file = project.folder / "apibackuper.yaml"
    file.write_text(file.read_text().replace(f'"{word}": "id"', f'"{word}": "{wrong}"'))
    with pytest.raises(PartialError, match=f"none of the 4 records has '{wrong}'") as caught:
        run(verb)
    assert "they have id, name" in caught.value.message
    assert caught.value.exit_code == 3


def test_a_missing_snapshot_is_told_from_a_missing_archive(run, project):
    """Where the repository cannot be had, the error says that the archive is updated."""
    file = project.folder / "apibackuper.yaml"
    place = f'"storage_type": "repository", "repository": "{project.folder}/none"'
    file.write_text(file.read_text().replace('"storage_type": "zip"', place))
    with pytest.raises(HoldfastError) as caught:
        run("getfiles")
    assert caught.value.advice.startswith("The archive is updated; only its snapshot is missing.")
    assert "Nothing was" not in caught.value.advice


@pytest.mark.parametrize("verb", ["follow", "getfiles"])
def test_a_long_wait_is_said(run, api, verb):
    """Whoever waits for an API that asks for a day is told, and what it asks is not waited for."""
    api.fallbacks["/items/"] = api.fallbacks["/files/"] = lambda _request: too_many("86400")
    api.details.clear()
    api.files.clear()
    with pytest.raises(HoldfastError):
        run(verb)
    assert "it asks to wait 86400 s: not waited for" in run.said.err


@pytest.mark.parametrize("verb", ["follow", "getfiles"])
def test_the_log_file_holds_requests(run, project, verb):
    """settings.logfile is for details and files, too."""
    file = project.folder / "apibackuper.yaml"
    file.write_text(file.read_text().replace('"name"', '"logfile": "api.log", "name"'))
    with contextlib.suppress(PartialError):
        run(verb)
    assert "/1 200" in (project.folder / "api.log").read_text()
