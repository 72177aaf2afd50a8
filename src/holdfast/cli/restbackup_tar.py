"""`holdfast restbackup tar`: full and incremental archives, with the options of restbackup-tar."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.output import Output
from holdfast.cli.progress import Meter
from holdfast.cli.restbackup_options import (
    Access,
    AccessUrl,
    AccessUrlFile,
    AllowHttp,
    CaCert,
    Encrypt,
    Json,
    PassphraseFile,
    Quiet,
    check_passphrase_is_used,
    output_of,
    passphrase_of,
    shown,
)
from holdfast.core.errors import PartialError, UsageError
from holdfast.core.outcome import Outcome
from holdfast.core.secret import Secret
from holdfast.core.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.client.restbackup import Listed

EXAMPLE = """\
Once:
  echo https://USER:PASSWORD@backup.example.org/ > ~/.restbackup-backup-api-access-url
  chmod 600 ~/.restbackup-backup-api-access-url

A full backup, and what changed since, each night:
  holdfast restbackup tar -n data --full data/
  holdfast restbackup tar -n data --incremental data/
  holdfast restbackup tar -n data --incremental data/

What there is:
  holdfast restbackup tar --list

The latest state, an earlier one, and a single file:
  holdfast restbackup tar --restore data-20110621T133947Z
  holdfast restbackup tar --restore data-20110621T133947Z-inc1
  holdfast restbackup tar --restore data-20110621T133947Z data/file1

Encrypted (write the passphrase down and keep it elsewhere, too):
  holdfast restbackup make-random-passphrase > ~/.restbackup-file-encryption-passphrase
  chmod 600 ~/.restbackup-file-encryption-passphrase
  holdfast restbackup tar -e -n data --full data/
  holdfast restbackup tar -e --restore data-20110621T133947Z
"""


def register(app: typer.Typer) -> None:
    """Adds the verb to the group."""
    app.command()(tar)


def tar(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="Files and folders; with --restore the archive, and then files of it.",
        ),
    ] = None,
    *,
    full: Annotated[bool, typer.Option("--full", help="Back everything up.")] = False,
    incremental: Annotated[
        bool, typer.Option("--incremental", help="Back up what changed since the last backup.")
    ] = False,
    listing: Annotated[bool, typer.Option("--list", help="List the account.")] = False,
    restoring: Annotated[
        bool,
        typer.Option(
            "--restore",
            help="Bring a backup back: the latest state, or that of the level it is named with.",
        ),
    ] = False,
    example: Annotated[bool, typer.Option("--example", help="Show how it is used.")] = False,
    name: Annotated[
        str, typer.Option("--name", "-n", metavar="NAME", help="Name of the set of backups.")
    ] = "backup",
    snapshot_file: Annotated[
        str | None,
        typer.Option(
            "--snapshot-file",
            "-s",
            metavar="FILE",
            help="What tar remembers of the set (default: ~/.restbackup-tar/NAME.snapshot).",
        ),
    ] = None,
    encrypt: Encrypt = False,
    passphrase_file: PassphraseFile = None,
    folder: Annotated[
        str | None,
        typer.Option("--directory", "-C", metavar="DIR", help="Files are named from there."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude", metavar="PATTERN", help="Leave out, as tar's option of that name."
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", "-t", metavar="DIR", help="Restore to it (default: the backup's name)."
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", "-f", help="Restore into a folder that has something in it."),
    ] = False,
    access_url: AccessUrl = None,
    access_url_file: AccessUrlFile = None,
    cacert: CaCert = None,
    allow_http: AllowHttp = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Keep full and incremental tar archives, encrypted with -e, and restore from them."""
    output = output_of(json=json, quiet=quiet)
    if example:
        output.line(EXAMPLE.rstrip())
        return
    words = words or []
    _check_one(words, full=full, incremental=incremental, listing=listing, restoring=restoring)
    check_passphrase_is_used(ctx, encrypt=encrypt)
    access = Access(access_url, access_url_file, cacert, allow_http)
    secret = passphrase_of(passphrase_file, confirm=full) if encrypt and not listing else None
    if listing:
        _list(access, output)
    elif restoring:
        _restore(access, output, words, secret, target, force=force)
    else:
        _back_up(access, output, words, secret, full=full, name=name, snapshot_file=snapshot_file, folder=folder, exclude=exclude or [])  # fmt: skip  # noqa: E501


def _check_one(
    words: "Sequence[str]", *, full: bool, incremental: bool, listing: bool, restoring: bool
) -> None:
    if full + incremental + listing + restoring != 1:
        raise UsageError(
            "one of --full, --incremental, --list and --restore must be given",
            remedy="Nothing was changed. --example shows how it is used.",
        )
    if listing == bool(words):
        mistake = "--list takes no files" if words else "no files were named"
        raise UsageError(mistake, remedy="Nothing was changed. --example shows how it is used.")


def _back_up(
    access: Access,
    output: Output,
    files: "Sequence[str]",
    secret: Secret | None,
    *,
    full: bool,
    name: str,
    snapshot_file: str | None,
    folder: str | None,
    exclude: "Sequence[str]",
) -> None:
    from holdfast.client.tarsets import TarSet
    from holdfast.client.tarstate import SetState, snapshot_of

    snapshot = Path(snapshot_file).expanduser().absolute() if snapshot_file else snapshot_of(name)
    with Meter(output) as meter, access.open(output, meter.note) as account:
        tar_set = TarSet(
            account,
            SetState(snapshot),
            name=name,
            passphrase=secret,
            on_note=meter.note,
            on_progress=shown(meter, "uploading"),
        )
        done = tar_set.back_up(files, full=full, folder=folder, exclude=exclude)
    outcome = Outcome.PARTIAL if done.changed else Outcome.SUCCEEDED
    if output.json:
        output.message("archived", archive=done.archive, level=done.level, size=done.size, encrypted=secret is not None, outcome=outcome)  # fmt: skip  # noqa: E501
    output.said(f"stored {done.archive[1:]} ({format_size(done.size)})")
    if done.changed:
        raise PartialError(
            "files changed or went while they were read; tar names them above",
            remedy="The archive is stored. The next incremental backup has them again.",
        )


def _restore(
    access: Access,
    output: Output,
    words: "Sequence[str]",
    secret: Secret | None,
    target: str | None,
    *,
    force: bool,
) -> None:
    from holdfast.client.tarsets import restore

    archive, *files = words

    def show(line: str) -> None:
        if not output.quiet and not output.json:
            meter.result(output.shown(line))

    with Meter(output) as meter, access.open(output, meter.note) as account:
        done = restore(
            account,
            archive,
            target=Path(target) if target else None,
            files=files,
            passphrase=secret,
            force=force,
            on_note=meter.note,
            on_line=show,
            on_progress=shown(meter, "restoring"),
        )
    outcome = Outcome.PARTIAL if done.missing else Outcome.SUCCEEDED
    if output.json:
        output.message("restored", target=str(done.target), archives=done.archives, missing=done.missing, outcome=outcome)  # fmt: skip  # noqa: E501
    output.said(f"restored {len(done.archives)} archives to {output.shown(str(done.target))}")
    if done.missing:
        raise PartialError(
            f"not in the backup: {', '.join(map(output.shown, done.missing))}",
            remedy="The other files are restored. `holdfast restbackup tar --list` shows archives.",
        )


def _list(access: Access, output: Output) -> None:
    with access.open(output, output.note) as account:
        files = account.api.files()
    if output.json:
        listed_as_json(output, files)
        return
    for each in files:
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(each.createtime))
        output.line(f"{created}\t{each.size}\t{output.shown(each.name)}")


def listed_as_json(output: Output, files: "Iterable[Listed]") -> None:
    """The listing as the service gives it."""
    output.document(
        [
            {"name": each.name, "size": each.size, "createtime": each.createtime}
            | ({} if each.deletetime is None else {"deletetime": each.deletetime})
            for each in files
        ]
    )
