"""Removes from a destination what a snapshot does not have."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from holdfast.core.entries import Kind
from holdfast.core.errors import HoldfastError
from holdfast.repo.browsing.walk import join, split
from holdfast.repo.restoring import destination as place
from holdfast.repo.restoring.tally import Action

if TYPE_CHECKING:
    from holdfast.repo.restoring.destination import Destination
    from holdfast.repo.restoring.restore_options import Selection
    from holdfast.repo.restoring.tally import Tally


def delete(
    destination: Destination, path: bytes, selection: Selection, *, dry_run: bool, tally: Tally
) -> None:
    """Removes what is selected of a name and, if it is a directory, of what is below it.

    Other file systems are not entered, links not followed. A directory stays while anything in it
    does.
    """
    kept: set[bytes] = set()
    waiting = [(path, False)]
    while waiting:
        path, emptied = waiting.pop()
        above, name = split(path)
        selected = not selection or selection.selects(path)
        try:
            folder = destination.folder(above)
            found = place.look(folder, name)
            if found is None:
                continue
            if place.is_kind(found, Kind.DIR) and not emptied:
                if found.st_dev != os.fstat(folder).st_dev:
                    kept.add(above)
                    tally.fail(path, "another file system is mounted here; it was left")
                elif selected or selection.may_select_below(path):
                    waiting.append((path, True))
                    inside = place.names(destination.folder(path))
                    waiting += [(join(path, each), False) for each in inside]
                else:
                    kept.add(above)
                continue
            if not selected or path in kept:
                kept.add(above)
                continue
            if not dry_run:
                (place.remove_folder if emptied else place.remove)(folder, name)
            tally.note(Action.DELETED, path)
        except (OSError, HoldfastError) as error:
            kept.add(above)
            tally.fail(path, error)
