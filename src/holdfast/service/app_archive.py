"""The zip of a self-backup: writing it, judging it, and bringing its content back.

Nothing is compressed here: the repository does that, and finds what did not change since the last
one. A live SQLite database goes in as its online backup, never as its file.
"""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import stat
import tempfile
import time
import zipfile
from contextlib import closing
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec

from holdfast.core.errors import DamagedError, InvalidError, SourceMissingError, StorageFullError
from holdfast.service import state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.core.records import Json
    from holdfast.service.ground import Ground
    from holdfast.service.keeping.contract import Outgoing

STATE: Final = "holdfast/state.json"
_OWN: Final = "holdfast/"
_PIECE: Final = 1 << 20
_SQLITE: Final = b"SQLite format 3\0"
_BESIDE: Final = ("-wal", "-shm", "-journal")
_LEFT_OUT: Final = {"backups", ".pb_temp_to_delete", ".autocert_cache", "lost+found", ".notify"}
"""Folders at the top of an application's data that are not its data, as PocketBase has it."""
_RATIO: Final = 100
_ENTRIES: Final = 1_000_000
_LARGEST_STATE: Final = 256 << 20
_SMALL: Final = 64 << 10
_LONGEST_LINK: Final = 4096


# --- writing --------------------------------------------------------------------------------------


def write(ground: Ground, sink: Callable[[bytes], None], watch: Callable[[int], None]) -> None:
    """Gives the whole zip to `sink`, piece by piece; `watch` is told of bytes read.

    Raises:
        SourceMissingError: a folder of `application.include` is not there.
    """
    folders = [Path(each) for each in ground.configuration.application.include]
    for folder in folders:
        if not folder.is_dir():
            raise SourceMissingError(f"{folder} of application.include is not there")
    with zipfile.ZipFile(_Sink(sink), "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
        with ground.catalog.read() as tx:
            document = msgspec.json.encode(state.exported(tx))
        archive.writestr(_member(STATE, time.time(), 0o600), document)
        for folder, prefix in _placed(folders):
            _write_folder(ground, archive, folder, prefix, watch)


def _placed(folders: list[Path]) -> list[tuple[Path, str]]:
    """Where each folder lies in the zip."""
    if len(folders) == 1:
        return [(folders[0], "")]
    names = [folder.name for folder in folders]
    if len(set(names)) != len(names):
        raise InvalidError("two folders of application.include have the same name")
    return [(folder, f"{folder.name}/") for folder in folders]


def _write_folder(
    ground: Ground,
    archive: zipfile.ZipFile,
    folder: Path,
    prefix: str,
    watch: Callable[[int], None],
) -> None:
    for path in _entries(folder):
        name = prefix + path.relative_to(folder).as_posix()
        if path.is_symlink():
            archive.writestr(_member(name, time.time(), 0o777, stat.S_IFLNK), str(path.readlink()))
            continue
        if path.is_dir():
            archive.writestr(_member(f"{name}/", time.time(), 0o755, stat.S_IFDIR), b"")
            continue
        try:
            source = path.open("rb")
        except FileNotFoundError:
            continue  # the application removed it meanwhile
        with source:
            facts = os.fstat(source.fileno())
            if source.read(len(_SQLITE)) == _SQLITE:
                _write_database(ground, archive, path, _member(name, facts.st_mtime, facts.st_mode))
                watch(facts.st_size)
                continue
            source.seek(0)
            _write_stream(archive, source, _member(name, facts.st_mtime, facts.st_mode), watch)


def _entries(folder: Path) -> Iterator[Path]:
    """Regular files, links, which are not followed, and empty folders, in an order that stays the
    same.
    """
    for here, below, names in os.walk(folder):
        if Path(here) == folder:
            below[:] = [name for name in below if name not in _LEFT_OUT]
        elif not below and not names:
            yield Path(here)
        below.sort()
        yield from (path for name in below if (path := Path(here, name)).is_symlink())
        there = set(names)
        for name in sorted(names):
            path = Path(here, name)
            belongs = any(name.endswith(end) and name.removesuffix(end) in there for end in _BESIDE)
            mode = path.lstat().st_mode
            if (stat.S_ISREG(mode) or stat.S_ISLNK(mode)) and not belongs:
                yield path


def _member(name: str, mtime: float, mode: int, kind: int = stat.S_IFREG) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, time.gmtime(max(mtime, 315_532_800))[:6])  # zips begin in 1980
    member.external_attr = (kind | stat.S_IMODE(mode)) << 16
    return member


def _write_stream(
    archive: zipfile.ZipFile,
    source: BinaryIO,
    member: zipfile.ZipInfo,
    watch: Callable[[int], None],
) -> None:
    with archive.open(member, "w", force_zip64=True) as into:
        while piece := source.read(_PIECE):
            into.write(piece)
            watch(len(piece))


def _write_database(
    ground: Ground, archive: zipfile.ZipFile, path: Path, member: zipfile.ZipInfo
) -> None:
    scratch = ground.folder / "scratch"
    scratch.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as room:
        copy = Path(room, "copy.db")
        try:
            with (
                closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as live,
                closing(sqlite3.connect(copy)) as into,
            ):
                live.backup(into)
        except sqlite3.DatabaseError:
            copy = path  # it only begins like one
        with copy.open("rb") as source:
            _write_stream(archive, source, member, lambda _count: None)


class _Sink(io.RawIOBase):
    """A stream that can only be written: a zip then says sizes behind each member."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self._sink = sink

    def writable(self) -> bool:
        return True

    def write(self, content: object, /) -> int:
        piece = bytes(content)  # type: ignore[call-overload]
        self._sink(piece)
        return len(piece)


# --- judging --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judged:
    """`document` is None in an archive that the application made without this server."""

    document: Json | None
    files: int
    size: int


def validate(ground: Ground, content: Outgoing) -> Judged:
    """Looks at the list at the end of a zip and at the server's state in it, and reads no more.

    Raises:
        DamagedError, InvalidError, UnknownVersionError: it cannot be restored.
    """
    with _opened(content) as archive:
        members = archive.infolist()
        if len(members) > _ENTRIES:
            raise InvalidError(f"the archive has more than {_ENTRIES} entries")
        for member in members:
            _check(member)
        document = _document(archive)
        if document is None and not any(each.filename == "data.db" for each in members):
            raise InvalidError("the archive is no backup of this server or its application")
        if document is None and len(ground.configuration.application.include) != 1:
            raise InvalidError("there is no one folder of application.include to restore it into")
        return Judged(document, len(members), sum(each.file_size for each in members))


def state_in(content: Outgoing) -> Json | None:
    """The server's state in a zip, and nothing more of it.

    Raises:
        DamagedError, InvalidError, UnknownVersionError
    """
    with _opened(content) as archive:
        return _document(archive)


def _opened(content: Outgoing) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(_Seekable(content))
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DamagedError(f"the archive is no whole zip: {error}") from error


def _check(member: zipfile.ZipInfo) -> None:
    name = member.filename
    parts = name.removesuffix("/").split("/")
    if name.startswith("/") or "\\" in name or "\0" in name or {"", ".", ".."} & set(parts):
        raise InvalidError(f"the archive has the name {name!r}, which leads elsewhere")
    if member.file_size > max(member.compress_size * _RATIO, _SMALL):
        raise InvalidError(f"{name!r} in the archive inflates out of proportion")
    if member.flag_bits & 1:
        raise InvalidError(f"{name!r} in the archive is encrypted")


def _document(archive: zipfile.ZipFile) -> Json | None:
    try:
        member = archive.getinfo(STATE)
    except KeyError:
        return None
    if member.file_size > _LARGEST_STATE:
        raise InvalidError("the server's state in the archive is too large")
    try:
        return state.check(msgspec.json.decode(archive.read(member)))
    except (
        msgspec.DecodeError, zipfile.BadZipFile, UnicodeDecodeError, RecursionError
    ) as error:  # fmt: skip
        raise DamagedError(f"the server's state in the archive is damaged: {error}") from error


class _Seekable(io.RawIOBase):
    """Kept content as a file that can be read anywhere."""

    def __init__(self, content: Outgoing) -> None:
        assert content.size is not None
        self._content = content
        self._size = content.size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        left = max(self._size - self._at, 0)
        wanted = left if size < 0 else min(size, left)
        found = b"".join(self._content.pieces(self._at, wanted)) if wanted else b""
        self._at += len(found)
        return found


# --- bringing back --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Swap:
    """A folder, what is to take its place, and where it rests meanwhile."""

    live: Path
    new: Path
    old: Path


def extract(
    ground: Ground, content: Outgoing, mark: str, watch: Callable[[int], None]
) -> tuple[Json | None, list[Swap]]:
    """Unpacks beside the folders that it will replace, and changes nothing of them. Every byte is
    compared with its checksum.

    Raises:
        DamagedError, StorageFullError, InvalidError: nothing was left behind.
    """
    judged = validate(ground, content)
    folders = [Path(each) for each in ground.configuration.application.include]
    swaps = swaps_of(ground, mark)
    _check_room(swaps, judged.size)
    prefixes = {prefix: swap for (_, prefix), swap in zip(_placed(folders), swaps, strict=True)}
    try:
        for swap in swaps:
            shutil.rmtree(swap.new, ignore_errors=True)
            swap.new.mkdir(
                mode=stat.S_IMODE(swap.live.stat().st_mode) if swap.live.is_dir() else 0o700
            )
        with _opened(content) as archive:
            links: list[tuple[Swap, str, str]] = []
            for member in archive.infolist():
                _extract(archive, member, prefixes, links, watch)
            _make_links(links)
    except BaseException:
        for swap in swaps:
            shutil.rmtree(swap.new, ignore_errors=True)
        raise
    return judged.document, swaps


def swaps_of(ground: Ground, mark: str) -> list[Swap]:
    """Where a restore of that mark puts things, whether it has begun or not."""
    return [
        Swap(f, f.with_name(f".{f.name}.{mark}.new"), f.with_name(f".{f.name}.{mark}.old"))
        for f in map(Path, ground.configuration.application.include)
    ]


def _check_room(swaps: list[Swap], size: int) -> None:
    for swap in swaps[:1]:
        free = shutil.disk_usage(swap.live.parent).free
        if free < size:
            raise StorageFullError(
                f"{size} bytes are needed beside {swap.live}, and {free} are free",
                remedy="Nothing was changed. Free space there, and restore again.",
            )


def _extract(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    prefixes: dict[str, Swap],
    links: list[tuple[Swap, str, str]],
    watch: Callable[[int], None],
) -> None:
    name = member.filename
    prefix = "" if "" in prefixes else name.partition("/")[0] + "/"
    if name.startswith(_OWN) or prefix not in prefixes:
        return
    swap, below = prefixes[prefix], name.removeprefix(prefix)
    mode = member.external_attr >> 16
    try:
        if member.is_dir():
            (swap.new / below).mkdir(parents=True, exist_ok=True)
        elif stat.S_ISLNK(mode):
            if member.file_size <= _LONGEST_LINK:
                links.append((swap, below, os.fsdecode(archive.read(member))))
        elif stat.S_ISREG(mode) or not stat.S_IFMT(mode):  # devices are no data of an application
            _extract_file(archive, member, swap.new / below, watch)
    except zipfile.BadZipFile as error:
        raise DamagedError(f"{name!r} in the archive is damaged: {error}") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise InvalidError(f"the archive has {name!r} twice, or as a file and a folder") from error


def _extract_file(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, watch: Callable[[int], None]
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, path.open("xb") as into:
        while piece := source.read(_PIECE):
            into.write(piece)
            watch(len(piece))
        into.flush()
        os.fsync(into.fileno())
    mode = member.external_attr >> 16
    if mode:
        path.chmod(stat.S_IMODE(mode) & 0o777)


def _make_links(links: list[tuple[Swap, str, str]]) -> None:
    """Last, so that nothing is written through one. One that leads out of its folder comes back
    only where it is there already: a foreign archive must not open other places to an application.
    """
    for swap, name, _ in links:
        (swap.new / name).parent.mkdir(parents=True, exist_ok=True)
    for swap, name, to in links:
        live = swap.live / name
        if _stays_inside(name, to) or (live.is_symlink() and live.readlink() == Path(to)):
            try:
                (swap.new / name).symlink_to(to)
            except FileExistsError as error:
                raise InvalidError(f"the archive has {name!r} twice") from error


def _stays_inside(name: str, to: str) -> bool:
    """Going up only at the beginning, and not further than the folder's top: what a link leads
    through may be another one.
    """
    parts = to.split("/")
    down = list(dropwhile(lambda part: part in {"..", "."}, parts))
    ups = parts[: len(parts) - len(down)].count("..")
    return bool(to) and not to.startswith("/") and ".." not in down and ups <= name.count("/")


def swap_in(swaps: list[Swap]) -> None:
    """Puts the new folders in place. What an application keeps beside its data stays with it."""
    for swap in swaps:
        if swap.live.exists():
            swap.live.rename(swap.old)
        swap.new.rename(swap.live)
        for name in _LEFT_OUT:
            if (swap.old / name).exists() and not (swap.live / name).exists():
                (swap.old / name).rename(swap.live / name)


def swap_back(swaps: list[Swap]) -> None:
    """Undoes `swap_in`, however far it came."""
    for swap in swaps:
        if not swap.old.exists():
            continue
        for name in _LEFT_OUT:
            if (swap.live / name).exists() and not (swap.old / name).exists():
                (swap.live / name).rename(swap.old / name)
        if swap.live.exists():
            shutil.rmtree(swap.new, ignore_errors=True)
            swap.live.rename(swap.new)
        swap.old.rename(swap.live)
        shutil.rmtree(swap.new, ignore_errors=True)


def forget(swaps: list[Swap]) -> None:
    """Removes what is not needed any more after either."""
    for swap in swaps:
        shutil.rmtree(swap.old, ignore_errors=True)
        shutil.rmtree(swap.new, ignore_errors=True)
