"""Uploaded files on their way into a tree: an archive becomes the files that it holds, anything
else is one file of its own. What it is, its first bytes tell and not its name.
"""

from __future__ import annotations

import tempfile
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

from holdfast.repo.saving.intake_archives import SNIFF, Limits, Packing, sniff
from holdfast.repo.saving.intake_pipe import BytePipe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from holdfast.service.keeping.contract import Buffer, IncomingFile, IncomingTree


__all__ = ["Limits", "Part"]


class _Way(Protocol):
    def offer(self, piece: Buffer) -> Future[None] | None: ...

    def end(self) -> Future[None]: ...

    def abandon(self) -> None: ...


class Part:
    """One uploaded file. `offer` never blocks; the next part may begin when the future of `end` is
    done.
    """

    def __init__(self, tree: IncomingTree, name: str, *, scratch: Path, limits: Limits) -> None:
        self._tree = tree
        self._name = name
        self._scratch = scratch
        self._limits = limits
        self._head = bytearray()
        self._way: _Way | None = None

    def offer(self, piece: Buffer) -> Future[None] | None:
        if self._way is not None:
            return self._way.offer(piece)
        self._head += piece
        return self._decide() if len(self._head) >= SNIFF else None

    def end(self) -> Future[None]:
        """Done when all of it is in the tree. Fails with ArchiveRefusedError where it is an archive
        that cannot be taken.
        """
        if self._way is None:
            self._decide()
        assert self._way is not None
        return self._way.end()

    def abandon(self) -> None:
        if self._way is not None:
            self._way.abandon()

    def _decide(self) -> Future[None] | None:
        packing = sniff(bytes(self._head[:SNIFF]))
        if packing is None:
            self._way = _Plain(self._tree, self._name)
        elif packing is Packing.ZIP:
            self._way = _Zip(self._tree, self._scratch, self._limits)
        else:
            self._way = _Tar(self._tree, self._limits)
        head, self._head = self._head, bytearray()
        return self._way.offer(head)


class _Plain:
    """A file under its own name."""

    def __init__(self, tree: IncomingTree, name: str) -> None:
        self._file: IncomingFile = tree.file(name.encode("utf-8", "surrogateescape"))

    def offer(self, piece: Buffer) -> Future[None] | None:
        return self._file.offer(piece)

    def end(self) -> Future[None]:
        return _in_thread(self._file.end)

    def abandon(self) -> None:
        """The tree is abandoned with it."""


class _Tar:
    """A tar, compressed or not, unpacked as it comes."""

    def __init__(self, tree: IncomingTree, limits: Limits) -> None:
        self._pipe = BytePipe()

        def unpack() -> None:
            with self._pipe:
                tree.unpack(self._pipe, limits)  # type: ignore[arg-type]  # reads as a BinaryIO does

        self._done = _in_thread(unpack)

    def offer(self, piece: Buffer) -> Future[None] | None:
        return self._pipe.offer(piece)

    def end(self) -> Future[None]:
        self._pipe.end()
        return self._done

    def abandon(self) -> None:
        self._pipe.fail(ConnectionError("the upload broke off"))


class _Zip:
    """A zip has its list at its end, so it rests in a nameless file until that has come."""

    def __init__(self, tree: IncomingTree, scratch: Path, limits: Limits) -> None:
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115  closed at the end
        self._tree = tree
        self._limits = limits

    def offer(self, piece: Buffer) -> Future[None] | None:
        self._file.write(piece)
        return None

    def end(self) -> Future[None]:
        def unpack() -> None:
            with self._file:
                self._file.seek(0)
                self._tree.unpack(self._file, self._limits)

        return _in_thread(unpack)

    def abandon(self) -> None:
        self._file.close()


def _in_thread(act: Callable[[], None]) -> Future[None]:
    done: Future[None] = Future()

    def run() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001  handed to whoever waits
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, name="unpack", daemon=True).start()
    return done
