"""The task that backs up the server's own state and the application beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.jobs.body import Ended

if TYPE_CHECKING:
    from holdfast.jobs.body import Run
    from holdfast.service.server import Service


def self_backup(service: Service, run: Run) -> Ended:
    """`spec.name`: how the backup is called; `spec.automatic`: made by the schedule."""
    backup = service.application.create_now(run)
    return Ended(report={"backup": backup.uid, "name": backup.name})
