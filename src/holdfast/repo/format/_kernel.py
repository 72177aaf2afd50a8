"""The hot loops: compiled where that could be done, else their plain statement. Same results."""

from __future__ import annotations

try:
    from holdfast.repo.format._rabin import (
        find_row,
        have_rows,
        next_cut,
        order_by_pack,
        pack_lengths,
        renumber,
        row_starts,
        scan_index,
        sort_rows,
    )
except ImportError:  # no compiler was there
    from holdfast.repo.format._reference import (
        find_row,
        have_rows,
        next_cut,
        order_by_pack,
        pack_lengths,
        renumber,
        row_starts,
        scan_index,
        sort_rows,
    )

__all__ = [
    "find_row",
    "have_rows",
    "next_cut",
    "order_by_pack",
    "pack_lengths",
    "renumber",
    "row_starts",
    "scan_index",
    "sort_rows",
]
