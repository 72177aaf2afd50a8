from __future__ import annotations

import json

import pytest

from holdfast.core.progress import Silence
from holdfast.repo.upkeep.stats import CountMode, stats
from holdfast.store.directory import DirectoryStore


@pytest.mark.interop
@pytest.mark.parametrize("mode", list(CountMode))
def test_every_count_is_that_of_restic(story, stock_restic, tmp_path, mode):
    """The four modes over all snapshots, field by field."""
    repository = story(DirectoryStore(tmp_path), days=4)
    ours = stats(
        repository, list(repository.snapshots()), mode, progress=Silence(), workers=0
    ).as_json()
    theirs = json.loads(stock_restic(tmp_path)("stats", "--json", "--mode", mode))
    assert theirs.items() <= ours.items()
