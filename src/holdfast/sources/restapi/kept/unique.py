"""Finding out that no item key comes twice in a run of which nobody has counted them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.sources.restapi.kept.keycount import KeyCount
from holdfast.sources.restapi.kept.scratch import Rising
from holdfast.sources.restapi.records.documents import without_mark
from holdfast.sources.restapi.records.filters import split_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.sources.restapi.kept.archive import Archive
    from holdfast.sources.restapi.kept.ledger import Run
    from holdfast.sources.restapi.project.project import Project

    _Reader = Callable[[bytes], list[int | str | None]]


def all_differ(project: Project, archive: Archive, run: Run) -> bool:
    """Whether each record with an item key has one of its own. Reads nothing but keys, once, and
    only where they are plain ones: False where that does not tell.

    Raises:
        DamagedError: a page is not what was stored.
    """
    if run.id not in archive.looked_at:
        archive.looked_at[run.id] = _look(project, archive, run)
    return archive.looked_at[run.id]


def _look(project: Project, archive: Archive, run: Run) -> bool:
    keys_in = _keys_reader(project)
    if keys_in is None:
        return False
    try:
        return _only_grow(keys_in, archive, run) or _are_different(keys_in, archive, run)
    except (msgspec.MsgspecError, RecursionError):
        return False


def _only_grow(keys_in: _Reader, archive: Archive, run: Run) -> bool:
    """The quick look: keys that only grow are different. Ends where one does not."""
    rising = Rising()
    return all(rising.goes_on(keys_in(page.body)) for page in archive.pages(run))


def _are_different(keys_in: _Reader, archive: Archive, run: Run) -> bool:
    total = 0
    with closing(KeyCount()) as count:
        for page in archive.pages(run):
            keys = [key for key in keys_in(page.body) if key is not None]
            total += len(keys)
            count.add(keys)
        return count.distinct() == total


def _keys_reader(project: Project) -> _Reader | None:
    """Takes the item keys out of a page without making anything of the rest. Any: a type that is
    made here.
    """
    (name, *more), splitter = project.data.item_key, project.settings.splitter
    if more or splitter in name:
        return None
    record = msgspec.defstruct(
        "Record", [("key", int | str | None, None)], rename={"key": name}, gc=False
    )
    kind: Any = list[record]  # type: ignore[valid-type]  # it exists only now
    path = split_key(project.data.data_key, splitter) if project.data.data_key else ()
    for part in reversed(path):
        kind = msgspec.defstruct("Part", [("inner", kind)], rename={"inner": part})
    decoder = msgspec.json.Decoder(kind)

    def keys_in(body: bytes) -> list[int | str | None]:
        found = decoder.decode(without_mark(body))
        for _ in path:
            found = found.inner
        return [row.key for row in found]

    return keys_in
