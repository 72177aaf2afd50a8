"""`holdfast mount`: snapshots as a folder, until it is unmounted."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli import options, repository
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output
from holdfast.core.errors import UsageError

if TYPE_CHECKING:
    from holdfast.repo.format.snapshot import Snapshot


def mount(
    ctx: typer.Context,
    *,
    mountpoint: Annotated[str, typer.Argument(metavar="FOLDER", help="Where to show them.")],
    allow_other: Annotated[
        bool, typer.Option("--allow-other", help="Let other users look, too.")
    ] = False,
    owner_root: Annotated[
        bool, typer.Option("--owner-root", help="Show everything as owned by root.")
    ] = False,
    host: options.Hosts = None,
    tag: options.Tags = None,
    path: options.Paths = None,
) -> None:
    """Shows snapshots as a folder through FUSE, read-only, by time, host, tag and name. Ends when
    it is unmounted.
    """
    from holdfast.repo.browsing.mount import mount as serve

    settings = settings_of.of(ctx)
    output = Output(settings)
    chosen = options.Chosen.of(host, tag, path)
    with (
        repository.opened(settings, output) as opened,
        repository.locked(opened, settings, output),
    ):

        def wanted() -> "list[Snapshot]":
            return chosen.among(opened.snapshots([]))

        def ready() -> None:
            output.said(f"now serving the repository at {mountpoint}")
            output.said("When finished, press Ctrl-C here or unmount the folder.")
            output.stdout.flush()

        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)  # FUSE's own loop then ends at them, unmounted
        try:
            serve(
                opened,
                Path(mountpoint),
                wanted=wanted,
                allow_other=allow_other,
                owner_root=owner_root,
                ready=ready,
            )
        except ModuleNotFoundError as error:
            raise UsageError(
                f"mounting needs the library {error.name}, which is not installed",
                remedy="Nothing was changed. Install it with `pip install 'holdfast[mount]'`, or "
                "use `holdfast restore`.",
            ) from error
