"""Filters leave out what the real restic leaves out."""

import json
import os
import shutil
import subprocess

import pytest

from holdfast.core.clock import SystemClock
from holdfast.core.entries import Kind
from holdfast.core.secret import Secret
from holdfast.repo.repository import Repository
from holdfast.sources.files.filters import Filters
from holdfast.sources.files.lists import read_patterns, read_roots
from holdfast.sources.files.source import FileSource
from holdfast.store.directory import DirectoryStore

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not shutil.which("restic"), reason="no restic here"),
]

TREE = {
    "a.o": b"", "b.O": b"", "note.txt": b"12345", ".hidden": b"", "~": b"", "x[1].c": b"",
    "\u00e9t\u00e9.txt": b"", "\u00c9T\u00c9.md": b"",
    "new\nline": b"", "back\\slash": b"", "star*": b"",
    "src/a.c": b"", "src/b.h": b"", "src/build/obj/x.o": b"", "src/build/keep": b"",
    "src/lib/build/y": b"", "src/lib/deep/er/z.c": b"", "src/lib/deep/z.c": b"",
    "home/me/.cache/thing": b"", "home/me/doc/cv.txt": b"x" * 2000, "home/you/.cache/thing": b"",
    "tagged/CACHEDIR.TAG": b"Signature: 8a477f597d28d172789f06886806bc55", "tagged/in/x": b"",
    "untagged/CACHEDIR.TAG": b"Signature", "untagged/x": b"",
    "marked/.no": b"keep out", "marked/x/y": b"", "build": b"", "empty/": b"",
}  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    top = tmp_path_factory.mktemp("restic")
    for name, content in TREE.items():
        path = top / "tree" / name
        if name.endswith("/"):
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return top


@pytest.fixture(scope="module")
def restic(tree):
    """What restic would keep below the tree, given options."""
    environment = {
        **os.environ,
        "RESTIC_PASSWORD": "restic",
        "RESTIC_REPOSITORY": str(tree / "repository"),
        "HOME": str(tree),
    }

    def run(*arguments):
        return subprocess.run(
            ["restic", "--no-cache", *arguments],
            env=environment, check=True, capture_output=True, timeout=60, cwd=tree,
        ).stdout  # fmt: skip

    # Ours, because restic would choose a key that takes half a second each time it is opened.
    store = DirectoryStore(tree / "repository")
    Repository.init(store, Secret("restic"), clock=SystemClock())
    below = f"{tree}/tree/"

    def kept(options, roots):
        output = run("backup", "--dry-run", "--json", "-vv", *options, *roots)
        items = [
            message["item"]
            for message in map(json.loads, output.splitlines())
            if message["message_type"] == "verbose_status"
        ]
        return {item[len(below) :] for item in items if item.startswith(below)} - {""}

    return kept


def _options(filters):
    options = []
    for name, values in (
        ("--exclude", filters.excludes),
        ("--iexclude", filters.iexcludes),
        ("--exclude-if-present", filters.exclude_if_present),
    ):
        options += [f"{name}={value}" for value in values]
    options += ["--exclude-caches"] * filters.exclude_caches
    if filters.exclude_larger_than is not None:
        options.append(f"--exclude-larger-than={filters.exclude_larger_than}")
    return options


def _ours(tree, filters, roots):
    """Files, and folders with a slash, as restic writes them."""
    below = os.fsencode(tree) + b"/tree/"
    names = set()
    for step in FileSource([os.fsencode(root) for root in roots], filters).walk():
        if getattr(step, "path", b"").startswith(below):
            folder = step.entry.kind is Kind.DIR
            names.add(os.fsdecode(step.path[len(below) :]) + "/" * folder)
    return names


CASES = {
    "nothing": {},
    "names": {"excludes": ["*.o", "build", "~", ".*"]},
    "case": {"iexcludes": ["*.o", "\u00e9t\u00e9.*", "SRC/LIB"]},
    "classes": {"excludes": ["x[[]1].c", "[a-b].[co]", "[^a-z.]*"]},
    "escapes": {"excludes": [r"x\[1\].c", r"star\*", r"back\\slash"]},
    "question marks": {"excludes": ["?.o", "???.txt", "src/?.h"]},
    "rooted": {"excludes": ["{tree}/src/build", "/src", "{tree}/*/me"]},
    "stars stay in a component": {"excludes": ["{tree}/*.c", "{tree}/*/*.c"]},
    "any depth": {"excludes": ["src/**/z.c", "{tree}/home/**/.cache"]},
    "any depth at the end": {"excludes": ["{tree}/src/lib/**", "**/me/doc"]},
    "everything": {"excludes": ["**"]},
    "slash": {"excludes": ["/"]},
    "cleaned": {"excludes": ["src/", "./home//me/../you/.", "//build"]},
    "several components": {"excludes": ["lib/deep", "build/obj", "me/cv.txt"]},
    "negated": {"excludes": ["*.txt", "!note.txt", "src/*", "!src/lib", "lib/build"]},
    "negated first": {"excludes": ["!*.o", "*.o"]},
    "negated in vain": {"excludes": ["src", "!src/a.c"]},
    "both cases negated": {"iexcludes": ["*.O", "!B.o"], "excludes": ["note.*"]},
    "caches": {"exclude_caches": True},
    "marks": {"exclude_if_present": [".no:keep", "a.c"]},
    "large": {"exclude_larger_than": 5},
    "odd names": {"excludes": ["new*line", "new?line", "\u00e9*", "*[\u00c9]*"]},
}


@pytest.mark.parametrize("case", CASES)
def test_filters_agree_with_restic(case, tree, restic):
    """The same options keep the same files and folders."""
    values = {
        name: tuple(str(item).replace("{tree}", f"{tree}/tree") for item in value)
        if isinstance(value, list)
        else value
        for name, value in CASES[case].items()
    }
    filters = Filters(**values)
    roots = [f"{tree}/tree"]

    theirs = restic(_options(filters), roots)

    assert _ours(tree, filters, roots) == theirs
    assert theirs or case in {"everything", "slash"}


def test_several_roots_agree_with_restic(tree, restic):
    """In each other, twice, and files among them."""
    roots = [
        f"{tree}/tree/{name}" for name in ("src/lib", "src", "home/me/../you", "note.txt", "src")
    ]
    assert _ours(tree, Filters(), roots) == restic([], roots)


def test_lists_in_files_agree_with_restic(tree, restic, monkeypatch):
    """--exclude-file with comments and variables, --files-from with patterns."""
    monkeypatch.setenv("HOME", str(tree))
    excludes = tree / "excludes"
    excludes.write_text(
        "# no\n\n  *.o  \n$HOME/tree/src/build\n${HOME}/tree/home/$NOBODY/me\n$$x\n"
    )
    names = tree / "names"
    names.write_text(f"# these\n{tree}/tree/s?c\n {tree}/tree/*.txt \n{tree}/tree/[h]*/you\n")

    filters = Filters(excludes=tuple(read_patterns([os.fsencode(excludes)])))
    roots = [os.fsdecode(root) for root in read_roots(os.fsencode(names))]

    assert _ours(tree, filters, roots) == restic(
        [f"--exclude-file={excludes}", f"--files-from={names}"], []
    )
