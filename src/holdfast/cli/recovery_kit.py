"""`holdfast recovery-kit`: the page to print and lock away."""

import os
import stat
import sys
from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.api_options import Quiet, output_of
from holdfast.cli.data import ConfigFile, Data, ground_of
from holdfast.core.access import SHELL
from holdfast.core.errors import UsageError
from holdfast.core.secret import Secret


def recovery_kit(
    *,
    data: Data,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="A new file (default: standard output)."
        ),
    ] = None,
    config: ConfigFile = None,
    quiet: Quiet = False,
) -> None:
    """Prints what brings everything back where the server is lost: the master key, the address and
    restic password of each repository, and what to do with them, step by step.

    Whoever has it and can reach the storage reads every backup. That it was printed stands in the
    audit.
    """
    if output is None:
        _refuse_open_output()
    elif output.exists():
        raise UsageError(
            f"there is a file {output} already", remedy="Nothing was written. Name another."
        )
    with ground_of(data, config) as ground:
        from holdfast.service.pools import Pools
        from holdfast.service.recovery_kit import kit_text

        text = kit_text(ground, Pools(ground), SHELL)
    if output is None:
        sys.stdout.write(text.reveal())
    else:
        _write(output, text)
    output_of(quiet=quiet).note(
        "This is secret. Print it, keep it apart from the server and its storage, and delete the "
        "file."
    )


def _refuse_open_output() -> None:
    """Where it is a file that others may read."""
    found = os.fstat(sys.stdout.fileno())
    if stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
        raise UsageError(
            "others may read the file that the kit would be written to",
            remedy="Nothing was written. Name the file with --output, or begin with `umask 077`.",
        )


def _write(path: Path, text: Secret) -> None:
    from holdfast.service.whole_files import write_whole

    try:
        write_whole(path.absolute(), text.reveal().encode(), replace=False)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}", remedy="Nothing was written."
        ) from error
