"""`holdfast unlock`, for people who know restic: there is hardly ever anything to do."""

from typing import Annotated

import typer

from holdfast.cli import repository
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output


def unlock(
    ctx: typer.Context,
    *,
    remove_all: Annotated[
        bool,
        typer.Option("--remove-all", help="Remove locks of running programs, too: they will stop."),
    ] = False,
) -> None:
    """Removes locks of dead programs. Nothing needs unlocking: the next command removes them by
    itself.
    """
    from holdfast.core.errors import ObjectNotFoundError
    from holdfast.repo.lock import remove_stale
    from holdfast.store.contract import FileKind

    settings = settings_of.of(ctx)
    output = Output(settings)
    with repository.opened(settings, output) as opened:
        removed = remove_stale(opened.objects, opened.clock)
        if remove_all:
            for item in list(opened.store.list(FileKind.LOCK)):
                try:
                    opened.store.remove(FileKind.LOCK, item.name)
                except ObjectNotFoundError:
                    continue  # released meanwhile
                removed += 1
        left = sum(1 for _ in opened.store.list(FileKind.LOCK))
    if output.json:
        output.message("summary", removed=removed, left=left)
        return
    output.line(f"removed {removed} locks" if removed else "nothing needs unlocking")
    if left:
        output.line(f"{left} locks belong to programs that may be running; they go with them")
