"""Uploads: the form's files go straight into the pool while they come."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from holdfast.core.errors import InvalidError
from holdfast.core.records import Shape
from holdfast.web import forms, threads
from holdfast.web.dialects.backupchan.parsing import flag_of_text

if TYPE_CHECKING:
    from concurrent.futures import Future

    from starlette.requests import Request

    from holdfast.core.access import Principal
    from holdfast.core.records import Backup, Target
    from holdfast.service.backups import Arriving, ArrivingTree
    from holdfast.service.server import Service
    from holdfast.service.unpacking import Part
    from holdfast.service.uploads import ArrivingPart


async def take(service: Service, request: Request, who: Principal, target: Target) -> Backup:
    """One backup from one form: `manual`, and `backup_file` once or, for a target of many files,
    several times. The fields may come in any order.
    """
    receiver = _Single(service, who, target)
    if target.shape is Shape.MULTI:
        receiver = _Multi(service, who, target)
    manual: bool | None = None
    try:
        idle = service.ground.configuration.limits.idle
        async for event in forms.events(
            request, fields=("manual",), files=("backup_file",), idle=idle
        ):
            match event:
                case forms.Field(value=value):
                    manual = flag_of_text(value, "manual")
                case forms.FileBegins(filename=filename):
                    await receiver.begin(filename, manual=True if manual is None else manual)
                case forms.FilePiece(content=content):
                    await _room(receiver.offer(content))
                case forms.FileEnds():
                    await _room(receiver.end())
        _need(manual is not None, "Parameter 'manual' required")
        return await asyncio.shield(asyncio.wrap_future(receiver.finish(manual=bool(manual))))
    except BaseException:
        receiver.abandon()
        raise


async def take_part(service: Service, request: Request, who: Principal, target: Target) -> None:
    """One file of a sequential upload: `path` and `name`, then `file`."""
    said: dict[str, str] = {}
    arriving: ArrivingPart | None = None
    idle = service.ground.configuration.limits.idle
    try:
        async for event in forms.events(
            request, fields=("path", "name"), files=("file",), idle=idle
        ):
            match event:
                case forms.Field(name=name, value=value):
                    said[name] = value
                case forms.FileBegins():
                    for name in ("name", "path"):
                        _need(name in said, f"Parameter '{name}' required, before the file")
                    _need(arriving is None, "One file at a time")
                    arriving = await threads.run(
                        service.uploads.receive, who, target, said["path"], said["name"]
                    )
                case forms.FilePiece(content=content):
                    assert arriving is not None
                    await _room(arriving.offer(content))
                case forms.FileEnds():
                    pass
        _need(arriving is not None, "No file given")
        assert arriving is not None
        await asyncio.shield(asyncio.wrap_future(arriving.finish()))
    except BaseException:
        if arriving is not None:
            arriving.abandon()
        raise


def _need(condition: bool, sentence: str) -> None:  # noqa: FBT001  reads as an assertion
    if not condition:
        raise InvalidError(sentence)


async def _room(wait: Future[None] | None) -> None:
    if wait is not None:
        await asyncio.wrap_future(wait)


class _Single:
    """Into a target of one file a backup."""

    def __init__(self, service: Service, who: Principal, target: Target) -> None:
        self._service = service
        self._who = who
        self._target = target
        self._arriving: Arriving | None = None

    async def begin(self, filename: str, *, manual: bool) -> None:
        if self._arriving is not None:
            raise InvalidError("Cannot upload multiple files to a single-file target")
        self._arriving = await threads.run(
            self._service.backups.receive,
            self._who,
            self._target,
            _plain_name(filename),
            manual=manual,
        )

    def offer(self, piece: bytes) -> Future[None] | None:
        assert self._arriving is not None
        return self._arriving.offer(piece)

    def end(self) -> Future[None] | None:
        return None

    def finish(self, *, manual: bool) -> Future[Backup]:
        if self._arriving is None:
            raise InvalidError("No files specified")
        self._arriving.amend(manual=manual)
        return self._arriving.finish()

    def abandon(self) -> None:
        if self._arriving is not None:
            self._arriving.abandon()


class _Multi(_Single):
    """Into a target of many files a backup: archives are unpacked."""

    def __init__(self, service: Service, who: Principal, target: Target) -> None:
        super().__init__(service, who, target)
        self._tree: ArrivingTree | None = None
        self._part: Part | None = None

    async def begin(self, filename: str, *, manual: bool) -> None:
        name = _plain_name(filename)
        if self._tree is None:
            self._tree = await threads.run(
                self._service.backups.receive_tree, self._who, self._target, name, manual=manual
            )
        self._part = self._tree.part(name)

    def offer(self, piece: bytes) -> Future[None] | None:
        assert self._part is not None
        return self._part.offer(piece)

    def end(self) -> Future[None] | None:
        assert self._part is not None
        return self._part.end()

    def finish(self, *, manual: bool) -> Future[Backup]:
        if self._tree is None:
            raise InvalidError("No files specified")
        self._tree.amend(manual=manual)
        return self._tree.finish()

    def abandon(self) -> None:
        if self._tree is not None:
            self._tree.abandon()


def _plain_name(filename: str) -> str:
    """The last part of what a client calls its file: some send whole paths."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    if not name or name in {".", ".."}:
        raise InvalidError("The file needs a name")
    return name
