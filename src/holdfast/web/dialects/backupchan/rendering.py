"""Targets, backups and jobs as Backup-chan writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from holdfast.core.keeping import KeepRule
from holdfast.core.records import BackupState, TaskState
from holdfast.web.sending import http_date

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.core.records import Backup, Plan, Target, Task

_SECOND = 1_000_000_000
JOBS = {
    "recycle_job": "expire",
    "backup_filesize_job": "measure",
    "deduplicate_job": "deduplicate",
    "stale_seq_upload_job": "stale-uploads",
    "tmp_purge_job": "purge",
    "integrity_check_job": "verify",
}
"""Its scheduled jobs, and the kinds of ours that do their work."""
_NAMES = {kind: name for name, kind in JOBS.items()} | {"upload": "upload_job"}
_STATUS = {
    TaskState.QUEUED: "IDLE",
    TaskState.PAUSED: "IDLE",
    TaskState.RUNNING: "RUNNING",
    TaskState.SUCCEEDED: "FINISHED",
    TaskState.PARTIAL: "ERROR",
    TaskState.FAILED: "ERROR",
    TaskState.CANCELLED: "ERROR",
}


def answer(
    values: Mapping[str, Any] | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    content = msgspec.json.encode({"success": status < 400, **(values or {})})  # noqa: PLR2004
    return Response(content, status, headers, media_type="application/json")


def target(each: Target) -> dict[str, Any]:
    rule = KeepRule.of(each.keep)
    return {
        "id": each.uid,
        "name": each.name,
        "target_type": each.shape,
        "recycle_criteria": rule.criteria,
        "recycle_value": rule.value,
        "recycle_action": rule.action,
        "location": each.location,
        "name_template": each.name_template,
        "deduplicate": each.deduplicate,
        "alias": each.alias,
        "min_backups": rule.min_backups,
        "tags": each.tags,
    }


def backup(each: Backup, target_uid: str) -> dict[str, Any]:
    return {
        "id": each.uid,
        "target_id": target_uid,
        "created_at": datetime.fromtimestamp(each.created // _SECOND, UTC).isoformat(),
        "manual": each.manual,
        "is_recycled": each.state is BackupState.RECYCLED,
        "filesize": each.size,
        "hash": each.sha256,
        "hash_mismatch": bool(each.damaged),
    }


def delayed(task: Task) -> dict[str, Any]:
    """Times are always dates: the clients cannot read the original's 0 of a running job."""
    started = task.started or task.created
    return {
        "id": task.id,
        "name": _NAMES.get(task.kind, f"{task.kind}_job"),
        "status": _STATUS[task.state],
        "start_time": http_date(started),
        "end_time": http_date(task.ended or started),
    }


def scheduled(name: str, plan: Plan) -> dict[str, Any]:
    return {
        "name": name,
        "display_name": name.removesuffix("_job").replace("_", " ").capitalize(),
        "interval": plan.every,
        "next_run": (plan.next_at or 0) / _SECOND,
    }


def log(lines: str) -> str:
    """The server's log as the original wrote its own: `[time] [module] [LEVEL]: what happened`."""
    return "".join(f"{_log_line(line)}\n" for line in lines.splitlines())


def _log_line(line: str) -> str:
    try:
        said = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return line
    moment = str(said.pop("timestamp", "")).replace("T", " ").removesuffix("Z")
    module, level = said.pop("logger", "holdfast"), str(said.pop("level", "info")).upper()
    what = [str(said.pop("event", "")), str(said.pop("subject", ""))]
    trace = said.pop("exception", "")
    detail = said.pop("detail", {})
    what += [f"{name}={value}" for name, value in {**said, **detail}.items()]
    # Names are what people chose: nobody writes a line of the log with one.
    told = " ".join(filter(None, what)).replace("\r", "\\r").replace("\n", "\\n")
    return f"[{moment}] [{module}] [{level}]: {told}" + (f"\n{trace}" if trace else "")
