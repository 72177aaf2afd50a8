"""A whole service on a fresh data folder, with a clock that only tests move."""

from __future__ import annotations

import pytest

from holdfast.core.access import SHELL
from holdfast.core.keeping import KeepRule
from holdfast.core.records import PoolKind
from holdfast.service.opening import open_ground
from holdfast.service.server import Service
from holdfast.service.targets import Draft
from holdfast.testing.fake_clock import FakeClock


@pytest.fixture
def service(tmp_path):
    ground = open_ground(tmp_path / "data")
    ground.clock = FakeClock()
    ground.configuration.backupchan.location_roots = [str(tmp_path)]
    made = Service.on(ground)
    made.pools.add(SHELL, "main", [str(tmp_path / "pool")])
    made.pools.add(SHELL, "plain", [str(tmp_path / "plain")], kind=PoolKind.PLAIN)
    yield made
    made.close()


@pytest.fixture(params=["main", "plain"])
def pool(request, service):
    return service.pools.named(request.param)


@pytest.fixture
def make_target(service, pool):
    """A target in the pool of this test."""

    def make(name="t", **values):
        values.setdefault("keep", KeepRule())
        values.setdefault("name_template", f"{name}-$I")
        return service.targets.create(SHELL, Draft(name=name, pool_id=pool.id, **values))

    return make


@pytest.fixture
def put(service):
    """One backup of these bytes."""

    def put_one(target, content=b"content", name="file.bin", **values):
        arriving = service.backups.receive(SHELL, target, name, **values)
        arriving.write(content)
        return arriving.finish().result(30)

    return put_one


@pytest.fixture
def content(service):
    def read(backup):
        return b"".join(service.backups.open(SHELL, backup).pieces())

    return read
