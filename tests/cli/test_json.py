"""What --json prints is what the reference says: every line, every field, every kind."""

from __future__ import annotations

import shutil

import pytest

from holdfast.cli.messages import MESSAGES

KINDS = {
    "text": str,
    "integer": int,
    "number": (int, float),
    "flag": bool,
    "list": list,
    "object": dict,
}


def table(verb, kind=""):
    return next(each for each in MESSAGES if (each.verb, each.type) == (verb, kind))


def hold_to(message, found):
    """Asserts that an object has the fields of the table, of their kinds, and no others."""
    known = {field.name: field for field in message.fields}
    assert set(found) - {"message_type"} <= set(known), message
    if message.type:
        assert found["message_type"] == message.type
    for field in message.fields:
        value = found.get(field.name)
        assert value is not None or field.optional, (message.verb, field.name)
        if value is not None:
            assert isinstance(value, KINDS[field.kind]), (message.verb, field.name, value)
            assert field.kind == "flag" or not isinstance(value, bool)


@pytest.fixture
def kept(holdfast, repository, source):
    """A repository with two snapshots."""
    assert holdfast("backup", source, "--tag", "one").code == 0
    (source / "a.txt").write_text("changed")
    (source / "new").write_text("new")
    assert holdfast("backup", source).code == 0
    return [each["id"] for each in holdfast("snapshots", "--json").last]


def test_backup(holdfast, repository, source, tmp_path):
    """Each file is told with -vv, each problem, and the summary at the end."""
    ended = holdfast("backup", source, tmp_path / "nowhere", "--json", "-vv")
    *lines, summary = ended.json
    hold_to(table("backup", "summary"), summary)
    assert summary["files_new"] == 3
    assert summary["outcome"] == "partial"
    each = [line for line in lines if line["message_type"] == "verbose_status"]
    for line in each:
        hold_to(table("backup", "verbose_status"), line)
    assert any(line["item"].endswith("a.txt") for line in each)
    (problem,) = [line for line in lines if line["message_type"] == "error"]
    hold_to(table("backup", "error"), problem)
    hold_to(table("every", "exit_error"), ended.error)


def test_backup_status(process, repository):
    """A backup that takes longer tells how far it is at least every two seconds."""
    running = process(
        "backup", "--json", "--stdin-from-command", "--", "sh", "-c", "echo 1; sleep 2.6"
    )
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    import json

    lines = [json.loads(line) for line in out.splitlines()]
    status = [line for line in lines if line["message_type"] == "status"]
    assert len(status) >= 2
    for line in status:
        hold_to(table("backup", "status"), line)


def test_snapshots(holdfast, kept):
    """A list of documents, or of groups of them."""
    (found,) = holdfast("snapshots", "--json").json
    assert len(found) == 2
    for each in found:
        hold_to(table("snapshots"), each)
    (groups,) = holdfast("snapshots", "--json", "--group-by", "host").json
    assert [len(group["snapshots"]) for group in groups] == [2]
    assert set(groups[0]["group_key"]) == {"hostname", "paths", "tags"}


def test_ls(holdfast, kept):
    """The snapshot first, then each entry; the exact bytes of an odd name are there."""
    first, *nodes = holdfast("ls", "latest", "--json").json
    hold_to(table("ls", "snapshot"), first)
    for node in nodes:
        hold_to(table("ls", "node"), node)
    (odd,) = [node for node in nodes if "path_raw" in node]
    assert odd["name"] == "odd�\n"


def test_find(holdfast, kept, repository):
    """Matches of names by snapshot; of objects one by one."""
    (found,) = holdfast("find", "*.txt", "--json").json
    assert [each["hits"] for each in found] == [2, 2]
    for each in found:
        hold_to(table("find"), each)
    pack = next(path.name for path in (repository / "data").rglob("*") if path.is_file())
    (found,) = holdfast("find", "--pack", pack, "--show-pack-id", "--json").json
    assert found
    for each in found:
        hold_to(table("find --blob, --tree, --pack"), each)


def test_diff(holdfast, kept):
    """Each change, then the counts."""
    *changes, statistics = holdfast("diff", *kept, "--json").json
    for change in changes:
        hold_to(table("diff", "change"), change)
    assert {change["modifier"] for change in changes} == {"+", "M"}
    hold_to(table("diff", "statistics"), statistics)
    assert statistics["changed_files"] == 1


def test_restore(holdfast, kept, tmp_path):
    """Each name with -vv, then the summary."""
    *lines, summary = holdfast("restore", "latest", "-t", tmp_path / "out", "--json", "-vv").json
    hold_to(table("restore", "summary"), summary)
    assert summary["files_restored"] == 5
    for line in lines:
        if line["message_type"] == "verbose_status":
            hold_to(table("restore", "verbose_status"), line)


def test_check(holdfast, kept, repository):
    """The summary; and with damage each finding with the files it hits."""
    ended = holdfast("check", "--read-data", "--json")
    hold_to(table("check", "summary"), ended.last)
    assert ended.last["num_errors"] == 0
    largest = max(
        (p for p in (repository / "data").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    largest.unlink()
    ended = holdfast("check", "--json")
    assert ended.code == 1
    for line in ended.json:
        hold_to(table("check", line["message_type"]), line)
    assert ended.last["num_errors"] > 0
    assert ended.last["affected_snapshots"]


def test_forget_and_prune(holdfast, kept):
    """The groups with every decision and its reason, then what pruning came to."""
    groups, pruned = holdfast("forget", "--keep-last", "1", "--prune", "--json").json
    (group,) = groups
    hold_to(table("forget"), group)
    assert [each["id"] for each in group["remove"]] == kept[:1]
    assert group["reasons"][0]["matches"] == ["last snapshot"]
    hold_to(table("prune", "prune_summary"), pruned)
    (again,) = holdfast("prune", "--json").json
    hold_to(table("prune", "prune_summary"), again)


def test_copy(holdfast, kept, repository, tmp_path):
    """Each snapshot, then the counts."""
    password = tmp_path / "password"
    password.write_text("correct horse")
    other = tmp_path / "other"
    (made,) = holdfast("init", "-r", other, "--json").json
    hold_to(table("init", "initialized"), made)
    source = ("--from-repo", repository, "--from-password-file", password)
    *copied, summary = holdfast("copy", "-r", other, *source, "--json").json
    assert len(copied) == 2
    for each in copied:
        hold_to(table("copy", "copied"), each)
    hold_to(table("copy", "summary"), summary)


def test_tag(holdfast, kept):
    """Each snapshot that changed, then how many."""
    *changed, summary = holdfast("tag", "--add", "two", "--json").json
    assert len(changed) == 2
    for each in changed:
        hold_to(table("tag", "changed"), each)
    hold_to(table("tag", "summary"), summary)


@pytest.mark.parametrize(
    "mode", ["restore-size", "files-by-contents", "blobs-per-file", "raw-data"]
)
def test_stats(holdfast, kept, mode):
    """One object in each mode."""
    (found,) = holdfast("stats", "--mode", mode, "--json").json
    hold_to(table("stats"), found)


def test_keys(holdfast, kept, tmp_path):
    """List, add, remove."""
    new = tmp_path / "new"
    new.write_text("new")
    (added,) = holdfast("key", "add", "--new-password-file", new, "--json").json
    hold_to(table("key add", "added"), added)
    (keys,) = holdfast("key", "list", "--json").json
    for key in keys:
        hold_to(table("key list"), key)
    (removed,) = holdfast("key", "remove", added["id"], "--json").json
    hold_to(table("key remove", "removed"), removed)
    (changed,) = holdfast("key", "passwd", "--new-password-file", new, "--json").json
    hold_to(table("key passwd", "changed"), changed)


def test_repair(holdfast, kept, repository):
    """Each kind of repair sums up what it did."""
    shutil.rmtree(repository / "index")
    (repository / "index").mkdir()
    (summary,) = holdfast("repair", "index", "--json").json
    hold_to(table("repair index", "summary"), summary)
    assert summary["packs_added"]
    (summary,) = holdfast("repair", "packs", "--json").json
    hold_to(table("repair packs", "summary"), summary)
    (summary,) = holdfast("repair", "snapshots", "--json").json
    hold_to(table("repair snapshots", "summary"), summary)
    assert holdfast("check", "--read-data").code == 0


def test_repair_of_lost_content(holdfast, kept, repository):
    """A snapshot that lost a file is made whole without it, and says so."""
    for name in holdfast("list", "packs").out.split():
        path = repository / "data" / name[:2] / name
        content = path.read_bytes()
        path.unlink()
        if holdfast("check").code == 1 and holdfast("ls", "latest").code == 0:
            break
        path.write_bytes(content)
    assert holdfast("repair", "index").code == 0
    *repaired, summary = holdfast("repair", "snapshots", "--forget", "--json").json
    assert summary["snapshots_repaired"] == len(repaired) > 0
    for each in repaired:
        hold_to(table("repair snapshots", "repaired"), each)
    assert holdfast("check", "--read-data").code == 0


def test_unlock(holdfast, kept):
    """What was removed and what is left."""
    (found,) = holdfast("unlock", "--json").json
    hold_to(table("unlock", "summary"), found)
    assert (found["removed"], found["left"]) == (0, 0)


def test_doctor(holdfast, kept):
    """Each finding, then how many of each verdict."""
    *findings, summary = holdfast("doctor", "--json").json
    for finding in findings:
        hold_to(table("doctor", "finding"), finding)
    hold_to(table("doctor", "summary"), summary)
    assert summary["bad"] == 0


def test_store_probe(holdfast, kept):
    """Each finding, then how many of each verdict."""
    *findings, summary = holdfast("store", "probe", "--json").json
    for finding in findings:
        hold_to(table("store probe", "finding"), finding)
    hold_to(table("store probe", "summary"), summary)
    assert summary["bad"] == 0


def test_version(holdfast):
    """Both ways to ask give the same."""
    (found,) = holdfast("version", "--json").json
    hold_to(table("version", "version"), found)
    assert holdfast("self", "version", "--json").json == [found]
