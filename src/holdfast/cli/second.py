"""The other repository of `copy` and `init`: restic's --from-... options, declared once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli import repository
from holdfast.cli.output import Output
from holdfast.cli.settings import Settings, env
from holdfast.core.errors import UsageError

if TYPE_CHECKING:
    from holdfast.repo.repository import Repository


@dataclass(frozen=True, slots=True)
class Second:
    """Each field is an option of its name."""

    from_repo: Annotated[
        str | None,
        typer.Option(
            metavar="REPOSITORY", envvar=env("FROM_REPOSITORY"), help="Repository to copy from."
        ),
    ] = None
    from_repository_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            envvar=env("FROM_REPOSITORY_FILE"),
            help="File to read the address of the repository to copy from.",
        ),
    ] = None
    from_password_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            envvar=env("FROM_PASSWORD_FILE"),
            help="File to read the password of the repository to copy from.",
        ),
    ] = None
    from_password_command: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            envvar=env("FROM_PASSWORD_COMMAND"),
            help="Program that prints the password of the repository to copy from.",
        ),
    ] = None
    from_key_hint: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar=env("FROM_KEY_HINT"),
            help="Key of the repository to copy from to try first.",
        ),
    ] = None
    from_insecure_no_password: Annotated[
        bool,
        typer.Option(
            "--from-insecure-no-password",
            help="The repository to copy from has the empty password.",
        ),
    ] = False


_NAMES = tuple(each.name for each in fields(Second))


def with_second(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with these options behind its own; it gets them as its argument `second`."""

    @wraps(verb)
    def run(*arguments: Any, **given: Any) -> None:
        second = Second(**{name: given.pop(name) for name in _NAMES})
        verb(*arguments, second=second, **given)

    own = [each for each in signature(verb).parameters.values() if each.name != "second"]
    shared = [
        each.replace(kind=Parameter.KEYWORD_ONLY) for each in signature(Second).parameters.values()
    ]
    # The framework makes options of what a function says of itself.
    run.__signature__ = Signature([*own, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in (*own, *shared)}
    return run


@contextmanager
def opened_second(settings: Settings, second: Second, output: Output) -> Iterator["Repository"]:
    """The repository that the --from-... options name."""
    if not second.from_repo and not second.from_repository_file:
        raise UsageError(
            "no repository to copy from was named",
            remedy="Nothing was changed. Name it with --from-repo.",
        )
    theirs = replace(
        settings,
        repo=second.from_repo,
        repository_file=second.from_repository_file,
        password_file=second.from_password_file,
        password_command=second.from_password_command,
        key_hint=second.from_key_hint or "",
        insecure_no_password=second.from_insecure_no_password,
    )
    with repository.opened(theirs, output) as found:
        yield found
