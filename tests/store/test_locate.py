"""Addresses lead to stores, and mistakes to a sentence."""

import subprocess
import sys

import pytest

from holdfast.core.errors import UnsupportedStoreError
from holdfast.store.contract import FileKind
from holdfast.store.directory import DirectoryStore
from holdfast.store.locate import open_store
from holdfast.store.memory import MemoryStore
from holdfast.store.rest import RestStore
from holdfast.store.retry import RetryStore
from holdfast.store.s3 import S3Store
from holdfast.store.throttle import ThrottledStore
from holdfast.testing.store_contract import named


@pytest.mark.parametrize("form", ["{}", "local:{}", "LOCAL:{}"])
def test_paths_are_directories(tmp_path, form):
    """With and without the word, wrapped in nothing."""
    store = open_store(form.format(tmp_path))
    assert isinstance(store, DirectoryStore)
    assert store.address == str(tmp_path)


def test_relative_paths_are_made_absolute(tmp_path, monkeypatch):
    """So that a later change of folder does not move the repository."""
    monkeypatch.chdir(tmp_path)
    assert open_store("some/where").address == str(tmp_path / "some" / "where")
    assert open_store("./a:b").address == str(tmp_path / "a:b")


def test_memory_is_new_each_time():
    """Two tests never share one."""
    assert isinstance(open_store("memory:"), MemoryStore)


def test_distant_stores_try_again():
    """With limits below, so that each try counts."""
    rest = open_store("rest:https://host.invalid/path", limit_upload=10)
    assert isinstance(rest, RetryStore)
    assert isinstance(rest.inner, ThrottledStore)
    assert isinstance(rest.inner.inner, RestStore)
    assert rest.address == "rest:https://host.invalid/path/"
    assert isinstance(open_store("s3:https://host.invalid/bucket", environ={}).inner, S3Store)


def test_limits_hold_for_directories_too(tmp_path):
    """A disk may be slow to share."""
    assert isinstance(open_store(str(tmp_path), limit_download=10), ThrottledStore)


def test_rest_credentials_come_from_the_environment(rest_server):
    """Under our names, and under restic's."""
    server = rest_server(user="me", password="secret")
    for prefix in ("HOLDFAST_REST", "RESTIC_REST"):
        environ = {f"{prefix}_USERNAME": "me", f"{prefix}_PASSWORD": "secret"}
        store = open_store(f"rest:{server.url}", environ=environ)
        store.create()
        assert list(store.list(FileKind.PACK)) == []


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("loca:/path", "local:"),
        ("s33:host/bucket", "s3:"),
        ("rset:http://host", "rest:"),
        ("http://host/path", "rest:http"),
        ("sftp:user@host:/path", "rclone serve restic"),
        ("b2:bucket", "rclone serve restic"),
        ("zzz:path", "directory"),
        ("rest:", ""),
        ("local:", ""),
        ("", ""),
        ("s3:", ""),
        ("s3:https://host", "s3:https"),
        ("rest:host/path", ""),
    ],
)
def test_mistakes_are_explained(address, hint):
    """What was written, and what was probably meant."""
    with pytest.raises(UnsupportedStoreError) as caught:
        open_store(address, environ={})
    assert hint in caught.value.message + caught.value.advice


def test_secrets_of_a_mistaken_address_are_not_repeated():
    """Errors end in logs."""
    for address in ("rest:ftp://me:secret@host/", "https://me:secret@host/", "s3:me:secret@h/b"):
        with pytest.raises(UnsupportedStoreError) as caught:
            open_store(address, environ={})
        assert "secret" not in caught.value.message + caught.value.advice


def test_directories_need_no_network_libraries():
    """The command line starts without them: a local repository loads only what it uses."""
    program = (
        "import sys; from holdfast.store.locate import open_store; open_store('/nowhere');"
        "heavy = {'obstore', 'urllib3', 'msgspec', 'multiprocessing', 'socket', 'hashlib'};"
        "print(heavy & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


def test_names_do_not_escape(tmp_path):
    """The store that an address leads to refuses what is no name, before it touches the disk."""
    with pytest.raises(ValueError, match="names nothing"):
        open_store(str(tmp_path)).put(FileKind.PACK, "../" + named(b""), b"")
    assert list(tmp_path.iterdir()) == []
