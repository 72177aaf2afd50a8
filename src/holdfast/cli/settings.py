"""What every verb takes: which repository, how to open it, how to speak. restic's global options,
by their names.
"""

from dataclasses import dataclass, field, fields
from typing import Annotated, Any

import typer

from holdfast.core.errors import UsageError
from holdfast.core.units import parse_duration

PANEL = "Options of every command"


def env(*names: str) -> list[str]:
    """Our variable first, restic's as a fallback, so that scripts made for restic go on working."""
    return [f"{prefix}_{name}" for name in names for prefix in ("HOLDFAST", "RESTIC")]


@dataclass(frozen=True, slots=True)
class Settings:
    """Global options with the environment taken into account. Given before or after the verb; after
    it wins.
    """

    repo: Annotated[
        str | None,
        typer.Option(
            "--repo",
            "-r",
            metavar="REPOSITORY",
            envvar=env("REPOSITORY"),
            help="Repository: a directory, s3:..., or rest:http(s)://...",
        ),
    ] = None
    repository_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            envvar=env("REPOSITORY_FILE"),
            help="File to read the repository's address from.",
        ),
    ] = None
    password_file: Annotated[
        str | None,
        typer.Option(
            "--password-file",
            "-p",
            metavar="FILE",
            envvar=env("PASSWORD_FILE"),
            help="File to read the password from.",
        ),
    ] = None
    password_command: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            envvar=env("PASSWORD_COMMAND"),
            help="Program with arguments that prints the password; started without a shell.",
        ),
    ] = None
    insecure_no_password: Annotated[
        bool, typer.Option("--insecure-no-password", help="Use the empty password.")
    ] = False
    key_hint: Annotated[
        str,
        typer.Option(metavar="KEY", envvar=env("KEY_HINT"), help="Name of the key to try first."),
    ] = ""
    cache_dir: Annotated[
        str | None,
        typer.Option(
            metavar="DIRECTORY",
            envvar=env("CACHE_DIR"),
            help="Where the local cache lies (default: the system's place for caches).",
        ),
    ] = None
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Use no local cache.")] = False
    cleanup_cache: Annotated[
        bool,
        typer.Option("--cleanup-cache", help="Remove caches of repositories unused for 30 days."),
    ] = False
    no_lock: Annotated[bool, typer.Option("--no-lock", help="Take no lock; for reading only.")] = (
        False
    )
    retry_lock: Annotated[
        str,
        typer.Option(
            metavar="DURATION",
            envvar=env("RETRY_LOCK"),
            help="Wait so long for a repository that another program has locked, like 5m.",
        ),
    ] = "0s"
    compression: Annotated[
        str,
        typer.Option(
            metavar="MODE",
            envvar=env("COMPRESSION"),
            help="auto, off, fastest, better or max; repository version 2 only.",
        ),
    ] = "auto"
    pack_size: Annotated[
        int | None,
        typer.Option(
            metavar="MIB", envvar=env("PACK_SIZE"), help="Target size of packs in MiB, 4 to 128."
        ),
    ] = None
    limit_upload: Annotated[
        int,
        typer.Option(metavar="RATE", min=0, help="Most KiB to upload in a second; 0: no limit."),
    ] = 0
    limit_download: Annotated[
        int,
        typer.Option(metavar="RATE", min=0, help="Most KiB to download in a second; 0: no limit."),
    ] = 0
    cacert: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            envvar=env("CACERT"),
            help="Root certificates to trust (default: the system's).",
        ),
    ] = None
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="KEY=VALUE", help="Setting of one kind of store."),
    ] = None
    json: Annotated[
        bool, typer.Option("--json", help="Speak JSON, as the reference describes it.")
    ] = False
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")
    ] = False
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Say more; twice: each file.")
    ] = 0


NAMES = tuple(each.name for each in fields(Settings))


@dataclass(slots=True)
class Given:
    """Collects global options while the command line is parsed; lives in the root context."""

    values: dict[str, Any] = field(default_factory=dict)

    def record(self, ctx: typer.Context, name: str, value: Any) -> None:
        """Keeps a value, unless it is only the default of one that was given before the verb."""
        source = ctx.get_parameter_source(name)
        said = source is not None and source.name == "COMMANDLINE"
        if name == "verbose":
            self.values[name] = self.values.get(name, 0) + (value or 0)
        elif said or name not in self.values:
            self.values[name] = value


def of(ctx: typer.Context) -> Settings:
    """The global options of this command line.

    Raises:
        UsageError: one of them says nothing, whether or not the verb needs it.
    """
    given = ctx.find_root().obj
    assert isinstance(given, Given)
    settings = Settings(**given.values)
    try:
        parse_duration(settings.retry_lock)
    except ValueError as error:
        raise UsageError(f"--retry-lock: {error}") from error
    return settings
