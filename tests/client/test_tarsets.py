"""Full and incremental archives: what is stored comes back, and a set is never half changed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from holdfast.client import tarsets
from holdfast.client.chlorocrypt import DataDamagedException, WrongPassphraseException
from holdfast.client.errors import (
    RestBackup401NotAuthorizedException,
    RestBackup404NotFoundException,
    RestBackup405MethodNotAllowed,
)
from holdfast.client.gnutar import _gnu_tar
from holdfast.client.tarsets import TarSet, restore
from holdfast.client.tarstate import SetState, snapshot_of
from holdfast.core.errors import LockedError, PathNotFoundError, SourceError, UsageError
from holdfast.testing.restbackup_server import Fault

pytestmark = pytest.mark.skipif(
    b"GNU tar" not in subprocess.run(["tar", "--version"], capture_output=True, check=False).stdout,
    reason="there is no GNU tar",
)


class Bench:
    """A folder, its set of backups, and a place to restore to."""

    def __init__(self, account, server, tmp_path, clock):
        self.account = account
        self.server = server
        self.clock = clock
        self.data = tmp_path / "data"
        self.data.mkdir()
        self.out = tmp_path / "out"
        self.state = SetState(tmp_path / "data.snapshot")
        self.passphrase = None

    def back_up(self, *, full=False, **options):
        self.clock.advance(61)
        made = TarSet(
            self.account, self.state, name="set", passphrase=self.passphrase, clock=self.clock
        )
        return made.back_up(["data"], full=full, folder=str(self.data.parent), **options)

    def restore(self, archive=None, **options):
        return restore(
            self.account,
            archive or self.state.last()[0],
            target=self.out,
            passphrase=self.passphrase,
            **options,
        )

    def write(self, name, text):
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        time.sleep(0.02)  # tar compares times

    def remembered(self):
        folder = self.state.snapshot.parent
        names = [path for path in folder.iterdir() if path.name.startswith("data.snapshot")]
        return {path.name: path.read_bytes() for path in names if path.suffix != ".lock"}


@pytest.fixture
def bench(account, server, tmp_path, clock):
    _gnu_tar.cache_clear()
    yield Bench(account, server, tmp_path, clock)
    _gnu_tar.cache_clear()


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(params=[None, "pässwörd"], ids=["plain", "encrypted"])
def chain(bench, request):
    """A full backup and two on it, with the state of the folder at each."""
    bench.passphrase = request.param
    states = []
    bench.write("file1", "initial")
    bench.write("sub/ключ é", "letters")
    assert bench.back_up(full=True).level == 0
    states.append(tree(bench.data))
    bench.write("file2", "new")
    assert bench.back_up().level == 1
    states.append(tree(bench.data))
    bench.write("file1", "changed")
    (bench.data / "file2").unlink()
    bench.write("file3", "newer")
    assert bench.back_up().level == 2
    states.append(tree(bench.data))
    return states


def test_names_are_the_original_s(bench, chain):
    """NAME-YYYYMMDDThhmmssZ-full.tar.gz, -inc1, -inc2; and so are the three files."""
    time_of_full = "20231114T221421Z"
    assert bench.state.last() == (f"set-{time_of_full}", 2)
    assert sorted(bench.server.names()) == [
        f"/set-{time_of_full}-{each}.tar.gz" for each in ("full", "inc1", "inc2")
    ]
    remembered = bench.remembered()
    assert set(remembered) == {
        "data.snapshot", "data.snapshot.backupname", "data.snapshot.lastbackuplevel",
    }  # fmt: skip
    assert remembered["data.snapshot.backupname"] == f"set-{time_of_full}".encode()
    assert remembered["data.snapshot.lastbackuplevel"] == b"2"


def test_every_state_comes_back(bench, chain, tmp_path):
    """By the name of its archive, with or without slash and ending; deletions, too."""
    name = bench.state.last()[0]
    for level, archive in enumerate([f"{name}-full", f"/{name}-inc1", f"/{name}-inc2.tar.gz"]):
        bench.out = tmp_path / f"out{level}"
        done = bench.restore(archive)
        assert tree(bench.out / "data") == chain[level]
        assert len(done.archives) == level + 1


def test_the_latest_state_comes_back(bench, chain):
    """Where no level is named."""
    bench.restore()
    assert tree(bench.out / "data") == chain[-1]


def test_single_files_come_back(bench, chain):
    """From whichever archives have them; those that none has are told."""
    done = bench.restore(files=["data/file1", "data/sub/ключ é", "data/no such file"])
    assert tree(bench.out / "data") == {"file1": "changed", "sub/ключ é": "letters"}
    assert done.missing == ("data/no such file",)


def test_files_that_are_nowhere_are_an_error(bench, chain, tmp_path):
    """And no folder is left."""
    with pytest.raises(PathNotFoundError):
        bench.restore(files=["nothing"])
    assert not list(tmp_path.glob("out*"))


def test_encrypted_sets_need_their_passphrase(bench):
    """Nothing is unpacked without it."""
    bench.passphrase = "right"
    bench.write("file", "content")
    bench.back_up(full=True)
    bench.passphrase = "wrong"
    with pytest.raises(WrongPassphraseException):
        bench.restore()
    (stored,) = bench.server.names()
    assert not bench.server.path_of(stored).read_bytes().startswith(b"\x1f\x8b")
    assert not bench.out.exists()


def test_a_folder_that_has_something_in_it_is_not_touched(bench, chain):
    """Unless that is said: tar deletes what the backup's folders do not have."""
    bench.out.mkdir()
    (bench.out / "mine").write_text("mine")
    with pytest.raises(UsageError, match="there already"):
        bench.restore()
    assert tree(bench.out) == {"mine": "mine"}
    bench.restore(force=True)
    assert tree(bench.out / "data") == chain[-1]
    assert (bench.out / "mine").exists()


def test_damage_leaves_no_whole_folder(bench):
    """I4: the target appears when all archives were read to their verified ends."""
    bench.passphrase = "pass"
    bench.write("file1", "initial")
    bench.back_up(full=True)
    bench.write("file2", "second")
    bench.back_up()
    archive = bench.server.path_of(f"/{bench.state.last()[0]}-inc1.tar.gz")
    content = bytearray(archive.read_bytes())
    content[-1] ^= 1
    archive.write_bytes(content)
    with pytest.raises(DataDamagedException) as caught:
        bench.restore()
    (partial,) = bench.out.parent.glob("out.partial-*")
    assert str(partial) in caught.value.advice
    assert not bench.out.exists()


def test_a_gap_is_told(bench, chain):
    """An archive that expired, or was lost: not silently an older state."""
    bench.server.path_of(f"/{bench.state.last()[0]}-inc1.tar.gz").unlink()
    with pytest.raises(RestBackup404NotFoundException, match=r"inc1\.tar\.gz is not") as caught:
        bench.restore()
    assert "-full.tar.gz" in caught.value.advice
    with pytest.raises(RestBackup404NotFoundException, match="of no use"):
        bench.back_up()


def test_unknown_backups_are_told(bench, account):
    """By the archive that is missing."""
    with pytest.raises(RestBackup404NotFoundException, match="/nothing-full"):
        bench.restore("nothing")


def test_the_first_backup_is_full(bench):
    """An incremental one alone would be worth nothing."""
    with pytest.raises(UsageError, match="no full backup"):
        bench.back_up()
    assert not bench.server.names()


def test_nothing_is_remembered_before_it_is_stored(bench, chain):
    """I8: a refused upload leaves the set as it was, and the next run has the changes."""
    before = bench.remembered()
    bench.write("file4", "later")
    bench.server.faults = lambda method, _: Fault(status=401) if method == "PUT" else None
    with pytest.raises(RestBackup401NotAuthorizedException):
        bench.back_up()
    after = bench.remembered()
    assert {name: after[name] for name in before} == before
    bench.server.faults = lambda *_: None
    assert bench.back_up().level == 3
    bench.restore()
    assert tree(bench.out / "data") == tree(bench.data)


def test_failing_tar_stores_nothing(bench, chain):
    """Nor is anything remembered."""
    before = bench.remembered()
    bench.clock.advance(61)
    made = TarSet(bench.account, bench.state, name="set", clock=bench.clock)
    with pytest.raises(SourceError, match="status 2"):
        made.back_up(["no such file"], full=True)
    after = bench.remembered()
    after.pop("data.snapshot.next", None)
    assert after == before
    assert len(bench.server.names()) == 3


CRASH = """
import os, sys
from pathlib import Path
from holdfast.client import BackupAccount, tarstate
from holdfast.client.tarsets import TarSet
from holdfast.client.tarstate import SetState

url, snapshot, where, full = sys.argv[1:]

def crash(*_, **__):
    os._exit(9)

account = BackupAccount(url)
state = SetState(Path(snapshot))
if where == "before the upload":
    account.api.store = crash
elif where == "after the upload":
    state.commit = crash
elif where == "before the name":
    tarstate.write_whole = lambda path, content, real=tarstate.write_whole: (
        crash() if path.suffix == ".backupname" else real(path, content)
    )
elif where == "before the level":
    tarstate.write_whole = lambda path, content, real=tarstate.write_whole: (
        crash() if path.suffix == ".lastbackuplevel" else real(path, content)
    )
elif where == "before the end":
    Path.unlink = lambda path, real=Path.unlink, **options: (
        crash() if path.suffix == ".pending" and path.exists() else real(path, **options)
    )
TarSet(account, state, name="set").back_up(
    ["data"], full=full == "full", folder=str(Path(snapshot).parent)
)
"""
STORED = {
    "before the upload": False, "after the upload": True, "before the name": True,
    "before the level": True, "before the end": True,
}  # fmt: skip


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("where", STORED)
def test_a_run_that_dies_anywhere_is_settled_by_the_next(bench, where, full):
    """I5: what was stored counts, what was not does not; the chain restores to the last bit."""
    bench.write("file1", "initial")
    bench.back_up(full=True)
    first = bench.state.last()
    bench.write("file2", "second")
    died = subprocess.run(
        [
            sys.executable, "-c", CRASH, bench.server.access_url, bench.state.snapshot, where,
            "full" if full else "inc",
        ],
        check=False,
    )  # fmt: skip
    assert died.returncode == 9
    bench.write("file3", "third")
    done = bench.back_up()
    if full:
        assert done.level == 1
        assert (bench.state.last()[0] == first[0]) is not STORED[where]
    else:
        assert done.level == (2 if STORED[where] else 1)
    bench.restore()
    assert tree(bench.out / "data") == tree(bench.data)
    assert set(bench.remembered()) == {
        "data.snapshot", "data.snapshot.backupname", "data.snapshot.lastbackuplevel",
    }  # fmt: skip


def test_a_lost_acknowledgement_counts(bench, chain, notes):
    """The archive was stored, its 201 lost: found in the listing, and remembered."""
    faults = iter([Fault(forget=True)])
    bench.server.faults = lambda method, _: next(faults, None) if method == "PUT" else None
    bench.write("file4", "later")
    assert bench.back_up().level == 3
    assert any("acknowledgement was lost" in note for note in notes)
    bench.restore()
    assert tree(bench.out / "data") == tree(bench.data)


def test_a_taken_name_is_not_built_on(bench, chain):
    """Another machine goes on with the set: this one says so instead of mixing both."""
    taken = f"/{bench.state.last()[0]}-inc3.tar.gz"
    bench.server.path_of(taken).write_bytes(b"another machine's")
    before = bench.remembered()
    with pytest.raises(RestBackup405MethodNotAllowed, match="knows nothing") as caught:
        bench.back_up()
    assert "--full" in caught.value.advice
    assert bench.remembered() == before


def test_two_runs_do_not_mix(bench, chain):
    """The second one of a set says that there is a first, whose lock dies with it."""
    with bench.state.locked(), pytest.raises(LockedError):
        bench.back_up()
    assert bench.back_up().level == 3


def test_files_that_change_are_told(bench, tmp_path, monkeypatch):
    """tar says so by its status 1: they are archived as they were read, and again next time."""
    monkeypatch.setenv("REAL_TAR", _gnu_tar())
    _gnu_tar.cache_clear()
    fake = tmp_path / "bin" / "tar"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\n"$REAL_TAR" "$@"\n[ "$1" = --create ] && exit 1\nexit 0\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    bench.write("file", "content")
    assert bench.back_up(full=True).changed is True
    bench.restore()
    assert tree(bench.out / "data") == {"file": "content"}


def test_patterns_leave_out(bench):
    """As tar's own option."""
    bench.write("keep", "1")
    bench.write("cache/leave", "2")
    bench.back_up(full=True, exclude=["cache"])
    bench.restore()
    assert tree(bench.out / "data") == {"keep": "1"}


def test_files_are_no_options(bench, account, tmp_path):
    """A file that is named like an option of tar is a file."""
    odd = tmp_path / "--checkpoint-action=exec=sh"
    odd.write_text("odd")
    made = TarSet(account, bench.state, name="odd", clock=bench.clock)
    made.back_up([odd.name], full=True, folder=str(tmp_path))
    bench.restore(files=[odd.name])
    assert tree(bench.out) == {odd.name: "odd"}


def test_plaintext_is_not_spooled(bench, monkeypatch):
    """What is stored encrypted lies in the temporary folder encrypted, too."""
    seen = []
    real = bench.account.api.store
    monkeypatch.setattr(
        bench.account.api,
        "store",
        lambda name, stream, **options: (
            seen.append(stream.read(100)),
            stream.rewind(),
            real(name, stream, **options),
        ),
    )
    bench.passphrase = "pass"
    bench.write("file", "content")
    bench.back_up(full=True)
    assert not seen[0].startswith(b"\x1f\x8b")


def test_sets_lie_in_the_usual_folder(tmp_path, monkeypatch):
    """Readable by their owner alone; a slash in a name is no folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path = snapshot_of("mail/ann")
    assert path == tmp_path / ".restbackup-tar" / "mail#ann.snapshot"
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_without_gnu_tar_it_is_said(bench, monkeypatch):
    """Before anything happens."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="no GNU tar"):
        bench.back_up(full=True)
    assert not bench.server.names()


def test_what_the_state_says_is_checked(bench, chain):
    """A file that somebody edited is an error with a remedy."""
    bench.state.snapshot.with_name("data.snapshot.lastbackuplevel").write_text("two")
    with pytest.raises(UsageError, match="cannot be used"):
        bench.back_up()
    bench.state.snapshot.with_name("data.snapshot.lastbackuplevel").write_text("2\n")
    bench.state.snapshot.unlink()
    with pytest.raises(UsageError, match="missing"):
        bench.back_up()


def test_target_is_named_after_the_backup(bench, chain, tmp_path, monkeypatch):
    """In the current folder, as the original has it."""
    monkeypatch.chdir(tmp_path)
    bench.account.upload(b"", "a/b-20200101T000000Z-full.tar.gz")
    name = bench.state.last()[0]
    done = restore(bench.account, name, passphrase=bench.passphrase)
    assert done.target == Path(name)
    assert tree(tmp_path / name / "data") == chain[-1]
    assert tarsets._parse("/a/b-20200101T000000Z-inc12.tar.gz") == ("a/b-20200101T000000Z", 12)
    assert os.stat(tmp_path / name).st_mode & 0o700 == 0o700
