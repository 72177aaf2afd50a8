"""`holdfast doctor`: looks at everything a backup needs, and says what to do where something is
amiss.
"""

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, NamedTuple

import typer

from holdfast import __version__
from holdfast.cli import password, repository
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output
from holdfast.cli.settings import Settings
from holdfast.core.errors import HoldfastError, StorageFullError, StoreDeniedError
from holdfast.core.units import format_size

if TYPE_CHECKING:
    from holdfast.repo.repository import Refused, Repository

_LIBRARIES = ("cryptography", "msgspec", "obstore", "urllib3", "zstandard")
_ROOM = 1 << 30
_SKEW = 60


class Finding(NamedTuple):
    """One thing looked at. `verdict`: good, mind (it works, but could be better), or bad."""

    what: str
    verdict: str
    detail: str
    remedy: str = ""


def doctor(ctx: typer.Context) -> None:
    """Looks at this machine and, where one is named, at the repository. Ends with 1 where something
    is bad.
    """
    settings = settings_of.of(ctx)
    output = Output(settings)
    found = []
    for finding in _findings(settings, output):
        found.append(finding)
        _tell(output, finding)
    bad = sum(finding.verdict == "bad" for finding in found)
    mind = sum(finding.verdict == "mind" for finding in found)
    if output.json:
        output.message("summary", good=len(found) - bad - mind, mind=mind, bad=bad)
    else:
        output.line()
        output.line(f"{bad} bad, {mind} to mind" if bad or mind else "all is well")
    if bad:
        raise typer.Exit(1)


def _tell(output: Output, finding: Finding) -> None:
    if output.json:
        output.message("finding", **finding._asdict())
        return
    mark = {"good": "ok  ", "mind": "mind", "bad": "BAD "}[finding.verdict]
    output.line(f"{mark}  {finding.what}: {finding.detail}")
    if finding.remedy:
        output.line(f"      {finding.remedy}")


def _findings(settings: Settings, output: Output) -> Iterator[Finding]:
    yield _program()
    yield _libraries()
    yield _chunker()
    yield _permissions()
    yield _cache(settings)
    if not settings.repo and not settings.repository_file:
        yield Finding(
            "repository", "mind", "none was named", "Name one with -r to have it looked at."
        )
        return
    yield from _repository(settings, output)


def _program() -> Finding:
    return Finding(
        "program",
        "good",
        f"holdfast {__version__}, Python {platform.python_version()}, {platform.platform()}",
    )


def _libraries() -> Finding:
    found, missing = [], []
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding(
            "libraries", "bad", f"missing: {', '.join(missing)}", "Install holdfast anew."
        )
    return Finding("libraries", "good", ", ".join(found))


def _chunker() -> Finding:
    try:
        import holdfast.repo.format._rabin  # noqa: F401  whether it is there is the question
    except ImportError:
        return Finding(
            "chunker",
            "mind",
            "runs in pure Python: right, but some hundred times slower",
            "Install a C compiler (Debian: gcc libc6-dev) and install holdfast anew.",
        )
    return Finding("chunker", "good", "the C extension is there")


def _permissions() -> Finding:
    if os.geteuid() == 0:
        return Finding("permissions", "good", "running as root: every file can be read")
    return Finding(
        "permissions",
        "mind",
        "not running as root: what cannot be read is listed, and ends with exit code 3",
        "Back a whole system up as root.",
    )


def _cache(settings: Settings) -> Finding:
    root = repository.cache_root(settings)
    if root is None:
        return Finding(
            "cache", "mind", "switched off", "Without it each command reads the whole index."
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return Finding(
            "cache", "bad", f"{root}: {error.strerror}", "Name another place with --cache-dir."
        )
    if not os.access(root, os.W_OK):
        return Finding(
            "cache", "bad", f"{root} cannot be written", "Name another place with --cache-dir."
        )
    free = shutil.disk_usage(root).free
    if free < _ROOM:
        return Finding(
            "cache", "mind", f"{root}: only {format_size(free)} free", "Free space there."
        )
    return Finding("cache", "good", f"{root}, {format_size(free)} free")


def _repository(settings: Settings, output: Output) -> Iterator[Finding]:
    from holdfast.repo.repository import Repository

    try:
        store = repository.open_place(settings, output)
        secret = password.read_password(settings)
        opened = Repository.open(store, secret, key_hint=settings.key_hint)
    except HoldfastError as error:
        yield Finding("repository", "bad", error.message, error.advice)
        return
    yield Finding(
        "repository",
        "good",
        f"{store.address}, version {opened.config.version}, id {opened.config.id[:8]}",
    )
    for look in (_place, _keys, _clock, _locks, _snapshots):
        yield _or_error(look, opened)
    store.close()


def _or_error(look: Callable[["Repository"], Finding], opened: "Repository") -> Finding:
    try:
        return look(opened)
    except HoldfastError as error:
        return Finding(look.__name__.strip("_"), "bad", error.message, error.advice)


def _place(opened: "Repository") -> Finding:
    """Whether the store can be written and has room, without writing where a look is enough."""
    if not opened.store.properties.local:
        return Finding(
            "place", "good", "reached over the network; `holdfast store probe` tries it out"
        )
    address = opened.store.address
    if not os.access(address, os.W_OK):
        return Finding(
            "place", "mind", f"{address} cannot be written by this user", "Reading works."
        )
    free = shutil.disk_usage(address).free
    if free < _ROOM:
        return Finding(
            "place", "mind", f"only {format_size(free)} free", "Forget and prune, or make room."
        )
    return Finding("place", "good", f"{format_size(free)} free")


def _keys(opened: "Repository") -> Finding:
    from holdfast.repo.keys import list_keys

    keys = list_keys(opened.store)
    return Finding("keys", "good", f"{len(keys)}, all of them readable")


def _clock(opened: "Repository") -> Finding:
    """Our clock against the store's, by a lock that we write: only a difference that confuses
    people matters.
    """
    from holdfast.repo.lock import acquire
    from holdfast.store.contract import FileKind

    try:
        lock = acquire(opened.objects, exclusive=False, clock=opened.clock)
    except (StoreDeniedError, StorageFullError) as error:
        return Finding(
            "clock", "good", f"not compared with the store's, for no lock can be written: {error}"
        )
    try:
        theirs = opened.store.stat(FileKind.LOCK, lock.id).mtime
    finally:
        lock.release()
    apart = abs(opened.clock.now() - theirs) / 1e9
    if theirs and apart > _SKEW:
        return Finding(
            "clock",
            "mind",
            f"{apart:.0f} s apart from the store's",
            "Set the clocks. Nothing breaks by it, but times of snapshots mislead.",
        )
    return Finding("clock", "good", "agrees with the store's" if theirs else "the store has none")


def _locks(opened: "Repository") -> Finding:
    from holdfast.repo.lock import remove_stale
    from holdfast.store.contract import FileKind

    try:
        removed = remove_stale(opened.objects, opened.clock)
    except StoreDeniedError:
        removed = 0  # there are some of dead programs, and this user may not remove them
    left = sum(1 for _ in opened.store.list(FileKind.LOCK))
    detail = f"{left} that are held, or that this user may not remove" if left else "none"
    return Finding(
        "locks", "good", detail + (f"; removed {removed} of dead ones" if removed else "")
    )


def _snapshots(opened: "Repository") -> Finding:

    refused: list[Refused] = []
    count = sum(1 for _ in opened.snapshots(refused))
    if refused:
        return Finding(
            "snapshots",
            "bad",
            f"{len(refused)} of {count + len(refused)} cannot be read",
            "Run `holdfast check` for what is hit.",
        )
    verdict = "good" if count else "mind"
    return Finding(
        "snapshots", verdict, str(count), "" if count else "Make one with `holdfast backup`."
    )
