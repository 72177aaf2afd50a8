"""`holdfast completion`: a script that teaches a shell our commands and options."""

from typing import Annotated

import typer

from holdfast.core.errors import UsageError

SHELLS = ("bash", "zsh", "fish", "powershell")


def completion(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help=", ".join(SHELLS))],
) -> None:
    """Prints the completion script for a shell. For bash: holdfast completion bash >
    ~/.local/share/bash-completion/completions/holdfast
    """
    from typer._completion_shared import get_completion_script

    if shell not in SHELLS:
        raise UsageError(
            f"there is no completion for {shell!r}", remedy=f"Known are {', '.join(SHELLS)}."
        )
    script = get_completion_script(
        prog_name="holdfast", complete_var="_HOLDFAST_COMPLETE", shell=shell
    )
    typer.echo(script)
