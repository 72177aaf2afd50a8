"""S3: addresses, credentials, and what servers answer."""

import os
from contextlib import contextmanager

import boto3
import pytest

from holdfast.core.errors import (
    CertificateError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageFullError,
    StoreBusyError,
    StoreDeniedError,
    StoreError,
    UnsupportedStoreError,
)
from holdfast.core.secret import Secret
from holdfast.net.egress import PUBLIC_ONLY
from holdfast.store import s3
from holdfast.store.contract import FileKind
from holdfast.store.s3 import S3Address, S3Options, S3Store, parse_address
from holdfast.testing.loopback import Loopback, Reply
from holdfast.testing.store_contract import keep, named, sample

PACK = FileKind.PACK
NAME = named(b"")
KEYS = S3Options(access_key="AKIAKEY", secret_key=Secret("hidden-secret"))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://host/bucket/a/folder", S3Address("https://host", "bucket", "a/folder")),
        ("http://127.0.0.1:9000/bucket/", S3Address("http://127.0.0.1:9000", "bucket", "")),
        ("s3.amazonaws.com/bucket/p", S3Address("https://s3.amazonaws.com", "bucket", "p")),
        ("//s3.amazonaws.com/bucket", S3Address("https://s3.amazonaws.com", "bucket", "")),
        ("minio.lan:9000/bucket/p/", S3Address("https://minio.lan:9000", "bucket", "p")),
        ("localhost/bucket", S3Address("https://localhost", "bucket", "")),
        ("bucket", S3Address("", "bucket", "")),
        ("bucket/some/folder", S3Address("", "bucket", "some/folder")),
    ],
)
def test_addresses_are_restic_s(text, address):
    """Host, bucket and folder, as restic writes them, and the short form without a host."""
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "/", "https://host", "https://host/", "ftp://host/bucket"])
def test_addresses_without_a_bucket_are_refused(text):
    """Not taken for something else."""
    with pytest.raises(UnsupportedStoreError):
        parse_address(text)


@pytest.mark.parametrize(
    ("address", "environ", "shown"),
    [
        ("bucket/p", {}, "s3:https://s3.us-east-1.amazonaws.com/bucket/p"),
        ("bucket", {"AWS_REGION": "eu-west-1"}, "s3:https://s3.eu-west-1.amazonaws.com/bucket"),
        (
            "s3.amazonaws.com/b1",
            {"AWS_DEFAULT_REGION": "sa-east-1"},
            "s3:https://s3.sa-east-1.amazonaws.com/b1",
        ),
        (
            "s3.eu-north-1.amazonaws.com/bucket",
            {"AWS_REGION": "eu-west-1"},
            "s3:https://s3.eu-north-1.amazonaws.com/bucket",
        ),
        (
            "s3.cn-north-1.amazonaws.com.cn/bucket",
            {},
            "s3:https://s3.cn-north-1.amazonaws.com.cn/bucket",
        ),
        ("bucket", {"AWS_ENDPOINT_URL_S3": "https://host:1/"}, "s3:https://host:1/bucket"),
        ("https://own/bucket", {"AWS_ENDPOINT_URL": "https://other"}, "s3:https://own/bucket"),
    ],
)
def test_region_and_endpoint_come_from_address_then_environment(address, environ, shown):
    """An endpoint that was written is the one that is used."""
    assert S3Store(address, environ=environ).address == shown


def test_endpoint_of_the_environment_does_not_win(monkeypatch):
    """The library would read AWS_ENDPOINT_URL_S3 by itself: requests go to the written host."""
    with replying(404) as own, replying(500) as other:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", other.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL", other.url)
        with pytest.raises(ObjectNotFoundError):
            S3Store(f"{own.url}/bucket", options=KEYS).get(PACK, NAME)
        assert other.requests == []


@contextmanager
def replying(status, code=""):
    """A server that answers so to everything."""
    body = f"<Error><Code>{code}</Code><AWSAccessKeyId>AKIAKEY</AWSAccessKeyId></Error>".encode()
    with Loopback(lambda _: Reply(status, body)) as server:
        yield server


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (401, "InvalidAccessKeyId", StoreDeniedError),
        (403, "AccessDenied", StoreDeniedError),
        (403, "SignatureDoesNotMatch", StoreDeniedError),
        (403, "QuotaExceeded", StorageFullError),
        (507, "XMinioStorageFull", StorageFullError),
        (413, "EntityTooLarge", StorageFullError),
        (404, "NoSuchBucket", StoreError),
        (404, "NoSuchKey", ObjectNotFoundError),
        (400, "InvalidRequest", StoreError),
        (400, "RequestTimeout", StoreBusyError),
        (408, "", StoreBusyError),
        (409, "OperationAborted", StoreBusyError),
        (429, "SlowDown", StoreBusyError),
        (500, "InternalError", StoreBusyError),
        (502, "", StoreBusyError),
        (503, "SlowDown", StoreBusyError),
        (504, "", StoreBusyError),
    ],
)
def test_answers_become_errors_of_the_registry(status, code, error):
    """For reads, puts and listings; without keys in them, and without trying again below."""
    with replying(status, code) as server:
        store = S3Store(f"{server.url}/bucket", options=KEYS)
        for call in (lambda: store.get(PACK, NAME), lambda: store.put(PACK, NAME, b"")):
            with pytest.raises(StoreError) as caught:
                call()
            assert type(caught.value) is error
            assert "AKIA" not in str(caught.value)
            assert str(status) in str(caught.value)
        assert len([each for each in server.requests if each.method == "GET"]) == 1
        with pytest.raises(error):
            list(store.list(PACK))


def test_lost_connections_are_passing():
    """Refused and reset ones; also in the middle of a body."""
    with Loopback(lambda _: Reply(body=bytes(1000), cut=500)) as server:
        store = S3Store(f"{server.url}/bucket", options=KEYS)
        with pytest.raises(StoreBusyError):
            store.get(PACK, NAME)
    with pytest.raises(StoreBusyError):
        store.get(PACK, NAME)


def test_other_regions_and_strange_answers_are_told():
    """Each with what is known of it."""
    with replying(301) as server, pytest.raises(StoreError, match="another region"):
        S3Store(f"{server.url}/bucket", options=KEYS).get(PACK, NAME)
    page = Loopback(lambda _: Reply(200, b"hello"))
    with page as server, pytest.raises(StoreError, match="none of S3"):
        list(S3Store(f"{server.url}/bucket", options=KEYS).list(PACK))


def test_strangers_in_the_bucket_are_passed_over(bucket, s3_endpoint):
    """Other names, and packs in other folders."""
    store = S3Store(bucket, options=KEYS)
    name = keep(store, PACK, b"x")
    client = boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    for key in ("data/README", f"data/{name}", f"data/00/{NAME}", f"datas/{name[:2]}/{name}"):
        client.put_object(Bucket=bucket.rpartition("/")[2], Key=key, Body=b"stranger")
    assert [each.name for each in store.list(PACK)] == [name]


def test_unreadable_certificates_are_told():
    """Before anything is sent."""
    with pytest.raises(CertificateError, match="/nowhere"):
        S3Store("https://host.invalid/bucket", ca_bundle="/nowhere", environ={})


def test_names_are_judged_where_a_policy_holds():
    """A host that cannot be looked up is not asked on somebody's behalf."""
    with pytest.raises(StoreError, match="no host named"):
        S3Store("https://host.invalid/bucket", egress=PUBLIC_ONLY, environ={})


class Overwriting:
    """A server of PUT, GET, HEAD and DELETE that knows no conditions."""

    def __init__(self):
        self.objects = {}

    def __call__(self, request):
        if request.method == "PUT":
            self.objects[request.path] = request.body
            return Reply(headers={"ETag": '"1"'})
        if request.method == "DELETE":
            self.objects.pop(request.path, None)
            return Reply(204)
        if request.path not in self.objects:
            return Reply(404)
        headers = {"Last-Modified": "Sat, 21 Nov 2026 01:37:32 GMT", "ETag": '"1"'}
        return Reply(body=self.objects[request.path], headers=headers)


def test_servers_without_conditions_are_found_out():
    """The first put tries it, beside the repository, and leaves nothing; then names are checked."""
    bucket = Overwriting()
    with Loopback(bucket) as server:
        store = S3Store(f"{server.url}/bucket/folder", options=KEYS)
        assert server.requests == []
        keep(store, PACK, b"first")
        assert not store.properties.put_if_absent
        assert list(bucket.objects) == [
            f"/bucket/folder/data/{named(b'first')[:2]}/{named(b'first')}"
        ]
        with pytest.raises(ObjectExistsError):
            store.put(PACK, named(b"first"), b"other")
        assert store.get(PACK, named(b"first")) == b"first"
        probes = [each for each in server.requests if "/.holdfast-" in each.path]
        assert [each.method for each in probes] == ["PUT", "PUT", "DELETE"]


def test_throttled_probe_is_no_verdict():
    """A server that is busy at that moment is asked again by the next put."""
    bucket = Overwriting()
    busy = iter([503])
    with Loopback(
        lambda request: Reply(status) if (status := next(busy, 0)) else bucket(request)
    ) as server:
        store = S3Store(f"{server.url}/bucket", options=KEYS)
        with pytest.raises(StoreBusyError):
            keep(store, PACK, b"first")
        keep(store, PACK, b"first")
        assert not store.properties.put_if_absent


def test_large_objects_go_in_parts(bucket, monkeypatch):
    """They come back whole, and a taken name is still refused."""
    monkeypatch.setattr(s3, "MULTIPART_FROM", 6 << 20)
    monkeypatch.setattr(s3, "PART", 5 << 20)
    store = S3Store(bucket, options=KEYS)
    data = sample(12_000_000)
    name = keep(store, PACK, data)
    assert store.get(PACK, name) == data
    assert store.get_range(PACK, name, -7, 5) == data[-7:-2]
    with pytest.raises(ObjectExistsError):
        store.put(PACK, name, memoryview(data))


def test_listing_goes_on_over_many_pages(bucket):
    """A page holds a thousand objects."""
    store = S3Store(bucket, options=KEYS)
    for number in range(1005):
        keep(store, FileKind.INDEX, b"%d" % number)
    assert len({each.name for each in store.list(FileKind.INDEX)}) == 1005


def test_forked_processes_are_refused(bucket):
    """The library would hang in them; the parent's store goes on."""
    store = S3Store(bucket, options=KEYS)
    name = keep(store, PACK, b"x")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            store.get(PACK, name)
        except StoreError as error:
            status = 0 if "parent" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert not store.properties.forkable
    assert store.get(PACK, name) == b"x"


def test_policy_is_asked_for_the_endpoint():
    """On somebody's behalf neither this machine nor a private network is reached; nor metadata."""
    for address in ("https://127.0.0.1/b", "https://10.0.0.1/b", "https://169.254.169.254/b"):
        with pytest.raises(StoreDeniedError):
            S3Store(address, egress=PUBLIC_ONLY, environ={})
    with pytest.raises(StoreDeniedError):
        S3Store("https://169.254.169.254/bucket", environ={})


def test_plain_http_stays_on_this_machine_unless_asked():
    """Whoever wants it elsewhere says so."""
    with pytest.raises(UnsupportedStoreError, match="plain HTTP"):
        S3Store("http://10.0.0.1/bucket", environ={})
    S3Store("http://10.0.0.1/bucket", options=S3Options(allow_http=True), environ={})
    S3Store("http://10.0.0.1/bucket", environ={"AWS_ALLOW_HTTP": "true"})
    S3Store("http://127.0.0.1/bucket", environ={})


def test_given_keys_come_without_the_environment_s_token(monkeypatch):
    """A session token of other credentials would spoil the signature."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-others")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-others")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-others")
    with replying(404) as server:
        store = S3Store(f"{server.url}/bucket", options=KEYS)
        with pytest.raises(ObjectNotFoundError):
            store.get(PACK, NAME)
        assert "AKIAKEY" in server.requests[0].headers["authorization"]
        assert "x-amz-security-token" not in server.requests[0].headers
        assert "hidden-secret" not in repr(vars(store)) + store.address
        with pytest.raises(ObjectNotFoundError):
            S3Store(f"{server.url}/bucket").get(PACK, NAME)
        assert "of-others" in server.requests[1].headers["authorization"]


def test_bucket_may_be_part_of_the_host():
    """For servers that want it so; path style is the default."""
    with replying(404) as server:
        options = S3Options(access_key="key", secret_key=Secret("s"), path_style=False)
        store = S3Store(f"http://localhost:{server.port}/bucket", options=options)
        with pytest.raises(StoreError):
            store.get(PACK, NAME)
        if server.requests:  # only where the system resolves bucket.localhost
            assert server.requests[0].headers["host"].startswith("bucket.localhost")
            assert server.requests[0].path.startswith("/data/")
