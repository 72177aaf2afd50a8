"""Streams of bytes of a known length, as RestBackup's library has them.

A stream is read with `read(size)`; one that may have to be sent again can be rewound.
"""

from __future__ import annotations

import os
import stat
from io import UnsupportedOperation
from typing import IO, TYPE_CHECKING, Final, Protocol, Self

from holdfast.client.errors import SourceChangedException

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE: Final = 128 * 1024
"""Bytes that are moved at once, at most."""


class Readable(Protocol):
    """Whatever gives bytes: these streams, files, pipes."""

    def read(self, size: int, /) -> bytes: ...


class InputStream:
    """Subclasses have `read_once`."""

    def read(self, size: int | None = -1) -> bytes:
        """`size` bytes, fewer only at the end; all that is left where it is negative or None."""
        if size is None or size < 0:
            return b"".join(pieces(self))
        parts = []
        while size:
            part = self.read_once(size)
            if not part:
                break
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_once(self, size: int) -> bytes:
        """Between one and `size` bytes; none at the end.

        Raises:
            OSError: they cannot be had.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Lets go of what the stream holds; again does no harm."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SizedInputStream(InputStream):
    """`len()` is how many bytes there are in all.

    Where that is not known, because the stream is made of a pipe, `len()` is a TypeError.
    """

    def __init__(self, stream_length: int | None) -> None:
        self.stream_length = stream_length

    def __len__(self) -> int:
        if self.stream_length is None:
            raise TypeError("the length of this stream is not known before its end")
        return self.stream_length

    def __bool__(self) -> bool:
        return True


class RewindableSizedInputStream(SizedInputStream):
    def rewind(self) -> None:
        """Back to the first byte.

        Raises:
            io.UnsupportedOperation: what it is made of can be read only once.
        """
        raise NotImplementedError


class StringReader(RewindableSizedInputStream):
    """Of bytes in memory."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.data = bytes(data)
        super().__init__(len(self.data))
        self._at = 0

    def read_once(self, size: int) -> bytes:
        part = self.data[self._at : self._at + size]
        self._at += len(part)
        return part

    def rewind(self) -> None:
        self._at = 0


class FileObjectReader(RewindableSizedInputStream):
    """Of `size` bytes of a binary file, which it closes. A rewind seeks `start`.

    Reading raises SourceChangedException where the file ends before that.
    """

    def __init__(self, f: IO[bytes], size: int, start: int = 0) -> None:
        super().__init__(size)
        self.file = f
        self._start = start
        self._size = size
        self._left = size

    def read_once(self, size: int) -> bytes:
        wanted = min(size, self._left)
        if not wanted:
            return b""
        part = self.file.read(wanted)
        if not part:
            raise SourceChangedException(
                f"the file ended {self._left} bytes before its end: it became shorter meanwhile"
            )
        self._left -= len(part)
        return part

    def close(self) -> None:
        self.file.close()

    def rewind(self) -> None:
        self.file.seek(self._start)
        self._left = self._size


class FileReader(FileObjectReader):
    """Of a file by its name; as long as it is now.

    Raises:
        io.UnsupportedOperation: it is a pipe or a device, whose length says nothing.
    """

    def __init__(self, filename: str | os.PathLike[str]) -> None:
        file = open(filename, "rb")  # noqa: SIM115, PTH123  closed by `close`; numbers of descriptors are names, too
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            file.close()
            raise UnsupportedOperation(f"{filename} is no regular file; use PipeReader")
        super().__init__(file, facts.st_size)


class PipeReader(InputStream):
    """Of a file of unknown length, such as a pipe; to be read once."""

    def __init__(self, f: IO[bytes]) -> None:
        self.file = f

    def read_once(self, size: int) -> bytes:
        return self.file.read(size)

    def close(self) -> None:
        self.file.close()


class Promised(SizedInputStream):
    """Of another stream, with the length that somebody says it has: a reader holds it to that."""

    def __init__(self, stream: InputStream, stream_length: int) -> None:
        super().__init__(stream_length)
        self._stream = stream

    def read_once(self, size: int) -> bytes:
        return self._stream.read_once(size)

    def close(self) -> None:
        self._stream.close()


class MadeStream(SizedInputStream):
    """One that is made of another piece by piece.

    A fault stays: who reads on after an error meets the error again, never an end.
    """

    def __init__(self, stream: Readable, stream_length: int | None) -> None:
        super().__init__(stream_length)
        self.stream = stream
        self._fault: BaseException | None = None
        self._begin()

    def _pieces(self) -> Iterator[bytes]:
        """All of it, in pieces of any size."""
        raise NotImplementedError

    def _begin(self) -> None:
        self._making = self._pieces()
        self._piece = b""
        self._at = 0

    def read_once(self, size: int) -> bytes:
        if size < 1:
            raise ValueError("size must be greater than zero")
        if self._at == len(self._piece) and not self._advance():
            return b""
        if not self._at and len(self._piece) <= size:
            self._at = len(self._piece)
            return self._piece
        part = self._piece[self._at : self._at + size]
        self._at += len(part)
        return part

    def _advance(self) -> bool:
        """Makes the next piece that is not empty; False at the end."""
        if self._fault is not None:
            raise self._fault
        self._at = 0
        try:
            self._piece = next(filter(None, self._making), b"")
        except BaseException as fault:
            self._fault, self._piece = fault, b""
            raise
        return bool(self._piece)

    def close(self) -> None:
        self._fault = OSError("the stream is closed")
        self._piece, self._at = b"", 0
        close = getattr(self.stream, "close", None)
        if close:
            close()


def stream_of(file: IO[bytes]) -> InputStream:
    """The rest of a file, with its length where that can be believed: pipes, devices and what the
    kernel makes up, like /proc, say 0 or nothing.
    """
    try:
        here = file.tell()
        size = file.seek(0, os.SEEK_END) - here
        file.seek(here)
    except OSError:
        return PipeReader(file)
    return FileObjectReader(file, size, here) if size > 0 else PipeReader(file)


def pieces(stream: Readable) -> Iterator[bytes]:
    """What is left of a stream, bit by bit."""
    take = getattr(stream, "read_once", stream.read)
    while piece := take(PIECE):
        yield piece


def length_of(stream: object) -> int | None:
    """How many bytes a stream says it has; None where it does not know."""
    try:
        return len(stream)  # type: ignore[arg-type]  # asked of any object
    except TypeError:
        return None


def rewound(stream: object) -> bool:
    """Whether it could be rewound, and was."""
    rewind = getattr(stream, "rewind", None)
    if rewind is None:
        return False
    try:
        rewind()
    except UnsupportedOperation:
        return False
    return True
