"""Filters leave out what the real restic leaves out."""

import json
import os
from types import SimpleNamespace

import pytest

from holdfast.core.clock import SystemClock
from holdfast.core.entries import Kind
from holdfast.core.secret import Secret
from holdfast.repo.repository import Repository
from holdfast.repo.saving.backup import BackupOptions, back_up
from holdfast.sources.files.filters import Filters
from holdfast.sources.files.lists import read_patterns, read_roots
from holdfast.sources.files.source import FileSource
from holdfast.store.directory import DirectoryStore

pytestmark = pytest.mark.interop

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
def restic(tree, stock_restic):
    """Restic: run it, ask what it would keep, and what of that is below the tree."""
    run = stock_restic(tree / "repository", tree)
    # Ours, because restic would choose a key that takes half a second each time it is opened.
    store = DirectoryStore(tree / "repository")
    Repository.init(store, Secret("secret"), clock=SystemClock())
    below = f"{tree}/tree/"

    def items(*arguments, cwd=tree):
        output = run("backup", "--dry-run", "--json", "-vv", *arguments, cwd=cwd)
        return {
            message["item"]
            for message in map(json.loads, output.splitlines())
            if message["message_type"] == "verbose_status"
        }

    def kept(options, roots):
        found = items(*options, *roots)
        return {item[len(below) :] for item in found if item.startswith(below)} - {""}

    return SimpleNamespace(run=run, items=items, kept=kept)


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

    theirs = restic.kept(_options(filters), roots)

    assert _ours(tree, filters, roots) == theirs
    assert theirs or case in {"everything", "slash"}


def test_several_roots_agree_with_restic(tree, restic):
    """In each other, twice, and files among them."""
    roots = [
        f"{tree}/tree/{name}" for name in ("src/lib", "src", "home/me/../you", "note.txt", "src")
    ]
    assert _ours(tree, Filters(), roots) == restic.kept([], roots)


def test_lists_in_files_agree_with_restic(tree, restic, monkeypatch):
    """--exclude-file with comments and variables, --files-from with patterns."""
    monkeypatch.setenv("HOME", str(tree))
    excludes = tree / "excludes"
    excludes.write_text(
        "# no\n\n  *.o  \n$HOME/tree/src/build\n${HOME}/tree/home/$NOBODY/me\n$$x\n"
    )
    names = tree / "names"
    names.write_text(f"# these\n{tree}/tree/s?c\n {tree}/tree/*.txt \n{tree}/tree/[h]*/you\n")

    filters = Filters(excludes=tuple(read_patterns([str(excludes)])))
    roots = [os.fsdecode(root) for root in read_roots(str(names))]

    assert _ours(tree, filters, roots) == restic.kept(
        [f"--exclude-file={excludes}", f"--files-from={names}"], []
    )


# --- relative roots -------------------------------------------------------------------------------

PLACES = {
    "names": ["docs", "note.txt"],
    "a path": ["docs/deep/er"],
    "dots in it": ["./docs/deep", "src/../docs", ".hidden", "./...", "docs/"],
    "above": ["../beside/a", "../../away/beside/b"],
    "the working directory": ["."],
    "the working directory and what is in it": [".", "docs/deep", "./src"],
    "the folder above": [".."],
    "several bases": ["docs/deep", "../beside/a", "src"],
    "the working directory among others": [".", "../beside"],
    "the folder above among others": ["../../away", "docs"],
    "relative and absolute": ["docs", "{away}/beside/a", "note.txt"],
    "the same twice": ["docs/deep", "{away}/here/docs/deep"],
    "more dots than folders": ["../" * 40 + "{away}/here/docs"],
}


@pytest.fixture
def here(tree, monkeypatch):
    """A working directory with something in it and something beside it."""
    away = tree / "away"
    for name in (
        "here/docs/deep/er/x", "here/docs/a.o", "here/src/b.c", "here/note.txt", "here/.hidden",
        "here/...", "beside/a/x", "beside/b/y",
    ):  # fmt: skip
        path = away / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
    monkeypatch.chdir(away / "here")
    return away / "here"


def _placed(walked):
    """Where things lie, with a slash behind folders; without `/`, which may come and go."""
    kinds = {step.path: step.entry.kind for step in walked.found}
    return {
        f"/{place}" + "/" * (kinds[step.path] is Kind.DIR)
        for place, step in zip(walked.tree, walked.found, strict=True)
    }


@pytest.mark.parametrize("case", PLACES)
def test_relative_roots_lie_where_restic_places_them(case, here, restic, walk):
    """Leading dots are dropped; only dots stand for what is in that directory."""
    names = [name.replace("{away}", str(here.parent)) for name in PLACES[case]]

    walked = walk(FileSource([os.fsencode(name) for name in names]), relative=True)

    assert _placed(walked) == restic.items(*names, cwd=here) - {"/"}
    assert not walked.problems


@pytest.mark.parametrize("names", [["."], [".", "../beside"], ["docs", "../beside"]])
def test_filters_see_the_real_paths_of_relative_roots(names, here, restic, walk):
    """Also those of what a directory of only dots is replaced by."""
    excludes = [str(here / "docs/deep"), str(here / "n*"), "src", "*.o", f"{here.parent}/beside/b"]
    options = [f"--exclude={pattern}" for pattern in excludes]
    source = FileSource(map(os.fsencode, names), Filters(excludes=tuple(excludes)))

    walked = walk(source, relative=True)

    assert _placed(walked) == restic.items(*options, *names, cwd=here) - {"/"}


class Nobody:
    """An observer that is not interested."""

    def item(self, *_):
        pass

    def problem(self, _):
        pass

    def progress(self, *_):
        pass


def test_snapshots_of_relative_roots_are_those_of_restic(here, tree, restic):
    """The same tree to the letter, the same absolute paths, and nothing is read again."""
    names = ["docs", "../beside/a", "note.txt"]
    restic.run("backup", *names, cwd=here)
    repository = Repository.open(DirectoryStore(tree / "repository"), Secret("secret"))
    (theirs,) = repository.snapshots()

    source = FileSource(map(os.fsencode, names))
    ours = back_up(repository, source, BackupOptions(parent=theirs), observer=Nobody(), lock=None)

    assert ours.tree == theirs.tree
    assert sorted(ours.snapshot.file.paths) == sorted(theirs.file.paths)
    assert (ours.counts.files_unmodified, ours.counts.files) == (4, 4)
