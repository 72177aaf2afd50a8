"""The main job on real data, unattended: back up, change, back up again, check, restore, compare.

    python examples/first_backup.py [FOLDER]...

Takes a copy of real folders of this machine (/usr/share/doc and this project, if none is named),
with some things
added that backups get wrong: links, holes, odd names, attributes. Everything happens in a temporary
folder. Prints what
it does and how fast; ends with 1 and the list of differences if anything that comes back is not
what went in.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

HOLDFAST = [sys.executable, "-m", "holdfast"]
PROJECT = Path(__file__).resolve().parent.parent
MOST = 400 << 20
"""Bytes that are taken of this machine: enough to be real, little enough to be quick."""
LEAVE_OUT = {".venv", ".git", ".tools", "__pycache__", ".mypy_cache", ".ruff_cache"}


class Facts(NamedTuple):
    """All that a restore must bring back of one name."""

    kind: int
    mode: int
    owner: tuple[int, int]
    mtime: int
    size: int
    content: str
    attributes: tuple[tuple[str, bytes], ...]
    twins: int
    blocks: int


class FailedError(Exception):
    """Something is not as it was promised."""


def main() -> int:
    folders = [Path(name) for name in sys.argv[1:]] or [Path("/usr/share/doc"), PROJECT]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="holdfast-first-backup-") as place:
        try:
            run(Path(place), [folder for folder in folders if folder.is_dir()])
        except FailedError as error:
            say(f"\nFAILED: {error}")
            return 1
    say(f"\nAll of it in {time.monotonic() - began:.1f} seconds. Nothing is left behind.")
    return 0


def run(place: Path, folders: list[Path]) -> None:
    source, repository = place / "source", place / "repository"
    os.environ |= {
        "HOLDFAST_REPOSITORY": str(repository),
        "HOLDFAST_PASSWORD": secrets.token_urlsafe(24),
        "HOLDFAST_CACHE_DIR": str(place / "cache"),
    }
    take(folders, source)
    add_oddities(source / "oddities")
    before = look_at(source)
    size = sum(facts.size for facts in before.values())
    say(f"{len(before)} names with {size / 1e6:.0f} MB of real data")

    holdfast("init", "made a new encrypted repository")
    first = holdfast("backup", "backed it up", str(source))
    say_speed(first)
    say(f"  the repository has {disk_use(repository) / 1e6:.0f} MB")

    changed = change(source)
    after = look_at(source)
    say(f"changed, added, renamed or removed {changed} files")
    second = holdfast("backup", "backed it up again", str(source))
    added = second["data_added_packed"] / 1e6
    say(
        f"  {second['files_new']} new, {second['files_changed']} changed, "
        f"{second['files_unmodified']} not even read; {added:.1f} MB were added"
    )

    checked = holdfast("check", "checked every byte", "--read-data")
    say(f"  {checked['packs_read']} packs read, {checked['num_errors']} errors")
    for summary, wanted, name in ((first, before, "first"), (second, after, "second")):
        target = place / f"restored-{name}"
        holdfast(
            "restore",
            f"restored the {name} snapshot",
            summary["snapshot_id"],
            "--target",
            str(target),
        )
        compare(wanted, look_at(target / source.relative_to("/")))
        say(f"  all {len(wanted)} names are the same: content, times, rights, links, attributes")
        shutil.rmtree(target)
    ask_restic(repository)


def take(folders: list[Path], source: Path) -> None:
    """Copies real folders, up to MOST bytes in all."""
    left = MOST

    def ignore(folder: str, names: list[str]) -> list[str]:
        nonlocal left
        left_out = []
        for name in names:
            facts = (Path(folder) / name).lstat()
            is_plain = stat.S_ISREG(facts.st_mode) or stat.S_ISLNK(facts.st_mode)
            left -= facts.st_size if is_plain else 0
            if name in LEAVE_OUT or left < 0 or not (is_plain or stat.S_ISDIR(facts.st_mode)):
                left_out.append(name)
        return left_out

    for number, folder in enumerate(folders):
        shutil.copytree(folder, source / f"{number}-{folder.name}", symlinks=True, ignore=ignore)


def add_oddities(folder: Path) -> None:
    """What backups get wrong."""
    folder.mkdir()
    (folder / "empty folder").mkdir()
    (folder / "empty file").touch()
    (folder / "big").write_bytes(secrets.token_bytes(20 << 20))
    (folder / "a link").symlink_to("../nowhere")
    (folder / "twin 1").write_text("one file of two names")
    os.link(folder / "twin 1", folder / "twin 2")
    os.mkfifo(folder / "a pipe")
    with (folder / "mostly a hole").open("wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
    Path(os.fsdecode(os.fsencode(folder) + b"/not \xff UTF-8\n")).write_text("odd name")
    (folder / "old").write_text("old")
    os.utime(folder / "old", ns=(1, 1_000_000_001))
    (folder / "rights").write_text("rights")
    (folder / "rights").chmod(0o4751)
    try:
        os.setxattr(folder / "rights", "user.note", b"\x00kept\xff")
    except OSError:
        say("(this file system has no extended attributes; they are not tried)")


def change(source: Path) -> int:
    """Changes about one file in a hundred, in all the ways there are."""
    files = sorted(path for path in source.rglob("*") if path.is_file() and not path.is_symlink())
    picked = files[:: max(1, len(files) // 60)][:60]
    for number, path in enumerate(picked):
        if "oddities" in path.parts:
            continue
        if number % 4 == 0:
            path.unlink()
        elif number % 4 == 1:
            path.rename(path.with_name(path.name + ".renamed"))
        elif number % 4 == 2:  # noqa: PLR2004  the third of four ways
            path.write_bytes(path.read_bytes() + b"\nchanged\n")
        else:
            path.with_name(path.name + ".new").write_bytes(secrets.token_bytes(5000))
    with (source / "oddities" / "big").open("r+b") as file:
        file.seek(7 << 20)
        file.write(b"in the middle")
    return len(picked) + 1


def look_at(top: Path) -> dict[bytes, Facts]:
    """The facts of every name below a folder, by path from it; the folder itself is b""."""
    root = os.fsencode(top)
    facts = {b"": facts_of(root)}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = folder + b"/" + name
            facts[path[len(root) + 1 :]] = facts_of(path)
    return facts


def facts_of(path: bytes) -> Facts:
    found = os.lstat(path)
    kind = stat.S_IFMT(found.st_mode)
    content = ""
    if kind == stat.S_IFREG:
        with Path(os.fsdecode(path)).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    elif kind == stat.S_IFLNK:
        content = str(Path(os.fsdecode(path)).readlink())
    return Facts(
        kind=kind,
        mode=stat.S_IMODE(found.st_mode),
        owner=(found.st_uid, found.st_gid),
        mtime=found.st_mtime_ns,
        size=found.st_size if kind == stat.S_IFREG else 0,
        content=content,
        attributes=tuple(
            (name, os.getxattr(path, name, follow_symlinks=False))
            for name in sorted(os.listxattr(path, follow_symlinks=False))
        ),
        twins=found.st_nlink if kind == stat.S_IFREG else 1,
        blocks=found.st_blocks,
    )


def compare(wanted: dict[bytes, Facts], got: dict[bytes, Facts]) -> None:
    """Raises FailedError with every difference. Holes may be larger than they were, not smaller."""
    wrong = [f"missing: {path!r}" for path in wanted.keys() - got.keys()]
    wrong += [f"not asked for: {path!r}" for path in got.keys() - wanted.keys()]
    for path in wanted.keys() & got.keys():
        for name in Facts._fields:
            before, after = getattr(wanted[path], name), getattr(got[path], name)
            if before != after and name != "blocks":
                wrong.append(f"{path!r}: {name} was {before!r}, is {after!r}")
        if got[path].blocks > wanted[path].blocks + 2048:  # one chunk of zeros
            wrong.append(f"{path!r}: takes {got[path].blocks} blocks, not {wanted[path].blocks}")
    if wrong:
        raise FailedError(f"{len(wrong)} differences\n  " + "\n  ".join(sorted(wrong)[:50]))


def holdfast(verb: str, what: str, *arguments: str) -> dict[str, Any]:
    """Runs one command and says what it did; its summary."""
    began = time.monotonic()
    ended = subprocess.run(
        [*HOLDFAST, verb, "--json", *arguments], capture_output=True, text=True, check=False
    )
    elapsed = time.monotonic() - began
    if ended.returncode:
        raise FailedError(
            f"holdfast {verb} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}"
        )
    say(f"{what} in {elapsed:.1f} s")
    summary = json.loads(ended.stdout.splitlines()[-1])
    return {**summary, "wall": elapsed}


def say_speed(summary: dict[str, Any]) -> None:
    done = summary["total_bytes_processed"] / 1e6
    say(
        f"  {summary['total_files_processed']} files, {done:.0f} MB, "
        f"{done / summary['wall']:.0f} MB/s; "
        f"{summary['data_added_packed'] / 1e6:.0f} MB were stored"
    )


def ask_restic(repository: Path) -> None:
    """What the original says to our repository."""
    restic = shutil.which("restic")
    if restic is None:
        say("stock restic is not installed here, so it was not asked")
        return
    environment = {**os.environ, "RESTIC_PASSWORD": os.environ["HOLDFAST_PASSWORD"]}
    began = time.monotonic()
    ended = subprocess.run(
        [restic, "-r", str(repository), "--no-cache", "check", "--read-data"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if ended.returncode:
        raise FailedError(f"stock restic finds fault:\n{ended.stdout}{ended.stderr}")
    version = subprocess.run([restic, "version"], capture_output=True, text=True, check=True)
    say(
        f"stock {' '.join(version.stdout.split()[:2])} read every byte, too, and found no errors "
        f"({time.monotonic() - began:.1f} s)"
    )


def disk_use(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
