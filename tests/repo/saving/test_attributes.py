"""What a snapshot says of a file beside its content is what the file system says now."""

from __future__ import annotations

import os

import pytest

from holdfast.core.secret import Secret
from holdfast.repo.format.tree import blob_id
from holdfast.repo.repository import Repository
from holdfast.repo.saving.backup import BackupOptions, back_up
from holdfast.repo.saving.sealing import SealingPlan
from holdfast.sources.files.source import FileSource
from holdfast.store.directory import DirectoryStore
from holdfast.store.memory import MemoryStore

PASSWORD = Secret("secret")


class Opened:
    """An observer that counts what is told of each name."""

    def __init__(self):
        self.actions = {}
        self.problems = []

    def item(self, action, path, _kind, _size):
        self.actions[os.path.basename(path)] = action

    def problem(self, problem):
        self.problems.append(problem)

    def progress(self, *_):
        pass


@pytest.fixture
def repository():
    return Repository.init(MemoryStore(), PASSWORD)


def saved(repository, root, **options):
    """The nodes of a folder in a new snapshot, by name, and what was told."""
    latest = max(repository.snapshots(), key=lambda s: s.time, default=None)
    observer = Opened()
    report = back_up(
        repository,
        FileSource([os.fsencode(root)]),
        BackupOptions(hostname="h", parent=latest, sealing=SealingPlan(workers=0), **options),
        observer=observer,
        lock=None,
    )
    tree = report.snapshot.tree
    for name in root.parts[1:]:
        nodes = {node.name: node for node in repository.load_tree(tree)}
        tree = blob_id(nodes[name].subtree)
    return {node.name: node for node in repository.load_tree(tree)}, observer


@pytest.mark.parametrize("content", [b"", b"content", bytes(3 << 20)])
def test_ignored_ctimes_hide_no_new_rights(repository, tmp_path, content):
    """`--ignore-ctime` spares reading; mode and attributes are those of now."""
    file = tmp_path / "folder" / "file"
    file.parent.mkdir()
    file.write_bytes(content)
    file.chmod(0o644)
    before, _ = saved(repository, file.parent, ignore_ctime=True)
    file.chmod(0o600)
    os.setxattr(file, "user.note", b"new")
    after, told = saved(repository, file.parent, ignore_ctime=True)
    assert after["file"].mode & 0o777 == 0o600
    assert after["file"].has_attributes([(b"user.note", b"new")])
    assert after["file"].content == before["file"].content
    assert told.actions[b"file"] == "unchanged"


def test_ignored_ctimes_hide_no_new_rights_of_folders_and_links(repository, tmp_path):
    """Folders, pipes and links are looked at whatever is ignored."""
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    os.mkfifo(folder / "pipe", 0o644)
    saved(repository, folder, ignore_ctime=True, ignore_inode=True, allow_empty=True)
    (folder / "sub").chmod(0o700)
    (folder / "pipe").chmod(0o600)
    after, _ = saved(repository, folder, ignore_ctime=True, ignore_inode=True, allow_empty=True)
    assert after["sub"].mode & 0o777 == 0o700
    assert after["pipe"].mode & 0o777 == 0o600


def test_an_ignored_inode_is_not_read_and_stored_as_it_is(repository, tmp_path):
    """`--ignore-inode` takes the content over, and no inode number that is another's by now."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(b"content")
    saved(repository, folder)
    facts = (folder / "file").stat()
    (folder / "other").write_bytes(b"content")
    os.utime(folder / "other", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    (folder / "other").rename(folder / "file")
    after, told = saved(repository, folder, ignore_inode=True, ignore_ctime=True)
    assert told.actions[b"file"] == "unchanged"
    assert after["file"].inode == (folder / "file").stat().st_ino != facts.st_ino


@pytest.mark.interop
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a link attributes")
def test_attributes_of_links_are_not_taken_from_a_restic_that_leaves_them_out(
    tmp_path, stock_restic
):
    """restic 0.14 stores no attributes of symbolic links; a backup after it does."""
    link = tmp_path / "folder" / "link"
    link.parent.mkdir()
    link.symlink_to("nowhere")
    try:
        os.setxattr(link, "trusted.note", b"kept", follow_symlinks=False)
    except OSError as error:
        pytest.skip(f"the file system keeps none: {error.strerror}")
    stock = stock_restic(tmp_path / "repository")
    stock("init")
    stock("backup", "--host", "h", str(link.parent))
    repository = Repository.open(DirectoryStore(tmp_path / "repository"), PASSWORD)
    after, _ = saved(repository, link.parent)
    assert after["link"].has_attributes([(b"trusted.note", b"kept")])
