"""Keeping what an API project has collected as a snapshot in a repository."""

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from holdfast import __version__
from holdfast.cli import repository
from holdfast.cli.backup_report import BackupReport
from holdfast.cli.output import Output
from holdfast.cli.settings import Settings
from holdfast.core.errors import HoldfastError, PartialError, ProjectError
from holdfast.core.outcome import Outcome
from holdfast.core.secret import Secret

if TYPE_CHECKING:
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.repository import Repository
    from holdfast.repo.saving.backup import BackupOptions, BackupResult
    from holdfast.sources.restapi.project.project import Project


def keep_in_repository(project: "Project", output: Output) -> "BackupResult":
    """Makes a snapshot of a project's archive in the repository that section storage names.

    Raises:
        ProjectError: none is named.
        NoRepositoryError, WrongPasswordError: it is not there, or does not open.
        PartialError: something of the archive could not be read; the rest is in the snapshot.
    """
    from holdfast.repo.saving.backup import BackupOptions

    tag = f"api:{project.name}"
    chosen = BackupOptions(
        hostname=socket.gethostname(),
        username=getpass.getuser(),
        uid=os.getuid() if hasattr(os, "getuid") else 0,
        gid=os.getgid() if hasattr(os, "getgid") else 0,
        tags=(tag,),
        program_version=f"holdfast {__version__}",
    )
    with _archive_is_kept():
        result = _back_up(project, chosen, tag, output)
    if result.outcome is Outcome.PARTIAL:
        raise PartialError(f"{len(result.problems)} stored things of {tag} could not be read")
    return result


@contextmanager
def _archive_is_kept() -> Iterator[None]:
    """Says with any error that what was collected is in the archive."""
    try:
        yield
    except HoldfastError as error:
        advice = error.advice.removeprefix("Nothing was fetched. ")
        advice = advice.removeprefix("Nothing was changed. ")
        error.advice = f"The archive is updated; only its snapshot is missing. {advice}"
        raise


def _back_up(
    project: "Project", chosen: "BackupOptions", tag: str, output: Output
) -> "BackupResult":
    from holdfast.repo.format.gotext import format_time
    from holdfast.repo.saving.backup import back_up
    from holdfast.sources.restapi.giving.snapshot import ApiSource

    settings = repository_settings(project)
    with _opened(project, settings, output) as opened, closing(ApiSource(project)) as source:
        chosen = replace(chosen, parent=_newest(opened, tag))
        began = format_time(opened.clock.now())
        with (
            BackupReport(output, None) as report,
            repository.locked(opened, settings, output, writing=True, refreshing=False) as lock,
        ):
            report.parent(chosen.parent)
            result = back_up(opened, source, chosen, observer=report, lock=lock)
        report.summary(result, dry_run=False, began=began, ended=format_time(opened.clock.now()))
    return result


@contextmanager
def _opened(project: "Project", settings: Settings, output: Output) -> Iterator["Repository"]:
    """As every verb opens it, or with the password from the variable that the project names."""
    from holdfast.repo.repository import Repository

    name = project.storage.password_env
    if not name:
        with repository.opened(settings, output) as opened:
            yield opened
        return
    word = os.environ.get(name)
    if not word:
        raise ProjectError(f"storage.password_env: the environment has no variable {name}")
    with closing(repository.open_place(settings, output)) as store:
        root = repository.cache_root(settings)
        yield Repository.open(store, Secret(word), cache_root=root)


def repository_settings(project: "Project") -> Settings:
    """The global options that section storage stands for.

    Raises:
        ProjectError: it names no repository.
    """
    storage = project.storage
    if not storage.repository:
        raise ProjectError("storage.repository is missing; it is the address of the repository")
    address = storage.repository
    if "://" not in address and ":" not in address:
        address = str(project.folder / address)
    file = str(project.folder / storage.password_file) if storage.password_file else None
    return Settings(repo=address, password_file=file, password_command=storage.password_command)


def _newest(opened: "Repository", tag: str) -> "Snapshot | None":
    """The last snapshot of the same project, which tells what need not be read again."""
    fitting = (snapshot for snapshot in opened.snapshots([]) if tag in snapshot.tags)
    return max(fitting, key=lambda snapshot: snapshot.time, default=None)
