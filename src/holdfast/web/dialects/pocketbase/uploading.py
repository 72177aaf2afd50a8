"""Uploads of backups: the form's file goes into the pool while it comes, and stays there only if it
is a whole zip.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Final

from holdfast.core.errors import RecordExistsError
from holdfast.web import forms, threads
from holdfast.web.dialects.pocketbase.rendering import VALIDATE, FaceError

if TYPE_CHECKING:
    from starlette.requests import Request

    from holdfast.core.access import Principal
    from holdfast.service.backups import Arriving
    from holdfast.service.server import Service

_STARTS: Final = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_END: Final = b"PK\x05\x06"
_END_SIZE: Final = 22
_ELSEWHERE: Final = 0xFFFFFFFF
"""A zip64 says it in another record."""
_TAIL: Final = _END_SIZE + (1 << 16)
"""The record at the end of a zip, and the comment that may follow it."""


async def take(service: Service, request: Request, who: Principal) -> None:
    """Raises FaceError where it is not kept."""
    settings = service.ground.configuration
    arriving: Arriving | None = None
    sniffed = _Zip()
    taken = False
    if not request.headers.get("content-type", "").lower().startswith("multipart/"):
        _refuse("validation_required", "Cannot be blank.")
    try:
        async for event in forms.events(
            request, fields=(), files=("file",), idle=settings.limits.idle,
            limit=settings.application.max_upload,
        ):  # fmt: skip
            match event:
                case forms.FileBegins(filename=filename) if not taken:
                    name = filename.replace("\\", "/").rpartition("/")[2]
                    arriving = await _begin(service, who, name)
                    taken = True
                case forms.FilePiece(content=content) if arriving is not None and not sniffed.over:
                    sniffed.add(content)
                    wait = arriving.offer(content)
                    if wait is not None:
                        await asyncio.wrap_future(wait)
                case forms.FileEnds():
                    sniffed.over = True
                case _:
                    pass
        if arriving is None:
            _refuse("validation_required", "Cannot be blank.")
        sniffed.check_end()
        assert arriving is not None
        await asyncio.shield(asyncio.wrap_future(arriving.finish()))
    except RecordExistsError:
        _refuse_name()
    except BaseException:
        if arriving is not None:
            arriving.abandon()
        raise


async def _begin(service: Service, who: Principal, name: str) -> Arriving:
    if not name or name in {".", ".."} or any(ord(char) < ord(" ") for char in name):
        _refuse("validation_required", "Cannot be blank.")
    try:
        return await threads.run(service.application.receive, who, name)
    except RecordExistsError:
        _refuse_name()
        raise


class _Zip:
    """Looks at the beginning and the end of what passes."""

    def __init__(self) -> None:
        self.over = False
        self._head = b""
        self._tail = b""
        self._size = 0

    def add(self, piece: bytes) -> None:
        if len(self._head) < len(_STARTS[0]):
            self._head = (self._head + piece)[:4]
            if len(self._head) == len(_STARTS[0]) and self._head not in _STARTS:
                _refuse_type()
        self._size += len(piece)
        self._tail = (self._tail + piece)[-_TAIL:] if len(piece) < _TAIL else piece[-_TAIL:]

    def check_end(self) -> None:
        """The list of a zip is at its end, and the end says where it begins."""
        if self._head not in _STARTS:
            _refuse_type()
        at = self._tail.rfind(_END)
        if at < 0 or len(self._tail) - at < _END_SIZE:
            _refuse("validation_invalid_file", "The archive is cut short or damaged.")
        listed, offset, comment = struct.unpack_from("<IIH", self._tail, at + 12)
        whole = self._size - len(self._tail) + at
        large = _ELSEWHERE in {listed, offset}
        if at + _END_SIZE + comment != len(self._tail) or (not large and listed + offset > whole):
            _refuse("validation_invalid_file", "The archive is cut short or damaged.")


def _refuse(code: str, sentence: str) -> None:
    raise FaceError(400, VALIDATE, {"file": (code, sentence)})


def _refuse_type() -> None:
    _refuse("validation_invalid_mime_type", "The file's mime type must be one of: application/zip.")


def _refuse_name() -> None:
    _refuse("validation_backup_name_exists", "Backup file with the specified name already exists.")
