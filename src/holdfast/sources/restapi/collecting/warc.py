"""Stored responses as WARC, the format of web archives, one compressed record after the other.

Written from the archive once a run is published, so it holds what the archive holds: no secrets,
and bodies as they are stored.
"""

from __future__ import annotations

import gzip
import uuid
from base64 import b32encode
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from holdfast.sources.restapi.kept.archive import UPDATE, open_archive
from holdfast.sources.restapi.project.place import writing

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from holdfast.sources.restapi.kept.archive import StoredPage
    from holdfast.sources.restapi.kept.ledger import Run
    from holdfast.sources.restapi.project.project import Project

_LINE = "\r\n"
_DROPPED = {"content-encoding", "transfer-encoding", "content-length"}
"""They speak of the wire; a stored body is unpacked and has its own length."""


def write_warc(project: Project, run: Run) -> Path:
    """Writes `storage/warc/<run>.warc.gz` with every page of a run; returns its path.

    Raises:
        StorageFullError: no room; nothing of it is left.
    """
    folder = project.place.folder / "warc"
    path = folder / f"{run.id}.warc.gz"
    draft = path.with_name(path.name + ".new")
    with writing(path), open_archive(project.place) as archive:
        folder.mkdir(parents=True, exist_ok=True)
        source = run if run.mode == UPDATE else archive.base()
        try:
            with draft.open("wb") as out:
                info = f"software: holdfast{_LINE}format: WARC File Format 1.1{_LINE}"
                out.write(_record("warcinfo", info.encode(), "application/warc-fields"))
                for page in archive.pages(source):
                    if (evidence := page.evidence) and "status" in evidence:
                        out.write(_response(page, evidence))
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    return path


def _response(page: StoredPage, evidence: dict[str, Any]) -> bytes:
    body = page.body
    lines = [f"HTTP/1.1 {evidence['status']} "]
    lines += [
        f"{name}: {value}" for name, value in evidence["headers"] if name.lower() not in _DROPPED
    ]
    lines.append(f"Content-Length: {len(body)}")
    head = (_LINE.join(lines) + _LINE * 2).encode("utf-8", "replace")
    payload = "sha256:" + b32encode(sha256(body).digest()).decode()
    return _record(
        "response", head + body, "application/http;msgtype=response", url=evidence["url"],
        moment=datetime.fromisoformat(evidence["time"]), payload=payload,
    )  # fmt: skip


def _record(
    kind: str, block: bytes, content_type: str, *, url: str = "", payload: str = "",
    moment: datetime | None = None,
) -> bytes:  # fmt: skip
    moment = moment or datetime.now(UTC)
    fields = [
        "WARC/1.1",
        f"WARC-Type: {kind}",
        f"WARC-Record-ID: <urn:uuid:{uuid.uuid4()}>",
        f"WARC-Date: {moment.strftime('%Y-%m-%dT%H:%M:%S.%fZ')}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(block)}",
    ]
    if url:
        fields.append(f"WARC-Target-URI: {url}")
    if payload:
        fields.append(f"WARC-Payload-Digest: {payload}")
    head = (_LINE.join(fields) + _LINE * 2).encode()
    return gzip.compress(head + block + (_LINE * 2).encode(), mtime=0)
