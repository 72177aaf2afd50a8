"""A stream is kept whole or not at all."""

import os
import pickle
import signal
import stat
import sys
import time

import pytest

from holdfast.core.entries import Kind
from holdfast.core.errors import SourceError, UsageError
from holdfast.core.source import UP, Found
from holdfast.sources import command
from holdfast.sources.command import StreamSource

NOW = 1_700_000_000_123_456_789


class Clock:
    def now(self):
        return NOW

    def monotonic(self):
        return 0.0

    def sleep(self, seconds):
        raise AssertionError("nobody sleeps here")


def _python(program):
    return [os.fsencode(sys.executable), b"-c", program.encode()]


def _source(argv=None, **options):
    return StreamSource(clock=Clock(), command=argv, **options)


def _open(source):
    found = [step for step in source.walk() if isinstance(step, Found)][-1]
    return source.open(found.path, found.entry)


def _read(content):
    parts = []
    buffer = bytearray(100_000)
    while count := content.readinto(memoryview(buffer)):
        parts.append(bytes(buffer[:count]))
    return b"".join(parts)


def test_the_tree_holds_one_file(tmp_path):
    """With the folders its name asks for, and too large a size to be taken for a small file."""
    source = _source(filename=b"dumps/db/all.sql")
    steps = list(source.walk())

    assert list(source.roots) == [b"/dumps/db/all.sql"]
    assert [step.path for step in steps[:3]] == [b"/dumps", b"/dumps/db", b"/dumps/db/all.sql"]
    assert steps[3:] == [UP, UP]
    folder, _, file = (step.entry for step in steps[:3])
    assert (folder.kind, folder.mode) == (Kind.DIR, stat.S_IFDIR | 0o755)
    assert (file.kind, file.mode, file.name) == (Kind.FILE, stat.S_IFREG | 0o644, b"all.sql")
    assert file.size == command.UNKNOWN_SIZE
    assert (file.mtime, file.uid, file.gid) == (NOW, os.getuid(), os.getgid())
    assert source.xattrs(b"/dumps", folder) == []


def test_the_file_is_called_stdin_by_default():
    """As in restic."""
    assert list(_source().roots) == [b"/stdin"]
    assert [step.path for step in _source().walk()] == [b"/stdin"]


@pytest.mark.parametrize(
    ("name", "path"),
    [(b"a", b"/a"), (b"//a//b/", b"/a/b"), (b"../../a", b"/a"), (b"\xff", b"/\xff")],
)
def test_the_file_name_is_cleaned(name, path):
    """It starts at the root whatever it says."""
    assert list(_source(filename=name).roots) == [path]


@pytest.mark.parametrize("name", [b"", b"/", b"..", b"a\0b"])
def test_a_name_for_no_file_is_refused(name):
    """Before anything is started."""
    with pytest.raises(UsageError):
        _source(filename=name)


def test_an_empty_command_is_refused():
    """There is nothing to start."""
    with pytest.raises(UsageError):
        _source([])


def test_the_output_of_a_command_is_the_content():
    """All of it, byte for byte; the entry of the open file has no size until it is read."""
    content = _open(_source(_python("import os; os.write(1, bytes(range(256)) * 4000)")))

    assert content.entry.size == 0
    assert _read(content) == bytes(range(256)) * 4000
    assert content.unchanged()
    assert content.skip_hole() == 0
    assert content.xattrs() == []
    content.close()


def test_an_empty_output_is_an_empty_file():
    """A command that ends well with nothing to say has said nothing."""
    content = _open(_source(_python("")))
    assert _read(content) == b""
    content.close()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os; os.write(1, b'half'); os._exit(3)", "status 3"),
        ("import os; os.write(1, b'half'); os.kill(os.getpid(), 9)", "Killed"),
        (
            "import os, time; os.write(1, b'x'); os.close(1); time.sleep(.2); os._exit(1)",
            "status 1",
        ),
    ],
)
def test_a_command_that_fails_fails_the_backup(program, message):
    """I8: the end of the stream is not its success; the status is awaited and looked at."""
    content = _open(_source(_python(program)))
    with pytest.raises(SourceError, match=message):
        _read(content)
    content.close()


def test_a_command_that_cannot_be_started_fails_the_backup():
    """It is named as a shell would write it."""
    with pytest.raises(SourceError, match="'no such command' --all cannot be started"):
        _open(_source([b"no such command", b"--all"]))


def test_what_a_command_complains_of_is_passed_through(capfd):
    """Standard error is the person's, not the backup's."""
    content = _open(_source(_python("import sys; print('careful', file=sys.stderr)")))
    assert _read(content) == b""
    content.close()
    assert capfd.readouterr().err == "careful\n"


def test_no_shell_reads_the_command(tmp_path, monkeypatch):
    """Words stay words."""
    monkeypatch.chdir(tmp_path)
    content = _open(_source([b"/bin/echo", b"$HOME; touch x", b"`id`"]))
    assert _read(content) == b"$HOME; touch x `id`\n"
    content.close()
    assert not list(tmp_path.iterdir())


def test_a_command_has_no_standard_input():
    """What is piped into the backup, a password perhaps, is not for it."""
    content = _open(_source(_python("import sys; print(len(sys.stdin.read()))")))
    assert _read(content) == b"0\n"
    content.close()


def test_a_stream_is_opened_once():
    """A second reading would find nothing, or something else."""
    source = _source(_python("print(1)"))
    content = _open(source)
    with pytest.raises(SourceError, match="only once"):
        _open(source)
    content.close()


def test_a_stream_has_no_positions():
    """Whoever tries to go back hears of it."""
    content = _open(_source(_python("")))
    with pytest.raises(OSError, match="no position"):
        content.seek(0)
    content.close()


def test_closing_ends_a_command_that_is_still_running():
    """An aborted backup leaves nothing behind."""
    content = _open(_source(_python("import os, time; os.write(1, b'x'); time.sleep(60)")))
    content.readinto(memoryview(bytearray(100)))
    process = content._process
    started = time.monotonic()
    content.close()
    assert process.returncode == -signal.SIGTERM
    assert time.monotonic() - started < 5


def test_a_command_that_will_not_end_is_killed(monkeypatch):
    """After a grace."""
    monkeypatch.setattr(command, "_GRACE", 0.2)
    ignore = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    content = _open(_source(_python(f"{ignore}; os.write(1, b'x'); time.sleep(60)")))
    content.readinto(memoryview(bytearray(100)))
    process = content._process
    content.close()
    assert process.returncode == -signal.SIGKILL


def test_standard_input_is_read_to_its_end(monkeypatch):
    """And stays open: it is not ours."""
    reading, writing = os.pipe()
    os.write(writing, b"piped in")
    os.close(writing)
    monkeypatch.setattr(command, "STDIN", reading)

    content = _open(_source())

    assert _read(content) == b"piped in"
    content.close()
    os.close(reading)


def test_a_failing_standard_input_fails_the_backup(monkeypatch, tmp_path):
    """Rather than to cut the file short."""
    folder = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(command, "STDIN", folder)
    with pytest.raises(SourceError, match="standard input cannot be read"):
        _read(_open(_source()))
    os.close(folder)


def test_the_source_can_be_pickled():
    """As any source."""
    source = pickle.loads(pickle.dumps(_source(_python("print(7)"))))
    content = _open(source)
    assert _read(content) == b"7\n"
    content.close()
