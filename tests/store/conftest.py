import os
from contextlib import ExitStack

import boto3
import pytest
from moto.server import ThreadedMotoServer

from holdfast.testing.rest_server import RestServer


@pytest.fixture
def rest_server(tmp_path):
    """Makes servers of the REST protocol that live as long as the test."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(RestServer(tmp_path / "served", **options))


@pytest.fixture(scope="session")
def s3_endpoint():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_endpoint):
    name = f"test-{os.urandom(6).hex()}"
    boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    ).create_bucket(Bucket=name)
    return f"{s3_endpoint}/{name}"
