from __future__ import annotations

import pytest

from holdfast.core.errors import UsageError, WrongPasswordError
from holdfast.core.secret import Secret
from holdfast.repo.keys import add_key, change_password, choose_key, list_keys, remove_key
from holdfast.repo.repository import Repository
from holdfast.store.contract import FileKind
from holdfast.store.directory import DirectoryStore
from holdfast.store.memory import MemoryStore

OLD, NEW = Secret("secret"), Secret("another")


def _change(repository, store):
    return change_password(
        store,
        repository.objects.key,
        NEW,
        in_use=repository.key_id,
        clock=repository.clock,
    )


def test_a_changed_password_opens_and_the_old_one_does_not(story, kept):
    """The new key opens everything; the old key file is gone."""
    repository = story(MemoryStore(), days=1)
    new = _change(repository, repository.store)
    assert Repository.open(repository.store, NEW).key_id == new
    with pytest.raises(WrongPasswordError):
        Repository.open(repository.store, OLD)
    assert kept(Repository.open(repository.store, NEW)) == kept(repository)


def test_a_killed_password_change_leaves_a_password_that_opens(story, killed_everywhere):
    """I5: dead at any change, the old or the new password opens the repository."""
    repository = story(MemoryStore(), days=1, files=1)
    for left in killed_everywhere(repository.store, lambda store: _change(repository, store)):
        opened = 0
        for password in (OLD, NEW):
            try:
                Repository.open(left, password)
            except WrongPasswordError:
                continue
            opened += 1
        assert opened


def test_the_key_in_use_is_never_removed(story):
    """As restic: one key always stays; others go."""
    repository = story(MemoryStore(), days=1, files=1)
    other = add_key(repository.store, repository.objects.key, NEW, clock=repository.clock)
    with pytest.raises(UsageError):
        remove_key(repository.store, repository.key_id, in_use=repository.key_id)
    remove_key(repository.store, choose_key(repository.store, other[:12]), in_use=repository.key_id)
    assert [info.id for info in list_keys(repository.store)] == [repository.key_id]
    for wanted in ("", "zz"):
        with pytest.raises(UsageError):
            choose_key(repository.store, wanted)


@pytest.mark.interop
def test_restic_opens_with_changed_passwords_and_we_with_its_own(story, stock_restic, tmp_path):
    """I6: key files, both ways."""
    repository = story(DirectoryStore(tmp_path / "r"), days=1, files=1)
    (tmp_path / "new").write_text(NEW.reveal())
    restic = stock_restic(tmp_path / "r")
    restic("key", "add", "--new-password-file", str(tmp_path / "new"))
    theirs = Repository.open(DirectoryStore(tmp_path / "r"), NEW)
    assert theirs.key_id != repository.key_id
    change_password(theirs.store, theirs.objects.key, OLD, in_use=theirs.key_id, clock=theirs.clock)
    restic("check")
    assert len(list(theirs.store.list(FileKind.KEY))) == 2
