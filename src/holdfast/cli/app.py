"""The tree of verbs. A verb's module is imported when it is named, so that each starts fast."""

import sys
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from holdfast.cli.settings import PANEL, Given, Settings
from holdfast.core.errors import UsageError

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Verb(NamedTuple):
    """Where a verb is, `module:function` or `module:app`, and what it says in the list."""

    place: str
    short: str
    group: str


_KEEP, _LOOK, _GIVE, _CARE, _SERVER, _SELF = (
    "Keep",
    "Look",
    "Give back",
    "Take care of a repository",
    "The server",
    "Holdfast itself",
)
VERBS = {
    "init": Verb("init:init", "Make a new repository.", _KEEP),
    "backup": Verb("backup:backup", "Back files and folders up.", _KEEP),
    "copy": Verb("copy:copy", "Copy snapshots from another repository.", _KEEP),
    "tag": Verb("tag:tag", "Change the tags of snapshots.", _KEEP),
    "api": Verb("api:app", "Collect what REST APIs hold.", _KEEP),
    "restbackup": Verb("restbackup:app", "Use RestBackup accounts.", _KEEP),
    "snapshots": Verb("snapshots:snapshots", "List snapshots.", _LOOK),
    "ls": Verb("ls:ls", "List what a snapshot holds.", _LOOK),
    "find": Verb("find:find", "Find names, blobs, trees or packs.", _LOOK),
    "diff": Verb("diff:diff", "Show what differs between two snapshots.", _LOOK),
    "stats": Verb("stats:stats", "Count and measure.", _LOOK),
    "restore": Verb("restore:restore", "Bring files back.", _GIVE),
    "dump": Verb(
        "dump:dump", "Write a file, or a folder as an archive, to standard output.", _GIVE
    ),
    "mount": Verb("mount:mount", "Show snapshots as a folder.", _GIVE),
    "check": Verb("check:check", "Find damage and name what it hits.", _CARE),
    "forget": Verb("forget:forget", "Remove snapshots by rules or by name.", _CARE),
    "prune": Verb("prune:prune", "Free what no snapshot needs.", _CARE),
    "repair": Verb("repair:app", "Mend the index, snapshots or packs.", _CARE),
    "rebuild-index": Verb("repair:index", "Same as `repair index`.", _CARE),
    "key": Verb("key:app", "Manage keys and passwords.", _CARE),
    "unlock": Verb("unlock:unlock", "Remove locks of dead programs; seldom needed.", _CARE),
    "list": Verb("list_objects:list_objects", "List stored objects of one kind.", _CARE),
    "cat": Verb("cat:cat", "Print a stored object.", _CARE),
    "store": Verb("store:app", "Look at a storage place.", _CARE),
    "serve": Verb("serve:serve", "Run the server.", _SERVER),
    "web": Verb("serve:web", "Run the server's listeners alone.", _SERVER),
    "worker": Verb("serve:worker", "Run the server's tasks alone.", _SERVER),
    "pool": Verb("pool:app", "Manage where backups are kept.", _SERVER),
    "target": Verb("target:app", "Manage series of backups and what is kept.", _SERVER),
    "plan": Verb("plan:app", "Manage when the server does what by itself.", _SERVER),
    "task": Verb("task:app", "Look at tasks, start and stop them.", _SERVER),
    "host": Verb("host:app", "Manage machines with repositories of their own.", _SERVER),
    "agent": Verb("agent:app", "Run this machine's agent; manage agents.", _SERVER),
    "user": Verb("user:app", "Manage who may sign in.", _SERVER),
    "account": Verb("account:app", "Manage RestBackup accounts.", _SERVER),
    "apikey": Verb("apikey:app", "Manage the key of the Backup-chan API.", _SERVER),
    "catalog": Verb("catalog:app", "Keep what the server knows safe, or make it anew.", _SERVER),
    "recovery-kit": Verb("recovery_kit:recovery_kit", "Print the page for emergencies.", _SERVER),
    "doctor": Verb("doctor:doctor", "Look for what is wrong, with remedies.", _SELF),
    "completion": Verb("completion:completion", "Print completion for a shell.", _SELF),
    "self": Verb("self_version:app", "About this program.", _SELF),
    "version": Verb("self_version:version", "Print the version.", _SELF),
}
OWN_OPTIONS = {
    "account", "agent", "api", "apikey", "catalog", "completion", "host", "plan", "pool",
    "recovery-kit", "restbackup", "target", "task", "user",
}  # fmt: skip
"""Verbs that open no repository and have options of their own."""


class Tree(TyperGroup):
    """The root: knows the names of all verbs without importing one."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  the framework's signature
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  the framework's signature
        return load(cmd_name) if cmd_name in VERBS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in VERBS and not ctx.resilient_parsing:
            raise UsageError(_unknown(args[0]), remedy="See `holdfast --help` for what there is.")
        return super().resolve_command(ctx, args)


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, VERBS, n=1)
    return f"there is no command {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")


@lru_cache
def load(name: str) -> TyperCommand | TyperGroup:
    """The command of a verb, with the global options added."""
    verb = VERBS[name]
    module, _, attribute = verb.place.partition(":")
    try:
        found = getattr(import_module(f"holdfast.cli.{module}"), attribute)
    except ModuleNotFoundError as error:
        if (error.name or "holdfast").startswith("holdfast"):
            raise
        found = _stand_in(verb, error)
    app = found
    if not isinstance(found, typer.Typer):
        app = typer.Typer(add_completion=False)
        app.command(name)(found)
    command: Any = get_command(app)
    command.name = name
    command.short_help = verb.short
    command.rich_help_panel = verb.group
    _add_settings(command, own=name in OWN_OPTIONS)
    return command  # type: ignore[no-any-return]  # the framework's types are its own business


def _stand_in(verb: Verb, missing: ModuleNotFoundError) -> typer.Typer:
    """What a verb is while a library that it needs is not installed: its name, its line in the
    list, and this error.
    """
    app = typer.Typer(add_completion=False)

    @app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
    def stand_in() -> None:
        raise UsageError(
            f"this command needs the library {missing.name}, which is not installed",
            remedy="Nothing was changed. Install it with `pip install 'holdfast[api]'`.",
        )

    stand_in.__doc__ = verb.short
    return app


@lru_cache
def _settings_options() -> tuple[Any, ...]:
    """The global options: they are taken anywhere, and go to the root's `Given` instead of to the
    verb.
    """
    app = typer.Typer(add_completion=False)
    app.command()(Settings)
    options: list[Any] = list(get_command(app).params)
    for option in options:
        option.expose_value = False
        option.callback = _record
        option.rich_help_panel = PANEL
        option.show_envvar = False
    return tuple(options)


def _record(ctx: typer.Context, param: Any, value: Any) -> Any:
    given = ctx.find_root().obj
    if isinstance(given, Given):
        given.record(ctx, param.name, value)
    return value


def _add_settings(command: Any, *, own: bool) -> None:
    command.context_settings = {**_SETTINGS, **(command.context_settings or {})}
    if not own:
        command.params.extend(_settings_options())
    for below in getattr(command, "commands", {}).values():
        _add_settings(below, own=own)


def _print_version(wanted: bool) -> None:
    if wanted:
        from holdfast import __version__

        sys.stdout.write(f"holdfast {__version__}\n")
        raise typer.Exit


def build() -> TyperGroup:
    """The command `holdfast`."""
    app = typer.Typer(add_completion=False, cls=Tree, no_args_is_help=True)

    @app.callback()
    def holdfast(
        version: bool = typer.Option(
            False, "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ) -> None:
        """Holdfast collects, keeps and gives back: deduplicated, encrypted backups in the open
        restic format.
        """

    command: Any = get_command(app)
    command.context_settings = dict(_SETTINGS)
    command.params.extend(_settings_options())
    return command  # type: ignore[no-any-return]  # the framework's types are its own business
