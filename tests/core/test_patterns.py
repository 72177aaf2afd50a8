"""Patterns mean what they mean to restic."""

import pickle
import posixpath
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.errors import UsageError
from holdfast.core.patterns import Patterns, decode_text, name_test, parse_pattern_file

MATCHES = [
    # a component anywhere, and all below it
    ("foo", "/foo", True),
    ("foo", "/a/foo/b/c", True),
    ("foo", "/a/foobar", False),
    ("foo/", "/a/foo", True),
    ("./foo//bar/.", "/x/foo/bar", True),
    ("foo/bar", "/a/foo/bar/c", True),
    ("foo/bar", "/a/foo/x/bar", False),
    ("../foo", "/a/foo", False),
    ("a/../foo", "/b/foo", True),
    # from the root
    ("/foo", "/foo/bar", True),
    ("/foo", "/a/foo", False),
    ("//foo", "/foo", True),
    ("/", "/any/thing", True),
    ("/*/b", "/a/b/c", True),
    ("/*/b", "/a/a/b", False),
    # wildcards stay within a component
    ("*", "/.hidden", True),
    ("*.go", "/a/.go", True),
    ("*.go", "/a/x.go", True),
    ("*.go", "/a/x.go/below", True),
    ("*.go", "/a/x.gone", False),
    ("a*b*c", "/abc", True),
    ("a*b*c", "/a-b--bc", True),
    ("a*b*c", "/a/b/c", False),
    ("a**c", "/abc", True),
    ("?", "/ab", False),
    ("?b", "/ab", True),
    ("?", "/\u00e9", True),
    ("a?c", "/a/c", False),
    ("a*c", "/a\nc", True),
    # classes and escapes
    ("[a-c]x", "/bx", True),
    ("[a-c]x", "/dx", False),
    ("[^a-c]x", "/dx", True),
    ("[^a-c]x", "/bx", False),
    ("a[^b]c", "/a/c", False),
    ("[+-9]", "/a/b", False),
    ("x[+-9]y", "/x/y", False),
    ("[\u00e0-\u00ff]", "/\u00e9", True),
    ("[\u00e0-\u00ff]", "/e", False),
    (r"[\]]", "/]", True),
    (r"[\-x]", "/-", True),
    ("[!a]", "/!", True),
    ("[z-a]", "/m", False),
    ("[^z-a]", "/m", True),
    ("]", "/]", True),
    ("{a,b}", "/a", False),
    ("{a,b}", "/{a,b}", True),
    (r"\*", "/*", True),
    (r"\*", "/a", False),
    (r"\a", "/a", True),
    ("a.c", "/abc", False),
    # any number of components
    ("**", "/a", True),
    ("/**", "/a/b", True),
    ("**/foo", "/foo", True),
    ("**/foo", "/a/b/foo", True),
    ("foo/**", "/foo", True),
    ("foo/**/bar", "/x/foo/bar", True),
    ("foo/**/bar", "/x/foo/1/2/bar/y", True),
    ("foo/**/bar", "/x/foo/1/2/baz", False),
    ("/foo/**/bar", "/x/foo/bar", False),
    ("/foo/**/*.c", "/foo/a/b/x.c", True),
    ("/foo/**/a/**/b", "/foo/a/x/y/b", True),
    ("/foo/**/a/**/b", "/foo/x/b/a", False),
    ("/foo/**/a/b", "/foo/a/x/a/b", True),
]


@pytest.mark.parametrize(("pattern", "path", "expected"), MATCHES)
def test_a_pattern_matches_what_it_should(pattern, path, expected):
    """The language by example."""
    assert Patterns([pattern]).matches(path.encode()) is expected


@pytest.mark.parametrize(
    ("patterns", "path", "expected"),
    [
        (["*", "!keep"], "/keep", False),
        (["*", "!keep"], "/other", True),
        (["*", "!keep", "keep"], "/keep", True),
        (["!keep", "*"], "/keep", True),
        (["!keep"], "/keep", False),
        (["a", "!b", "c"], "/a/b", False),
        (["a", "!b", "c"], "/a/b/c", True),
        (["", "x", ""], "/x", True),
        ([], "/x", False),
        (["!"], "/x", False),
    ],
)
def test_the_last_pattern_that_matches_wins(patterns, path, expected):
    """A pattern with ! in front takes back what those before it matched."""
    assert Patterns(patterns).matches(path.encode()) is expected


def test_case_is_ignored_where_asked():
    """Letters of any script; bytes that are no text still count."""
    patterns = Patterns(
        ["*.JPG", "\u00c4rger", "[A-C]x", "\u0130", "\u03a3\u03a3"], ignore_case=True
    )
    for path in ("/a.jpg", "/A.JpG", "/\u00e4RGER", "/BX", "/bx", "/i", "/\u03c3\u03c3"):
        assert patterns.matches(path.encode()), path
    assert patterns.matches(b"/\xff\xe9.jPg")
    assert not patterns.matches(b"/a.jpe")
    assert not Patterns(["*.JPG"]).matches(b"/a.jpg")


def test_bytes_that_are_no_text_are_matched():
    """A byte that is no UTF-8 is one character, and itself."""
    assert Patterns(["?"]).matches(b"/\xff")
    assert not Patterns(["?"]).matches(b"/\xff\xff")
    assert Patterns([b"\xff*".decode("utf-8", "surrogateescape")]).matches(b"/\xff\xfe")
    assert Patterns(["*.bak"]).matches(b"/\xe9.bak")


@pytest.mark.parametrize(
    "pattern", ["[", "[a", "[]a]", "[^]a]", "[a-]", "[-a]", "a\\", "[a\\", "x/["]
)
def test_a_malformed_pattern_is_refused_with_its_text(pattern):
    """All malformed ones are named in one message."""
    with pytest.raises(UsageError) as raised:
        Patterns(["fine", pattern, "!["])
    assert repr(pattern) in raised.value.message
    assert "'!['" in raised.value.message
    assert "fine" not in raised.value.message


@pytest.mark.parametrize(
    ("patterns", "path", "expected"),
    [
        (["/a/b/c"], "/", True),
        (["/a/b/c"], "/a", True),
        (["/a/b/c"], "/a/b", True),
        (["/a/b/c"], "/a/b/c/d", True),
        (["/a/b/c"], "/b", False),
        (["/a/b/c"], "/a/c", False),
        (["/a/*/c"], "/a/x", True),
        (["/a/**/c"], "/a/x/y/z", True),
        (["/a/**/c"], "/b", False),
        (["c"], "/anywhere", True),
        (["/a", "/b/c"], "/b", True),
        (["c", "!x"], "/x", False),
        ([], "/a", False),
    ],
)
def test_it_is_known_where_looking_is_worth_it(patterns, path, expected):
    """A walk need not descend where nothing below can match."""
    assert Patterns(patterns).may_match_below(path.encode()) is expected


def test_it_is_known_where_all_below_is_matched():
    """Unless a later pattern may take something back."""
    assert Patterns(["/a"]).covers(b"/a/b")
    assert not Patterns(["/a/b"]).covers(b"/a")
    assert not Patterns(["/a", "!keep"]).covers(b"/a/b")


def test_patterns_can_be_pickled():
    """Sources go to worker processes."""
    patterns = pickle.loads(pickle.dumps(Patterns(["*.o", "!x"])))
    assert patterns.matches(b"/a.o")


@pytest.mark.timeout(10)
def test_hostile_patterns_stay_fast():
    """Neither many stars nor many ** make a long name expensive."""
    started = time.monotonic()
    assert not Patterns(["a*" * 60 + "b"]).matches(b"/" + b"a" * 255)
    assert not Patterns(["/**/a" * 30 + "/b"]).matches(b"/a" * 1000)
    assert not Patterns(["**/a" * 20 + "/b"]).matches(b"/a" * 300)
    assert Patterns(["/a" * 1500]).matches(b"/a" * 1500)
    assert time.monotonic() - started < 5


# --- against the definition -----------------------------------------------------------------------


def _name_matches(pattern, name):
    """What a component means, by trying everything; stars, question marks and letters only."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(_name_matches(pattern[1:], name[cut:]) for cut in range(len(name) + 1))
    return bool(name) and pattern[0] in {"?", name[0]} and _name_matches(pattern[1:], name[1:])


def _run_matches(components, names):
    """Whether names begin with what the components ask for."""
    if not components:
        return True
    if components[0] == "**":
        return any(_run_matches(components[1:], names[cut:]) for cut in range(len(names) + 1))
    return (
        bool(names)
        and _name_matches(components[0], names[0])
        and _run_matches(components[1:], names[1:])
    )


def _matches(pattern, path):
    names = path.split("/")[1:]
    cleaned = posixpath.normpath(pattern)
    components = cleaned.lstrip("/").split("/")
    starts = [0] if cleaned.startswith("/") else range(len(names))
    return any(_run_matches(components, names[start:]) for start in starts)


_NAME = st.text("ab.", min_size=1, max_size=4).filter(lambda name: set(name) != {"."})
_PART = st.one_of(st.just("**"), st.text("ab.*?", min_size=1, max_size=4))
_PATTERN = st.builds(
    lambda parts, rooted: "/" * rooted + "/".join(parts),
    st.lists(_PART, min_size=1, max_size=4).filter(lambda parts: not {".", ".."} & set(parts)),
    st.booleans(),
)
_PATH = st.lists(_NAME, min_size=1, max_size=5).map(lambda names: "/" + "/".join(names))


@given(pattern=_PATTERN, path=_PATH)
def test_patterns_agree_with_their_definition(pattern, path):
    """Whatever the pattern, the compiled form answers as trying everything does."""
    assert Patterns([pattern]).matches(path.encode()) == _matches(pattern, path)


@given(patterns=st.lists(_PATTERN, max_size=4), path=_PATH, ignore_case=st.booleans())
def test_asking_on_the_way_down_is_asking_at_once(patterns, path, ignore_case):
    """`matches_last` along a path finds the same as `matches` of the whole."""
    compiled = Patterns(patterns, ignore_case=ignore_case)
    names = path.encode().split(b"/")[1:]
    above = b""
    found = False
    for name in names:
        above += b"/" + name
        if compiled.matches_last(above, name):
            found = True
            break
    assert found == compiled.matches(path.encode())


@given(patterns=st.lists(_PATTERN, min_size=1, max_size=3), path=_PATH)
def test_nothing_matches_below_where_looking_was_not_worth_it(patterns, path):
    """`may_match_below` may say yes in vain, never no."""
    compiled = Patterns(patterns)
    if compiled.matches(path.encode()):
        above = path
        while above != "/":
            above = posixpath.dirname(above)
            assert compiled.may_match_below(above.encode())


# --- pattern files --------------------------------------------------------------------------------


def test_a_pattern_file_is_read_line_by_line():
    """Comments, empty lines and space around patterns are left out; variables are filled in."""
    content = (
        b"# comment\n\n  *.o  \r\n\t#also\n$HOME/x\n${HOME}y\n$$cash\n$UNSET/z\n"
        b"${}a${ b\n$1x\n${$}\nend$\n$/\n\xff\n"
    )
    assert parse_pattern_file(content, {"HOME": "/home/me"}) == [
        "*.o", "/home/me/x", "/home/mey", "$cash", "/z", "a b", "x", "$", "end$", "$/", "\udcff",
    ]  # fmt: skip


def test_text_may_say_how_it_is_encoded():
    """A byte order mark is no part of the first pattern."""
    for encoded in (
        "\u00e9\n".encode(), b"\xef\xbb\xbf\xc3\xa9\n",
        b"\xff\xfe" + "\u00e9\n".encode("utf-16-le"), b"\xfe\xff" + "\u00e9\n".encode("utf-16-be"),
    ):  # fmt: skip
        assert decode_text(encoded) == "\u00e9\n"


def test_a_single_name_can_be_tested():
    """For expanding lists of roots."""
    matches = name_test("*.[ch]")
    assert [name for name in (b"a.c", b"b.h", b"c.o", b".c") if matches(name)] == [
        b"a.c", b"b.h", b".c",
    ]  # fmt: skip
    with pytest.raises(UsageError):
        name_test("[")
