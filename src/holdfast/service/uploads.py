"""Uploads in several requests, one file each, which end as one backup. What has arrived survives a
restart of the server: each file is kept as a backup of its own, out of sight, until the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from holdfast.core.access import Principal
    from holdfast.core.records import Backup, Target, Upload
    from holdfast.service.backups import Arriving, Backups
    from holdfast.service.ground import Ground
    from holdfast.service.pools import Pools


class Uploads:
    """One at a time for each target."""

    def __init__(self, ground: Ground, pools: Pools, backups: Backups) -> None:
        self._ground = ground
        self._pools = pools
        self._backups = backups

    def begin(
        self, who: Principal, target: Target, files: Sequence[tuple[str, str]], *, manual: bool
    ) -> Upload:
        """`files`: folder (`/`, `/sub/dir`) and name of each.

        Raises:
            StateError: one is under way for this target.
            InvalidError: a name or folder that cannot be, or one that is there twice.
        """
        raise NotImplementedError

    def get(self, who: Principal, target: Target) -> Upload | None:
        """The one under way."""
        raise NotImplementedError

    def receive(
        self, who: Principal, target: Target, folder: str, name: str, *, size: int | None = None
    ) -> Arriving:
        """One file of it; it counts as uploaded when the future of its `finish` is done.

        Raises:
            StateError: none is under way, or that file is not in its list.
            RecordExistsError: that file is there already.
        """
        raise NotImplementedError

    def finish(self, who: Principal, target: Target) -> Future[Backup]:
        """Raises StateError: none is under way, or files are missing."""
        raise NotImplementedError

    def terminate(self, who: Principal, target: Target) -> None:
        """Forgets it and what has arrived of it. Raises StateError where none is under way."""
        raise NotImplementedError
