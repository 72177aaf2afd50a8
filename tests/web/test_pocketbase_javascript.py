"""The published JavaScript SDKs of PocketBase and BosBase do what their users do with them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.web.conftest import EMAIL, PASSWORD

if TYPE_CHECKING:
    from tests.web.conftest import Server

HERE = Path(__file__).parent
HOME = HERE.parent.parent / ".tools" / "npm"

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not shutil.which("npm"), reason="there is no node on this machine"),
]


@pytest.fixture(scope="module")
def home() -> Path:
    """Where the SDKs are; installed on first use."""
    if not (HOME / "node_modules" / "bosbase").is_dir():
        HOME.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "install", "--silent", "--no-audit", "--no-fund", "pocketbase@0", "bosbase@0"],
            cwd=HOME,
            check=True,
            timeout=120,
        )
    return HOME


def said(home: Path, server: Server, sdk: str) -> dict[str, Any]:
    done = subprocess.run(
        ["node", str(HERE / "javascript" / "backups.mjs"), sdk, server.main, EMAIL, PASSWORD],
        env=os.environ | {"SDK_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    lines = map(json.loads, done.stdout.splitlines())
    return {line["what"]: line["value"] for line in lines}


@pytest.mark.parametrize("sdk", ["pocketbase", "bosbase"])
def test_the_sdk_works_as_its_users_expect(home: Path, server: Server, sdk: str) -> None:
    """Sign-in, backups, downloads with ranges, uploads, refusals, settings and schedule."""
    (server.data.parent / "app" / "data.txt").write_text("data")
    got = said(home, server, sdk)
    assert got["nobody"]["status"] == 401
    assert got["wrong password"] == {
        "status": 400,
        "response": {"data": {}, "message": "Failed to authenticate.", "status": 400},
    }
    assert got["signed in"] == {"collection": "_superusers", "valid": True, "superuser": True}
    assert got["refreshed"] is True
    assert got["health"]["data"]["canBackup"] is True
    names = [each["key"] for each in got["list"]]
    assert f"from_{sdk}.zip" in names
    assert names == sorted(names, key=str.encode)
    assert any(name.startswith("pb_backup_holdfast_") for name in names)
    size = next(each["size"] for each in got["list"] if each["key"] == f"from_{sdk}.zip")
    assert got["download"] == {
        "status": 200, "size": size, "type": "application/zip", "start": [80, 75, 3, 4],
    }  # fmt: skip
    assert got["range"] == {
        "status": 206, "range": f"bytes 0-3/{size}", "bytes": [80, 75, 3, 4],
    }  # fmt: skip
    for what, field, code in (
        ("same name", "name", "validation_backup_name_exists"),
        ("bad name", "name", "validation_match_invalid"),
        ("upload again", "file", "validation_backup_name_exists"),
        ("upload of no zip", "file", "validation_invalid_mime_type"),
    ):
        assert got[what]["status"] == 400, what
        assert got[what]["response"]["data"][field]["code"] == code
    assert got["delete again"]["response"]["message"].startswith(
        "Invalid or already deleted backup file."
    )
    assert got["restore of nothing"]["response"]["message"] == "Missing or invalid backup file."
    assert got["settings"]["cron"] == "0 3 * * *"
    assert got["bad cron"]["response"]["data"]["backups"]["cron"]["code"] == (
        "validation_invalid_cron"
    )
    assert got["crons"] == [{"id": "__pbAutoBackup__", "expression": "0 3 * * *"}]
    assert got["crons without"] == []
