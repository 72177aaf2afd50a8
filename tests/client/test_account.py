"""The short way: files and streams in and out, with progress, whole or not at all."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from holdfast.client import BackupAccount
from holdfast.client.chlorocrypt import DataDamagedException, DecryptingReader, encrypted_length
from holdfast.client.errors import RestBackup404NotFoundException, RestBackupException
from holdfast.client.secrets import random_passphrase, read_secret
from holdfast.client.streams import FileReader, PipeReader, StringReader
from holdfast.core.errors import RestoreError, UsageError
from holdfast.testing.restbackup_server import Fault


@pytest.fixture(params=[None, "pässwörd"], ids=["plain", "encrypted"])
def passphrase(request):
    return request.param


def test_files_go_in_and_come_back(account, server, tmp_path, passphrase):
    """Byte for byte, with progress on both ways."""
    data = os.urandom(500_000)
    (tmp_path / "données.tar").write_bytes(data)
    steps = []
    stored = account.upload_file(
        tmp_path / "données.tar", passphrase=passphrase, on_progress=lambda *s: steps.append(s)
    )
    assert stored == (len(data) if passphrase is None else encrypted_length(len(data)))
    assert steps[-1] == (stored, stored)
    assert len(steps) > 2
    steps.clear()
    got = account.download_file(
        "données.tar",
        tmp_path / "back",
        passphrase=passphrase,
        on_progress=lambda *s: steps.append(s),
    )
    assert got == len(data)
    assert steps[-1] == (stored, stored)
    assert (tmp_path / "back").read_bytes() == data
    assert (server.path_of("/données.tar").read_bytes() == data) == (passphrase is None)


def test_lists_tell_times(account):
    """In UTC, with the end of the retention period."""
    account.upload(b"content", "a")
    (file,) = account.list()
    assert (file.name, file.size) == ("/a", 7)
    assert abs(file.created - datetime.now(UTC)) < timedelta(minutes=1)
    assert file.expires - file.created == timedelta(days=30)


@pytest.mark.parametrize("kind", ["bytes", "file", "middle of a file", "pipe", "stream"])
def test_every_source_is_taken(account, tmp_path, passphrase, kind):
    """From where it stands; a pipe, whose length nobody knows, too."""
    data = os.urandom(200_000)
    path = tmp_path / "source"
    path.write_bytes(b"head" + data if kind == "middle of a file" else data)
    read, write = os.pipe()
    with path.open("rb") as file, open(read, "rb") as pipe:
        if kind == "middle of a file":
            file.seek(4)
        if kind == "pipe":
            feeder = subprocess.Popen(["cat", path], stdout=write)
        os.close(write)
        sources = {"bytes": data, "pipe": pipe, "stream": StringReader(data)}
        account.upload(sources.get(kind, file), "name", passphrase=passphrase)
    if kind == "pipe":
        feeder.wait()
    target = io.BytesIO()
    assert account.download("name", target, passphrase=passphrase) == len(data)
    assert target.getvalue() == data


@pytest.mark.parametrize("path", ["/proc/self/status", "/proc/version"])
def test_what_lies_about_its_length_is_read(account, server, path):
    """The kernel's files say that they are empty; an empty backup of them would be a lie, too."""
    account.upload_file(path, "name")
    assert server.path_of("/name").stat().st_size > 10


def test_named_pipes_are_read_to_their_end(account, server, tmp_path):
    """As a shell's <(command) is one."""
    os.mkfifo(tmp_path / "fifo")
    feeder = subprocess.Popen(["sh", "-c", f"echo content > {tmp_path}/fifo"])
    account.upload_file(tmp_path / "fifo", "name")
    assert feeder.wait() == 0
    assert server.path_of("/name").read_bytes() == b"content\n"
    with pytest.raises(io.UnsupportedOperation, match="PipeReader"):
        FileReader("/dev/zero")


def test_middles_of_files_are_sent_again(account, server, tmp_path):
    """From the same place after a break."""
    data = os.urandom(3_000_000)
    (tmp_path / "source").write_bytes(b"head" + data)
    faults = iter([Fault(cut=1_000_000)])
    server.faults = lambda *_: next(faults, None)
    steps = []
    with (tmp_path / "source").open("rb") as file:
        file.seek(4)
        account.upload(file, "name", on_progress=lambda done, _: steps.append(done))
    assert server.path_of("/name").read_bytes() == data
    assert 0 in steps[1:]


def test_plaintext_of_pipes_is_not_spooled(account, tmp_path, monkeypatch):
    """What is stored encrypted lies on the local disk encrypted, too."""
    spools = []
    real = tempfile.TemporaryFile

    def remembered():
        spools.append(real())
        return spools[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", remembered)
    monkeypatch.setattr(account.api, "store", lambda *_, **__: spools.append(spools[0].read()))
    read, write = os.pipe()
    os.write(write, b"very secret text" * 100)
    os.close(write)
    with open(read, "rb") as pipe:
        account.upload(pipe, "name", passphrase="pass")
    assert b"secret" not in spools[1]
    assert DecryptingReader(StringReader(spools[1]), "pass").read() == b"very secret text" * 100
    assert spools[0].closed


def test_pipes_that_are_too_long_end(account, server, monkeypatch):
    """Before all of it was written to the temporary folder."""
    monkeypatch.setattr("holdfast.client.account.MAX_FILE_SIZE", 1 << 20)
    with (
        open("/dev/zero", "rb", buffering=0) as zero,
        pytest.raises(RestBackupException, match="more than 1048576 bytes"),
    ):
        account.upload(PipeReader(zero), "name")
    assert not server.asked


def test_no_file_for_what_is_not_there(account, tmp_path):
    """Neither whole nor empty nor temporary."""
    with pytest.raises(RestBackup404NotFoundException):
        account.download_file("missing", tmp_path / "target")
    assert left(tmp_path) == []


def left(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "account")


@pytest.mark.parametrize("at", [20, 70_000, -40, -1])
def test_no_file_of_damaged_content(account, server, tmp_path, at):
    """I4: wherever the damage is, nothing appears under the name."""
    account.upload(os.urandom(200_000), "a", passphrase="pass")
    stored = bytearray(server.path_of("/a").read_bytes())
    stored[at] ^= 1
    server.path_of("/a").write_bytes(stored)
    with pytest.raises(DataDamagedException):
        account.download_file("a", tmp_path / "target", passphrase="pass")
    assert left(tmp_path) == []


def test_no_file_of_shortened_content(account, server, tmp_path):
    """I4: a service that lost the end of a file."""
    account.upload(os.urandom(200_000), "a", passphrase="pass")
    stored = server.path_of("/a").read_bytes()
    for length in (len(stored) - 1, 16 + 65568, 100, 0):
        server.path_of("/a").write_bytes(stored[:length])
        with pytest.raises(DataDamagedException):
            account.download_file("a", tmp_path / "target", passphrase="pass")
        assert left(tmp_path) == []


def test_files_that_are_there_stay(account, tmp_path):
    """Unless they may be replaced, and then only by something whole."""
    target = tmp_path / "target"
    target.write_text("mine")
    account.upload(b"content", "a")
    with pytest.raises(UsageError, match="there is a"):
        account.download_file("a", target)
    with pytest.raises(DataDamagedException):
        account.download_file("a", target, passphrase="pass", replace=True)
    assert target.read_text() == "mine"
    account.download_file("a", target, replace=True)
    assert target.read_text() == "content"
    assert left(tmp_path) == ["target"]


def test_devices_are_written_to(account):
    """As they are: a check without a file."""
    account.upload(b"content", "a", passphrase="pass")
    assert account.download_file("a", "/dev/null", passphrase="pass") == 7
    assert Path("/dev/null").is_char_device()


def test_places_that_cannot_be_written_are_told(account, tmp_path):
    """With what the system says."""
    account.upload(b"content", "a")
    with pytest.raises(RestoreError, match="No such file or directory"):
        account.download_file("a", tmp_path / "no" / "folder")


def test_access_url_comes_from_its_file(server, tmp_path, monkeypatch):
    """Without the white space around it; ~ is the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".restbackup-backup-api-access-url").write_text(f" {server.access_url}\r\n\n")
    with BackupAccount.from_file() as account:
        assert account.list() == []
    with pytest.raises(UsageError, match="cannot be read"):
        BackupAccount.from_file("~/nowhere")


@pytest.mark.parametrize(("content", "mistake"), [(b" \n", "empty"), (b"p\xe4ss", "UTF-8")])
def test_bad_secret_files_are_told(tmp_path, content, mistake):
    """An empty passphrase protects nothing; what is not UTF-8 would be ambiguous."""
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(UsageError, match=mistake):
        read_secret(str(tmp_path / "secret"))


def test_passphrases_can_be_spoken():
    """Three words of a capital letter, others and a digit; never the same."""
    made = {random_passphrase() for _ in range(200)}
    assert len(made) == 200
    for words in made:
        assert len(words.split()) == 3
        for word in words.split():
            assert word[0].isupper()
            assert word[-1].isdigit()
            assert 8 <= len(word) - 1 <= 16
            assert word[:-1].isalpha()


MEMORY = """
import resource, sys
from holdfast.client import BackupAccount

def used():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

account = BackupAccount(sys.argv[1])
account.upload(b"warm", "warm", passphrase="pass")
account.download_file("warm", "/dev/null", passphrase="pass")
before = used()
account.upload_file(sys.argv[2], "large", passphrase="pass")
account.download_file("large", "/dev/null", passphrase="pass")
print(used() - before)
"""


def test_memory_is_flat(server, tmp_path):
    """200 MB encrypted there and back take no more than some pieces."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(200 << 20)
    ended = subprocess.run(
        [sys.executable, "-c", MEMORY, server.access_url, large],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(ended.stdout) < 16 << 10  # KiB
