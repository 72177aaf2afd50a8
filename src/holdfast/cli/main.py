"""The outermost boundary: arguments in, exit code out, every error told as what happened, what is
safe and what to do.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from holdfast.core.errors import HoldfastError, InterruptedByUserError, OutputError, UsageError

if TYPE_CHECKING:
    from holdfast.cli.streams import Streams

_COMPLETE = "_HOLDFAST_COMPLETE"
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> NoReturn:
    """Runs the command of this process and ends it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # until there are words for it
    from holdfast.cli.streams import endure

    streams = endure()
    if sys.argv[1:] == ["--version"]:
        from holdfast import __version__

        sys.stdout.write(f"holdfast {__version__}\n")
        sys.exit(_told_in_full(0, streams))
    from holdfast.cli import stopping

    code = None
    try:
        stopping.listen()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        code = run(sys.argv[1:])
        stopping.end(_told_in_full(code, streams))
    except KeyboardInterrupt:  # it came before the command began, or after it ended
        if code is None:
            stopping.report_interruption(json="--json" in sys.argv)
            code = InterruptedByUserError.exit_code
        stopping.end(code)
    except BrokenPipeError:
        _die_of_broken_pipe()


def _told_in_full(code: int, streams: "Streams") -> int:
    """The exit code, once all that was printed has reached somebody."""
    try:
        streams.settle()
    except OutputError as error:
        from holdfast.cli.output import report_error

        report_error(error, json="--json" in sys.argv)
        return code or error.exit_code
    return code


def run(arguments: Sequence[str]) -> int:
    """Runs one command line; its exit code. Nothing is raised."""
    from holdfast.cli.output import report_error
    from holdfast.cli.stopping import report_interruption
    from holdfast.core.stopping import requested

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # file names need not be UTF-8
            stream.reconfigure(errors="surrogateescape")
    json = "--json" in arguments
    try:
        return _invoke(list(arguments))
    except HoldfastError as error:
        if requested():  # whatever failed by it
            report_interruption(json=json)
            return InterruptedByUserError.exit_code
        report_error(error, json=json)
        return error.exit_code
    except KeyboardInterrupt:
        report_interruption(json=json)
        return InterruptedByUserError.exit_code
    except BrokenPipeError:
        _die_of_broken_pipe()
    except Exception as error:  # noqa: BLE001  the outermost boundary
        report_error(_unexpected(error), json=json)
        return 1


def _invoke(arguments: list[str]) -> int:
    import typer

    from holdfast.cli.app import build
    from holdfast.cli.settings import Given

    command: Any = build()
    if _COMPLETE in os.environ:
        # The library does this only for commands that carry its own --install-completion.
        from typer._completion_classes import completion_init

        completion_init()
        command.main(args=arguments, prog_name="holdfast", complete_var=_COMPLETE)
    try:
        with command.make_context("holdfast", _normal(arguments), obj=Given()) as context:
            command.invoke(context)
    except typer.Exit as error:
        return error.exit_code
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stdout.write(error.format_message() + "\n")
            return 0
        raise UsageError(error.format_message().rstrip(".")) from error
    return 0


def _normal(arguments: list[str]) -> list[str]:
    """`--verbose=2`, as restic takes it, is `-v -v`."""
    normal: list[str] = []
    for position, argument in enumerate(arguments):
        if argument == "--":
            return [*normal, *arguments[position:]]
        name, _, count = argument.partition("=")
        if name == "--verbose" and count.isdecimal():
            normal += ["-v"] * int(count)
        else:
            normal.append(argument)
    return normal


def _unexpected(error: Exception) -> Any:
    """A mistake in this program, told like any other failure; HOLDFAST_DEBUG shows where it
    happened.
    """
    if os.environ.get("HOLDFAST_DEBUG"):
        import traceback

        traceback.print_exception(error)
    return HoldfastError(
        f"a mistake in Holdfast itself: {type(error).__name__}: {error}",
        remedy="Earlier backups are untouched: stored files are never changed. "
        "Set HOLDFAST_DEBUG=1, run the command again and report what it prints.",
    )


def _die_of_broken_pipe() -> NoReturn:
    """Whoever read our output has gone: end as programs do that know nothing of it, so that shells
    see what they expect.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(141)
