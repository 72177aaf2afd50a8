"""Index documents: written as restic writes them, read however they are written."""

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.errors import DamagedError, UnknownVersionError
from holdfast.core.ids import BlobId, PackId
from holdfast.repo.blobs.blobtable import build, part_of
from holdfast.repo.blobs.index_file import MAX_BLOBS, decode, decode_rows, documents, encode
from holdfast.repo.format import _kernel, _reference
from holdfast.repo.format.pack import BlobKind, PackedBlob

NAME = "ab" * 32
ids = st.binary(min_size=32, max_size=32)
numbers = st.integers(0, 2**32 - 1)
blobs = st.builds(PackedBlob, ids, st.sampled_from([0, 1]), numbers, numbers, numbers)
contents = st.lists(st.tuples(ids, st.lists(blobs, max_size=4)), max_size=4)

EXAMPLE = [
    (
        PackId(b"\x01" * 32),
        [
            PackedBlob(BlobId(b"\x0a" * 32), BlobKind.DATA, 0, 60, 100),
            PackedBlob(BlobId(b"\x0b" * 32), BlobKind.TREE, 60, 70, 0),
        ],
    ),
    (PackId(b"\x02" * 32), []),
]


@pytest.fixture(params=["c", "python"], autouse=True)
def kernel(request, monkeypatch):
    """Everything here holds with the extension and without it."""
    if request.param == "python":
        for name in _kernel.__all__:
            monkeypatch.setattr(_kernel, name, getattr(_reference, name))
    else:
        pytest.importorskip("holdfast.repo.format._rabin")
    return request.param


def rows(part):
    """Parts are equal if their tables are."""
    table = build([part])
    return bytes(table.packs), bytes(table.rows)


def test_document_is_written_as_restic_writes_it():
    """Keys, their order, spacing and end are restic's; no plaintext length where none is due."""
    assert encode(EXAMPLE) == (
        b'{"packs":[{"id":"' + b"01" * 32 + b'","blobs":['
        b'{"id":"' + b"0a" * 32 + b'","type":"data","offset":0,"length":60,'
        b'"uncompressed_length":100},'
        b'{"id":"' + b"0b" * 32 + b'","type":"tree","offset":60,"length":70}]},'
        b'{"id":"' + b"02" * 32 + b'","blobs":[]}]}\n'
    )


@settings(max_examples=60, deadline=None)
@given(contents)
def test_what_is_encoded_is_decoded(packs):
    """Packs and blobs come back as they were, as values and as rows."""
    document = encode(packs)
    assert decode(document, name=NAME) == packs
    assert rows(decode_rows(document, name=NAME)) == rows(part_of(packs))


@pytest.mark.parametrize(
    "document",
    [
        b'{"packs":[]}',
        b'{"packs":[]}\n',
        b'{"packs":null}',
        b'{"supersedes":["' + b"ab" * 32 + b'"],"packs":[]}',
        b'{"supersedes":["' + b"ab" * 32 + b'","' + b"cd" * 32 + b'"],"packs":[]}',
        b'{"supersedes":[],"packs":[]}',
        b'{"packs":[],"supersedes":null}',
    ],
)
def test_documents_without_packs(document):
    """An index may be empty, and may name files that it replaced: those lists are not needed."""
    assert decode(document, name=NAME) == []
    assert rows(decode_rows(document, name=NAME)) == (b"", b"")


def test_odd_spelling_is_read_all_the_same():
    """Other spacing, order, letters and unknown keys go past the fast scanner and lose nothing."""
    plain = json.loads(encode(EXAMPLE))
    turned = {
        "note": {"packs": [1]},
        "packs": [
            {"blobs": [dict(reversed(blob.items())) for blob in pack["blobs"]], "id": pack["id"]}
            for pack in plain["packs"]
        ],
    }
    for odd in (
        json.dumps(plain),
        json.dumps(plain, indent=2),
        json.dumps(turned, separators=(",", ":")),
        encode(EXAMPLE).decode().replace("0a" * 32, "0A" * 32),
        encode(EXAMPLE).decode().replace('"type"', '"ty\\u0070e"'),
        encode(EXAMPLE).decode().replace('"blobs":[]', '"blobs":null'),
        " " + encode(EXAMPLE).decode(),
        encode(EXAMPLE).decode() + "\n",
    ):
        assert decode(odd.encode(), name=NAME) == EXAMPLE
        assert _kernel.scan_index(odd.encode()) is None
        assert rows(decode_rows(odd.encode(), name=NAME)) == rows(part_of(EXAMPLE))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"offset":60', '"offset":4294967296'),
        ('"offset":60', '"offset":18446744073709551676'),
        ('"offset":60', '"offset":-1'),
        ('"offset":60', '"offset":060'),
        ('"offset":60', '"offset":6.5'),
        ('"offset":60', '"offset":'),
        ('"offset":60', '"offset":"60"'),
        ('"type":"tree"', '"type":"leaf"'),
        ('"type":"tree"', '"type":"treee"'),
        ('"length":70', '"lenght":70'),
        ("0b" * 32, "0b" * 31),
        ("0b" * 32, "0b" * 33),
        ("0b" * 32, "0g" * 32),
        ("0b" * 32, "0b" * 31 + "0b\\n"),
        ('"packs"', '"pack"'),
        ("]}]}", "]}]"),
        ("]}]}\n", "]}]}}"),
        ("]}]}\n", "]}]}\x00"),
        ("{", ""),
        ("{", "\xff{"),
    ],
)
def test_damaged_documents_are_refused(old, new):
    """I4: a document that is not an index gives an error that names the file, never fewer blobs."""
    document = encode(EXAMPLE).decode().replace(old, new, 1).encode("latin-1")
    with pytest.raises(DamagedError, match="index abababab"):
        decode(document, name=NAME)
    with pytest.raises(DamagedError, match="index abababab"):
        decode_rows(document, name=NAME)


@pytest.mark.parametrize("document", [b"", b"null", b'"x"', b"{}", b"\x00" * 200])
def test_other_documents_are_refused(document):
    """What is no object with packs is no index."""
    with pytest.raises(DamagedError):
        decode_rows(document, name=NAME)


def test_the_oldest_form_is_refused_clearly():
    """A bare list of packs is recognised, and the error says what to do."""
    with pytest.raises(UnknownVersionError, match="old form") as caught:
        decode_rows(b' [{"id":"x","blobs":[]}]', name=NAME)
    assert "repair index" in caught.value.advice


@settings(max_examples=300, deadline=None)
@given(contents, st.data())
def test_scanner_reads_a_mangled_document_right_or_not_at_all(packs, data):
    """I4: whatever happened to a document, the scanner gives the JSON parser's rows or none."""
    document = bytearray(encode(packs))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(document)))
        size = data.draw(st.integers(0, 5))
        match data.draw(st.sampled_from(["cut", "put", "repeat", "swap"])):
            case "cut":
                del document[at : at + size]
            case "put":
                document[at:at] = data.draw(st.sampled_from([b"0", b"9", b",", b'"', b"}", b" "]))
            case "repeat":
                document[at:at] = document[at : at + 40 * size]
            case _:
                document[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
    scanned = _kernel.scan_index(bytes(document))
    if scanned is not None:
        expected = part_of(decode(bytes(document), name=NAME))
        assert scanned == (bytes(expected.packs), bytes(expected.rows))


def test_every_truncated_document_is_refused():
    """A half-written index is damaged at every length."""
    document = encode(EXAMPLE)
    for length in range(len(document) - 1):  # all but the last line end
        with pytest.raises(DamagedError):
            decode_rows(document[:length], name=NAME)


def test_scanner_takes_what_we_write(kernel):
    """Our own documents never fall back to the slow way, where the fast one is there."""
    taken = _kernel.scan_index(encode(EXAMPLE)) is not None
    assert taken == (kernel == "c")


def test_large_indexes_are_split():
    """No document has too many blobs unless one pack has; no pack is split or lost."""
    blob = PackedBlob(BlobId(bytes(32)), 0, 0, 1, 0)
    sizes = [MAX_BLOBS - 1, 1, 1, MAX_BLOBS + 5, 0, 7]
    packs = [(PackId(bytes([n]) * 32), [blob] * size) for n, size in enumerate(sizes)]
    decoded = [decode(document, name=NAME) for document in documents(packs)]
    assert [[len(blobs) for _, blobs in packs] for packs in decoded] == [
        [MAX_BLOBS - 1, 1],
        [1],
        [MAX_BLOBS + 5],
        [0, 7],
    ]
    assert [pack for packs in decoded for pack in packs] == packs
    assert list(documents([])) == []


@pytest.fixture(scope="module", params=["1", "2"], ids=["version1", "version2"])
def index_of_restic(request, tmp_path_factory, stock_restic):
    """The only index of a new repository, as restic wrote it, and the repository's version."""
    folder = tmp_path_factory.mktemp("restic")
    restic = stock_restic(folder / "r", folder)
    (folder / "text").write_text("a line of text\n" * 1000)
    (folder / "noise").write_bytes(os.urandom(100_000))
    restic("init", "--repository-version", request.param)
    restic("backup", "text", "noise")
    (name,) = restic("list", "index").split()
    return restic("cat", "index", name, text=False).removesuffix(b"\n"), request.param


@pytest.mark.interop
def test_index_of_restic_is_read_and_written_alike(index_of_restic, kernel):
    """I6: the scanner takes restic's own index, and we would have written the same bytes."""
    document, version = index_of_restic
    packs = decode(document, name=NAME)
    assert encode(packs) == document
    assert (_kernel.scan_index(document) is not None) == (kernel == "c")
    assert rows(decode_rows(document, name=NAME)) == rows(part_of(packs))
    kinds = [blob.kind for _, blobs in packs for blob in blobs]
    assert sorted(kinds) == [BlobKind.DATA, BlobKind.DATA, BlobKind.TREE]
    assert any(blob.raw_length for _, blobs in packs for blob in blobs) == (version == "2")
