"""A keeper over scratch storage, with a catalog of rows in memory: what a server would know."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from holdfast.core.records import Backup, Face, Shape, Target
from holdfast.core.secret import Secret
from holdfast.repo.repository import Repository
from holdfast.service.keeping.contract import Order
from holdfast.service.keeping.in_folder import FolderKeeper
from holdfast.service.keeping.in_repository import RepositoryKeeper
from holdfast.store.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.service.keeping.contract import Keeper, Kept

NOON = 1_767_268_800_000_000_000
"""2026-01-01T12:00:00Z"""

TARGET = Target(
    id=7, uid="target-1", name="nightly", face=Face.HOLDFAST, pool_id=3, location="somewhere"
)
TREE = replace(TARGET, shape=Shape.MULTI)


def order(name: str = "dump.sql", *, target: Target = TARGET, **more: Any) -> Order:
    more.setdefault("uid", str(uuid.uuid4()))
    more.setdefault("received", NOON)
    return Order(target=target, name=name, **more)


def row(order: Order, kept: Kept) -> Backup:
    return Backup(
        uid=order.uid,
        target_id=order.target.id,
        pool_id=order.target.pool_id,
        repository_id=kept.repository_id,
        snapshot=kept.snapshot,
        path=kept.path,
        name=order.name,
        size=kept.size,
        stored=kept.stored,
        files=kept.files,
        sha256=kept.sha256,
        created=order.received,
        received=order.received,
        manual=order.manual,
        facts=order.facts,
    )


def content_of(outgoing, start=0, length=None):
    return b"".join(bytes(piece) for piece in outgoing.pieces(start, length))


@dataclass
class Place:
    """`reopen` gives another keeper of the same storage, as after a restart."""

    NOON: ClassVar = NOON
    TARGET: ClassVar = TARGET
    TREE: ClassVar = TREE
    order: ClassVar = staticmethod(order)
    content_of: ClassVar = staticmethod(content_of)

    make: Callable[[Any], Keeper]
    refuse: Callable[[Order], Exception | None] = lambda _: None
    groups: list[int] = field(default_factory=list)
    rows: dict[str, Backup] = field(default_factory=dict)
    keeper: Any = None

    def __post_init__(self):
        self.keeper = self.make(self.record)

    def record(self, group):
        self.groups.append(len(group))
        refused = {}
        for each, kept in group:
            error = self.refuse(each)
            if error is None:
                self.rows[each.uid] = row(each, kept)
            else:
                refused[each.uid] = error
        return refused

    def reopen(self):
        self.keeper.close()
        self.keeper = self.make(self.record)

    def put(self, content: bytes = b"content", name: str = "dump.sql", **more: Any) -> Backup:
        wanted = order(name, **more)
        incoming = self.keeper.begin(wanted)
        try:
            incoming.write(content)
        except BaseException:
            incoming.abandon()
            raise
        incoming.finish().result(20)
        return self.rows[wanted.uid]

    def put_tree(self, files: dict[bytes, bytes], name: str = "all", **more: Any) -> Backup:
        more.setdefault("target", TREE)
        wanted = order(name, **more)
        tree = self.keeper.begin_tree(wanted)
        try:
            for path, content in files.items():
                file = tree.file(path, mtime=NOON)
                file.write(content)
                file.end()
        except BaseException:
            tree.abandon()
            raise
        tree.finish().result(20)
        return self.rows[wanted.uid]

    def read(self, backup: Backup, start: int = 0, length: int | None = None) -> bytes:
        return content_of(self.keeper.open(backup), start, length)

    def found(self):
        return {each.order.uid: each for each in self.keeper.found()}


def folder_keeper(root, record, **more):
    keeper = FolderKeeper(root, record, pool="pool-1", **more)
    keeper.prepare(create=True)
    return keeper


@pytest.fixture
def folder(tmp_path):
    place = Place(lambda record: folder_keeper(tmp_path / "plain", record))
    yield place
    place.keeper.close()


@pytest.fixture(scope="session")
def empty_repository(tmp_path_factory):
    """Its folder and key: making one takes a while, copying it none."""
    path = tmp_path_factory.mktemp("made") / "repository"
    return path, Repository.init(DirectoryStore(path), Secret("secret")).objects.key


@pytest.fixture
def repository(tmp_path, empty_repository):
    path = tmp_path / "repository"
    shutil.copytree(empty_repository[0], path)

    def make(record):
        opened = Repository.unlocked(DirectoryStore(path), empty_repository[1])
        return RepositoryKeeper(opened, 5, record)

    place = Place(make)
    yield place
    place.keeper.close()


@pytest.fixture
def new_place():
    return Place
