"""What a crash has left in a plain pool, put right at the next start without anybody's help (I5).

The journal is written before a whole upload gets its place, so each left-over has one meaning:

- a temporary file of a backup that the journal has: it was whole, and gets its place now. It may
  never have been acknowledged; then it is found and recorded like any other backup.
- a temporary file that the journal does not know: an upload that was cut off; it goes.
- `gone-...`: a deletion that was under way; it is ended.
- a backup whose newest line says that it moves, and that still is where it was: it moves now.
- a list of a backup that the journal does not know: it goes.

Files that the journal does not name and that lie anywhere else are not ours: never listed, never
touched. What another living process has under its hands is claimed by it, and left alone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from holdfast.service.keeping.arriving import TMP, tmp_parts
from holdfast.service.keeping.disk import claim
from holdfast.service.keeping.lists import FOLDER as LISTS
from holdfast.service.keeping.lists import list_parts
from holdfast.service.keeping.naming import HOUSE, beside

if TYPE_CHECKING:
    from holdfast.service.keeping.disk import Root
    from holdfast.service.keeping.journal import Journal

GONE: Final = "gone-"
_LIST_SUFFIX: Final = ".jsonl"


def gone_parts(uid: str) -> tuple[str, ...]:
    return tmp_parts(GONE + uid)


def reconcile(root: Root, journal: Journal) -> None:
    """Call while the journal is `locked`. Raises OSError."""
    busy = set()
    for name in _names(root, TMP):
        if name.startswith(GONE):
            end_deletion(root, journal, name.removeprefix(GONE))
        elif not _is_free(root, name):
            busy.add(name)
        elif name in journal.standing:
            give_place(root, journal, name)
        else:
            root.remove(tmp_parts(name))
    for uid in [uid for uid, standing in journal.standing.items() if standing.before]:
        end_move(root, journal, uid)
    for name in _names(root, LISTS):
        uid = name.removesuffix(_LIST_SUFFIX)
        if uid not in journal.standing and uid.removesuffix(".new") not in busy:
            root.remove(list_parts(uid))
    journal.compact()


def give_place(root: Root, journal: Journal, uid: str) -> None:
    """What is whole under `.holdfast/tmp` comes to where its line says. Something of somebody else
    that has come there meanwhile stays; then the backup lies beside it.

    Raises OSError.
    """
    standing = journal.standing[uid]
    try:
        root.move(tmp_parts(uid), standing.lies(uid))
    except FileExistsError:
        path = beside(standing.path, uid)
        journal.append([{"do": "rename", "uid": uid, "path": path}])
        root.move(tmp_parts(uid), path.split("/"))


def end_move(root: Root, journal: Journal, uid: str) -> None:
    """Raises OSError."""
    standing = journal.standing[uid]
    assert standing.before is not None
    lies = standing.lies(uid)
    owner = journal.owners.get("/".join(standing.before), uid)
    if owner == uid and root.look(standing.before) and not root.look(lies):
        root.move(standing.before, lies)
    journal.append([{"do": "settle", "uid": uid}], sync=False)


def end_deletion(root: Root, journal: Journal, uid: str) -> None:
    """Raises OSError."""
    if uid in journal.standing:
        journal.append([{"do": "delete", "uid": uid}])
    root.remove(gone_parts(uid))
    root.remove(list_parts(uid))


def _names(root: Root, folder: str) -> list[str]:
    try:
        with root.folder((HOUSE, folder)) as descriptor:
            return os.listdir(descriptor)  # noqa: PTH208  a descriptor
    except FileNotFoundError:
        return []


def _is_free(root: Root, name: str) -> bool:
    with root.folder((HOUSE, TMP)) as tmp:
        try:
            descriptor = os.open(
                name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=tmp
            )
        except FileNotFoundError:
            return False
    try:
        return claim(descriptor)
    finally:
        os.close(descriptor)
