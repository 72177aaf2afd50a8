"""`holdfast restbackup`: files in and out of RestBackup accounts, and their encrypted streams."""

import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from holdfast.cli import restbackup_tar
from holdfast.cli.output import Output
from holdfast.cli.progress import Meter
from holdfast.cli.restbackup_options import (
    STREAM,
    Access,
    AccessUrl,
    AccessUrlFile,
    AllowHttp,
    CaCert,
    Encrypt,
    Force,
    Json,
    PassphraseFile,
    Quiet,
    check_passphrase_is_used,
    output_of,
    passphrase_of,
    reading,
    shown,
)
from holdfast.core.errors import UsageError
from holdfast.core.secret import Secret
from holdfast.core.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.client.streams import InputStream

app = typer.Typer(
    help="Use RestBackup accounts: upload, download, list, incremental tar, encryption.",
    no_args_is_help=True,
    add_completion=False,
)
Local = Annotated[str, typer.Argument(metavar="LOCAL", help="File; - is standard input.")]
Remote = Annotated[
    str | None, typer.Argument(metavar="[REMOTE]", help="Its name there (default: the file's).")
]
There = Annotated[str, typer.Argument(metavar="REMOTE", help="Name of the file in the account.")]
Here = Annotated[
    str | None,
    typer.Argument(
        metavar="[LOCAL]", help="File to write (default: the same name); - is standard output."
    ),
]
In = Annotated[str, typer.Argument(metavar="IN", help="File; - is standard input.")]
Out = Annotated[str, typer.Argument(metavar="OUT", help="File; - is standard output.")]


@app.command("encrypt-and-put", help="Same as `put -e`.")
@app.command()
def put(
    ctx: typer.Context,
    local: Local,
    remote: Remote = None,
    *,
    encrypt: Encrypt = False,
    passphrase_file: PassphraseFile = None,
    access_url: AccessUrl = None,
    access_url_file: AccessUrlFile = None,
    cacert: CaCert = None,
    allow_http: AllowHttp = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Upload a file. Files in an account are never replaced."""
    encrypt = encrypt or ctx.info_name == "encrypt-and-put"
    check_passphrase_is_used(ctx, encrypt=encrypt)
    if local == STREAM and not remote:
        raise UsageError("standard input needs a name", remedy="Nothing was sent. Say: put - NAME.")
    access = Access(access_url, access_url_file, cacert, allow_http)
    secret = None
    if encrypt:
        secret = passphrase_of(passphrase_file, confirm=True, stdin_taken=local == STREAM)
    _upload(access, secret, local, remote or Path(local).name, output_of(json=json, quiet=quiet))


@app.command("get-and-decrypt", help="Same as `get -d`.")
@app.command()
def get(
    ctx: typer.Context,
    remote: There,
    local: Here = None,
    *,
    encrypt: Annotated[
        bool, typer.Option("--decrypt", "-d", "-e", help="Decrypt what comes.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    force: Force = False,
    access_url: AccessUrl = None,
    access_url_file: AccessUrlFile = None,
    cacert: CaCert = None,
    allow_http: AllowHttp = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Download a file. It appears whole and verified, or not at all."""
    encrypt = encrypt or ctx.info_name == "get-and-decrypt"
    check_passphrase_is_used(ctx, encrypt=encrypt)
    access = Access(access_url, access_url_file, cacert, allow_http)
    secret = passphrase_of(passphrase_file) if encrypt else None
    output = output_of(json=json, quiet=quiet or local == STREAM)
    _download(access, secret, remote, local, force=force, output=output)


@app.command("list")
def list_all(
    *,
    access_url: AccessUrl = None,
    access_url_file: AccessUrlFile = None,
    cacert: CaCert = None,
    allow_http: AllowHttp = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the files of the account: time of creation, bytes, name."""
    output = output_of(json=json, quiet=quiet)
    with Access(access_url, access_url_file, cacert, allow_http).open(
        output, output.note
    ) as account:
        files = account.api.files()
    if output.json:
        restbackup_tar.listed_as_json(output, files)
        return
    for each in files:
        created = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.createtime))
        output.line(f"{created} {each.size} {output.shown(each.name)}")


@app.command()
def encrypt(
    source: In,
    target: Out,
    *,
    passphrase_file: PassphraseFile = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Encrypt a file as RestBackup's clients do. Nothing is sent anywhere."""
    from holdfast.client.chlorocrypt import EncryptingReader

    secret = passphrase_of(passphrase_file, confirm=True, stdin_taken=source == STREAM)
    output = output_of(json=json, quiet=quiet or target == STREAM)
    with reading(source), _source(source) as stream, Meter(output) as meter:
        size = _pour(EncryptingReader(stream, secret), target, force=force, meter=meter)
    _tell_written(output, "encrypted", target, size)


@app.command()
def decrypt(
    source: In,
    target: Out,
    *,
    passphrase_file: PassphraseFile = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            metavar="BYTES",
            help="What IN must have by the listing: notices cuts that the format cannot.",
        ),
    ] = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Decrypt a file of RestBackup's clients. OUT appears verified, or not at all; to standard
    output goes only what is verified so far.
    """
    from holdfast.client.chlorocrypt import DecryptingReader
    from holdfast.client.streams import Promised

    secret = passphrase_of(passphrase_file, stdin_taken=source == STREAM)
    output = output_of(json=json, quiet=quiet or target == STREAM)
    with reading(source), _source(source) as stream, Meter(output) as meter:
        held = stream if size is None else Promised(stream, size)
        written = _pour(DecryptingReader(held, secret), target, force=force, meter=meter)
    _tell_written(output, "decrypted", target, written)


@app.command()
def session(
    *,
    access_url: AccessUrl = None,
    access_url_file: AccessUrlFile = None,
    cacert: CaCert = None,
    allow_http: AllowHttp = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print an address for a browser, which shows the account to whoever knows it for 24 hours."""
    output = output_of(json=json, quiet=quiet)
    with Access(access_url, access_url_file, cacert, allow_http).open(
        output, output.note
    ) as account:
        url = account.api.make_session()
    if output.json:
        output.message("session", url=url)
    else:
        output.line(url)


@app.command("make-random-passphrase")
def make_random_passphrase(*, json: Json = False) -> None:
    """Print a passphrase of three words that can be spoken, 108 bits."""
    from holdfast.client.secrets import random_passphrase

    output = output_of(json=json, quiet=False)
    if output.json:
        output.message("passphrase", passphrase=random_passphrase())
    else:
        output.line(random_passphrase())


restbackup_tar.register(app)


def _upload(access: Access, secret: Secret | None, local: str, name: str, output: Output) -> None:
    with (
        Meter(output) as meter,
        access.open(output, meter.note) as account,
        reading(local),
        _source(local) as stream,
    ):
        size = account.upload(
            stream, name, passphrase=secret, on_progress=shown(meter, f"uploading {name}")
        )
    name = name if name.startswith("/") else f"/{name}"
    if output.json:
        output.message("uploaded", name=name, size=size, encrypted=secret is not None)
    output.said(f"stored {name} ({format_size(size)})")


def _download(
    access: Access,
    secret: Secret | None,
    remote: str,
    local: str | None,
    *,
    force: bool,
    output: Output,
) -> None:
    target = local or remote.rpartition("/")[2]
    if target != STREAM and Path(target).is_dir():
        target = str(Path(target) / remote.rpartition("/")[2])
    with Meter(output) as meter, access.open(output, meter.note) as account:
        tell = shown(meter, f"downloading {remote}")
        if target == STREAM:
            with _stdout() as out:
                account.download(remote, out, passphrase=secret, on_progress=tell)
            return
        size = account.download_file(
            remote, target, passphrase=secret, replace=force, on_progress=tell
        )
    if output.json:
        output.message(
            "downloaded", name=remote, target=target, size=size, decrypted=secret is not None
        )
    output.said(f"wrote {output.shown(target)} ({format_size(size)})")


@contextmanager
def _source(path: str) -> "Iterator[InputStream]":
    """A file, or standard input as it comes."""
    from holdfast.client.streams import stream_of

    if path == STREAM:
        yield stream_of(sys.stdin.buffer)
        return
    with Path(path).open("rb") as file:
        yield stream_of(file)


@contextmanager
def _stdout() -> "Iterator[IO[bytes]]":
    from holdfast.client.arrival import explained

    sys.stdout.flush()
    with explained("standard output"), os.fdopen(os.dup(sys.stdout.fileno()), "wb") as out:
        yield out


def _pour(stream: "InputStream", target: str, *, force: bool, meter: Meter) -> int:
    """Writes a stream to a file, which appears at its end, or to standard output; its bytes."""
    from holdfast.client.account import Counted
    from holdfast.client.arrival import arriving
    from holdfast.client.streams import pieces

    counted = Counted(stream, shown(meter, f"writing {target}"))
    with _stdout() if target == STREAM else arriving(target, replace=force) as out:
        out.writelines(pieces(counted))
    return counted.done


def _tell_written(output: Output, what: str, target: str, size: int) -> None:
    if target == STREAM:
        return
    if output.json:
        output.message(what, target=target, size=size)
    output.said(f"wrote {output.shown(target)} ({format_size(size)})")
