"""Makes docs/reference from the code; without --write only says what is stale."""  # noqa: INP001  a script

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.cli.app import VERBS, build, load
from holdfast.cli.environment import VARIABLES
from holdfast.cli.messages import MESSAGES
from holdfast.cli.settings import PANEL
from holdfast.core import errors
from holdfast.sources.modules import MODULES, TITLES, module
from holdfast.sources.parameters import CommonSettings, parameters_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.sources.parameters import Parameter

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
_MADE = "<!-- Made by `make docs` from the code. Change the code, not this file. -->\n"
EXIT_CODES = {
    0: "Success.",
    1: "Failure. What was there before is untouched; the error says more.",
    3: "Partly done: something could not be read or restored. It is listed; the rest is safe.",
    10: "There is no repository at that place.",
    11: "The repository is locked by another program, or our lock was taken away.",
    12: "No key of the repository is opened by the password.",
    130: "Interrupted by the user or by a signal. What was stored is used by the next run.",
}


def main() -> int:
    pages = {
        "commands.md": "".join(commands()),
        "errors.md": "".join(error_codes()),
        "environment.md": "".join(environment()),
        "json.md": "".join(json_messages()),
        "modules.md": "".join(modules()),
    }
    stale = [name for name, text in pages.items() if _read(REFERENCE / name) != text]
    if "--write" in sys.argv[1:]:
        REFERENCE.mkdir(parents=True, exist_ok=True)
        for name in stale:
            (REFERENCE / name).write_text(pages[name])
            sys.stdout.write(f"wrote docs/reference/{name}\n")
        return 0
    for name in stale:
        sys.stderr.write(f"docs/reference/{name} is stale: run `make docs`\n")
    return 1 if stale else 0


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


# --- modules --------------------------------------------------------------------------------------


def modules() -> Iterator[str]:
    yield f"# Modules\n\n{_MADE}\n"
    yield "What a source can be besides files, and what each can be told by `--set NAME=VALUE`.\n"
    yield "[The guide](../guide/databases.md) says how they are used.\n\n"
    for name in MODULES:
        found = module(name)
        yield f"## {name}: {TITLES[name]}\n\n"
        yield from _parameters("backing up", found.parameters)
        if found.putting_back:
            yield from _parameters("putting back", found.putting_back)
    yield "## Of every module\n\nAn agent takes these, too.\n\n"
    yield from _parameters("backing up", parameters_of(CommonSettings))


def _parameters(when: str, table: tuple[Parameter, ...]) -> Iterator[str]:
    if not table:
        yield f"When {when}: none.\n\n"
        return
    yield f"| when {when} | | default | |\n|---|---|---|---|\n"
    for each in table:
        default = str(each.default).lower() if isinstance(each.default, bool) else each.default
        meaning = each.meaning
        if each.only:
            meaning += f" No other value is possible: {each.only}"
        yield f"| `{each.name}` | {each.kind} | {f'`{default}`' if default else ''} | {meaning} |\n"
    yield "\n"


# --- commands -------------------------------------------------------------------------------------


def commands() -> Iterator[str]:
    yield f"# Commands\n\n{_MADE}\n"
    yield "Every command takes the options of the first section, before or behind its name.\n\n"
    yield "## Options of every command\n\n"
    root: Any = build()
    yield from _options([each for each in root.params if each.rich_help_panel == PANEL])
    yield "`holdfast --version` prints the version and nothing else.\n\n"
    for name in VERBS:
        yield from command(f"holdfast {name}", load(name))


def command(path: str, found: Any) -> Iterator[str]:
    """One command with those below it."""
    below = getattr(found, "commands", {})
    usage = " ".join(
        ["COMMAND"] if below else [_metavar(each) for each in found.params if not _is_option(each)]
    )
    yield f"## {path}\n\n{_prose(found.help)}\n\n"
    options = [each for each in found.params if _is_option(each) and each.rich_help_panel != PANEL]
    yield f"```\n{path}{' [OPTIONS]' if options else ''}{f' {usage}' if usage else ''}\n```\n\n"
    arguments = [each for each in found.params if not _is_option(each)]
    for each in arguments:
        yield f"- `{_metavar(each)}`: {each.help or ''}\n"
    yield "\n" if arguments else ""
    if not below:
        yield from _options(options)
    for name, each in below.items():
        yield from command(f"{path} {name}", each)


def _is_option(param: Any) -> bool:
    return bool(param.param_type_name == "option")


def _metavar(param: Any) -> str:
    return str(param.metavar or param.name.upper())


def _options(options: list[Any]) -> Iterator[str]:
    if not options:
        return
    yield "| Option | Meaning | Environment |\n|---|---|---|\n"
    for each in options:
        names = ", ".join(
            f"`{name}`" for name in sorted([*each.opts, *each.secondary_opts], key=len)
        )
        takes_value = not each.is_flag and not each.count
        value = f" `{each.metavar or each.name.upper()}`" if takes_value else ""
        default = f" Default: `{each.default}`." if takes_value and each.default else ""
        variables = each.envvar or []
        variables = [variables] if isinstance(variables, str) else variables
        shown = ", ".join(f"`{name}`" for name in variables)
        yield f"| {names}{value} | {_cell(each.help or '')}{default} | {shown} |\n"
    yield "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _prose(text: str | None) -> str:
    """One sentence a line."""
    paragraphs = [" ".join(each.split()) for each in (text or "").split("\n\n")]
    return "\n\n".join(each.replace(". ", ".\n") for each in paragraphs)


# --- errors ---------------------------------------------------------------------------------------


def error_codes() -> Iterator[str]:
    yield f"# Exit codes and errors\n\n{_MADE}\n"
    yield "Exit codes are those that restic publishes. Any other is a failure, too.\n\n"
    yield "| Exit code | Meaning |\n|---|---|\n"
    for code, meaning in EXIT_CODES.items():
        yield f"| {code} | {meaning} |\n"
    yield (
        "\nEach error says what happened, what is safe and what to do.\n"
        "Its code in brackets is stable, and is the field `error` of JSON.\n"
        '"Again" tells whether the same command may succeed later by itself.\n\n'
        "| Error | Exit code | Again | What is safe and what to do |\n|---|---|---|---|\n"
    )
    seen = set()
    for each in [errors.HoldfastError, *_below(errors.HoldfastError)]:
        if each.code not in seen:
            seen.add(each.code)
            again = "yes" if each.retryable else "no"
            yield f"| `{each.code}` | {each.exit_code} | {again} | {_cell(each.remedy)} |\n"


def _below(kind: type[errors.HoldfastError]) -> Iterator[type[errors.HoldfastError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)


# --- environment and JSON -------------------------------------------------------------------------


def environment() -> Iterator[str]:
    yield f"# Environment variables\n\n{_MADE}\n"
    yield "An option on the command line wins over its variable, ours over restic's.\n\n"
    yield "| Variable | Meaning |\n|---|---|\n"
    meanings = dict(VARIABLES)
    for name, meaning in _option_variables():
        meanings.setdefault(name, meaning)
    for name in sorted(meanings):
        yield f"| `{name}` | {_cell(meanings[name])} |\n"


def _option_variables() -> Iterator[tuple[str, str]]:
    waiting: list[Any] = [build(), *(load(name) for name in VERBS)]
    while waiting:
        found = waiting.pop()
        waiting += getattr(found, "commands", {}).values()
        for each in found.params:
            variables = getattr(each, "envvar", None) or []
            variables = [variables] if isinstance(variables, str) else variables
            for number, name in enumerate(variables):
                first = f"Same as `{variables[0]}`, where that is not set."
                yield name, first if number else f"Same as `{max(each.opts, key=len)}`: {each.help}"


def json_messages() -> Iterator[str]:
    yield f"# JSON\n\n{_MADE}\n"
    yield (
        "With `--json`, results go to standard output as JSON, one object a line.\n"
        "The error that ends a command goes to standard error.\n"
        "Names and meanings are restic's where restic has them.\n"
        "Fields may be added in later versions; none is removed or changes its meaning.\n"
        "`?` marks a field that may be missing or null.\n"
    )
    for message in MESSAGES:
        title = f"`{message.type}`" if message.type else "object"
        yield f"\n## {message.verb}: {title}\n\nPrinted: {message.when}.\n\n"
        yield "| Field | Kind | Meaning |\n|---|---|---|\n"
        if message.type:
            yield f"| `message_type` | text | `{message.type}` |\n"
        for each in message.fields:
            kind = each.kind + ("?" if each.optional else "")
            yield f"| `{each.name}` | {kind} | {_cell(each.meaning)} |\n"


if __name__ == "__main__":
    sys.exit(main())
