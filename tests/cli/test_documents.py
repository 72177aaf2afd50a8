"""The documents are held to the code: whatever a person can meet is described."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.cli.app import VERBS, build, load
from holdfast.cli.environment import VARIABLES
from holdfast.core import errors
from holdfast.core.outcome import EXIT_CODES

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"


def commands():
    """Every command with its path."""
    waiting = [(name, load(name)) for name in VERBS]
    while waiting:
        path, command = waiting.pop()
        yield path, command
        waiting += [
            (f"{path} {name}", each) for name, each in getattr(command, "commands", {}).items()
        ]


def test_the_reference_is_made_from_this_code():
    """`make docs` would change nothing."""
    script = ROOT / "scripts" / "reference.py"
    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert ended.returncode == 0, ended.stderr


def test_every_command_and_option_is_described():
    """Each stands in the reference and has a help text; long options are in lower case."""
    text = (REFERENCE / "commands.md").read_text()
    for path, command in commands():
        assert f"## holdfast {path}\n" in text
        assert command.help, path
        for param in command.params:
            if param.param_type_name != "option":
                continue
            assert param.help, (path, param.name)
            for option in param.opts:
                assert f"`{option}`" in text, (path, option)
                assert option == option.lower() or not option.startswith("--"), (path, option)


def test_every_error_and_exit_code_is_described():
    """Each code of the registry stands in the reference with the exit code it leads to."""
    text = (REFERENCE / "errors.md").read_text()
    waiting = [errors.HoldfastError]
    while waiting:
        kind = waiting.pop()
        waiting += [each for each in kind.__subclasses__() if each.__module__ == errors.__name__]
        assert re.search(rf"^\| `{kind.code}` \| {kind.exit_code} \|", text, re.MULTILINE), kind
    for code in {0, 10, 11, 12, *EXIT_CODES.values()}:
        assert re.search(rf"^\| {code} \| ", text, re.MULTILINE)


def test_every_environment_variable_is_described():
    """Those of options and all others."""
    text = (REFERENCE / "environment.md").read_text()
    names = set(VARIABLES)
    for _, command in [*commands(), ("", build())]:
        for param in command.params:
            found = getattr(param, "envvar", None) or []
            names.update([found] if isinstance(found, str) else found)
    for name in names:
        assert f"`{name}`" in text


def test_variables_in_the_code_are_known():
    """No variable of ours is read that the reference does not name."""
    text = (REFERENCE / "environment.md").read_text()
    for path in (ROOT / "src").rglob("*.py"):
        for name in re.findall(r"[\"'](HOLDFAST_[A-Z_]+)[\"']", path.read_text()):
            assert f"`{name}`" in text, (path, name)


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/**/*.md")) + sorted(ROOT.glob("*.md")))
def test_links_lead_somewhere(path):
    """Relative links of every page name a file that is there."""
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / link).exists(), link


def test_commands_in_the_guide_are_real():
    """Every `holdfast ...` line that the pages show names a verb and options that there are."""
    known = dict(commands())
    common = {option for param in build().params for option in param.opts}
    for path in [ROOT / "README.md", *ROOT.glob("docs/guide/*.md")]:
        for line in re.findall(r"^\s*(?:\$ )?holdfast (.+)$", path.read_text(), re.MULTILINE):
            words = re.sub(r"\s#.*", "", line).split()
            while words and words[0].startswith("-"):
                words = words[2 if words[0] in {"-r", "--repo", "-p"} else 1 :]
            verb = next(
                (" ".join(words[:n]) for n in (3, 2, 1) if " ".join(words[:n]) in known), ""
            )
            assert verb, (path.name, line)
            params = known[verb].params
            options = common | {o for each in params for o in [*each.opts, *each.secondary_opts]}
            before = words[: words.index("--")] if "--" in words else words
            for word in before:
                if word.startswith("--"):
                    assert word.split("=")[0] in options, (path.name, line)


def test_changes_are_told():
    """Each fragment is one or two sentences of prose, and the changelog has a place for them."""
    assert "Unreleased" in (ROOT / "CHANGELOG.md").read_text()
    fragments = list((ROOT / "changelog" / "unreleased").glob("*.md"))
    assert fragments
    for path in fragments:
        assert path.read_text().strip().endswith("."), path


def test_every_invariant_is_shown():
    """Each promise that concerns this package is named by the docstring of a test."""
    listed = re.findall(r"^\| (I\d+) \|", (ROOT / "INVARIANTS.md").read_text(), re.MULTILINE)
    assert listed == [f"I{number}" for number in range(1, 11)]
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for name in listed:
        assert re.search(rf'"""[^"]*\b{name}\b', tests), name
