"""Pools in a bucket and on another server."""

from __future__ import annotations

import os

import boto3
import pytest
from moto.server import ThreadedMotoServer

from holdfast.core.access import SERVER, SHELL
from holdfast.core.errors import NoRepositoryError, StoreDeniedError, StoreError
from holdfast.core.records import Host, Target
from holdfast.repo import keys
from holdfast.service.backups import Backups
from holdfast.service.opening import open_ground
from holdfast.service.pools import Pools
from holdfast.testing.rest_server import RestServer


@pytest.fixture(autouse=True)
def _passwords_open_fast(monkeypatch):
    monkeypatch.setattr(keys, "SCRYPT_N", 16)


@pytest.fixture
def shop(tmp_path):
    ground = open_ground(tmp_path / "data")
    ground.configuration.egress_allow = ["127.0.0.0/8"]
    pools = Pools(ground)
    yield Backups(ground, pools), pools, ground
    pools.close()
    ground.catalog.close()


@pytest.fixture
def bucket():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    ).create_bucket(Bucket="bucket")
    yield f"s3:{endpoint}/bucket/folder"
    server.stop()


def keep_one(shop, pool):
    backups, pools, ground = shop
    content = os.urandom(300_000)
    with ground.catalog.write() as tx:
        target = tx.targets.add(Target(uid="t", name="nightly", pool_id=pool.id))
    arriving = backups.receive(SERVER, target, "dump.sql")
    arriving.write(content)
    backup = arriving.finish().result(30)
    pools.close()  # as in another process
    given = b"".join(bytes(each) for each in backups.open(SERVER, backup).pieces(5, 200_000))
    assert given == content[5:200_005]
    assert pools.keeper(backup).verify(backup, lambda _: None).good
    record = pools.repository_for(pool)
    assert pools.tripwire(record) == []
    assert pools.measure(pool) > 300_000
    return backup


def test_a_pool_in_a_bucket(shop, bucket):
    pool = shop[1].add(
        SHELL, "far", [bucket], credentials={"access_key": "key", "secret_key": "secret"}
    )
    assert shop[1].get(SHELL, "far").reachable
    backup = keep_one(shop, pool)
    shop[1].keeper(backup).delete(backup)
    assert list(shop[1].keeper(pool).found()) == []


def test_a_pool_on_another_server(shop, tmp_path):
    backups, pools, _ = shop
    with RestServer(tmp_path / "served", user="anna", password="hush!") as server:
        address = server.url.replace("http://", "rest:http://anna:hush%21@")
        pool = pools.add(SHELL, "far", [address])
        assert pools.get(SHELL, "far").reachable
        backup = keep_one(shop, pool)
        pools.close()
    with pytest.raises((StoreError, NoRepositoryError)):
        backups.open(SERVER, backup)
    assert not pools.get(SHELL, "far").reachable


def test_wrong_credentials_are_told(shop, tmp_path):
    _, pools, _ = shop
    with RestServer(tmp_path / "served", user="anna", password="hush!") as server:
        pool = pools.add(SHELL, "far", [server.url.replace("http://", "rest:http://eve:guess@")])
        (place,) = pools.get(SHELL, "far").locations
        assert not place.reachable
        assert "guess" not in place.problem
        with pytest.raises(StoreDeniedError):
            pools.repository_for(pool)


def test_repositories_lie_where_they_can(shop):
    from holdfast.service.pooling.vaults import place_of

    host = Host(name="web1")
    assert place_of("/disk", None) == "/disk/server"
    assert place_of("/disk", host) == "/disk/hosts/web1"
    assert place_of("s3:https://e/b", None) == "s3:https://e/b/server"
    assert place_of("rest:https://e/path", None) == "rest:https://e/path"
