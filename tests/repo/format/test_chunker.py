"""Chunks: restic's cuts, in C and in Python."""

import hashlib
import json
import random
from itertools import accumulate, combinations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.repo.format import _reference
from holdfast.repo.format.chunker import (
    MAX_SIZE,
    MIN_SIZE,
    Chunker,
    is_irreducible,
    random_polynomial,
)

POLYNOMIAL = 0x3DA3358B4DC173
STRIDE = 16 << 10  # of a lane


def digest(polynomial, window):
    return _reference.remainder(int.from_bytes(window), polynomial)


def plant_cut(data, length, polynomial=POLYNOMIAL):
    """Makes the first `length` bytes a place to cut: the last three bytes count for themselves."""
    data[length - 3 : length] = bytes(3)
    low = digest(polynomial, data[length - 64 : length]) & 0xFFFFFF
    data[length - 3 : length] = low.to_bytes(3)


def noise(size, seed=0):
    return bytearray(random.Random(seed).randbytes(size))


def cut_all(data, polynomial=POLYNOMIAL):
    chunker = Chunker(polynomial)
    view = memoryview(data)
    start = 0
    chunks = []
    while (length := chunker.next_cut(view[start:], at_end=True)) is not None:
        chunks.append(bytes(view[start : start + length]))
        start += length
    return chunks


@st.composite
def hard_data(draw):
    """Data about as long as the smallest chunk, of all kinds that could set lanes at odds."""
    size = MIN_SIZE + draw(st.integers(-70, 4 * STRIDE + 300))
    seed = draw(st.binary(min_size=1, max_size=300))
    match draw(st.sampled_from(["random", "periodic", "zeros", "ones"])):
        case "random":
            data = bytearray(random.Random(seed).randbytes(size))
        case "periodic":
            data = bytearray((seed * (size // len(seed) + 1))[:size])
        case "zeros":
            data = bytearray(size)
        case _:
            data = bytearray(b"\xff" * size)
    polynomial = random_polynomial(random.Random(draw(st.integers(0, 5))))
    edges = [MIN_SIZE - 1 + lane * STRIDE + n for lane in range(5) for n in (0, 1, 2)]
    places = st.one_of(st.sampled_from(edges), st.integers(MIN_SIZE - 70, size))
    for length in draw(st.lists(places, max_size=4)):
        if length <= size:
            plant_cut(data, length, polynomial)
    return polynomial, bytes(data)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(hard_data(), st.booleans())
def test_c_and_python_cut_alike(hard, at_end):
    """The lanes of the extension find the very cut that going byte by byte finds."""
    rabin = pytest.importorskip("holdfast.repo.format._rabin")
    polynomial, data = hard
    expected = _reference.next_cut(polynomial, data, at_end)
    assert rabin.next_cut(polynomial, data, at_end) == expected


@settings(max_examples=30, deadline=None)
@given(st.integers(MIN_SIZE, MAX_SIZE - 1), st.integers(1, 3))
def test_a_planted_cut_is_found_wherever_it_is(length, seed):
    """A cut at any length up to the largest is found, if none comes before it."""
    pytest.importorskip("holdfast.repo.format._rabin")
    data = noise(MAX_SIZE, seed)
    before = Chunker(POLYNOMIAL).next_cut(data, at_end=False)
    plant_cut(data, length)
    found = Chunker(POLYNOMIAL).next_cut(data, at_end=False)
    assert found == min(before, length) or length - 64 < before < length + 64


@pytest.mark.parametrize("spare", [0, 1, 3, 400])
def test_the_first_of_cuts_in_several_lanes_counts(spare):
    """Wherever in their lanes two cuts are, the one with the lower length is found."""
    blank = noise(MIN_SIZE + 4 * STRIDE + spare)
    assert Chunker(POLYNOMIAL).next_cut(blank, at_end=False) is None
    places = [
        MIN_SIZE + lane * STRIDE + offset
        for lane in range(4)
        for offset in (0, 1, STRIDE // 2, STRIDE - 2, STRIDE - 1)
    ]
    for first, second in combinations(places, 2):
        data = blank.copy()
        plant_cut(data, first)
        plant_cut(data, second)
        if second - first > 2:  # else the one spoils the other
            assert Chunker(POLYNOMIAL).next_cut(data, at_end=False) == first


def test_largest_chunk_is_cut_alike():
    """Data without any place to cut is cut at the largest size, by C and Python."""
    polynomial = random_polynomial(random.Random(1))
    data = bytes([7]) * (MAX_SIZE + 10)
    assert Chunker(polynomial).next_cut(data, at_end=True) == MAX_SIZE
    assert Chunker(polynomial).next_cut(data[:MAX_SIZE], at_end=False) == MAX_SIZE
    assert Chunker(polynomial).next_cut(data[: MAX_SIZE - 1], at_end=False) is None
    assert Chunker(polynomial).next_cut(data[: MAX_SIZE - 1], at_end=True) == MAX_SIZE - 1
    assert _reference.next_cut(polynomial, data, True) == MAX_SIZE


def test_zeros_are_cut_at_the_smallest_size():
    """Holes and zeros become equal chunks of the smallest size, as restic's own test has it."""
    chunks = cut_all(bytes(4 * MIN_SIZE))
    assert [len(chunk) for chunk in chunks] == [MIN_SIZE] * 4
    assert hashlib.sha256(chunks[0]).hexdigest().startswith("07854d2fef297a06ba81685e660c332d")


@pytest.mark.parametrize("cut", [_reference.next_cut, Chunker.next_cut], ids=["python", "used"])
def test_ends_of_data(cut):
    """What is left at the end is a chunk however short; before the end that tells nothing."""

    def next_cut(data, *, at_end):
        if cut is Chunker.next_cut:
            return Chunker(POLYNOMIAL).next_cut(data, at_end=at_end)
        return cut(POLYNOMIAL, data, at_end) or None

    assert next_cut(b"", at_end=True) is None
    assert next_cut(b"", at_end=False) is None
    assert next_cut(b"x", at_end=True) == 1
    assert next_cut(b"x", at_end=False) is None
    data = noise(MIN_SIZE + 1)
    assert next_cut(data[: MIN_SIZE - 1], at_end=False) is None
    assert next_cut(data, at_end=False) is None
    assert next_cut(data, at_end=True) == MIN_SIZE + 1
    plant_cut(data, MIN_SIZE)
    assert next_cut(data[:MIN_SIZE], at_end=False) == MIN_SIZE
    assert next_cut(data, at_end=False) == MIN_SIZE
    plant_cut(data, MIN_SIZE + 1)
    assert next_cut(data, at_end=False) in {MIN_SIZE, MIN_SIZE + 1}


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 5), st.integers(0, 1000), st.integers(MAX_SIZE, 2 * MAX_SIZE))
def test_cuts_do_not_depend_on_windows(seed, lead, window):
    """Reading through a window, whatever else is in the buffer, gives the chunks of the whole."""
    pytest.importorskip("holdfast.repo.format._rabin")
    data = random.Random(seed).randbytes(3 * MAX_SIZE)
    chunker = Chunker(POLYNOMIAL)
    lengths = []
    start = 0
    while start < len(data):
        piece = data[start : start + window]
        buffer = random.Random(start).randbytes(lead) + piece
        length = chunker.next_cut(memoryview(buffer)[lead:], at_end=start + window >= len(data))
        lengths.append(length)
        start += length
    assert lengths == [len(chunk) for chunk in cut_all(data)]


@pytest.mark.parametrize("polynomial", [0, 1, 1 << 52, 1 << 54, (1 << 54) | POLYNOMIAL])
def test_other_degrees_are_refused(polynomial):
    """A polynomial that is not of degree 53 would cut elsewhere than restic: it is refused."""
    with pytest.raises(ValueError, match="degree"):
        Chunker(polynomial).next_cut(bytes(MIN_SIZE), at_end=True)
    with pytest.raises(ValueError, match="degree"):
        _reference.next_cut(polynomial, bytes(MIN_SIZE), True)
    assert not is_irreducible(polynomial)


def test_irreducible_polynomials_are_known():
    """restic's test polynomial and the shortest one in the tables are accepted."""
    assert is_irreducible(POLYNOMIAL)
    assert is_irreducible(1 << 53 | 1 << 6 | 1 << 2 | 1 << 1 | 1)


def multiply(a, b):
    product = 0
    for bit in range(b.bit_length()):
        product ^= (a << bit) * (b >> bit & 1)
    return product


@settings(deadline=None)
@given(st.integers(1, 26), st.data())
def test_products_are_not_irreducible(degree, data):
    """No product of two polynomials passes, whatever its factors."""
    one = 1 << degree | data.draw(st.integers(0, (1 << degree) - 1))
    other = 1 << (53 - degree) | data.draw(st.integers(0, (1 << (53 - degree)) - 1))
    assert multiply(one, other).bit_length() == 54
    assert not is_irreducible(multiply(one, other))


def test_new_polynomials_are_random_and_irreducible():
    """Each repository gets a polynomial of its own that restic accepts."""
    drawn = {random_polynomial() for _ in range(5)}
    assert len(drawn) == 5
    assert all(map(is_irreducible, drawn))
    assert random_polynomial(random.Random(4)) == random_polynomial(random.Random(4))


@pytest.mark.interop
def test_restic_cuts_at_the_same_places(tmp_path, stock_restic):
    """I6: the chunks of restic's own backup have the digests of ours, for data of every kind."""
    rng = random.Random(7)
    planted = noise(3 << 20, 9)
    files = {
        "random": rng.randbytes(24 << 20),
        "zeros": bytes(5 * MIN_SIZE + 1234),
        "periodic": rng.randbytes(99) * 120_000,
        "log": b"".join(b"10:%02d request %d took %d ms\n" % (i % 60, i, i * 7919 % 1009)
                        for i in range(400_000)),
        "smallest": rng.randbytes(MIN_SIZE),
        "shorter": rng.randbytes(MIN_SIZE - 1),
        "empty": b"",
    }  # fmt: skip
    restic = stock_restic(tmp_path / "r", tmp_path)
    restic("init")
    polynomial = int(json.loads(restic("cat", "config"))["chunker_polynomial"], 16)
    assert is_irreducible(polynomial)
    for length in (
        MIN_SIZE,
        2 * MIN_SIZE - 1,
        2 * MIN_SIZE,
    ):  # the first two are cuts from the start
        plant_cut(planted, length, polynomial)
    files["planted"] = bytes(planted)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    restic("backup", *files)
    snapshot, *listed = map(json.loads, restic("ls", "--json", "latest").splitlines())
    assert {node["name"] for node in listed if node["type"] == "file"} == set(files)
    nodes = {n["name"]: n for n in json.loads(restic("cat", "blob", snapshot["tree"]))["nodes"]}
    for name, content in files.items():
        ours = [hashlib.sha256(chunk).hexdigest() for chunk in cut_all(content, polynomial)]
        assert nodes[name]["content"] == ours, name
    assert len(cut_all(files["planted"], polynomial)[0]) == MIN_SIZE
    assert list(accumulate(map(len, cut_all(files["zeros"], polynomial))))[:2] == [
        MIN_SIZE,
        2 * MIN_SIZE,
    ]
