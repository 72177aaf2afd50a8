from __future__ import annotations

import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.errors import DamagedError, StorageFullError, VerificationError
from holdfast.core.ids import BlobId
from holdfast.repo.format.codec import Codec
from holdfast.repo.format.crypto import OVERHEAD, Cipher, Key
from holdfast.repo.format.pack import (
    BlobKind,
    PackBuffer,
    decode_header,
    encode_header,
    header_size,
    read_header_length,
    store_pack,
)
from holdfast.repo.objects import Objects
from holdfast.repo.saving.packer import Packer
from holdfast.store.contract import FileKind
from holdfast.store.memory import MemoryStore

KEY = Key.generate()


def _buffer(**options):
    return PackBuffer(Cipher(KEY), Codec(), **options)


def _blob(plaintext):
    return BlobId(hashlib.sha256(plaintext).digest())


@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=8))
def test_a_pack_names_what_it_holds(plaintexts):
    """The header of a pack gives every blob back, compressed or not."""
    buffer = _buffer(capacity=1)
    for plaintext in plaintexts:
        buffer.add(_blob(plaintext), BlobKind.DATA, plaintext)
    blobs = list(buffer.blobs)
    content = bytes(buffer.finish())
    length = read_header_length(content[-4:], len(content))
    cipher = Cipher(KEY)
    header = decode_header(cipher.open(content[-4 - length : -4]))
    assert header == blobs
    assert header_size(blobs) == length + 4
    for blob, plaintext in zip(header, plaintexts, strict=True):
        body = cipher.open(content[blob.offset : blob.offset + blob.length])
        if blob.raw_length:
            body = Codec().inflate(body, blob.raw_length)
        assert body == plaintext


def test_random_bytes_are_stored_as_they_are():
    """What does not shrink is not compressed: reading it is a pass less."""
    data = os.urandom(5000)
    packed = _buffer().add(_blob(data), BlobKind.DATA, data)
    assert packed.raw_length == 0
    assert packed.length == len(data) + OVERHEAD


def test_version_one_packs_are_never_compressed():
    """Format version 1 knows no compression."""
    packed = _buffer(compress=False).add(_blob(bytes(100)), BlobKind.DATA, bytes(100))
    assert packed.raw_length == 0


def test_a_flip_between_sealing_and_upload_is_caught(monkeypatch):
    """F10: faulty memory shows before anything is stored."""
    seal = Cipher.seal_into

    def flip(self, plaintext, out):
        seal(self, plaintext, out)
        out[20] ^= 1

    monkeypatch.setattr(Cipher, "seal_into", flip)
    with pytest.raises(VerificationError):
        _buffer().add(_blob(bytes(100)), BlobKind.DATA, bytes(100))


def test_a_codec_that_lies_is_caught(monkeypatch):
    """F10: a frame that inflates to something else is not stored."""
    wrong = Codec().frame(b"x" * 100)
    monkeypatch.setattr(Codec, "shrink", lambda *_: wrong)
    with pytest.raises(VerificationError):
        _buffer().add(_blob(bytes(100)), BlobKind.DATA, bytes(100))


def test_a_huge_tree_makes_the_buffer_grow():
    """A blob larger than the buffer is kept with those before it."""
    buffer = _buffer(capacity=1)
    small, huge = os.urandom(1000), os.urandom(20 << 20)
    first = buffer.add(_blob(small), BlobKind.TREE, small)
    second = buffer.add(_blob(huge), BlobKind.TREE, huge)
    content = buffer.finish()
    cipher = Cipher(KEY)
    assert cipher.open(content[first.offset : first.offset + first.length]) == small
    assert cipher.open(content[second.offset : second.offset + second.length]) == huge


@pytest.mark.parametrize("header", [b"\x04" + bytes(40), b"\x00" + bytes(10), b"\x02" + bytes(36)])
def test_what_is_no_header_is_damage(header):
    """I4: unknown kinds and cut entries are errors."""
    with pytest.raises(DamagedError):
        decode_header(header)


@pytest.mark.parametrize("length", [0, 1, OVERHEAD, 1 << 25, 0xFFFFFFFF])
def test_impossible_header_lengths_are_damage(length):
    """F32: a length that cannot be is refused before anything is read."""
    with pytest.raises(DamagedError):
        read_header_length(length.to_bytes(4, "little"), 1000)


def test_headers_encode_as_they_decode():
    """Both entry forms come back."""
    buffer = _buffer()
    for data in (os.urandom(40), bytes(4000)):
        buffer.add(_blob(data), BlobKind.TREE, data)
    assert decode_header(encode_header(buffer.blobs)) == buffer.blobs


def test_the_packer_turns_over_full_packs_and_flushes():
    """Every blob is in exactly one stored pack, and flush returns when all are stored."""
    store = MemoryStore()
    stored = []
    packer = Packer(Objects(store, KEY, version=2), Codec(), stored.append, pack_size=10_000)
    wanted = [os.urandom(3000) for _ in range(20)]
    for data in wanted:
        packer.add(_blob(data), BlobKind.DATA, data)
    packer.flush()
    packer.flush()
    packer.close()
    assert [blob.id for pack in stored for blob in pack.blobs] == [_blob(data) for data in wanted]
    for pack in stored:
        content = store.get(FileKind.PACK, pack.id.hex())
        assert hashlib.sha256(content).digest() == pack.id
        assert len(content) == pack.size


def test_the_packer_raises_what_its_store_raised(monkeypatch):
    """A pack that could not be stored is an error for who fills, at the latest when flushing;
    nothing hangs.
    """
    store = MemoryStore()

    def full(kind, name, data):
        raise StorageFullError("no room")

    monkeypatch.setattr(store, "put", full)
    packer = Packer(Objects(store, KEY, version=2), Codec(), lambda _: None, pack_size=1000)

    def fill():
        for _ in range(50):
            data = os.urandom(600)
            packer.add(_blob(data), BlobKind.DATA, data)
        packer.flush()

    with pytest.raises(StorageFullError):
        fill()
    packer.close()


def test_storing_names_by_content():
    """A pack's name is the digest of all its bytes."""
    store = MemoryStore()
    buffer = _buffer()
    buffer.add(_blob(b"x"), BlobKind.DATA, b"x")
    pack = store_pack(store, buffer.finish(), buffer.blobs)
    assert hashlib.sha256(store.get(FileKind.PACK, pack.id.hex())).digest() == pack.id
