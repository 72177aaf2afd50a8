"""What the verbs of `holdfast restbackup` share: which account, which passphrase, how to speak."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.output import Output
from holdfast.cli.settings import Settings, env
from holdfast.core.errors import (
    HoldfastError,
    SourceError,
    SourceMissingError,
    UsageError,
)
from holdfast.core.secret import Secret

if TYPE_CHECKING:
    from holdfast.cli.progress import Meter
    from holdfast.client import BackupAccount

STREAM = "-"
URL_VARIABLE = "HOLDFAST_RESTBACKUP_URL"
PASSPHRASE_VARIABLE = "HOLDFAST_RESTBACKUP_PASSPHRASE"  # noqa: S105  a name

AccessUrl = Annotated[
    str | None,
    typer.Option(
        "--access-url",
        "-u",
        metavar="URL",
        help="Access url of the account; others on this machine can see it, -b is safer.",
    ),
]
AccessUrlFile = Annotated[
    str | None,
    typer.Option(
        "--access-url-file",
        "-b",
        metavar="FILE",
        envvar="HOLDFAST_RESTBACKUP_URL_FILE",
        help="File with the access url (default: ~/.restbackup-backup-api-access-url).",
    ),
]
PassphraseFile = Annotated[
    str | None,
    typer.Option(
        "--passphrase-file",
        "-p",
        metavar="FILE",
        envvar="HOLDFAST_RESTBACKUP_PASSPHRASE_FILE",
        help="File with the passphrase (default: ~/.restbackup-file-encryption-passphrase); "
        "- reads a line of standard input.",
    ),
]
Encrypt = Annotated[
    bool, typer.Option("--encrypt", "-e", help="Encrypt before sending, decrypt what comes.")
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace a local file that is there.")]
CaCert = Annotated[
    str | None,
    typer.Option(
        "--cacert",
        metavar="FILE",
        envvar=env("CACERT"),
        help="Root certificates to trust (default: the system's).",
    ),
]
AllowHttp = Annotated[
    bool,
    typer.Option(
        "--allow-http",
        help="Send the password over plain http to another machine, in a network of your own.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Speak JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")]


@dataclass(frozen=True, slots=True)
class Access:
    """How the command line says which account."""

    url: str | None
    url_file: str | None
    cacert: str | None
    allow_http: bool

    def open(self, output: Output, note: Callable[[str], None]) -> "BackupAccount":
        """The account.

        Raises:
            UsageError: nothing names one, or what does is no access url.
        """
        from holdfast.client import BackupAccount
        from holdfast.client.secrets import ACCESS_URL_FILE, read_secret

        if self.url:
            output.note(f"-u shows the password to everybody on this machine; -b FILE or {URL_VARIABLE} do not")  # fmt: skip  # noqa: E501
            secret = Secret(self.url)
        elif self.url_file:
            secret = read_secret(self.url_file)
        elif value := os.environ.get(URL_VARIABLE):
            secret = Secret(value)
        else:
            secret = _default(ACCESS_URL_FILE, "access url", f"-b or {URL_VARIABLE}")
        return BackupAccount(
            secret, ca_bundle=self.cacert, allow_http=self.allow_http, on_note=note
        )


def passphrase_of(path: str | None, *, confirm: bool = False, stdin_taken: bool = False) -> Secret:
    """From the file that is named, the environment, the usual file, or the terminal.

    Raises:
        UsageError, WrongPasswordError: there is none, or it cannot be read.
    """
    from holdfast.cli.password import ask
    from holdfast.client.secrets import PASSPHRASE_FILE, read_secret

    if path == STREAM:
        if stdin_taken:
            raise UsageError("standard input cannot be both the passphrase and the data")
        line = sys.stdin.readline().rstrip("\r\n")
        if not line:
            raise UsageError("there is no passphrase on standard input")
        return Secret(line)
    if path:
        return read_secret(path)
    if value := os.environ.get(PASSPHRASE_VARIABLE):
        return Secret(value)
    if Path(PASSPHRASE_FILE).expanduser().exists():
        return read_secret(PASSPHRASE_FILE)
    if sys.stdin.isatty() and not stdin_taken:
        return ask("the passphrase", confirm=confirm)
    return _default(PASSPHRASE_FILE, "passphrase", f"-p or {PASSPHRASE_VARIABLE}")


def _default(path: str, what: str, otherwise: str) -> Secret:
    from holdfast.client.secrets import read_secret

    if not Path(path).expanduser().exists():
        raise UsageError(
            f"there is no {what}: {path} is missing",
            remedy=f"Nothing was changed. Write it there, readable by you alone, or give {otherwise}.",  # noqa: E501
        )
    return read_secret(path)


def check_passphrase_is_used(ctx: typer.Context, *, encrypt: bool) -> None:
    """Who names a passphrase means it: sending readable what should be encrypted is no default."""
    source = ctx.get_parameter_source("passphrase_file")
    if not encrypt and source is not None and source.name == "COMMANDLINE":
        raise UsageError(
            "a passphrase was named without -e",
            remedy="Nothing was changed. Give -e to encrypt and decrypt, or leave -p away.",
        )


def output_of(*, json: bool, quiet: bool) -> Output:
    return Output(Settings(json=json, quiet=quiet))


def shown(meter: "Meter", what: str) -> Callable[[int, int | None], None]:
    """Progress of the client's kind, shown as one stage."""
    before = -1

    def tell(done: int, whole: int | None) -> None:
        nonlocal before
        if before < 0:
            meter.stage(what, bytes=whole)
            before = 0
        meter.add(bytes=done - before)
        before = done

    return tell


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Says of what the system refuses to read what it is."""
    try:
        yield
    except (HoldfastError, BrokenPipeError):
        raise
    except FileNotFoundError as error:
        raise SourceMissingError(f"there is no {path}") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
