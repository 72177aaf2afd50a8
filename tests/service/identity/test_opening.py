"""Opening a data folder."""

from __future__ import annotations

import base64
import os
import stat

import pytest

from holdfast.core.errors import ConfigurationError
from holdfast.service import passwords
from holdfast.service.opening import open_ground


def opened(*args):
    ground = open_ground(*args)
    ground.catalog.close()
    return ground


def test_a_folder_is_made_for_its_owner_only(tmp_path):
    """Whatever the umask is; opened again it is the same."""
    before = os.umask(0)
    try:
        first = opened(tmp_path / "data")
    finally:
        os.umask(before)
    for path in [tmp_path / "data", *(tmp_path / "data").iterdir()]:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    assert opened(tmp_path / "data").master.text() == first.master.text()


def test_the_configuration_lies_in_the_folder_or_where_it_is_named(tmp_path):
    """What is named wins."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "holdfast.yaml").write_text("grace: {days: 3}")
    named = tmp_path / "other.yaml"
    named.write_text("grace: {days: 4}")
    assert opened(folder).configuration.grace.days == 3
    assert opened(folder, named).configuration.grace.days == 4


@pytest.mark.parametrize("place", ["file", "environment", "command"])
def test_the_master_key_comes_from_where_it_is_kept(tmp_path, monkeypatch, place):
    """And then none is made in the folder."""
    key = base64.b64encode(bytes(range(32))).decode()
    secret = tmp_path / "key"
    secret.write_text(key)
    secret.chmod(0o600)
    monkeypatch.setenv("THE_KEY", key)
    said = {"file": str(secret), "environment": "THE_KEY", "command": f"[cat, {secret}]"}[place]
    configuration = tmp_path / "c.yaml"
    configuration.write_text(f"master_key: {{{place}: {said}}}")
    assert opened(tmp_path / "data", configuration).master.text() == key
    assert not (tmp_path / "data" / "master.key").exists()


@pytest.mark.parametrize(
    "said", ["file: nowhere", "environment: HOLDFAST_NO_SUCH", "command: [false]", "command: [/no]"]
)
def test_without_its_master_key_nothing_is_opened(tmp_path, said):
    """No key is made in its place, and no catalog."""
    configuration = tmp_path / "c.yaml"
    configuration.write_text(f"master_key: {{{said}}}")
    with pytest.raises(ConfigurationError):
        open_ground(tmp_path / "data", configuration)
    assert not list((tmp_path / "data").iterdir())


def test_a_hash_costs_memory_and_a_fair_time():
    """F38 46 MiB; what it takes is measured with the real parameters."""
    import time

    from argon2 import PasswordHasher, extract_parameters

    real = PasswordHasher.from_parameters(passwords.COST)
    made = real.hash("correct horse")
    assert extract_parameters(made).memory_cost >= 46 << 10
    took = []
    for _ in range(5):
        began = time.thread_time()
        real.verify(made, "correct horse")
        took.append(time.thread_time() - began)
    assert min(took) < 1.5  # 0.06 to 0.1 where the machine has nothing else to do
