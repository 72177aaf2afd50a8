"""Reading what a project has stored: its runs, their pages in the API's order, and the evidence
beside them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from holdfast.core.errors import NothingStoredError, ObjectNotFoundError
from holdfast.sources.restapi.kept import zipformat
from holdfast.sources.restapi.kept.keepers import (
    PAGE_NAME,
    Keeper,
    ZipKeeper,
    member_of,
    open_keeper,
    open_keeper_at,
)
from holdfast.sources.restapi.kept.ledger import (
    Ledger,
    Response,
    Run,
    State,
    is_damaged,
    open_to_read,
    with_sums,
)
from holdfast.sources.restapi.project.place import DAMAGE_REMEDY, PAGES, Place, damaged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

UPDATE = "update"


class Content:
    """Something that answers with bytes by member name: a published archive or one that is being
    collected.
    """

    def __init__(self, keeper: Keeper | Unfinished, label: str, ledger: Ledger | None) -> None:
        self.keeper = keeper
        self.label = label
        self.ledger = ledger if ledger and describes(ledger, keeper, label) else None
        """None where nothing is known of it: another program has made it, or replaced it whole."""
        self._pages: dict[str, list[tuple[int, str]]] | None = None

    @property
    def path(self) -> Path:
        return self.keeper.path

    def pages(self) -> dict[str, list[tuple[int, str]]]:
        """By run folder ("" for the base): numbers and member names, in numeric order."""
        if self._pages is None:
            found: dict[str, list[tuple[int, str]]] = {}
            for name in self.keeper.names():
                if match := PAGE_NAME.fullmatch(name):
                    found.setdefault(match["run"] or "", []).append((int(match["number"]), name))
            self._pages = {folder: sorted(found[folder]) for folder in sorted(found)}
        return self._pages


class Unfinished:
    """A run that has not been published, read as if it were an archive."""

    def __init__(self, path: Path, ledger: Ledger, run: Run) -> None:
        self.path = path
        self._ledger = ledger
        self._run = run

    def names(self) -> Iterator[str]:
        return (response.member for response in self._ledger.responses(self._run.id))

    def read(self, name: str) -> bytes:
        response = self._ledger.response(self._run.id, name)
        if response is None:
            raise ObjectNotFoundError(f"the unfinished run has no {name}", remedy=DAMAGE_REMEDY)
        with self.path.open("rb") as archive:
            return zipformat.read_member(archive, member_of(response))

    def close(self) -> None:
        """Holds nothing open."""


@dataclass(frozen=True, slots=True)
class StoredPage:
    """One response of a run; `body` is read when asked for."""

    run: Run
    number: int
    name: str
    _content: Content
    _member: str
    _known: Response | None = None

    @property
    def body(self) -> bytes:
        """Raises DamagedError where it is not what was stored."""
        body = self._content.keeper.read(self._member)
        known = self._response()
        if known and hashlib.sha256(body).hexdigest() != known.sha256:
            raise damaged(f"{self.shown} is not what was received (SHA-256)")
        return body

    @property
    def shown(self) -> str:
        """For people."""
        return f"{self._member} in {self._content.path}"

    @property
    def evidence(self) -> dict[str, Any] | None:
        """URL, status, headers, time and SHA-256; None where another program stored it. Any:
        JSON.
        """
        response = self._response()
        return response.proof() if response else None

    def _response(self) -> Response | None:
        if self._known is None and self._content.ledger is not None:
            return self._content.ledger.latest(self._content.label, self._member)
        return self._known


class Archive:
    """Made by `open_archive`; a context manager."""

    def __init__(self, place: Place, ledger: Ledger | None, contents: list[Content]) -> None:
        self.place = place
        self.looked_at: dict[str, bool] = {}
        """By run, what was found out about its item keys; see `kept.unique`."""
        self._ledger = ledger
        self._contents = contents
        self._runs = [(run, content) for content in contents for run in _runs(content)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def unfinished(self) -> bool:
        """Nothing was ever published; this is what a run that was cut off has collected."""
        return isinstance(self._contents[-1].keeper, Unfinished)

    @property
    def replaced(self) -> bool:
        """Another program has replaced all that was collected, so that what is known of it is about
        something else.
        """
        newest = self._contents[-1]
        return self._ledger is not None and newest.ledger is None

    @property
    def lacks_ledger(self) -> bool:
        """There is a ledger, but it cannot be read: what it knew of runs and deletions is
        missing.
        """
        ledger = self.place.ledger
        return self._ledger is None and ledger.exists() and is_damaged(ledger)

    def runs(self) -> list[Run]:
        """All whose pages can be read, oldest first: earlier full runs, the base, the updates
        since.
        """
        return [run for run, _ in self._runs]

    def base(self) -> Run:
        """The newest full run, with what incremental runs added to it."""
        return self.current()[0]

    def current(self) -> list[Run]:
        """The base and the updates after it: what makes up the latest state, in order."""
        return [run for run, content in self._runs if content is self._contents[-1]]

    def grown_by(self, run: Run) -> list[Run]:
        """The incremental runs that are part of a full one by now, oldest first."""
        content = next(content for known, content in self._runs if known.id == run.id)
        if run.mode == UPDATE or content.ledger is None:
            return []
        parts = content.ledger.runs(content.label, state=State.PUBLISHED)
        return [part for part in parts if part.mode != UPDATE and part.id != run.id]

    def collecting(self) -> Run | None:
        """A run that is at work, or was cut off, with the counts of what it has stored."""
        if self._ledger is None:
            return None
        for run in reversed(self._ledger.runs(PAGES)):
            if run.state is not State.PUBLISHED and self.place.partial(PAGES, run.id).exists():
                counted = with_sums(run, self._ledger)
                return counted if counted.pages else None
        return None

    def pages(self, run: Run) -> Iterator[StoredPage]:
        """Every page of a run's listing in numeric order, unchanged ones of an update included;
        flat memory.
        """
        content = next(content for known, content in self._runs if known.id == run.id)
        ledger = content.ledger
        if run.mode == UPDATE and ledger and ledger.run(run.id):
            for response in ledger.responses(run.id):
                number, name, member = response.number, response.name, response.member
                yield StoredPage(run, number, name, content, member, response)
            return
        folder = run.id if run.mode == UPDATE else ""
        for number, name in content.pages().get(folder, []):
            yield StoredPage(run, number, name, content, name)

    def close(self) -> None:
        for content in self._contents:
            content.keeper.close()
        if self._ledger:
            self._ledger.close()


def open_archive(place: Place) -> Archive:
    """What is stored at a project's place (`project.storage.place`).

    Raises:
        NothingStoredError: nothing yet.
        DamagedError: the archive cannot be read.
    """
    ledger = open_to_read(place.ledger)
    contents = [
        Content(open_keeper_at(place.kind, path), f"previous/{path.stem}", ledger)
        for path in sorted(place.previous.glob("*"))
        if not path.name.endswith(".new")
    ]
    keeper = open_keeper(place)
    if keeper.exists():
        contents.append(Content(keeper, PAGES, ledger))
    elif ledger and (pending := _pending(place, ledger)):
        contents.append(pending)
    else:
        if ledger:
            ledger.close()
        raise NothingStoredError(f"nothing is stored in {place.pages} yet")
    return Archive(place, ledger, contents)


def _pending(place: Place, ledger: Ledger) -> Content | None:
    for run in reversed(ledger.runs(PAGES)):
        path = place.partial(PAGES, run.id)
        if run.state is not State.PUBLISHED and path.exists():
            return Content(Unfinished(path, ledger, run), PAGES, ledger)
    return None


def describes(ledger: Ledger, keeper: object, label: str) -> bool:
    """Whether the ledger speaks of the archive that is there. It does not where another program has
    replaced all of it: then not one member is as it was stored.
    """
    if not isinstance(keeper, ZipKeeper) or not keeper.exists() or not ledger.runs(label):
        return True
    knows = False
    for member in keeper.members():
        if known := ledger.latest(label, member.name):
            knows = True
            # where bytes were not stored again, their checksum was not noted again either
            if known.size == member.size and known.crc in {0, member.crc}:
                return True
    return not knows


def _runs(content: Content) -> Iterator[Run]:
    """The base of an archive, then its updates."""
    ledger = content.ledger
    known = {run.id: run for run in ledger.runs(content.label)} if ledger else {}
    base = [
        run
        for run in known.values()
        if run.mode != UPDATE
        and (run.state is State.PUBLISHED or isinstance(content.keeper, Unfinished))
    ]
    identity = content.label.removeprefix("previous/").removeprefix(PAGES)
    yield _merged(base) if base else _foreign(identity, "full", content.label)
    updates = {
        run.id: run for run in known.values() if run.mode == UPDATE and run.state is State.PUBLISHED
    }
    for folder in content.pages():
        if folder and folder not in updates:
            updates[folder] = _foreign(folder, UPDATE, content.label)
    for identity in sorted(updates):
        yield updates[identity]


def _merged(runs: list[Run]) -> Run:
    """A full run and the incremental ones that grew it, as one."""
    first, last = runs[0], runs[-1]
    if first is last:
        return first
    notes = last.notes or {}
    return replace(
        last, id=first.id, mode=first.mode, started=first.started,
        records=notes.get("stored_records", last.records), repeated=None,
    )  # fmt: skip


def _foreign(identity: str, mode: str, label: str) -> Run:
    """A run of another program, of which nothing is known but its pages."""
    return Run(identity, label, mode, State.PUBLISHED, started=0)
