"""Where the application's backups go, and what of it cannot be set."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from holdfast.core.access import SHELL
from holdfast.core.errors import InvalidError
from holdfast.service.generation import current
from holdfast.service.pooling.places import credentials_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.service.server import Service


@pytest.fixture
def s3(service: Service) -> Iterator[dict[str, Any]]:
    """Settings with which backups can be kept in a bucket."""
    service.ground.configuration.egress_allow = ["127.0.0.0/8"]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    # All of its servers in one process have the same buckets: those of the test before go.
    reset = urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="key",
        aws_secret_access_key="secret",
    )  # fmt: skip
    client.create_bucket(Bucket="bucket")
    yield {
        "enabled": True, "bucket": "bucket", "region": "us-east-1", "endpoint": endpoint,
        "accessKey": "key", "secret": "secret", "forcePathStyle": True,
    }  # fmt: skip
    server.stop()


def pool_of(service: Service, name: str) -> str:
    """The pool into which a new backup goes."""
    backup = service.application.create(SHELL, name)
    with service.ground.catalog.read() as tx:
        return tx.pools.get(backup.pool_id).name


def test_backups_move_into_the_bucket_and_back(service: Service, s3: dict[str, Any]) -> None:
    assert pool_of(service, "one.zip") == "main"
    service.app_schedule.change(SHELL, {"s3": s3})
    assert pool_of(service, "two.zip") == "application-bucket"
    service.app_schedule.change(SHELL, {"s3": {"enabled": False}})
    assert pool_of(service, "three.zip") == "main"
    service.app_schedule.change(SHELL, {"s3": {"enabled": True}})
    assert pool_of(service, "four.zip") == "application-bucket"
    assert len(service.application.list(SHELL)) == 4


def test_a_new_key_is_used(service: Service, s3: dict[str, Any]) -> None:
    """By every process: those that hold connections with the old one start anew."""
    service.app_schedule.change(SHELL, {"s3": s3})
    before = current(service.ground.catalog)
    service.app_schedule.change(SHELL, {"s3": {"secret": "rotated"}})
    with service.ground.catalog.read() as tx:
        pool = tx.pools.find(name="application-bucket")
    assert pool is not None
    assert credentials_of(service.ground, pool)["secret_key"] == "rotated"
    assert current(service.ground.catalog) == before + 1
    service.app_schedule.change(SHELL, {"s3": {"enabled": True}})  # the same again
    assert current(service.ground.catalog) == before + 1


def test_a_bucket_of_the_same_name_elsewhere_is_another(
    service: Service, s3: dict[str, Any]
) -> None:
    service.app_schedule.change(SHELL, {"s3": s3})
    elsewhere = s3["endpoint"].replace("127.0.0.1", "localhost")
    service.app_schedule.change(SHELL, {"s3": {"endpoint": elsewhere}})
    assert pool_of(service, "one.zip") == "application-bucket-2"


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:1", "http://169.254.169.254", "http://name.invalid", "file:///x"]
)
def test_a_bucket_that_cannot_be_used_changes_nothing(service: Service, endpoint: str) -> None:
    """An answer that is an error has not acted."""
    wanted = {
        "enabled": True, "bucket": "b", "region": "r", "endpoint": endpoint, "accessKey": "a",
        "secret": "s",
    }  # fmt: skip
    before = service.app_schedule.get(SHELL)
    with pytest.raises(InvalidError) as caught:
        service.app_schedule.change(SHELL, {"s3": wanted, "cron": "0 0 * * *"})
    assert "backups.s3.endpoint" in caught.value.fields
    assert service.app_schedule.get(SHELL) == before
    assert pool_of(service, "one.zip") == "main"


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({"s3": {"enabled": "yes"}}, "backups.s3.enabled"),
        ({"s3": {"bucket": 5}}, "backups.s3.bucket"),
        ({"s3": {"secret": ["x"]}}, "backups.s3.secret"),
        ({"s3": {"enabled": True, "bucket": "a/../b"}}, "backups.s3.bucket"),
        ({"cronMaxKeep": 10**30}, "backups.cronMaxKeep"),
        ({"cron": "1," * 100_000 + "1 * * * *"}, "backups.cron"),
    ],
)
def test_wrong_types_and_sizes(service: Service, patch: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidError) as caught:
        service.app_schedule.change(SHELL, patch)
    assert field in caught.value.fields
