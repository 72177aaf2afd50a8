"""The extension against its plain statement, with sound, odd and hostile arguments."""

import random
import runpy
import struct
import sys
import threading

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from holdfast.repo.format import _kernel, _reference

rabin = pytest.importorskip("holdfast.repo.format._rabin")

few_ids = st.sampled_from(
    [bytes(32), b"\xff" * 32, b"\x80" + bytes(31), bytes(31) + b"\x01", b"\x12\x34\x56\x78" * 8]
)
ids = st.one_of(few_ids, st.binary(min_size=32, max_size=32))
numbers = st.integers(0, 2**32 - 1)
rows_of_packs = st.lists(
    st.builds(
        lambda blob, tree, pack, *place: struct.pack(">32sIIII", blob, tree << 31 | pack, *place),
        ids,
        st.booleans(),
        st.integers(0, 9),
        numbers,
        numbers,
        numbers,
    ),
    max_size=60,
).map(b"".join)


def outcome(function, *arguments):
    """The result, or the exception's type."""
    try:
        return function(*arguments)
    except (ValueError, TypeError, BufferError) as error:
        return type(error)


def sorted_by(function, rows):
    buffer = bytearray(rows)
    distinct = function(buffer)
    return bytes(buffer[: 48 * distinct])


@settings(deadline=None)
@given(rows_of_packs)
@example(b"".join(bytes(47) + bytes([n % 251]) for n in range(1000)))
@example(b"".join(bytes(n % 48) + b"\1" + bytes(47 - n % 48) for n in range(3000)))
@example(bytes(48 * 100))
def test_rows_are_sorted_alike(rows):
    """C and Python give the same distinct rows in the order of their bytes."""
    assert sorted_by(rabin.sort_rows, rows) == sorted_by(_reference.sort_rows, rows)


def test_many_rows_are_sorted():
    """A hundred thousand rows come out as Python sorts them."""
    rng = random.Random(3)
    rows = [rng.randbytes(48) for _ in range(100_000)]
    assert sorted_by(rabin.sort_rows, b"".join(rows)) == b"".join(sorted(rows))


@settings(deadline=None)
@given(rows_of_packs, st.lists(numbers, max_size=12))
def test_packs_are_renumbered_alike(rows, replacement):
    """Pack numbers are replaced, kinds are kept; a row of a pack without a number is refused."""
    table = struct.pack(f"={len(replacement)}I", *replacement)
    ours, plain = bytearray(rows), bytearray(rows)
    result = outcome(rabin.renumber, ours, table)
    assert result == outcome(_reference.renumber, plain, table)
    assert ours == plain


@settings(deadline=None)
@given(rows_of_packs, st.lists(ids, max_size=20), st.integers(0, 12))
def test_rows_are_found_alike(rows, wanted, bits):
    """Both find the same first row for each id and kind, with any number of looked-up bits."""
    rows = sorted_by(rabin.sort_rows, rows)
    starts = rabin.row_starts(rows, bits)
    assert starts == _reference.row_starts(rows, bits)
    wanted += [rows[at : at + 32] for at in range(0, len(rows), 48)]
    for tree in (False, True):
        for blob in wanted:
            row = rabin.find_row(rows, starts, blob, tree)
            assert row == _reference.find_row(rows, starts, blob, tree)
            if row >= 0:
                assert rows[48 * row : 48 * row + 32] == blob
        together = b"".join(wanted)
        known = rabin.have_rows(rows, starts, together, tree)
        assert known == _reference.have_rows(rows, starts, together, tree)


@settings(deadline=None)
@given(rows_of_packs, st.integers(-1, 12))
def test_rows_are_ordered_by_pack_alike(rows, packs):
    """Both number the rows pack by pack, and refuse rows of packs that are not there."""
    if packs < 0:
        with pytest.raises(ValueError, match="packs"):
            rabin.order_by_pack(rows, packs)
    else:
        expected = outcome(_reference.order_by_pack, rows, packs)
        assert outcome(rabin.order_by_pack, rows, packs) == expected


@settings(deadline=None)
@given(rows_of_packs, st.integers(0, 12), st.integers(0, 2**32 - 1), st.integers(0, 99))
def test_lengths_of_packs_add_up_alike(rows, packs, plain, compressed):
    """Both add the same, and refuse rows of packs that are not there."""
    expected = outcome(_reference.pack_lengths, rows, packs, plain, compressed)
    assert outcome(rabin.pack_lengths, rows, packs, plain, compressed) == expected


@settings(deadline=None)
@given(
    st.binary(max_size=500),
    st.integers(0, 6).flatmap(lambda bits: st.binary(max_size=4 * ((1 << bits) + 1))),
    st.binary(max_size=96),
    st.integers(-(2**31), 2**31 - 1),
)
def test_nonsense_neither_crashes_nor_finds(rows, starts, blobs, number):
    """Buffers that are no rows, starts or ids are refused, or nothing wrong is found in them."""
    outcome(rabin.sort_rows, bytearray(rows))
    outcome(rabin.renumber, bytearray(rows), starts)
    outcome(rabin.row_starts, rows, number)
    outcome(rabin.order_by_pack, rows, number % 1000)
    outcome(rabin.pack_lengths, rows, number % 1000, 0, 0)
    assert outcome(rabin.scan_index, rows) is None
    outcome(rabin.have_rows, rows, starts, blobs, False)
    row = outcome(rabin.find_row, rows, starts, blobs, True)
    if isinstance(row, int) and row >= 0:
        assert rows[48 * row : 48 * row + 32] == blobs


@pytest.mark.parametrize("kernel", [rabin, _reference], ids=["c", "python"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("sort_rows", (bytearray(47),)),
        ("renumber", (bytearray(49), b"")),
        ("renumber", (bytearray(48), b"")),
        ("row_starts", (bytes(48), 25)),
        ("row_starts", (bytes(48), -1)),
        ("row_starts", (bytes(50), 1)),
        ("find_row", (bytes(48), bytes(8), bytes(31), False)),
        ("find_row", (bytes(47), bytes(8), bytes(32), False)),
        ("have_rows", (bytes(48), bytes(8), bytes(33), False)),
        ("order_by_pack", (bytes(47), 1)),
        ("order_by_pack", (bytes(48), 0)),
        ("pack_lengths", (bytes(47), 1, 0, 0)),
        ("pack_lengths", (bytes(48), 0, 0, 0)),
        ("next_cut", (1 << 52, bytes(1 << 20), False)),
    ],
)
def test_wrong_values_are_refused(kernel, name, arguments):
    """Each function checks what it is given, in C and in Python."""
    with pytest.raises(ValueError, match=r"\w"):
        getattr(kernel, name)(*arguments)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (rabin.sort_rows, (bytes(48),)),  # read-only
        (rabin.find_row, (bytes(48), bytes(16), bytes(32), False)),
        (rabin.find_row, (bytes(48), b"", bytes(32), False)),
        (rabin.order_by_pack, (bytes(48), 2**31)),
        (rabin.pack_lengths, (bytes(48), 2**31, 0, 0)),
        (rabin.scan_index, ("text",)),
        (rabin.next_cut, (1 << 53, None, False)),
    ],
)
def test_what_c_could_trip_over_is_refused(function, arguments):
    """Buffers of the wrong kind or size never reach the loops."""
    with pytest.raises((ValueError, TypeError, BufferError)):
        function(*arguments)


def test_python_takes_over_where_there_is_no_extension(monkeypatch):
    """Without a compiled extension everything runs on the plain statements."""
    monkeypatch.setitem(sys.modules, "holdfast.repo.format._rabin", None)
    names = runpy.run_path(_kernel.__file__)
    assert {names[name] for name in names["__all__"]} == {
        getattr(_reference, name) for name in _kernel.__all__
    }


def test_rows_that_change_while_they_are_sorted_stay_in_bounds():
    """Another thread that writes to the rows spoils the order and nothing else."""
    guard = bytes(4096)
    buffer = bytearray(guard + random.Random(1).randbytes(48 * 200_000) + guard)
    rows = memoryview(buffer)[4096:-4096]
    done = threading.Event()

    def scribble():
        while not done.is_set():
            rows[: 48 * 50_000] = bytes(48 * 50_000)
            rows[: 48 * 50_000] = b"\xff" * (48 * 50_000)

    scribbler = threading.Thread(target=scribble)
    scribbler.start()
    for _ in range(10):
        assert 0 < rabin.sort_rows(rows) <= 200_000
    done.set()
    scribbler.join()
    assert buffer[:4096] == buffer[-4096:] == guard
