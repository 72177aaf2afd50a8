"""A data folder with a clock that only tests move, and cheap hashes."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher

from holdfast.core.access import SHELL
from holdfast.core.records import Pool, Role
from holdfast.core.secret import Secret
from holdfast.service import passwords
from holdfast.service.opening import open_ground
from holdfast.service.signing_in import SigningIn
from holdfast.service.users import Users
from holdfast.testing.fake_clock import FakeClock

PASSWORD = Secret("correct horse")


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    monkeypatch.setattr(
        passwords, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    )
    passwords._nobodys.cache_clear()
    yield
    passwords._nobodys.cache_clear()


@pytest.fixture
def ground(tmp_path):
    made = open_ground(tmp_path / "data")
    made.clock = FakeClock()
    with made.catalog.write() as tx:
        tx.pools.add(Pool(name="main", locations=[str(tmp_path / "pool")]))
    yield made
    made.catalog.close()


@pytest.fixture
def users(ground):
    return Users(ground)


@pytest.fixture
def signing_in(ground):
    return SigningIn(ground)


@pytest.fixture
def anna(users):
    return users.add(
        SHELL, name="anna", email="anna@example.org", role=Role.SUPERUSER, password=PASSWORD
    )


@pytest.fixture
def audit(ground):
    """The records of the audit, as (actor, verb, subject, outcome)."""

    def read():
        with ground.catalog.read() as tx:
            return [(r.actor, r.verb, r.subject, r.outcome) for r in tx.audit.all()]

    return read
