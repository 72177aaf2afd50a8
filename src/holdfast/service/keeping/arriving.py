"""Streams on their way into a plain pool: written under `.holdfast/tmp`, digested on the way,
synced, and then handed over to be given their place.
"""

from __future__ import annotations

import os
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from holdfast.core.entries import Kind
from holdfast.core.errors import ClosedError, HoldfastError, InvalidError
from holdfast.service.keeping.digests import Digester
from holdfast.service.keeping.disk import claim, explained, told, write_all
from holdfast.service.keeping.flow import Flow
from holdfast.service.keeping.lists import ListWriter, Member, list_parts
from holdfast.service.keeping.naming import HOUSE, safe_uid

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from holdfast.service.keeping.contract import Buffer, Kept, Order
    from holdfast.service.keeping.digests import Content
    from holdfast.service.keeping.disk import Root

TMP: Final = "tmp"


@dataclass(frozen=True, slots=True)
class Sealed:
    """Whole and synced under `.holdfast/tmp/<uid>`, not yet in its place."""

    order: Order
    size: int
    files: int
    sha256: str
    tree: bool
    result: Future[Kept]
    release: Callable[[], None]
    """Gives up the claim on the temporary file."""


@dataclass(frozen=True, slots=True)
class Yard:
    """What arriving streams share."""

    root: Root
    workers: Executor
    commit: Callable[[Sealed], None]


def tmp_parts(uid: str) -> tuple[str, ...]:
    return HOUSE, TMP, uid


class FolderFile:
    """One stream, see `contract.Incoming`."""

    def __init__(self, yard: Yard, order: Order) -> None:
        self._yard = yard
        self._order = order
        self._uid = safe_uid(order.uid)
        self._digester = Digester()
        self._over = False
        with told("begin an upload"), yard.root.folder((HOUSE, TMP), create=True) as tmp:
            self._descriptor = yard.root.disk.create(tmp, self._uid)
        claim(self._descriptor)
        self._flow = Flow(yard.workers, self._take)

    def _take(self, piece: memoryview) -> None:
        disk = self._yard.root.disk
        try:
            write_all(disk, self._descriptor, piece)
        except OSError as error:
            os.ftruncate(self._descriptor, 0)  # a full disk gets its room back at once
            raise explained(error, f"keep {self._order.name}") from error
        self._digester.update(piece)

    def offer(self, piece: Buffer) -> Future[None] | None:
        return self._flow.offer(piece)

    def write(self, piece: Buffer) -> None:
        self._flow.write(piece)

    def amend(self, *, manual: bool) -> None:
        self._order = replace(self._order, manual=manual)

    def finish(self) -> Future[Kept]:
        self._over = True
        result: Future[Kept] = Future()

        def go_on(ended: Future[None]) -> None:
            error = ended.exception()
            try:
                if error is None:
                    self._yard.workers.submit(self._seal, result)
                    return
            except RuntimeError:  # the workers have been sent home
                error = ClosedError("the pool is being closed")
            self._discard()
            result.set_exception(error)

        self._flow.end().add_done_callback(go_on)
        return result

    def _seal(self, result: Future[Kept]) -> None:
        try:
            content = self._digester.content()
            check_size(self._order, content.size)
            with told(f"keep {self._order.name}"):
                self._yard.root.disk.sync(self._descriptor)
                if content.blocks:
                    self._write_list(content)
            self._yard.commit(self._sealed(content, result))
        except BaseException as error:  # noqa: BLE001  handed to whoever waits
            self._discard()
            result.set_exception(error)

    def _sealed(self, content: Content, result: Future[Kept]) -> Sealed:
        return Sealed(
            order=self._order,
            size=content.size,
            files=1,
            sha256=content.sha256,
            tree=False,
            result=result,
            release=self._release,
        )

    def _write_list(self, content: Content) -> None:
        lines = ListWriter(self._yard.root, self._uid)
        try:
            lines.add(Member(b"", Kind.FILE, mtime=self._order.received, content=content))
            lines.end()
        finally:
            lines.close()

    def abandon(self) -> None:
        if not self._over:
            self._over = True
            self._flow.stop().add_done_callback(lambda _: self._discard())

    def _discard(self) -> None:
        discard(self._yard.root, self._uid)
        self._release()

    def _release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def check_size(order: Order, size: int) -> None:
    """Raises InvalidError where less or more came than was announced."""
    if order.size is not None and order.size != size:
        raise InvalidError(
            f"{order.name}: {order.size} bytes were announced, {size} came",
            remedy="Nothing of it was kept. Send it again.",
        )


def discard(root: Root, uid: str) -> None:
    """Removes what an upload that is not kept has left. What cannot be removed now is removed at
    the next start.
    """
    for parts in (tmp_parts(uid), list_parts(uid)):
        try:
            root.remove(parts)
        except (OSError, HoldfastError):
            continue
