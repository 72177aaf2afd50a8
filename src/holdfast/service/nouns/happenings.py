"""Nouns about what happened: journals, and samples of the server's load. They are only read."""

from __future__ import annotations

from holdfast.catalog import tables
from holdfast.core.access import Verb
from holdfast.core.fields import Field, Kind
from holdfast.core.records import Area
from holdfast.service.nouns.describing import Noun

_ROW = tables.journal.c
_TIME = Field(name="at", kind=Kind.TIME, read_only=True)
_ACTOR = Field(name="actor", read_only=True, meaning="Who had it done.")
_LINE = (Field(name="level", read_only=True), Field(name="text", read_only=True))
_TASK = Field(name="task_id", kind=Kind.NUMBER, read_only=True)


def _journal(name: str, area: Area, sees: Verb, *fields: Field) -> Noun:
    return Noun(
        name=name,
        source=tables.journal,
        only=_ROW.area == str(area),
        sees=sees,
        within={},
        fields=(_TIME, *_LINE, *fields),
    )


TASK_LINE = _journal(
    "task log record", Area.TASKS, Verb.TASK_LIST,
    _TASK,
    Field(name="kind", read_only=True, meaning="What the task does."),
    Field(name="host", read_only=True, meaning="The machine that it is about."),
    Field(name="source", read_only=True, meaning="What is backed up."),
    Field(name="state", read_only=True, meaning="Of the task, from then on."),
    _ACTOR,
)  # fmt: skip
CLIENT_LINE = _journal(
    "client log record", Area.CLIENTS, Verb.HOST_LIST, Field(name="host", read_only=True), _TASK
)
MEDIA_SERVER_LINE = _journal(
    "media server log record", Area.MEDIA_SERVERS, Verb.POOL_LIST,
    Field(name="host", read_only=True),
)  # fmt: skip
REPOSITORY_LINE = _journal(
    "repository log record", Area.REPOSITORY, Verb.BACKUP_LIST,
    Field(name="backup_id", kind=Kind.NUMBER, read_only=True), _TASK, _ACTOR,
)  # fmt: skip


def _share(name: str, meaning: str) -> Field:
    return Field(name=name, kind=Kind.SHARE, read_only=True, meaning=f"{meaning}, percent.")


def _bytes(name: str, meaning: str) -> Field:
    return Field(name=name, kind=Kind.NUMBER, read_only=True, meaning=f"{meaning}, bytes a second.")


SAMPLE = Noun(
    name="monitoring record",
    source=tables.sample,
    sees=Verb.METRICS_READ,
    fields=(
        _TIME,
        _share("cpu", "Busy"),
        _share("memory", "Memory in use"),
        _share("swap", "Swap in use"),
        _share("disk", "The file system with the server's data in use"),
        _bytes("disk_read", "Read from disks"),
        _bytes("disk_written", "Written to disks"),
        _bytes("received", "Received from the network"),
        _bytes("sent", "Sent to it"),
    ),
)
