"""A stream that is compressed on the fly is read by every decoder, whatever is in it."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import subprocess

import pytest

from holdfast.repo.browsing.archives_packed import Gzip, Xz, packed

MIB = 1 << 20
TEXT = b"one line of a log, and another\n"


def stream(pieces):
    yield from pieces


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, MIB - 1, MIB, MIB + 1, 3 * MIB + 5])
@pytest.mark.parametrize("make", [os.urandom, lambda size: (TEXT * (size // 31 + 1))[:size]])
def test_what_was_packed_comes_out_again(size, make):
    content = make(size)
    for packer, unpack in ((Xz(), lzma.decompress), (Gzip(5), gzip.decompress)):
        assert unpack(b"".join(packed(stream([content]), packer))) == content


def test_what_cannot_be_compressed_is_stored_beside_what_can():
    random, text = os.urandom(MIB), TEXT * (MIB // 31 + 1)
    pieces = [random, text[:MIB], random[: MIB // 2], text[: MIB // 2], b"end"]
    raw = b"".join(packed(stream(pieces), Xz()))
    assert lzma.decompress(raw) == b"".join(pieces)
    assert len(raw) < 1.6 * MIB


def test_storing_adds_next_to_nothing():
    raw = b"".join(packed(stream([os.urandom(4 * MIB)]), Xz()))
    assert len(raw) < 4 * MIB + 1000


def test_the_real_xz_finds_nothing_wrong(tmp_path):
    if shutil.which("xz") is None:
        pytest.skip("the real xz is not installed (Debian package: xz-utils)")
    content = os.urandom(MIB + 7) + TEXT * 50_000 + os.urandom(5)
    path = tmp_path / "x.xz"
    path.write_bytes(b"".join(packed(stream([content]), Xz())))
    subprocess.run(["xz", "--test", path], check=True, timeout=60)
    done = subprocess.run(["xz", "-dc", path], check=True, timeout=60, capture_output=True)
    assert done.stdout == content
