"""`holdfast restbackup`: what it prints, how it ends, and what it never shows."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time

import pytest

from holdfast.cli.messages import MESSAGES
from holdfast.client.chlorocrypt import EncryptingReader
from holdfast.client.streams import StringReader
from holdfast.testing.restbackup_server import PASSWORD, Fault, RestBackupServer

PASSPHRASE = "correct Pässphrase"
SIZE = 100_001
"""Bytes that no encrypted stream has."""
KINDS = {"text": str, "integer": int, "flag": bool, "list": list}


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """No file of the person who runs the tests has a say, and no terminal."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture
def server(tmp_path, home):
    """An account whose access url and passphrase lie where they usually do."""
    folder = tmp_path / "account"
    folder.mkdir()
    with RestBackupServer(folder) as server:
        (home / ".restbackup-backup-api-access-url").write_text(f"{server.access_url}\n")
        (home / ".restbackup-file-encryption-passphrase").write_text(f"{PASSPHRASE}\n")
        yield server


@pytest.fixture
def restbackup(holdfast):
    return lambda *words: holdfast("restbackup", *words)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(os.urandom(SIZE))
    return path


def hold_to(verb, kind, found):
    """Asserts that an object is as the reference has it."""
    message = next(
        each for each in MESSAGES if (each.verb, each.type) == (f"restbackup {verb}", kind)
    )
    known = {field.name: field for field in message.fields}
    assert set(found) - {"message_type"} <= set(known)
    for field in message.fields:
        assert isinstance(found[field.name], KINDS[field.kind])


def test_files_go_there_and_back(restbackup, server, file, tmp_path):
    """Under their own name or another one; encrypted or not."""
    assert restbackup("put", file).out == "stored /data.bin (97.657 KiB)\n"
    assert restbackup("put", "-e", file, "ключ/é").code == 0
    assert restbackup("encrypt-and-put", file, "third").code == 0
    assert server.path_of("/data.bin").read_bytes() == file.read_bytes()
    for name in ("/ключ/é", "/third"):
        assert file.read_bytes()[:32] not in server.path_of(name).read_bytes()
    for number, words in enumerate(
        [("get", "data.bin"), ("get", "-d", "ключ/é"), ("get-and-decrypt", "/third")]
    ):
        ended = restbackup(*words, f"back{number}")
        assert (ended.code, ended.out) == (0, f"wrote back{number} (97.657 KiB)\n"), ended.err
        assert (tmp_path / f"back{number}").read_bytes() == file.read_bytes()


def test_get_keeps_the_name(restbackup, server, file, tmp_path):
    """The last part of it, in this folder or the one that is named."""
    restbackup("put", file, "a/b.bin")
    assert restbackup("get", "a/b.bin").code == 0
    (tmp_path / "folder").mkdir()
    assert restbackup("get", "a/b.bin", "folder").code == 0
    for path in ("b.bin", "folder/b.bin"):
        assert (tmp_path / path).read_bytes() == file.read_bytes()


def test_list_is_the_original_s(restbackup, server, file):
    """Local time, bytes, name; with --json what the service says."""
    restbackup("put", file)
    created = time.localtime(server.listing()[0]["createtime"])
    expected = time.strftime("%Y-%m-%d %H:%M:%S", created) + f" {SIZE} /data.bin\n"
    assert restbackup("list").out == expected
    ((found,),) = restbackup("list", "--json").json
    hold_to("list, tar --list", "", found)
    created = time.gmtime(server.listing()[0]["createtime"])
    expected = time.strftime("%Y-%m-%dT%H:%M:%SZ", created) + f"\t{SIZE}\t/data.bin\n"
    assert restbackup("tar", "--list").out == expected
    assert restbackup("tar", "--list", "--json").json == [[found]]


def test_json_is_as_the_reference_says(restbackup, server, file, tmp_path):
    """Every message, every field."""
    (found,) = restbackup("put", "--json", file).json[-1:]
    hold_to("put", "uploaded", found)
    hold_to("get", "downloaded", restbackup("get", "--json", "data.bin", "back").last)
    hold_to("encrypt", "encrypted", restbackup("encrypt", "--json", file, "sealed").last)
    hold_to("decrypt", "decrypted", restbackup("decrypt", "--json", "sealed", "open").last)
    hold_to("session", "session", restbackup("session", "--json").last)
    words = restbackup("make-random-passphrase", "--json").last
    hold_to("make-random-passphrase", "passphrase", words)
    made = restbackup("tar", "--json", "--full", file.name).last
    hold_to("tar", "archived", made)
    assert made["level"] == 0
    hold_to("tar", "restored", restbackup("tar", "--json", "--restore", made["archive"]).last)


def test_progress_is_shown(process, server, tmp_path, home):
    """As JSON lines once a second while an upload takes longer."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(5_000_000)
    server.faults = lambda method, _: time.sleep(2.5) if method == "PUT" else None
    running = process("restbackup", "put", "--json", large)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    status = [
        line for line in map(json.loads, out.splitlines()) if line["message_type"] == "status"
    ]
    assert status
    assert status[-1]["total_bytes"] == 5_000_000


# --- streams --------------------------------------------------------------------------------------


def shell(command, **environment):
    """A pipeline with our program in it; how it ended."""
    program = f"{sys.executable} -m holdfast restbackup"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("RB", program)],
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
    )


def test_streams_are_standard_streams(server, file):
    """`-` is standard input and output in every place."""
    command = f"cat {file} | RB put - one -q && RB get one - | RB encrypt - - | RB decrypt - -"
    ended = shell(command)
    assert (ended.returncode, ended.stdout) == (0, file.read_bytes()), ended.stderr
    ended = shell(f"RB encrypt-and-put - two -q < {file} && RB get -d two -")
    assert (ended.returncode, ended.stdout) == (0, file.read_bytes()), ended.stderr
    assert file.read_bytes()[:32] not in server.path_of("/two").read_bytes()


def test_standard_input_needs_a_name(restbackup, server):
    """There is none to take from it."""
    ended = restbackup("put", "-")
    assert (ended.code, "needs a name" in ended.err) == (1, True)
    assert not server.asked


def test_damaged_streams_give_verified_blocks_only(tmp_path, home):
    """I4: to standard output goes what was verified; the exit code says that it is not all."""
    (home / ".restbackup-file-encryption-passphrase").write_text(PASSPHRASE)
    data = os.urandom(300_000)
    sealed = bytearray(EncryptingReader(StringReader(data), PASSPHRASE).read())
    sealed[150_000] ^= 1
    (tmp_path / "sealed").write_bytes(sealed)
    ended = shell("RB decrypt sealed -")
    assert ended.returncode == 1
    assert b"[damaged]" in ended.stderr
    assert data.startswith(ended.stdout)
    assert 100_000 < len(ended.stdout) < 150_000


# --- whole or not at all --------------------------------------------------------------------------


def test_decrypt_leaves_nothing_unverified(restbackup, server, tmp_path):
    """I4: neither under the name nor beside it, wherever the damage is."""
    whole = EncryptingReader(StringReader(os.urandom(200_000)), PASSPHRASE).read()
    for at in (0, 20, 70_000, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        (tmp_path / "in").write_bytes(damaged)
        assert restbackup("decrypt", "in", "out").code in {1, 12}
        (tmp_path / "in").write_bytes(whole[:at])
        assert restbackup("decrypt", "in", "out").code == 1
        assert sorted(os.listdir(tmp_path)) == ["account", "home", "in"]


def test_a_promised_size_is_held(restbackup, server, tmp_path):
    """I4: a cut that the format cannot notice."""
    data = bytearray(os.urandom(100_000))
    data[65503] = 1  # the cut plaintext ends in what looks like padding
    whole = EncryptingReader(StringReader(bytes(data)), PASSPHRASE).read()
    (tmp_path / "in").write_bytes(whole[: 16 + 65568])
    ended = restbackup("decrypt", "in", "out", "--size", len(whole))
    assert (ended.code, "[damaged]" in ended.err) == (1, True)
    assert not (tmp_path / "out").exists()


def test_local_files_are_not_replaced_unasked(restbackup, server, file, tmp_path):
    """-f replaces, and only by something whole."""
    restbackup("put", file)
    (tmp_path / "mine").write_text("mine")
    for words in (("get", "data.bin"), ("encrypt", file), ("decrypt", file)):
        ended = restbackup(*words, "mine")
        assert ended.code == 1
        assert (tmp_path / "mine").read_text() == "mine"
    assert "there is a mine already" in restbackup("get", "data.bin", "mine").err
    assert restbackup("decrypt", file, "mine", "-f").code == 1
    assert (tmp_path / "mine").read_text() == "mine"
    assert restbackup("get", "data.bin", "mine", "-f").code == 0
    assert (tmp_path / "mine").read_bytes() == file.read_bytes()


# --- how it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [
        (["get", "missing"], 1, "no-service-file"),
        (["put", "missing"], 1, "source-missing"),
        (["put", "/"], 1, "source-failed"),
        (["put", "data.bin", "taken"], 1, "service-file-exists"),
        (["put", "data.bin", "a//b"], 1, "usage"),
        (["get", "-d", "taken"], 1, "damaged"),
        (["get-and-decrypt", "sealed"], 12, "wrong-password"),
        (["decrypt", "data.bin", "out"], 1, "damaged"),
        (["encrypt", "missing", "out"], 1, "source-missing"),
        (["encrypt", "data.bin", "no/such/folder"], 1, "restore-failed"),
        (["put", "data.bin", "-p", "secret"], 1, "usage"),
        (["put", "data.bin", "-e", "-p", "missing"], 1, "usage"),
        (["encrypt", "-", "out", "-p", "-"], 1, "usage"),
        (["list", "-b", "missing"], 1, "usage"),
        (["list", "-u", "https://a:b@host"], 1, "usage"),
        (["list", "-u", "http://a:b@192.0.2.1/"], 1, "usage"),
        (["tar"], 1, "usage"),
        (["tar", "--full"], 1, "usage"),
        (["tar", "--list", "x"], 1, "usage"),
        (["tar", "--full", "--list"], 1, "usage"),
        (["tar", "--incremental", "data.bin"], 1, "usage"),
        (["tar", "--restore", "nothing"], 1, "no-service-file"),
        (["tar", "--full", "missing"], 1, "source-failed"),
        (["tar", "--full", "data.bin", "-p", "secret"], 1, "usage"),
    ],
)
def test_errors_have_codes(restbackup, server, file, case):
    """What happened, what is safe and what to do; in JSON the same."""
    words, code, error = case
    server.path_of("/taken").write_bytes(b"content")
    sealed = EncryptingReader(StringReader(b"content"), "another passphrase").read()
    server.path_of("/sealed").write_bytes(sealed)
    ended = restbackup(*words)
    assert ended.code == code, ended.err
    happened, remedy = ended.err.splitlines()[-2:]
    assert happened.endswith(f"[{error}]")
    assert remedy.endswith(".")
    assert "Traceback" not in ended.err
    assert PASSPHRASE not in ended.err + ended.out
    found = restbackup(*words, "--json").error
    assert (found["code"], found["error"]) == (code, error)


def test_refused_credentials_show_no_password(restbackup, server, home):
    """Neither the right nor the wrong one."""
    wrong = server.access_url.replace(PASSWORD, "verywrong")
    (home / ".restbackup-backup-api-access-url").write_text(wrong)
    ended = restbackup("list")
    assert (ended.code, "[service-denied]" in ended.err) == (1, True)
    assert "verywrong" not in ended.err + ended.out


def test_a_password_in_an_argument_is_remarked(restbackup, server):
    """It works, as the original's option, and says what is safer."""
    ended = restbackup("list", "-u", server.access_url)
    assert ended.code == 0
    assert "-b FILE" in ended.err
    assert PASSWORD not in ended.err
    assert restbackup("list", "-q", "-u", server.access_url).err == ""


def test_a_lost_acknowledgement_is_said(restbackup, server, file):
    """The upload counts, because the listing has it."""
    faults = iter([Fault(forget=True)])
    server.faults = lambda method, _: next(faults, None) if method == "PUT" else None
    ended = restbackup("put", file)
    assert ended.code == 0
    assert "acknowledgement was lost" in ended.err


# --- where secrets come from ----------------------------------------------------------------------


def test_secrets_come_from_files_and_variables(restbackup, server, home, tmp_path, monkeypatch):
    """Named files first, then variables, then the usual files."""
    for name in (".restbackup-backup-api-access-url", ".restbackup-file-encryption-passphrase"):
        (home / name).unlink()
    (tmp_path / "url").write_text(server.access_url)
    (tmp_path / "phrase").write_text("from a file")
    ended = restbackup("list")
    assert (ended.code, "there is no access url" in ended.err) == (1, True)
    assert restbackup("list", "-b", "url").code == 0
    monkeypatch.setenv("HOLDFAST_RESTBACKUP_URL", server.access_url)
    assert restbackup("list").code == 0
    (tmp_path / "plain").write_text("content")
    ended = restbackup("put", "-e", "plain")
    assert (ended.code, "there is no passphrase" in ended.err) == (1, True)
    assert restbackup("put", "-e", "plain", "one", "-p", "phrase").code == 0
    monkeypatch.setenv("HOLDFAST_RESTBACKUP_PASSPHRASE", "from a file")
    assert restbackup("get", "-d", "one", "back").code == 0
    monkeypatch.setenv("HOLDFAST_RESTBACKUP_PASSPHRASE", "another")
    assert restbackup("get", "-d", "one", "back", "-f").code == 12
    assert restbackup("get", "-d", "one", "back", "-f", "-p", "phrase").code == 0
    monkeypatch.setenv("HOLDFAST_RESTBACKUP_PASSPHRASE_FILE", "phrase")
    monkeypatch.setenv("HOLDFAST_RESTBACKUP_URL_FILE", "url")
    monkeypatch.setenv("HOLDFAST_RESTBACKUP_URL", "https://other:other@nowhere.invalid/")
    assert restbackup("get", "-d", "one", "back", "-f").code == 0


def test_a_passphrase_can_be_piped(file):
    """`-p -` reads one line; never an argument."""
    ended = shell("printf 'p\\303\\244ss\\n' | RB encrypt data.bin sealed -p - -q")
    assert ended.returncode == 0, ended.stderr
    ended = shell("printf 'p\\303\\244ss' | RB decrypt sealed - -p -")
    assert ended.stdout == file.read_bytes()


def test_passphrases_are_made(restbackup):
    """Three words, ready for the file."""
    ended = restbackup("make-random-passphrase")
    assert len(ended.out.split()) == 3
    assert ended.out != restbackup("make-random-passphrase").out


# --- tar ------------------------------------------------------------------------------------------


def test_tar_is_a_drop_in(restbackup, server, tmp_path, home):
    """The original's example, with its options: full, incremental, list, restore."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "file1").write_text("initial data\n")
    words = ("tar", "-n", "data", "-s", "data.snapshot", "-e")
    assert restbackup(*words, "--full", "data/").code == 0
    (data / "file2").write_text("new data\n")
    assert restbackup(*words, "--incremental", "data/").code == 0
    with (data / "file1").open("a") as file1:
        file1.write("a modification\n")
    (data / "file2").unlink()
    (data / "file3").write_text("more new data\n")
    assert restbackup(*words, "--incremental", "data/").code == 0
    name = (tmp_path / "data.snapshot.backupname").read_text()
    assert (tmp_path / "data.snapshot.lastbackuplevel").read_text() == "2"
    assert server.names() == [f"/{name}-{each}.tar.gz" for each in ("full", "inc1", "inc2")]
    ended = restbackup("tar", "-e", "--restore", name)
    assert ended.code == 0, ended.err
    assert "data/file3" in ended.out
    assert sorted(os.listdir(tmp_path / name / "data")) == ["file1", "file3"]
    assert (tmp_path / name / "data" / "file1").read_text() == "initial data\na modification\n"
    ended = restbackup("tar", "-e", "--restore", f"{name}-inc1", "-t", "one", "data/file2")
    assert ended.code == 0
    assert os.listdir(tmp_path / "one" / "data") == ["file2"]


def test_sets_lie_in_thehome_folder(restbackup, server, file, home):
    """`~/.restbackup-tar/NAME.snapshot` and its companions, without -s; the set is `backup`."""
    assert restbackup("tar", "--full", file.name).code == 0
    folder = home / ".restbackup-tar"
    assert {path.name for path in folder.iterdir()} >= {
        "backup.snapshot", "backup.snapshot.backupname", "backup.snapshot.lastbackuplevel",
    }  # fmt: skip
    assert server.names()[0].startswith("/backup-")


def test_missing_members_make_it_partial(restbackup, server, file):
    """What is there comes back; exit code 3."""
    archive = restbackup("tar", "--json", "--full", file.name).last["archive"]
    ended = restbackup("tar", "--restore", archive, file.name, "nothing")
    assert ended.code == 3
    assert "not in the backup: nothing" in ended.err


def test_example_is_shown(restbackup):
    """Without an account, and every line of it is a command that there is."""
    ended = restbackup("tar", "--example")
    assert ended.code == 0
    assert "--incremental data/" in ended.out
