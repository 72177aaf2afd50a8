"""Which earlier backup a new one is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.access import SERVER
from holdfast.core.records import BackupState, Made

if TYPE_CHECKING:
    from holdfast.core.records import Backup, RepositoryRecord, Target
    from holdfast.service.server import Service


def parent_of(
    service: Service, target: Target, made: Made, record: RepositoryRecord
) -> Backup | None:
    """Incremental: the newest of the series; differential: the newest full one; full: none. Where
    there is none, what is made is a full one.
    """
    if made is Made.FULL:
        return None
    for each in service.backups.list(SERVER, target, states=(BackupState.KEPT,)):
        usable = each.snapshot and each.repository_id == record.id and not each.damaged
        if usable and (made is Made.INCREMENTAL or each.made is Made.FULL):
            return each
    return None
