"""The encrypted stream is exact: check values, lengths, both directions, every kind of damage."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.client import chlorocrypt
from holdfast.client.chlorocrypt import (
    AesCbcDecryptingReader,
    AesCbcEncryptingReader,
    BadMacException,
    DataDamagedException,
    DataTruncatedException,
    DecryptingReader,
    EncryptingReader,
    MacAddingReader,
    MacCheckingReader,
    PaddingAddingReader,
    PaddingStrippingReader,
    WrongPassphraseException,
    encrypted_length,
    pbkdf2_256bit,
)
from holdfast.client.errors import SourceChangedException
from holdfast.client.streams import FileObjectReader, PipeReader, StringReader
from holdfast.core.errors import DamagedError, HoldfastError
from holdfast.core.secret import Secret

KEY = b"k" * 32
SALT, IV = b"s" * 16, b"i" * 16
RECORD = 65536 + 32
EDGES = [0, 1, 15, 16, 17, 65487, 65488, 65503, 65504, 65505, 65536, 131007, 131040, 131072]


@pytest.fixture(autouse=True)
def _fast_keys(monkeypatch):
    """Stretching takes milliseconds, thousands of times; the rounds have a test of their own."""
    monkeypatch.setattr(
        chlorocrypt,
        "pbkdf2_256bit",
        lambda passphrase, salt: hashlib.sha256(repr(passphrase).encode() + salt).digest(),
    )


def content(length):
    return (hashlib.sha512(length.to_bytes(8)).digest() * (length // 64 + 1))[:length]


def encrypted(data, passphrase="pass"):
    return EncryptingReader(StringReader(data), passphrase).read()


def decrypted(stream, passphrase="pass"):
    return DecryptingReader(StringReader(stream), passphrase).read()


def piped(data):
    """The same with a length that nobody knows."""
    return PipeReader(io.BytesIO(data))


def by_the_book(plain, key, salt, iv):
    """The format, written down as it is described and not as the product does it."""
    pad = 16 - len(plain) % 16
    cipher = Cipher(AES(key), CBC(iv)).encryptor()
    inner = salt + iv + cipher.update(plain + bytes([pad]) * pad) + cipher.finalize()
    stream, running = salt, b""
    for at in range(0, len(inner), 65536):
        block = inner[at : at + 65536]
        running += block
        stream += block + hmac.digest(key, running, "sha256")
    return stream


# --- exactness ------------------------------------------------------------------------------------


def test_key_has_the_published_value(monkeypatch):
    """4096 rounds of PBKDF2 with HMAC-SHA-256, of text, bytes and secrets alike."""
    monkeypatch.undo()
    expected = base64.b64decode("H2emsRWOYFcO1iFe3V9AaimVe5UDGlR+OUH7dYjcUcI=")
    for passphrase in ("passphrase", b"passphrase", Secret("passphrase")):
        assert pbkdf2_256bit(passphrase, SALT) == expected
    assert pbkdf2_256bit("pässwörd €", SALT) == pbkdf2_256bit("pässwörd €".encode(), SALT)
    assert pbkdf2_256bit("passphrase", SALT, 1) != expected


def test_stream_has_the_published_values():
    """Ciphertext and code of the library's own check."""
    stream = EncryptingReader(StringReader(b"0123456789abcdef"), "any", SALT, IV, KEY).read()
    assert stream[:48] == SALT + SALT + IV
    assert base64.b64encode(stream[48:-32]) == b"Rx5kzFEEgumDBeMJG3j9vU8soT1Btfzmh7yfnEsaLxk="
    assert base64.b64encode(stream[-32:]) == b"Uk8EvoIwrXDl09W/xDngXZEHTQ4sa32xEgA9/Jqhg1Q="


@pytest.mark.parametrize("length", EDGES)
def test_stream_is_by_the_book(length):
    """At every edge of blocks: the same bytes as an independent writing of the format."""
    data = content(length)
    reader = EncryptingReader(StringReader(data), "any", SALT, IV, KEY)
    assert reader.read() == by_the_book(data, KEY, SALT, IV)


@pytest.mark.parametrize(
    ("plain", "whole"), [(0, 96), (65503, 65584), (65504, 65632), (15, 96), (16, 112)]
)
def test_lengths_are_known_in_advance(plain, whole):
    """By the formula; a stream that is exactly one block has no second code."""
    reader = EncryptingReader(StringReader(content(plain)), "pass")
    assert len(reader) == whole == encrypted_length(plain) == len(reader.read())


def test_salts_and_vector_are_drawn_anew():
    """Two streams of the same differ in all three, and the two salts differ."""
    one, two = encrypted(b"same"), encrypted(b"same")
    drawn = [stream[at : at + 16] for stream in (one, two) for at in (0, 16, 32)]
    assert len(set(drawn)) == 6


# --- there and back -------------------------------------------------------------------------------


lengths = st.one_of(
    st.integers(0, 100),
    st.sampled_from([65504, 65536, 2 * 65536 - 32, 131072]).flatmap(
        lambda edge: st.integers(edge - 34, edge + 34)
    ),
)


@settings(max_examples=120, deadline=None)
@given(length=lengths, sizes=st.lists(st.integers(1, 70_000), min_size=1, max_size=4))
def test_what_was_encrypted_comes_back(length, sizes):
    """Whatever the sizes of the reads, with and without known lengths."""
    data = content(length)
    reader = EncryptingReader(StringReader(data), "pass")
    stream = b"".join(parts(reader, sizes))
    assert len(stream) == encrypted_length(length) == len(reader)
    back = DecryptingReader(StringReader(stream), "pass")
    assert b"".join(parts(back, sizes)) == data
    assert 1 <= len(back) - length <= 16
    assert EncryptingReader(piped(data), "pass").read(100)
    assert DecryptingReader(piped(stream), "pass").read() == data


def parts(reader, sizes):
    turn = 0
    while part := reader.read(sizes[turn % len(sizes)]):
        yield part
        turn += 1


def test_rewound_stream_is_the_same():
    """What is sent again is byte for byte what was sent before, from wherever it broke off."""
    reader = EncryptingReader(StringReader(content(200_000)), "pass")
    first = reader.read()
    for stop in (0, 10, 70_000, 200_000):
        reader.rewind()
        assert reader.read(stop) == first[:stop]
    reader.rewind()
    assert reader.read() == first


def test_pipes_are_not_rewound():
    """They say so instead of sending something else."""
    reader = EncryptingReader(piped(b"data"), "pass")
    with pytest.raises(io.UnsupportedOperation):
        reader.rewind()
    with pytest.raises(TypeError, match="not known"):
        len(reader)


def test_functions_write_what_the_readers_give():
    """`encrypt` and `decrypt` of the original; both give 0, as there."""
    middle, end = io.BytesIO(), io.BytesIO()
    assert chlorocrypt.encrypt("pass", StringReader(content(100_000)), middle) == 0
    assert chlorocrypt.decrypt("pass", StringReader(middle.getvalue()), end) == 0
    assert end.getvalue() == content(100_000)


def test_closed_streams_are_closed():
    """Also the file below, and twice does no harm."""
    file = io.BytesIO(b"data")
    reader = EncryptingReader(FileObjectReader(file, 4), "pass")
    reader.close()
    reader.close()
    assert file.closed
    with pytest.raises(OSError, match="closed"):
        reader.read(1)


def test_sources_that_change_make_no_stream():
    """A file that became shorter, or a stream that lies, is no shorter backup."""
    with pytest.raises(SourceChangedException):
        EncryptingReader(FileObjectReader(io.BytesIO(b"short"), 10), "pass").read()

    class Liar(StringReader):
        def __len__(self):
            return 3

    with pytest.raises(SourceChangedException):
        EncryptingReader(Liar(b"longer"), "pass").read()


# --- damage ---------------------------------------------------------------------------------------

STREAM_LENGTH = 150_000
PLACES = {
    "mac salt": 5,
    "cipher salt": 16 + 5,
    "vector": 32 + 5,
    "first cipher block": 48 + 5,
    "end of the first block": 16 + 65535,
    "first code": 16 + 65536 + 5,
    "second block": 16 + RECORD + 5,
    "second code": 16 + 2 * RECORD - 1,
    "last block": -32 - 5,
    "last code": -5,
}


@pytest.fixture(scope="module")
def stream():
    return EncryptingReader(StringReader(content(STREAM_LENGTH)), "p", SALT, IV, KEY).read()


def checked(stream, source=StringReader):
    return DecryptingReader(source(stream), "p", KEY)


def given_before(error, make):
    """What a reader gives before it fails so."""
    got = []
    with pytest.raises(error):
        got.extend(parts(make(), [1000]))
    return b"".join(got)


@pytest.mark.parametrize("source", [StringReader, piped])
@pytest.mark.parametrize("place", PLACES)
def test_a_flipped_bit_is_noticed(stream, place, source):
    """I4: in every part of the stream; what was given before it is authentic."""
    at = PLACES[place] % len(stream)
    damaged = stream[:at] + bytes([stream[at] ^ 1]) + stream[at + 1 :]
    if place == "mac salt":  # decides about the key, which this test fixes
        with pytest.raises(WrongPassphraseException):
            decrypted(damaged[:16] + encrypted(b"x")[16:])
        return
    got = given_before(BadMacException, lambda: checked(damaged, source))
    assert content(STREAM_LENGTH).startswith(got)
    if at < 16 + RECORD:
        assert not got


@settings(max_examples=150, deadline=None)
@given(cut=st.integers(0, encrypted_length(STREAM_LENGTH) - 1))
def test_a_stream_that_was_cut_is_noticed(cut):
    """I4: wherever the cut is, and nothing but the beginning was given."""
    whole = EncryptingReader(StringReader(content(STREAM_LENGTH)), "p", SALT, IV, KEY).read()
    for source in (StringReader, piped):
        got = given_before(DataDamagedException, lambda: checked(whole[:cut], source))  # noqa: B023
        assert content(STREAM_LENGTH).startswith(got)


@pytest.mark.parametrize("records", [1, 2])
def test_a_cut_behind_a_code_is_noticed_by_the_length(stream, records):
    """I4: where every code fits and the padding by chance, too: the length that was promised
    decides.
    """
    # A tail that looks like padding: the last byte of the kept part is 1 when decrypted.
    data = bytearray(content(STREAM_LENGTH))
    data[records * 65536 - 32 - 1] = 1
    whole = EncryptingReader(StringReader(bytes(data)), "p", SALT, IV, KEY).read()
    cut = whole[: 16 + records * RECORD]
    assert checked(cut, piped).read() == data[: records * 65536 - 33]  # nobody could know

    class Promised(StringReader):
        def __len__(self):
            return len(whole)

    with pytest.raises(DataTruncatedException, match=f"{len(cut)} bytes instead of {len(whole)}"):
        checked(cut, Promised).read()


@pytest.mark.parametrize("more", [b"x", b"x" * 16, b"x" * 32, b"x" * 48, b"x" * RECORD])
def test_more_than_the_stream_is_noticed(stream, more):
    """I4: nothing can be put behind it."""
    for source in (StringReader, piped):
        with pytest.raises(DataDamagedException):
            checked(stream + more, source).read()


def test_a_repeated_code_is_no_end():
    """I4: behind a full block the same code fits a second time, with nothing between."""
    whole = EncryptingReader(StringReader(content(65503)), "p", SALT, IV, KEY).read()
    assert len(whole) == 16 + RECORD
    with pytest.raises(DataDamagedException, match="goes on"):
        checked(whole + whole[-32:], piped).read()


def test_blocks_in_another_order_are_noticed(stream):
    """I4: each code covers all blocks before it."""
    first, second = stream[16 : 16 + RECORD], stream[16 + RECORD : 16 + 2 * RECORD]
    with pytest.raises(BadMacException):
        checked(stream[:16] + second + first + stream[16 + 2 * RECORD :]).read()
    with pytest.raises(BadMacException):
        checked(stream[: 16 + RECORD] + stream[16 + 2 * RECORD :], piped).read()


def padded(tail):
    """A stream with good codes around a tail that nobody checked."""
    inner = AesCbcEncryptingReader(StringReader(tail), "p", SALT, IV, KEY)
    return MacAddingReader(inner, "p", SALT, KEY).read()


@pytest.mark.parametrize(
    "tail",
    [bytes(16), bytes(32), b"x" * 15 + b"\x11", b"x" * 14 + b"\x01\x02", b"x" * 15 + b"\x00"],
    ids=["zeros", "two blocks of zeros", "17", "02 after 01", "0"],
)
def test_bad_padding_is_damage(tail):
    """I4: also a last byte of 0, which the original takes."""
    with pytest.raises(DataDamagedException, match="padding"):
        checked(padded(tail)).read()


@pytest.mark.parametrize("length", [*range(96), 97, 111, 113, 16 + RECORD + 32, 16 + RECORD + 47])
def test_impossible_lengths_are_refused_unread(length):
    """No whole stream has them: nothing is fetched for that."""

    class Unread(StringReader):
        def __len__(self):
            return length

        def read_once(self, size):
            raise AssertionError

    with pytest.raises(DataTruncatedException):
        DecryptingReader(Unread(b""), "pass")


@pytest.mark.parametrize("length", [0, 15, 16, 40, 48, 63, 79, 80, 95])
def test_short_pipes_are_truncated(length):
    """They end within salt, code or head, or before any padding."""
    with pytest.raises(DataDamagedException):
        DecryptingReader(piped(encrypted(b"")[:length]), "pass").read()


def test_wrong_passphrase_has_an_error_of_its_own():
    """When the reader is made, before anybody opens a file for what would come; exit code 12."""
    with pytest.raises(WrongPassphraseException) as caught:
        DecryptingReader(StringReader(encrypted(b"data")), "other")
    error = caught.value
    assert isinstance(error, BadMacException)
    assert isinstance(error, OSError)
    assert isinstance(error, DamagedError)
    assert isinstance(error, HoldfastError)
    assert (error.code, error.exit_code) == ("wrong-password", 12)
    assert "other" not in str(error) + error.advice


def test_an_error_stays():
    """Who reads on after damage meets it again, never an end."""
    reader = checked(padded(bytes(16)))
    for _ in range(3):
        with pytest.raises(DataDamagedException):
            reader.read(1)


def test_original_errors_are_kin():
    """Truncated and bad codes are damage, and all are OSErrors."""
    assert issubclass(DataTruncatedException, DataDamagedException)
    assert issubclass(BadMacException, DataDamagedException)
    assert issubclass(DataDamagedException, OSError)


# --- building blocks ------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 65535, 65536, 65537, 131072])
def test_codes_alone(length):
    """MacAddingReader and MacCheckingReader undo each other, and know their lengths."""
    adding = MacAddingReader(StringReader(content(length)), "pass")
    stream = adding.read()
    checking = MacCheckingReader(StringReader(stream), "pass")
    assert (len(adding), len(checking)) == (len(stream), length)
    assert checking.read() == content(length)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 100])
def test_padding_alone(length):
    """Always 1 to 16 bytes."""
    adding = PaddingAddingReader(StringReader(content(length)))
    stream = adding.read()
    assert len(adding) == len(stream) == length + 16 - length % 16
    assert PaddingStrippingReader(StringReader(stream)).read() == content(length)
    with pytest.raises(DataDamagedException):
        PaddingStrippingReader(StringReader(b"")).read()


def test_cipher_alone():
    """Whole blocks only, both ways."""
    data = content(160)
    stream = AesCbcEncryptingReader(StringReader(data), "pass").read()
    assert AesCbcDecryptingReader(StringReader(stream), "pass").read() == data
    with pytest.raises(ValueError, match="16"):
        AesCbcEncryptingReader(StringReader(b"x"), "pass")
    with pytest.raises(ValueError, match="16"):
        AesCbcEncryptingReader(piped(b"x"), "pass").read()
    with pytest.raises(DataTruncatedException):
        AesCbcDecryptingReader(StringReader(stream[:-1]), "pass").read()
    with pytest.raises(DataTruncatedException):
        AesCbcDecryptingReader(piped(stream[:31]), "pass")
