"""Whether a project's archives still hold what was received: bytes, digests and counts."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from holdfast.core.errors import DamagedError, HoldfastError, NothingStoredError
from holdfast.core.progress import Silence
from holdfast.sources.restapi.kept.archive import UPDATE, describes
from holdfast.sources.restapi.kept.keepers import PAGE_NAME, ZipKeeper, open_keeper, open_keeper_at
from holdfast.sources.restapi.kept.ledger import State, is_damaged, open_to_read
from holdfast.sources.restapi.kept.members import FILES, details_label
from holdfast.sources.restapi.kept.rebuild import REBUILT
from holdfast.sources.restapi.kept.shelf import FolderFiles, files_folder
from holdfast.sources.restapi.project.place import PAGES
from holdfast.sources.restapi.records.documents import MISSING, parse, records_of, value_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.progress import Progress
    from holdfast.sources.restapi.kept.keepers import Keeper
    from holdfast.sources.restapi.kept.ledger import Ledger, Response
    from holdfast.sources.restapi.project.project import Project


_NO_LEDGER: Final = (
    "it is damaged; the archives were checked without its digests. The next run makes it anew from"
    " them"
)


_REPLACED: Final = (
    "nothing in it is what was received: another program has collected into it since. Only its form"
    " was checked"
)

Kind = Literal["damaged", "short", "earlier"]
"""Not as it was stored; fewer records than announced; or about an earlier run that a newer one has
replaced.
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was stored or announced. `place` is archive and member."""

    place: str
    message: str
    kind: Kind = "damaged"


@dataclass(slots=True)
class Verdict:
    """What was looked at. `unproven` members were stored by a program that kept no digests."""

    members: int = 0
    bytes: int = 0
    records: int = 0
    unproven: int = 0
    findings: list[Finding] = field(default_factory=list)


@dataclass(slots=True)
class _Tally:
    """Pages of one run folder, as their bodies say."""

    numbers: list[int] = field(default_factory=list)
    records: int = 0
    announced: int | None = None


def verify(project: Project, *, progress: Progress | None = None) -> Verdict:
    """Reads everything that is stored once and compares it with what is known of it.

    Raises:
        NothingStoredError: nothing is stored.
    """
    place = project.place
    archives = list(_archives(project))
    if not archives:
        raise NothingStoredError(f"nothing is stored in {place.pages} yet")
    verdict = Verdict()
    with ExitStack() as closing_later:
        ledger = open_to_read(place.ledger)
        if ledger:
            closing_later.callback(ledger.close)
        elif place.ledger.exists() and is_damaged(place.ledger):
            verdict.findings.append(Finding(place.ledger.name, _NO_LEDGER))
        for label, keeper in archives:
            closing_later.callback(keeper.close)
            check = _Check(project, label, keeper, ledger, verdict, progress or Silence())
            try:
                check.run()
            except HoldfastError as error:
                check.found("", error.message)
    return verdict


def _archives(project: Project) -> Iterator[tuple[str, Keeper | FolderFiles]]:
    """Everything published, by label, oldest first."""
    place = project.place
    for path in sorted(place.previous.glob("*")):
        if not path.name.endswith(".new"):
            yield f"previous/{path.stem}", open_keeper_at(place.kind, path)
    for label in (PAGES, *map(details_label, project.follow), FILES):
        keeper: Keeper | FolderFiles = open_keeper(place, label)
        if label == FILES and not keeper.exists():
            keeper = FolderFiles(files_folder(place))
        if keeper.exists():
            yield label, keeper


@dataclass(slots=True)
class _Check:
    """The check of one archive."""

    project: Project
    label: str
    keeper: Keeper | FolderFiles
    ledger: Ledger | None
    verdict: Verdict
    progress: Progress
    tallies: dict[str, _Tally] = field(default_factory=dict)
    """By run folder; "" is the base."""

    def run(self) -> None:
        self.progress.stage(f"verifying {self.keeper.path.name}")
        if self.ledger and not describes(self.ledger, self.keeper, self.label):
            self.found("", _REPLACED)
            self.ledger = None
        for name in self.keeper.names():
            before = self.verdict.bytes
            self._check_member(name)
            self.progress.add(items=1, bytes=self.verdict.bytes - before)
        self.verdict.records += sum(tally.records for tally in self.tallies.values())
        missing = dict.fromkeys([*self._gaps(), *self._lost()])
        for name in missing:
            self.found(name, "it is missing")
        self._check_counts()

    def _check_member(self, name: str) -> None:
        known = self.ledger.latest(self.label, name) if self.ledger else None
        self.verdict.members += 1
        self.verdict.unproven += known is None
        pages = self.label == PAGES or self.label.startswith("previous/")
        numbered = PAGE_NAME.fullmatch(name) if pages else None
        tally = None
        if numbered:
            tally = self.tallies.setdefault(numbered["run"] or "", _Tally())
            tally.numbers.append(int(numbered["number"]))
        try:
            body = self._check_bytes(name, known, keep=tally is not None)
            if tally:
                self._count(body, known, tally)
        except HoldfastError as error:
            self.found(name, error.message)

    def _check_bytes(self, name: str, known: Response | None, *, keep: bool) -> bytes:
        """Reads a member whole, in flat memory unless it is to be kept."""
        digest, kept, keeper = hashlib.sha256(), [], self.keeper
        if isinstance(keeper, ZipKeeper | FolderFiles):
            pieces = keeper.stream(name)
        else:
            pieces = iter([keeper.read(name)])
        for piece in pieces:
            digest.update(piece)
            self.verdict.bytes += len(piece)
            if keep:
                kept.append(piece)
        if known and digest.hexdigest() != known.sha256:
            raise DamagedError(
                f"its SHA-256 is {digest.hexdigest()[:16]}..., but what was received had"
                f" {known.sha256[:16]}..."
            )
        return b"".join(kept)

    def _count(self, body: bytes, known: Response | None, tally: _Tally) -> None:
        try:
            document = parse(body)
        except ValueError as error:
            raise DamagedError(f"it is not JSON: {error}") from None
        count = len(records_of(self.project, document))
        tally.records += count
        if known and known.records != count and REBUILT not in json.loads(known.evidence):
            raise DamagedError(f"it holds {count} records, but {known.records} were received")
        if key := self.project.data.total_number_key:
            total: Any = value_at(document, key, self.project.settings.splitter)
            if total is not MISSING and str(total).isdecimal():
                tally.announced = int(total)

    def _gaps(self) -> Iterator[str]:
        """Pages of the base between two that are there; updates keep only what changed."""
        if base := self.tallies.get(""):
            present = set(base.numbers)
            for number in range(min(present), max(present)):
                if number not in present:
                    yield f"page_{number}.json"

    def _lost(self) -> Iterator[str]:
        """Members that were received and published and are not there."""
        if not self.ledger:
            return
        for run in self.ledger.runs(self.label, state=State.PUBLISHED):
            for response in self.ledger.responses(run.id):
                if not self.keeper.has(response.member):
                    yield response.member

    def _check_counts(self) -> None:
        """Runs that stored less than the API announced."""
        base = self.tallies.get("", _Tally())
        runs = self.ledger.runs(self.label, state=State.PUBLISHED) if self.ledger else []
        for run in runs:
            if run.mode == UPDATE:
                stored = run.records - (run.repeated or 0)
                self._compare(f"run {run.id}", stored, run.announced)
        # the base holds what the last run that grew it has left, whatever was announced before
        if grown := [run for run in runs if run.mode != UPDATE][-1:]:
            stored = base.records - (grown[0].repeated or 0)
            self._compare(f"run {grown[0].id}", stored, grown[0].announced)
        if not runs:
            self._compare("it", base.records, base.announced)

    def _compare(self, what: str, stored: int, announced: int | None) -> None:
        if announced is not None and stored < announced:
            message = f"{what} holds {stored} records, but the API announced {announced}"
            self.found("", message, kind="short")

    def found(self, name: str, message: str, *, kind: Kind = "damaged") -> None:
        place = f"{self.keeper.path.name} {name}".rstrip()
        replaced = self.label.startswith("previous/") and open_keeper(self.project.place).exists()
        self.verdict.findings.append(Finding(place, message, "earlier" if replaced else kind))
