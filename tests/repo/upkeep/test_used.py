from __future__ import annotations

import hashlib

import pytest

from holdfast.core.errors import UnreadableError
from holdfast.core.progress import Silence
from holdfast.repo.format.codec import Codec
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.saving.packer import Packer
from holdfast.repo.upkeep.inventory import take_inventory
from holdfast.repo.upkeep.used import find_used
from holdfast.store.directory import DirectoryStore
from holdfast.store.memory import MemoryStore


def _store_tree(repository, document):
    stored = []
    packer = Packer(repository.objects, Codec(), stored.append)
    tree = hashlib.sha256(document).digest()
    packer.add(tree, BlobKind.TREE, document)
    packer.flush()
    packer.close()
    repository.save_index(stored)
    return tree


def _used(repository, roots, workers=0):
    table = take_inventory(repository).table
    return find_used(repository, table, roots, progress=Silence(), workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_exactly_what_snapshots_need_is_marked(story, tmp_path, workers):
    """Every blob that a walk through the trees meets, and no other."""
    repository = story(DirectoryStore(tmp_path), days=4)
    [first, *_] = sorted(repository.snapshots(), key=lambda s: s.time)
    needed = {(BlobKind.TREE, first.tree)}
    waiting = [first.tree]
    while waiting:
        for node in repository.load_tree(waiting.pop()):
            needed |= {(BlobKind.DATA, blob) for blob in node.blobs()}
            if node.subtree:
                needed.add((BlobKind.TREE, bytes.fromhex(node.subtree)))
                waiting.append(bytes.fromhex(node.subtree))
    used = _used(repository, [first.tree], workers)
    used.require_whole()
    for _, blobs in used.table.by_pack():
        for blob in blobs:
            assert used.has(blob.id, blob.kind) == ((blob.kind, blob.id) in needed)
    assert sum(used.marks[: len(used.table)]) == len(needed)


def test_another_writers_spacing_hides_nothing(story):
    """A tree that is written with spaces, other orders and unknown fields is read just so."""
    repository = story(MemoryStore(), days=1)
    [snapshot] = repository.snapshots()
    document = b'{ "new" : 1, "nodes" : [ { "subtree" :\n "%s" , "name":"d", "type":"dir" } ] }'
    document %= snapshot.tree.hex().encode()
    used = _used(repository, [_store_tree(repository, document)])
    assert used.troubles == ()
    assert used.has(snapshot.tree, BlobKind.TREE)


@pytest.mark.parametrize(
    "document",
    [
        b"no json",
        b'{"nodes":5}',
        b'{"nodes":[{"name":"f","type":"file","content":["zz"]}]}',
        b'{"nodes":[{"name":"f","type":"file","content":["%s"]}]}' % (b"ab" * 31),
        b'{"nodes":[{"name":"f","type":"file","content":["%s","%s"]}]}' % (b"a" * 63, b"b" * 65),
        b'{"nodes":[{"name":"d","type":"dir","subtree":" %s"}]}' % (b"ab" * 31 + b"a"),
    ],
)
def test_a_tree_that_cannot_be_understood_stops_everything(story, document):
    """I3: what is not understood may need anything, so it is trouble, never nothing."""
    repository = story(MemoryStore(), days=1)
    used = _used(repository, [_store_tree(repository, document)])
    assert used.troubles
    with pytest.raises(UnreadableError, match="nothing was deleted"):
        used.require_whole()


def test_blobs_that_no_index_names_are_trouble(story):
    """A needed blob, a subtree and a root that are missing are each named."""
    repository = story(MemoryStore(), days=1)
    lost = [bytes([n]) * 32 for n in range(3)]
    document = (
        b'{"nodes":[{"name":"d","type":"dir","subtree":"%s"},'
        b'{"name":"f","type":"file","content":["%s"]}]}'
    ) % tuple(blob.hex().encode() for blob in lost[:2])
    used = _used(repository, [_store_tree(repository, document), lost[2]])
    found = {(trouble.kind, trouble.blob) for trouble in used.troubles}
    assert found == {
        (BlobKind.TREE, lost[0]),
        (BlobKind.DATA, lost[1]),
        (BlobKind.TREE, lost[2]),
    }
