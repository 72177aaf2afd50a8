"""One backup account, for people's own programs: files and streams in and out."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import UnsupportedOperation
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from holdfast import __version__
from holdfast.client.access import check_name
from holdfast.client.arrival import arriving, explained
from holdfast.client.errors import RestBackupException
from holdfast.client.restbackup import MAX_FILE_SIZE, BackupApiCaller
from holdfast.client.secrets import ACCESS_URL_FILE, read_secret
from holdfast.client.streams import (
    FileObjectReader,
    InputStream,
    RewindableSizedInputStream,
    StringReader,
    length_of,
    pieces,
    rewound,
    stream_of,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from holdfast.client.chlorocrypt import Passphrase
    from holdfast.client.streams import SizedInputStream
    from holdfast.core.clock import Clock
    from holdfast.core.secret import Secret

    OnProgress = Callable[[int, int | None], None]
    """Gets the bytes that are done and all there are, where that is known. Where something is sent
    again, the first number becomes smaller.
    """


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in the account. It never changes; `expires` is when the service removes it."""

    name: str
    size: int
    """Bytes, as stored."""
    created: datetime
    expires: datetime | None


class BackupAccount:
    """What a program does with an account; `api` does the same call by call.

    `on_note` gets a sentence whenever something is tried again or was settled by the listing.
    `timeout` is seconds without any progress.
    """

    def __init__(
        self,
        access_url: str | Secret,
        *,
        app: str = f"holdfast/{__version__}",
        timeout: float = 300.0,
        ca_bundle: str | None = None,
        allow_http: bool = False,
        on_note: Callable[[str], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Raises InvalidAccessUrl, CertificateError: see `HttpCaller`."""
        self.api = BackupApiCaller(
            access_url,
            app,
            timeout=timeout,
            ca_bundle=ca_bundle,
            allow_http=allow_http,
            on_note=on_note,
            clock=clock,
        )

    @classmethod
    def from_file(cls, path: str = ACCESS_URL_FILE, *, timeout: float = 300.0) -> Self:
        """The account whose access url a file holds.

        Raises:
            UsageError: it cannot be read.
        """
        return cls(read_secret(path), timeout=timeout)

    def list(self) -> Files:
        """All files, as the service orders them.

        Raises:
            RestBackupException: they cannot be had.
        """
        return [
            StoredFile(each.name, each.size, _moment(each.createtime), _maybe(each.deletetime))
            for each in self.api.files()
        ]

    def upload_file(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
        *,
        passphrase: Passphrase | None = None,
        on_progress: OnProgress | None = None,
    ) -> int:
        """Stores a file, by default under its own name; see `upload`."""
        with Path(path).open("rb") as file:
            return self.upload(
                file, name or Path(path).name, passphrase=passphrase, on_progress=on_progress
            )

    def upload(
        self,
        source: bytes | IO[bytes] | InputStream,
        name: str,
        *,
        passphrase: Passphrase | None = None,
        on_progress: OnProgress | None = None,
    ) -> int:
        """Stores what `source` gives from where it stands, encrypted if there is a passphrase; the
        bytes that are stored.

        A service must know the length before the first byte. What does not know its own, like a
        pipe, is therefore written to a temporary file first, encrypted where it is stored so.

        Raises:
            RestBackup405MethodNotAllowed: the name is taken.
            RestBackupException: see `BackupApiCaller.put`.
            OSError: the source cannot be read.
        """
        name = check_name(name)
        stream = _stream_of(source)
        if passphrase is not None:
            from holdfast.client.chlorocrypt import EncryptingReader

            stream = EncryptingReader(stream, passphrase)
        with ExitStack() as held:
            if length_of(stream) is None:
                stream = held.enter_context(spooled(stream))
            whole = Counted(stream, on_progress)
            self.api.store(name, whole, encrypted=passphrase is not None)
            return len(whole)

    def open(
        self,
        name: str,
        *,
        passphrase: Passphrase | None = None,
        size: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> SizedInputStream:
        """A file's content, to be read and closed; with a passphrase decrypted. `size` is what the
        listing says, if that was asked. Progress counts what is stored.

        Raises:
            RestBackup404NotFoundException: there is none.
            RestBackupException: it has not that size.
            WrongPassphraseException, DataTruncatedException: see `DecryptingReader`.
        """
        stream = Counted(self.api.fetch(name, encrypted=passphrase is not None), on_progress)
        if size is not None and len(stream) != size:
            stream.close()
            raise RestBackupException(f"{name} has {len(stream)} bytes, in the listing {size}")
        if passphrase is None:
            return stream
        from holdfast.client.chlorocrypt import DecryptingReader

        try:
            return DecryptingReader(stream, passphrase)
        except BaseException:
            stream.close()
            raise

    def download_file(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        passphrase: Passphrase | None = None,
        replace: bool = False,
        on_progress: OnProgress | None = None,
    ) -> int:
        """Brings a file back; its bytes. `path` appears when all of it is there and verified.

        Raises:
            UsageError: there is such a path, and it may not be replaced.
            RestBackupException, DataDamagedException: there is no such path afterwards.
        """
        with arriving(path, replace=replace) as target:
            return self.download(name, target, passphrase=passphrase, on_progress=on_progress)

    def download(
        self,
        name: str,
        target: IO[bytes],
        *,
        passphrase: Passphrase | None = None,
        on_progress: OnProgress | None = None,
    ) -> int:
        """Writes a file's content as it comes, encrypted ones block by block as they are verified;
        its bytes.

        Raises:
            RestBackupException, DataDamagedException: what was written is not the whole.
        """
        written = 0
        with self.open(name, passphrase=passphrase, on_progress=on_progress) as stream:
            for piece in pieces(stream):
                target.write(piece)
                written += len(piece)
        return written

    def close(self) -> None:
        self.api.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Files = list[StoredFile]


class Counted(RewindableSizedInputStream):
    """A stream that tells how far it was read."""

    def __init__(self, stream: InputStream, on_progress: OnProgress | None) -> None:
        super().__init__(length_of(stream))
        self.done = 0
        self._stream = stream
        self._tell = on_progress or (lambda _done, _all: None)

    def read_once(self, size: int) -> bytes:
        part = self._stream.read_once(size)
        self.done += len(part)
        self._tell(self.done, self.stream_length)
        return part

    def rewind(self) -> None:
        if not rewound(self._stream):
            raise UnsupportedOperation("this stream can be read only once")
        self.done = 0
        self._tell(0, self.stream_length)

    def close(self) -> None:
        self._stream.close()


@contextmanager
def spooled(stream: InputStream) -> Iterator[FileObjectReader]:
    """The same from a temporary file without a name, so that its length is known.

    Raises:
        RestBackupException: it is longer than a file may be.
        StorageFullError, RestoreError: the temporary folder does not hold it.
    """
    size = 0
    with tempfile.TemporaryFile() as file:
        for piece in pieces(stream):
            size += len(piece)
            if size > MAX_FILE_SIZE:
                raise RestBackupException(
                    f"it has more than {MAX_FILE_SIZE} bytes, the most that a file may have",
                    remedy="Nothing was sent. Store it in several parts.",
                )
            with explained(tempfile.gettempdir()):
                file.write(piece)
        with explained(tempfile.gettempdir()):
            file.seek(0)
        yield FileObjectReader(file, size)


def _stream_of(source: bytes | IO[bytes] | InputStream) -> InputStream:
    if isinstance(source, bytes):
        return StringReader(source)
    if isinstance(source, InputStream):
        return source
    return stream_of(source)


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _maybe(seconds: int | None) -> datetime | None:
    return None if seconds is None else _moment(seconds)
