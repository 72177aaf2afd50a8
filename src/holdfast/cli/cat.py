"""`holdfast cat`: one stored object as it is inside."""

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli import repository
from holdfast.cli import settings as settings_of
from holdfast.cli.names import by_beginning
from holdfast.cli.output import Output
from holdfast.core.errors import ObjectNotFoundError, UsageError

if TYPE_CHECKING:
    from holdfast.repo.repository import Repository

_DOCUMENTS = ("snapshot", "index", "lock")
KINDS = ("masterkey", "config", "pack", "blob", "tree", "key", *_DOCUMENTS)


def cat(
    ctx: typer.Context,
    *,
    kind: Annotated[str, typer.Argument(metavar="KIND", help=", ".join(KINDS))],
    name: Annotated[str, typer.Argument(metavar="[ID]", help="Name of the object.")] = "",
) -> None:
    """Prints one object, decrypted: JSON, or a blob's or pack's bytes."""
    settings = settings_of.of(ctx)
    output = Output(settings)
    if kind not in KINDS:
        raise UsageError(f"there is no kind {kind!r}", remedy=f"Known are {', '.join(KINDS)}.")
    if not name and kind not in {"masterkey", "config"}:
        raise UsageError(f"cat {kind} needs the name of one")
    with repository.opened(settings, output) as opened:
        content = _content(opened, output, kind, name)
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.flush()


def _content(opened: "Repository", output: Output, kind: str, name: str) -> bytes:
    import msgspec

    from holdfast.store.contract import FileKind

    store = opened.store
    if kind == "masterkey":
        return _master_key(opened)
    if kind == "config":
        return _pretty(msgspec.json.encode(opened.config))
    if kind in {"blob", "tree"}:
        return _blob(opened, output, kind, name)
    if kind == "snapshot":
        snapshot, _ = repository.choose_snapshot(opened, output, name)
        return _pretty(opened.objects.load(FileKind.SNAPSHOT, snapshot.id))
    place = {
        "pack": FileKind.PACK,
        "key": FileKind.KEY,
        "index": FileKind.INDEX,
        "lock": FileKind.LOCK,
    }[kind]
    full = by_beginning((item.name for item in store.list(place)), name, kind)
    if kind in _DOCUMENTS:
        return _pretty(opened.objects.load(place, full))
    stored = store.get(place, full)
    return stored if kind == "pack" else _pretty(stored)


def _blob(opened: "Repository", output: Output, kind: str, name: str) -> bytes:
    """A blob's plaintext; for `tree` also the tree of a snapshot, as newer restic has it:
    `SNAPSHOT[:FOLDER]`.
    """
    from holdfast.core.ids import BlobId
    from holdfast.repo.browsing.walk import resolve
    from holdfast.repo.format.pack import BlobKind

    try:
        blob = BlobId(bytes.fromhex(name))
    except ValueError:
        blob = BlobId(b"")
    if len(blob) == 32:  # noqa: PLR2004  SHA-256
        for sort in (BlobKind.TREE,) if kind == "tree" else (BlobKind.DATA, BlobKind.TREE):
            if opened.index.find(blob, sort) is not None:
                return opened.load_blob(blob, sort)
        raise ObjectNotFoundError(f"there is no {kind} {name}")
    if kind == "blob":
        raise UsageError("cat blob needs the whole name of a blob, 64 digits")
    snapshot, path = repository.choose_snapshot(opened, output, name)
    place = resolve(opened, snapshot.tree, os.fsencode(path))
    if place.tree is None:
        raise UsageError(f"{path} is no folder", remedy="Name a folder of the snapshot.")
    return opened.load_blob(place.tree, BlobKind.TREE)


def _master_key(opened: "Repository") -> bytes:
    import base64

    import msgspec

    key = opened.objects.key
    encoded = [base64.b64encode(part).decode() for part in (key.mac_k, key.mac_r, key.encrypt)]
    document = {"mac": {"k": encoded[0], "r": encoded[1]}, "encrypt": encoded[2]}
    return _pretty(msgspec.json.encode(document))


def _pretty(document: bytes) -> bytes:
    import msgspec

    return msgspec.json.format(document, indent=2) + b"\n"
