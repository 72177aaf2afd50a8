"""What a backup says while it runs and when it has ended, in restic's words and JSON messages."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Self

from holdfast.cli.progress import Display, done_share, of_total, seconds_left
from holdfast.core.entries import Kind
from holdfast.core.units import counted, format_duration, format_size
from holdfast.repo.saving.backup import Counts

if TYPE_CHECKING:
    from holdfast.cli.output import Output
    from holdfast.cli.totals import Totals
    from holdfast.core.source import Problem
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.saving.backup import BackupResult
    from holdfast.sources.files.source import Estimate

_ACTIONS = {"new": "new", "changed": "modified", "unchanged": "unchanged"}


class BackupReport:
    """`repo.backup.BackupObserver`, and the last words. A context around the run."""

    def __init__(self, output: Output, totals: Totals | None) -> None:
        self._output = output
        self._totals = totals
        self._counts = Counts()
        self._current = b""
        self._began = time.monotonic()
        self._each = output.verbosity > 1
        self._display = Display(output, lines=self._lines, status=self._status)

    def __enter__(self) -> Self:
        self._display.wake()
        return self

    def __exit__(self, *_: object) -> None:
        self._display.__exit__()
        if self._totals is not None:
            self._totals.close()

    # --- while it runs ----------------------------------------------------------------------------

    def progress(self, counts: Counts, current: bytes) -> None:
        self._counts = counts
        if current:
            self._current = current

    def item(self, action: str, path: bytes, kind: Kind, size: int) -> None:
        if not self._each:
            return
        if self._output.json:
            shown = path.decode(errors="replace") + ("/" if kind is Kind.DIR else "")
            self._output.message(
                "verbose_status", action=_ACTIONS[action], item=shown, data_size=size
            )
        else:
            self._display.say(f"{_ACTIONS[action]:10} {self._output.shown(path)}", result=True)

    def problem(self, problem: Problem) -> None:
        if self._output.json:
            self._output.message(
                "error",
                error={"message": problem.message},
                during=problem.during,
                item=problem.path.decode(errors="replace"),
            )
        else:
            self._display.say(
                f"{self._output.shown(problem.path)}: {problem.message} [{problem.during}]"
            )

    def _progress(self) -> tuple[float | None, float | None, float]:
        """Share done, seconds left, seconds elapsed."""
        elapsed = time.monotonic() - self._began
        totals = self._known()
        counts = self._counts
        share = None
        if totals is not None:
            share = done_share(counts.files, totals.files, counts.bytes_read, totals.bytes)
        return share, seconds_left(share, elapsed), elapsed

    def _known(self) -> Estimate | None:
        return None if self._totals is None else self._totals.known()

    def _lines(self) -> list[str]:
        """What matters most first: a narrow terminal cuts the end off."""
        share, left, elapsed = self._progress()
        counts = self._counts
        totals = self._known()
        parts = [f"[{format_duration(elapsed)}]" + (f" {share:.1%}" if share is not None else "")]
        if left is not None:
            parts.append(f"ETA {format_duration(left)}")
        if counts.problems:
            parts.append(counted(counts.problems, "error"))
        parts.append(of_total(str(counts.files), totals and str(totals.files)) + " files")
        parts.append(of_total(format_size(counts.bytes_read), totals and format_size(totals.bytes)))
        parts.append(f"{format_size(counts.bytes_read / max(elapsed, 0.001))}/s")
        return [", ".join(parts), self._output.shown(self._current)]

    def _status(self) -> dict[str, Any]:
        share, left, elapsed = self._progress()
        counts = self._counts
        totals = self._known()
        fields: dict[str, Any] = {
            "seconds_elapsed": int(elapsed),
            "percent_done": share or 0.0,
            "files_done": counts.files,
            "bytes_done": counts.bytes_read,
            "error_count": counts.problems,
            "current_files": [os.fsdecode(self._current).encode(errors="replace").decode()]
            if self._current
            else [],
        }
        if totals:
            fields |= {"total_files": totals.files, "total_bytes": totals.bytes}
        if left is not None:
            fields["seconds_remaining"] = int(left)
        return fields

    # --- at the end -------------------------------------------------------------------------------

    def parent(self, snapshot: Snapshot | None) -> None:
        if snapshot is None:
            self._output.said("no parent snapshot found, will read all files")
        else:
            self._output.said(f"using parent snapshot {snapshot.short}")

    def damage(self, packs: int) -> None:
        """What the repository has lost before this backup."""
        if not packs:
            return
        noun = "pack is" if packs == 1 else "packs are"
        text = (
            f"{packs} {noun} missing, cut short or damaged: what the source still has of their "
            "content was stored again; `holdfast check` names what else is hit"
        )
        if self._output.json:
            self._output.message("note", message=text)
        else:
            self._output.warn(text)

    def summary(self, result: BackupResult, *, dry_run: bool, began: str, ended: str) -> None:
        counts = result.counts
        elapsed = time.monotonic() - self._began
        added = counts.data.bytes + counts.trees.bytes
        packed = counts.data.stored + counts.trees.stored
        if self._output.json:
            self._output.message(
                "summary",
                **({"dry_run": True} if dry_run else {}),
                files_new=counts.files_new,
                files_changed=counts.files_changed,
                files_unmodified=counts.files_unmodified,
                dirs_new=counts.dirs_new,
                dirs_changed=counts.dirs_changed,
                dirs_unmodified=counts.dirs_unmodified,
                data_blobs=counts.data.blobs,
                tree_blobs=counts.trees.blobs,
                data_added=added,
                data_added_packed=packed,
                total_files_processed=counts.files,
                total_bytes_processed=counts.bytes,
                total_duration=elapsed,
                backup_start=began,
                backup_end=ended,
                **({"snapshot_id": result.snapshot.id} if result.snapshot else {}),
                outcome=result.outcome,
                error_count=counts.problems,
            )
            return
        said = self._output.said
        said("")
        said(
            f"Files:       {counts.files_new:5} new, {counts.files_changed:5} changed, "
            f"{counts.files_unmodified:5} unmodified"
        )
        said(
            f"Dirs:        {counts.dirs_new:5} new, {counts.dirs_changed:5} changed, "
            f"{counts.dirs_unmodified:5} unmodified"
        )
        verb = "Would add" if dry_run else "Added"
        said(f"{verb} to the repository: {format_size(added)} ({format_size(packed)} stored)")
        said("")
        said(
            f"processed {counts.files} files, {format_size(counts.bytes)} "
            f"in {format_duration(elapsed)}"
        )
        if result.snapshot:
            said(f"snapshot {result.snapshot.short} saved")
        elif not dry_run:
            said("nothing changed, so no snapshot was made")
