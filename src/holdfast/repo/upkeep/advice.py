"""What to do about damage: the same words wherever somebody meets it."""

from __future__ import annotations

from typing import Final

INDEX: Final = "`holdfast repair index` makes the index anew from the packs."
PACKS: Final = (
    "Back up again: what the source still has is written anew. Then `holdfast repair packs` saves"
    " what can be read, and `holdfast repair snapshots --forget` leaves out what is lost."
)
SPARE_PACKS: Final = (
    "Nothing that snapshots need is lost: `holdfast repair packs` takes the damaged packs apart and"
    " keeps what can be read."
)
BLOBS: Final = (
    "Back up again: what the source still has is written anew. Then `holdfast repair snapshots"
    " --forget` leaves out what is lost."
)
SNAPSHOTS: Final = "`holdfast repair snapshots --forget` removes snapshots that cannot be read."
KEYS: Final = "Use the password of another key, or bring the damaged one back from a copy."
REMEMBERED: Final = (
    "What was found by reading is known to later backups of this user on this machine; so that"
    " others write it anew, too, run `holdfast repair packs` first."
)
NOT_REMEMBERED: Final = (
    "Without a cache there is nowhere to remember what was found by reading: name these packs to"
    " `holdfast repair packs` before you back up."
)
