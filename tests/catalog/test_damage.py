"""F6: a catalog that is damaged or gone is noticed, told with a remedy, and never begun anew."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
from contextlib import closing

import pytest

from holdfast.core.errors import (
    CatalogError,
    CatalogUnreachableError,
    ConfigurationError,
    RecordExistsError,
    RecordNotFoundError,
)
from holdfast.core.records import Host, Pool
from holdfast.service import recovery_facts
from holdfast.service.generation import Watch, bump
from holdfast.service.opening import can_be_opened, open_ground, open_sound_ground
from holdfast.service.rebuilding import rebuild


@pytest.fixture
def data(tmp_path):
    """A data folder with a pool and a thousand hosts."""
    ground = open_ground(tmp_path / "data")
    with closing(ground.catalog), ground.catalog.write() as tx:
        tx.pools.add(Pool(name="main", locations=["/pool"]))
        tx.hosts.add_all(Host(name=f"host-{number}", note="x" * 200) for number in range(1000))
    assert not (ground.folder / "catalog.db-wal").exists()
    return ground.folder


def garbage(file):
    file.write_bytes(b"garbage" * 1000)


def emptied(file):
    file.write_bytes(b"")


def shortened(file):
    os.truncate(file, file.stat().st_size // 2)


def flipped_header(file):
    flip(file, 0)


def flipped_schema(file):
    flip(file, 103)


def flip(file, at):
    with file.open("r+b") as content:
        content.seek(at)
        byte = content.read(1)[0] ^ 0x40
        content.seek(at)
        content.write(bytes([byte]))


def undone(catalog):
    """A change that does not come to be."""
    with catalog.write() as tx:
        tx.pools.add(Pool(name="undone", locations=["/undone"]))
        tx.hosts.get(0)


@pytest.mark.parametrize(
    "spoil", [garbage, emptied, os.unlink, shortened, flipped_header, flipped_schema]
)
def test_damage_and_loss_are_noticed(data, spoil):
    """By whatever opens the catalog; it says what to do and leaves all as it is."""
    file = data / "catalog.db"
    spoil(file)
    left = file.read_bytes() if file.exists() else None
    with pytest.raises(CatalogError) as raised:
        open_ground(data)
    assert "holdfast catalog rebuild" in raised.value.advice
    assert not can_be_opened(data)
    assert not left or file.read_bytes() == left
    assert file.exists() == (left is not None)


def test_damage_within_is_noticed_at_the_start_of_a_server(data):
    """A page in the middle that is no page of a database any more."""
    file = data / "catalog.db"
    size = file.stat().st_size
    with file.open("r+b") as content:
        for at in range(size // 2 // 4096 * 4096, size, 4096):
            content.seek(at)
            content.write(b"\xff" * 64)
    with pytest.raises(CatalogError, match=r"damaged|malformed"):
        open_sound_ground(data)


@pytest.mark.parametrize("flips", [60, pytest.param(2000, marks=pytest.mark.long)])
def test_whatever_bit_is_flipped(data, flips):
    """It is told as damage of the catalog, or does no harm; nobody meets anything else."""
    file = data / "catalog.db"
    whole = file.read_bytes()
    chance = random.Random(flips)
    noticed = 0
    for _ in range(flips):
        at = chance.randrange(len(whole))
        flipped = whole[at] ^ 1 << chance.randrange(8)
        file.write_bytes(whole[:at] + bytes([flipped]) + whole[at + 1 :])
        for end in ("-wal", "-shm"):
            file.with_name(file.name + end).unlink(missing_ok=True)
        try:
            look_through(data)
        except (CatalogError, RecordNotFoundError, RecordExistsError):
            noticed += 1
    assert noticed


def look_through(data):
    with closing(open_sound_ground(data).catalog) as catalog:
        with catalog.read() as tx:
            assert tx.now()
            for noun in (tx.pools, tx.hosts, tx.settings, tx.targets, tx.backups, tx.tasks):
                noun.all()
        with catalog.write() as tx:
            tx.hosts.add(Host(name="new"))


def test_an_empty_database_is_a_loss_on_postgresql_too(tmp_path, postgresql):
    """Where there was a catalog; the first time it is a beginning."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "holdfast.yaml").write_text(f"database: {{url: '{postgresql()}'}}")
    open_ground(data).catalog.close()
    open_ground(data).catalog.close()
    (data / "holdfast.yaml").write_text(f"database: {{url: '{postgresql()}'}}")
    with pytest.raises(CatalogError, match="gone"):
        open_ground(data)


def test_anothers_catalog_is_refused(data, tmp_path):
    """It came into the place of one that was lost; a rebuild takes it over."""
    other = open_ground(tmp_path / "other")
    other.catalog.close()
    shutil.copyfile(tmp_path / "other" / "catalog.db", data / "catalog.db")
    with pytest.raises(CatalogError, match="another data folder") as raised:
        open_ground(data)
    assert "holdfast catalog rebuild" in raised.value.advice
    rebuild(data)
    with closing(open_ground(data).catalog) as catalog, catalog.read() as tx:
        assert tx.pools.find(name="main")


def test_another_master_key_is_refused(data):
    """It would seal what the right one cannot open."""
    (data / "master.key").write_bytes(base64.b64encode(bytes(32)))
    with pytest.raises(ConfigurationError, match="not the one"):
        open_ground(data)


def test_damaged_facts_are_written_anew(data):
    """As the catalog is sound, no more is lost."""
    path = data / recovery_facts.FILE
    before = path.read_bytes()
    path.write_bytes(b"{")
    open_ground(data).catalog.close()
    open_sound_ground(data).catalog.close()
    assert path.read_bytes() == before


def test_a_lost_master_key_is_not_made_anew(data):
    """Another would open nothing that is there."""
    (data / "master.key").unlink()
    with pytest.raises(ConfigurationError, match="master key is gone") as raised:
        open_ground(data)
    assert "recovery kit" in raised.value.advice
    assert not (data / "master.key").exists()


def test_the_facts_follow(data):
    """I7: what a rebuild needs is written down before a change is acknowledged, and only then."""
    path = data / recovery_facts.FILE
    with closing(open_ground(data).catalog) as catalog:
        before = path.stat().st_ino
        with catalog.write() as tx:
            tx.settings.count()
            host = tx.hosts.find(name="host-7")
            tx.hosts.change(host.id, seen=1)
        assert path.stat().st_ino == before
        with pytest.raises(RecordNotFoundError):
            undone(catalog)
        assert path.stat().st_ino == before
        with catalog.write() as tx:
            tx.pools.add(Pool(name="second", locations=["/second"]))
        assert [each["name"] for each in recovery_facts.read(data)["pools"]] == ["main", "second"]
        with catalog.write() as tx:
            tx.pools.remove(name="second")
    assert [each["name"] for each in json.loads(path.read_text())["pools"]] == ["main"]
    assert path.stat().st_mode & 0o077 == 0


def test_a_running_server_notices(data, monkeypatch):
    """That its catalog is another, is gone, or is damaged; not that it is slow to answer."""
    ground = open_ground(data)
    with closing(ground.catalog):
        watch = Watch(ground.catalog)
        assert not watch.is_due()
        monkeypatch.setattr(
            "holdfast.service.generation.current", raising(CatalogUnreachableError("busy"))
        )
        assert not watch.is_due()
        monkeypatch.setattr("holdfast.service.generation.current", raising(CatalogError("damaged")))
        assert watch.is_due()
        monkeypatch.undo()
        file = data / "catalog.db"
        file.rename(data / "aside")
        assert watch.is_due()
        shutil.copyfile(data / "aside", file)
        assert watch.is_due()
        with ground.catalog.write() as tx:
            bump(tx)
        assert watch.is_due()


def raising(error):
    def call(_catalog):
        raise error

    return call
