"""The whole engine on stores that are not directories."""

import os
import subprocess
import sys

import pytest

from holdfast.testing.store_contract import sample


@pytest.mark.parametrize("kind", ["s3", "rest"])
def test_backup_goes_to_a_distant_store_and_back(kind, request, tmp_path):
    """I1: init, backup, check of all data and restore; also where forked workers cannot write."""
    if kind == "s3":
        address = f"s3:{request.getfixturevalue('bucket')}/folder"
    else:
        address = f"rest:{request.getfixturevalue('rest_server')().url}"
    source = tmp_path / "source"
    source.mkdir()
    for number in range(30):
        (source / str(number)).write_bytes(sample(30_000, number))
    environ = {
        **os.environ,
        "HOLDFAST_REPOSITORY": address,
        "HOLDFAST_PASSWORD": "secret",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    for arguments in (
        ["init"],
        ["backup", str(source)],
        ["check", "--read-data"],
        ["restore", "latest", "--target", str(tmp_path / "out")],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "holdfast", *arguments],
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    for number in range(30):
        restored = (tmp_path / "out").joinpath(*source.parts[1:], str(number))
        assert restored.read_bytes() == sample(30_000, number)
