"""What each verb does for a person, on a real repository."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest


@pytest.fixture
def kept(holdfast, repository, source):
    """A repository with one snapshot of the source."""
    assert holdfast("backup", source, "--tag", "a,b").code == 0
    return repository


def test_the_whole_way(holdfast, tmp_path, source):
    """I1: init, backup, check, restore: every byte comes back, odd names too."""
    assert holdfast("init").code == 0
    assert holdfast("backup", source).code == 0
    assert holdfast("check", "--read-data").code == 0
    target = tmp_path / "out"
    assert holdfast("restore", f"latest:{source}", "--target", target, "--verify").code == 0
    assert names_below(target) == names_below(source)
    assert (target / "folder" / "b.txt").read_text() == "second"


def names_below(top):
    return sorted(os.fsencode(path.relative_to(top)) for path in top.rglob("*"))


def test_global_options_go_anywhere(holdfast, kept, monkeypatch):
    """Before the verb and behind it; behind it wins."""
    monkeypatch.delenv("HOLDFAST_REPOSITORY")
    assert holdfast("-r", kept, "snapshots").code == 0
    assert holdfast("snapshots", "-r", kept).code == 0
    assert holdfast("-r", "/nowhere", "snapshots", "-r", kept).code == 0
    assert holdfast("--json", "snapshots", "-r", kept).json[0]


def test_a_second_backup_takes_the_parent(holdfast, kept, source):
    """Nothing is read again; --force reads all and stores nothing twice."""
    again = holdfast("backup", source, "--json").last
    assert (again["files_new"], again["files_changed"], again["data_blobs"]) == (0, 0, 0)
    forced = holdfast("backup", source, "--force", "--json").last
    assert forced["files_new"] == 3
    assert forced["data_blobs"] == 0


def test_dry_run_changes_nothing(holdfast, kept, source):
    """A backup, a restore, a forget and a prune only tell."""
    (source / "new").write_text("new")
    before = sorted(kept.rglob("*"))
    target = source.parent / "out"
    assert holdfast("backup", source, "-n", "--json").last["files_new"] == 1
    assert holdfast("restore", "latest", "-t", target, "--dry-run").code == 0
    assert holdfast("forget", "latest", "-n", "--prune").code == 0
    assert holdfast("prune", "-n").code == 0
    assert sorted(path for path in kept.rglob("*") if "locks" not in path.parts) == [
        path for path in before if "locks" not in path.parts
    ]
    assert not target.exists()


def test_excludes(holdfast, repository, source, tmp_path):
    """Patterns from options and files, with and without case, and by size."""
    patterns = tmp_path / "patterns"
    patterns.write_text("# a comment\nb.*\n")
    assert holdfast(
        "backup", source, "--iexclude", "A.TXT", "--exclude-file", patterns,
        "--exclude-larger-than", "1M",
    ).code == 0  # fmt: skip
    listed = holdfast("ls", "-q", f"latest:{source}").out
    assert "a.txt" not in listed
    assert "b.txt" not in listed
    assert "/folder/link" in listed


def test_an_emptied_source_is_a_failure(holdfast, kept, source):
    """A folder that held data and is empty makes no snapshot, unless it is meant."""
    for path in sorted(source.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    assert holdfast("backup", source).code == 1
    assert holdfast("backup", source, "--allow-empty").code == 0


def test_files_from(holdfast, repository, source, tmp_path):
    """Patterns, lines and NUL-ended names are read each by its own rule."""
    patterns, verbatim, raw = tmp_path / "patterns", tmp_path / "verbatim", tmp_path / "raw"
    patterns.write_text(f"# one\n{source}/*.txt\n")
    verbatim.write_text(f"{source}/folder/b.txt\n")
    raw.write_bytes(os.fsencode(source) + b"/odd\xff\n\0")
    ended = holdfast(
        "backup", "--files-from", patterns, "--files-from-verbatim", verbatim,
        "--files-from-raw", raw, "--json",
    )  # fmt: skip
    assert ended.last["total_files_processed"] == 3
    patterns.write_text(f"{source}/*.none\n")
    assert holdfast("backup", "--files-from", patterns).code == 1
    raw.write_bytes(b"unended")
    assert holdfast("backup", "--files-from-raw", raw).code == 1


def test_a_stream(holdfast, repository):
    """What a command prints is kept; if it fails, there is no snapshot."""
    words = ("--stdin-filename", "out.txt", "--stdin-from-command", "--")
    assert holdfast("backup", *words, "echo", "hello").code == 0
    assert holdfast("dump", "latest", "/out.txt").out == "hello\n"
    assert holdfast("backup", *words, "sh", "-c", "echo half; exit 7").code == 1
    assert len(holdfast("snapshots", "--json").last) == 1


def test_dump_of_a_folder(holdfast, kept, source, tmp_path):
    """A tar or zip of the folder, into a file or through a pipe."""
    file = tmp_path / "out.tar"
    assert holdfast("dump", "latest", source, "--target", file).code == 0
    with tarfile.open(fileobj=io.BytesIO(file.read_bytes())) as archive:
        assert any(name.endswith("a.txt") for name in archive.getnames())
    assert holdfast("dump", "latest", source, "-a", "zip", "-t", file).code == 0
    assert file.read_bytes().startswith(b"PK")
    assert holdfast("dump", "latest", source, "-a", "rar").code == 1


def test_cat(holdfast, kept):
    """Every kind of object can be seen as it is inside."""
    assert '"version": 2' in holdfast("cat", "config").out
    assert '"encrypt"' in holdfast("cat", "masterkey").out
    assert '"hostname"' in holdfast("cat", "snapshot", "latest").out
    assert '"nodes"' in holdfast("cat", "tree", "latest").out
    for kind, listed in (("key", "keys"), ("index", "index")):
        name = holdfast("list", listed).out.split()[0]
        assert holdfast("cat", kind, name[:10]).code == 0
    kind, blob = holdfast("list", "blobs").out.splitlines()[0].split()
    assert kind in {"data", "tree"}
    assert holdfast("cat", "blob", blob).code == 0
    assert holdfast("cat", "blob", "00" * 32).code == 1
    assert holdfast("cat", "nonsense").code == 1
    assert holdfast("list", "nonsense").code == 1


def test_unlock_has_nothing_to_do(holdfast, kept, process):
    """I5: a lock of a killed program is removed by the next command."""
    running = process("backup", "--stdin-from-command", "--", "sleep", "60")

    def locks():
        return list((kept / "locks").glob("[0-9a-f]*"))

    while not locks():
        assert running.poll() is None
    running.kill()
    running.communicate()
    assert locks()
    assert holdfast("prune").code == 0
    assert not locks()
    assert "nothing needs unlocking" in holdfast("unlock").out


def test_snapshots_names_and_filters(holdfast, kept):
    """Names may be cut short, `latest` is one, and a filter that fits none gives an empty list."""
    (first,) = holdfast("snapshots", "--json").last
    for name in (first["id"], first["short_id"], "latest"):
        assert holdfast("snapshots", name, "--json").last == [first]
    assert holdfast("snapshots", "--host", "nobody", "--json").last == []
    assert holdfast("snapshots", "ffff").code == 1
    text = holdfast("snapshots").out
    assert first["short_id"] in text
    assert "1 snapshots" in text


def test_forget_by_name_and_rule(holdfast, kept, source):
    """The named one goes; without any rule nothing does."""
    assert holdfast("backup", source).code == 0
    assert holdfast("forget").code == 0
    assert len(holdfast("snapshots", "--json").last) == 2
    assert holdfast("forget", "latest").code == 0
    assert len(holdfast("snapshots", "--json").last) == 1
    assert holdfast("forget", "--unsafe-allow-remove-all").code == 1
    assert holdfast("forget", "--unsafe-allow-remove-all", "--tag", "a").code == 0
    assert holdfast("snapshots", "--json").last == []


def test_quiet_says_nothing(holdfast, kept, source, tmp_path):
    """With -q a command that succeeds prints only what was asked for."""
    for words in (
        ["backup", source],
        ["restore", "latest", "-t", tmp_path / "o"],
        ["check"],
        ["prune"],
    ):
        ended = holdfast(*words, "-q")
        assert (ended.out, ended.err) == ("", ""), words


def test_restore_says_what_is_missing(holdfast, kept, tmp_path):
    """Without a target, and for a path that is not there, nothing is written."""
    assert holdfast("restore", "latest").code == 1
    assert holdfast("restore", "latest:/nowhere", "-t", tmp_path / "out").code == 1
    assert holdfast("restore", "latest", "-t", tmp_path, "--overwrite", "maybe").code == 1


def test_completion_and_doctor_need_no_repository(holdfast, monkeypatch):
    """They help where nothing is set up yet."""
    monkeypatch.delenv("HOLDFAST_REPOSITORY")
    assert holdfast("doctor").code == 0
    assert holdfast("completion", "bash").code == 0


def test_doctor_ends_with_1_where_something_is_bad(holdfast, repository, monkeypatch):
    """A wrong password is a finding with a remedy."""
    monkeypatch.setenv("HOLDFAST_PASSWORD", "wrong")
    ended = holdfast("doctor")
    assert ended.code == 1
    assert "BAD   repository: wrong password" in ended.out


def test_a_missing_library_gives_one_sentence(holdfast, monkeypatch):
    """A verb whose library is not installed names the extra; the others work."""
    from holdfast.cli import app

    def missing(name):
        raise ModuleNotFoundError(name=Path("aiohttp").name)

    app.load.cache_clear()
    monkeypatch.setattr(app, "import_module", missing)
    ended = holdfast("api", "run", "--anything")
    app.load.cache_clear()
    assert ended.code == 1
    assert "needs the library aiohttp" in ended.err
    assert "holdfast[api]" in ended.err


def test_a_broken_pipe_is_no_error(process, kept):
    """`holdfast ls | head` ends quietly, as other programs do."""
    running = process("list", "packs")
    running.stdout.close()
    _, err = running.communicate(timeout=30)
    assert err == ""


@pytest.mark.skipif(not os.access("/dev/fuse", os.W_OK), reason="needs FUSE")
def test_mount(kept, process, tmp_path):
    """Snapshots can be looked at as folders; SIGTERM unmounts and ends it well."""
    pytest.importorskip("mfusepy", reason="needs the extra `mount`", exc_type=ImportError)
    place = tmp_path / "mounted"
    place.mkdir()
    running = process("mount", place)
    assert "now serving" in running.stdout.readline()
    (snapshot,) = (place / "ids").iterdir()
    assert [path.read_text() for path in snapshot.rglob("a.txt")] == ["first"]
    running.terminate()
    running.communicate(timeout=30)
    assert running.returncode == 0
    assert not os.path.ismount(place)


def test_mount_without_its_library(holdfast, kept, tmp_path, monkeypatch):
    """It is told in one sentence which extra is missing."""
    import sys

    monkeypatch.setitem(sys.modules, "mfusepy", None)
    ended = holdfast("mount", tmp_path)
    assert ended.code == 1
    assert "holdfast[mount]" in ended.err


# --- what is said ------------------------------------------------------------------------------


@pytest.fixture
def read_only(kept, tmp_path, monkeypatch):
    """The repository where nothing can be written."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", str(folder)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    place = folder / "repository"
    subprocess.run(["cp", "-a", str(kept), str(place)], check=True)
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    monkeypatch.setenv("HOLDFAST_REPOSITORY", str(place))
    yield place
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_who_may_only_read(holdfast, read_only, tmp_path):
    """Reading works, and `doctor` blames nothing that is not to blame."""
    for words in (["check"], ["restore", "latest", "--target", tmp_path / "out"], ["ls", "latest"]):
        ended = holdfast(*words)
        assert ended.code == 0, ended.err
        assert "reading without a lock" in ended.err
    ended = holdfast("doctor", "--json")
    findings = {each["what"]: each for each in ended.json if each["message_type"] == "finding"}
    assert ended.code == 0
    assert findings["place"]["verdict"] == "mind"
    assert findings["clock"]["verdict"] == findings["locks"]["verdict"] == "good"
    assert "no lock can be written" in findings["clock"]["detail"]
    refused = holdfast("backup", tmp_path / "out")
    assert refused.code == 1
    assert "[store-denied]" in refused.err


def test_ls_of_what_is_not_there(holdfast, kept, source):
    """I8: an error, after what is there."""
    ended = holdfast("ls", "-q", "latest", "/nowhere")
    assert (ended.code, ended.out) == (1, "")
    assert "does not hold /nowhere [no-path]" in ended.err
    ended = holdfast("ls", "-q", "latest", source / "folder", "/nowhere")
    assert ended.code == 1
    assert str(source / "folder" / "b.txt") in ended.out.splitlines()
    assert holdfast("ls", "latest", "/").code == 0


@pytest.mark.parametrize(
    ("mode", "said"), [("never", "skipped"), ("if-newer", "skipped"), ("always", "unchanged")]
)
def test_what_is_not_looked_at_is_not_called_unchanged(holdfast, kept, source, mode, said):
    """I8: a file that --overwrite keeps may hold anything."""
    words = ("restore", "latest", "--target", "/", "--overwrite", mode, "-vv")
    text = holdfast(*words, "--include", source / "a.txt").out
    assert f"{said:10} {source / 'a.txt'}\n" in text
    if said == "skipped":
        (source / "a.txt").write_text("something else")
        assert said in holdfast(*words, "--include", source / "a.txt").out
        assert (source / "a.txt").read_text() == "something else"


def test_partial_snapshots_are_called_so(holdfast, kept, source):
    """I8: in tables, where there are any, and in JSON."""
    assert "State" not in holdfast("snapshots").out
    assert holdfast("backup", source, source / "gone").code == 3
    lines = holdfast("snapshots").out.splitlines()
    assert "State" in lines[0]
    assert [" partial " in line for line in lines if str(source) in line] == [False, True]
    assert [each["summary"].get("error_count", 0) for each in holdfast("snapshots", "--json").last]
    kept_lines = holdfast("forget", "--keep-last", "9", "--group-by", "host").out.splitlines()
    assert sum(" partial " in line for line in kept_lines) == 1
    assert holdfast("tag", "--add", "x", "latest").code == 0
    assert "partial" in holdfast("snapshots", "--compact").out


def test_cat_of_a_damaged_snapshot(holdfast, kept, source):
    """I4: it says so; another is printed all the same."""
    (damaged,) = (kept / "snapshots").iterdir()
    assert holdfast("backup", source).code == 0
    damaged.chmod(0o600)
    damaged.write_bytes(b"x" * 70)
    ended = holdfast("cat", "snapshot", damaged.name[:8])
    assert (ended.code, ended.out) == (1, "")
    assert f"snapshot {damaged.name[:8]} is damaged" in ended.err
    assert "[damaged]" in ended.err
    ended = holdfast("cat", "snapshot", "latest")
    assert ended.code == 0
    assert damaged.name[:8] in ended.err


@pytest.mark.parametrize("below", ["", "/sub"])
def test_init_below_a_file(holdfast, tmp_path, below):
    """What is wrong is the path."""
    (tmp_path / "file").write_text("x")
    ended = holdfast("init", "-r", f"{tmp_path}/file{below}")
    assert ended.code == 1
    assert "a part of this path is a file" in ended.err
    assert "Nothing was changed." in ended.err


def test_init_beside_others(holdfast, tmp_path):
    """It is done, and said."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "file").write_text("x")
    ended = holdfast("init", "-r", place)
    assert ended.code == 0
    assert "the folder was not empty: 1 entry beside the repository" in ended.err
    assert "not empty" not in holdfast("init", "-r", tmp_path / "other").err


def test_one_is_not_many(holdfast, kept, source):
    """Numbers and nouns agree."""
    assert "checked 1 snapshot, 5 trees, 2 packs" in re.sub(
        r"\d+ trees", "5 trees", holdfast("check").out
    )
    assert "forgot 1 snapshot\n" in holdfast("forget", "latest").out
    text = holdfast("prune").out
    assert "removed 2 packs" in text
    assert " 1 blobs" not in text
    assert holdfast("backup", source / "a.txt").code == 0
    assert "restored 1 file (" in holdfast("restore", "latest", "-t", source.parent / "out").out


def test_the_rest_server_helps():
    """`--help` is no folder."""
    ended = subprocess.run(
        [sys.executable, "-m", "holdfast.testing.rest_server", "--help"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ended.returncode == 0
    assert "folder" in ended.stdout
