"""Everything about a project as one JSON document, with the keys that apibackuper's users know."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import DamagedError, HoldfastError, NothingStoredError
from holdfast.sources.restapi.asking.manners import limits_of, retrying_of
from holdfast.sources.restapi.asking.paging import timestamp
from holdfast.sources.restapi.asking.redact import public_url
from holdfast.sources.restapi.collecting.statefile import read_state
from holdfast.sources.restapi.kept.archive import Archive, open_archive
from holdfast.sources.restapi.kept.keepers import ZipKeeper, open_keeper
from holdfast.sources.restapi.records.documents import parse, records_of

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.sources.restapi.kept.ledger import Run
    from holdfast.sources.restapi.project.project import Project

_MIB = 1 << 20
_GIB = 1 << 30


def describe(project: Project) -> dict[str, Any]:
    """Configuration, what is stored, and how the runs went. No secrets. Any: JSON."""
    source, params, data = project.source, project.params, project.data
    request, storage = project.request, project.storage
    retrying, limits = retrying_of(project), limits_of(project)
    return {
        "project": {
            "name": project.name, "id": project.settings.id,
            "description": source.description, "url": public_url(source.url),
            "http_mode": source.http_mode, "response_type": source.resp_type,
            "storage_type": storage.storage_type, "storage_path": str(project.place.path),
            "config_file": str(project.file), "log_file": project.settings.logfile,
        },
        "configuration": {
            "page_limit": params.page_size_limit, "start_page": params.start_page,
            "iterate_by": source.iterate_by, "query_mode": params.query_mode,
            "work_modes": list(source.work_modes), "default_delay": source.default_delay or 0,
            "retry_count": retrying.tries, "retry_delay": retrying.first,
            "force_retry": source.force_retry,
        },
        "data": {
            "data_key": data.data_key, "total_number_key": data.total_number_key,
            "pages_number_key": data.pages_number_key, "item_key": list(data.item_key),
            "change_key": list(data.change_key),
        },
        "params": {
            "page_number_param": params.page_number_param,
            "page_size_param": params.page_size_param,
            "count_skip_param": params.count_skip_param,
            "count_from_param": params.count_from_param,
            "count_to_param": params.count_to_param, "flat_params": params.force_flat_params,
        },
        "request": {
            "timeout": request.timeout, "connect_timeout": request.connect_timeout,
            "read_timeout": request.read_timeout, "verify_ssl": request.verify_ssl,
            "user_agent": request.user_agent, "max_redirects": request.max_redirects,
            "allow_redirects": request.allow_redirects, "parallelism": request.parallelism,
            "proxies_configured": bool(request.proxies),
        },
        "error_handling": {
            "retry_on_codes": sorted(retrying.statuses),
            "max_consecutive_errors": project.errors.max_consecutive_errors,
            "continue_on_error": project.errors.continue_on_error,
        },
        "storage_config": {
            "compression": storage.compression, "compression_level": storage.compression_level,
            "max_file_size": storage.max_file_size, "split_files": storage.split_files,
            "keep_runs": storage.keep_runs, "warc": storage.warc,
        },
        "authentication": {"type": project.auth.type if project.auth else None},
        "rate_limiting": {
            "enabled": bool(limits.per_second or limits.per_minute or limits.per_hour),
            "requests_per_second": limits.per_second or None,
            "requests_per_minute": limits.per_minute or None,
            "requests_per_hour": limits.per_hour or None, "burst_size": limits.burst,
        },
        "follow": _follow(project),
        "files": _files(project),
        "code": {"postfetch": project.code.postfetch, "follow": project.code.follow},
        "statistics": _statistics(project),
        "run": _last_run(project),
    }  # fmt: skip


def _follow(project: Project) -> dict[str, Any]:
    if not project.follow:
        return {"enabled": False}
    rule = project.follow[0]
    return {
        "enabled": True, "mode": rule.follow_mode, "http_mode": rule.follow_http_mode,
        "data_key": rule.follow_data_key, "item_key": rule.follow_item_key,
        "param": rule.follow_param, "pattern": public_url(rule.follow_pattern or "") or None,
        "url_key": rule.follow_url_key, "rules": [rule.name for rule in project.follow],
    }  # fmt: skip


def _files(project: Project) -> dict[str, Any]:
    files = project.files
    if files is None:
        return {"enabled": False}
    return {
        "enabled": True, "fetch_mode": files.fetch_mode, "root_url": public_url(files.root_url),
        "keys": ",".join(files.keys), "storage_mode": files.storage_mode,
        "file_storage_type": files.file_storage_type, "default_ext": files.default_ext,
        "use_aria2": files.use_aria2,
    }  # fmt: skip


def _statistics(project: Project) -> dict[str, Any]:
    place = project.place
    found: dict[str, Any] = {"storage": _storage(project)}
    labels = {path.stem for path in place.folder.glob("details*.zip")} | {"details", "files"}
    for label in sorted(labels):
        keeper = open_keeper(place, label)
        if not keeper.exists() or not isinstance(keeper, ZipKeeper):
            found[label] = {"file_exists": False}
            continue
        try:
            count, size = keeper.measure()
        except DamagedError as error:
            found[label] = {"file_exists": True, "error": error.message}
            continue
        found[label] = {"file_exists": True, "total_files": count, **_sizes(size)}
    folder = place.folder / "files"
    if not found["files"]["file_exists"] and folder.is_dir():
        sizes = _sizes_below(folder)
        found["files"] = {"file_exists": True, "total_files": len(sizes), **_sizes(sum(sizes))}
    return found


def _storage(project: Project) -> dict[str, Any]:
    try:
        archive = open_archive(project.place)
    except NothingStoredError:
        return {"file_exists": False}
    except HoldfastError as error:
        return {"file_exists": True, "error": error.message}
    with archive:
        return _measured(project, archive)


def _measured(project: Project, archive: Archive) -> dict[str, Any]:
    runs = []
    pages = records = size = 0
    for run in archive.runs():
        counted, held, length = _count(project, archive, run)
        told = _told(run, pages=counted, records=held)
        if grown := archive.grown_by(run):
            told["grown_by"] = [
                _told(part, pages=part.pages, records=part.records) for part in grown
            ]
        runs.append(told)
        if run.id == archive.base().id:
            pages, records, size = counted, held, length
    waiting = archive.collecting()
    cut_off = waiting and _told(waiting, pages=waiting.pages, records=waiting.records)
    return {
        "file_exists": not archive.unfinished,
        "unfinished": archive.unfinished or waiting is not None,
        **({"unfinished_run": cut_off} if cut_off else {}),
        **({"ledger": "damaged"} if archive.lacks_ledger else {}),
        "total_files": pages,
        **_sizes(size),
        "total_records": records,
        "avg_records_per_file": round(records / pages, 2) if pages else 0,
        "stored_bytes": _stored_bytes(project),
        "runs": runs,
    }


def _count(project: Project, archive: Archive, run: Run) -> tuple[int, int, int]:
    pages = records = size = 0
    for page in archive.pages(run):
        body = page.body
        pages += 1
        size += len(body)
        records += len(records_of(project, parse(body)))
    return pages, records, size


def _told(run: Run, *, pages: int, records: int) -> dict[str, Any]:
    return {
        "id": run.id, "mode": run.mode, "outcome": run.outcome,
        "started": timestamp(run.started / 10**9) if run.started else None,
        "ended": timestamp(run.ended / 10**9) if run.ended else None,
        "pages": pages, "records": records, "announced": run.announced,
    }  # fmt: skip


def _last_run(project: Project) -> dict[str, Any] | None:
    state = read_state(project)
    if not state:
        return None
    return {
        "last_run_start": state.get("last_run_start"), "last_run_end": state.get("last_run_end"),
        "status": state.get("outcome", "succeeded" if state.get("last_run_end") else "unknown"),
        "records_processed": state.get("records_processed"),
        "bytes_processed": state.get("bytes_processed"), "last_page": state.get("last_page"),
        "last_change_key": state.get("last_change_key"),
    }  # fmt: skip


def _stored_bytes(project: Project) -> int:
    path = project.place.pages
    return path.stat().st_size if path.is_file() else sum(_sizes_below(path))


def _sizes_below(folder: Path) -> list[int]:
    return [
        os.stat(os.path.join(where, name)).st_size  # noqa: PTH116, PTH118 - millions of names
        for where, _, names in os.walk(folder)
        if ".holdfast" not in where
        for name in names
    ]


def _sizes(size: int) -> dict[str, Any]:
    return {
        "total_size_bytes": size,
        "total_size_mb": round(size / _MIB, 2),
        "total_size_gb": round(size / _GIB, 3),
    }
