"""Agents from their first word to the restored file: real processes over loopback HTTPS."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.agent.conftest import PATIENCE, Site, eventually

from holdfast.core.access import SHELL
from holdfast.core.errors import InvalidError, SourceMissingError, StateError
from holdfast.core.orders import OrderKind
from holdfast.core.records import ClientGroup, Custody, Made, TaskState
from holdfast.core.stages import Status
from holdfast.service.remote import Back, Wanted

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.core.records import Backup, Task

MIB = 1 << 20
SLOW = {"upload": 128}
"""A pack of 4 MiB each half minute: whatever is done to such a backup comes in the midst of it."""
pytestmark = pytest.mark.timeout(1200)


def newest(site: Site) -> Backup:
    return site.service.backups.list(SHELL, limit=1)[0]


def backed_up(site: Site, path: Path, agent: str = "web", **more: object) -> Task:
    wanted = Wanted(agent=agent, resource=str(path), pool="main", **more)  # type: ignore[arg-type]
    return site.service.remote.back_up(SHELL, wanted)


def same(one: Path, other: Path) -> bool:
    return not subprocess.run(
        ["diff", "-r", "--no-dereference", one, other], check=False
    ).returncode


# --- the way of a file ----------------------------------------------------------------------------


def test_a_backup_goes_into_the_pool_and_comes_back(site: Site, tree: Path, tmp_path: Path) -> None:
    """I1, I6: in the catalog with its figures, sound for stock restic with the key of the recovery
    kit, and restored byte for byte.
    """
    ended = site.ended(backed_up(site, tree))
    assert (ended.state, ended.outcome["files"]) == (TaskState.SUCCEEDED, 3), ended.outcome
    backup = newest(site)
    assert (backup.made, backup.files, backup.size) == (Made.FULL, 3, 3_000_004)
    if shutil.which("restic"):
        [entry] = [each for each in site.service.pools.kit() if each.host == "web"]
        subprocess.run(
            ["restic", "--no-cache", "-r", entry.address, "check", "--read-data"],
            env=os.environ | {"RESTIC_PASSWORD": entry.password.reveal()},
            check=True, capture_output=True, timeout=PATIENCE,
        )  # fmt: skip
    out = tmp_path / "out"
    back = site.service.remote.restore(SHELL, backup, Back(agent="web", destination=str(out)))
    assert site.ended(back).state is TaskState.SUCCEEDED
    assert same(tree, out / str(tree).lstrip("/"))


def test_the_next_one_sends_what_is_new(site: Site, tree: Path) -> None:
    """Incremental: from the newest; differential: from the newest full one; where there is none, it
    is full.
    """
    assert site.ended(backed_up(site, tree, made=Made.DIFFERENTIAL)).state is TaskState.SUCCEEDED
    full = newest(site)
    assert full.made is Made.FULL
    (tree / "more").write_bytes(os.urandom(100_000))
    site.ended(backed_up(site, tree, made=Made.INCREMENTAL))
    second = newest(site)
    assert (second.made, second.parent_id) == (Made.INCREMENTAL, full.id)
    assert second.stored < MIB
    site.ended(backed_up(site, tree, made=Made.DIFFERENTIAL))
    third = newest(site)
    assert (third.made, third.parent_id) == (Made.DIFFERENTIAL, full.id)


def test_some_files_go_to_another_agent(site: Site, tree: Path, tmp_path: Path) -> None:
    """By order only: before and after, one host does not reach another's repository."""
    site.agent("other")
    site.authorised("other")
    site.ended(backed_up(site, tree))
    out = tmp_path / "out"
    wanted = str(tree / "below" / "ümlaut.txt")
    back = Back(agent="other", destination=str(out), include=[wanted])
    with pytest.raises(StateError, match="no group that shares"):
        site.service.remote.restore(SHELL, newest(site), back)
    with site.service.ground.catalog.write() as tx:
        group = tx.client_groups.add(ClientGroup(name="friends", shared=True))
    for name in ("web", "other"):
        site.service.agents.change(SHELL, name, group_id=group.id)
    assert site.ended(site.service.remote.restore(SHELL, newest(site), back)).state == "succeeded"
    assert [each.name for each in out.rglob("*") if each.is_file()] == ["ümlaut.txt"]


def test_a_key_that_only_the_agent_has(site: Site, tree: Path, tmp_path: Path) -> None:
    """The server lists and keeps the backup, and cannot read it; the agent can."""
    site.ended(backed_up(site, tree, custody=Custody.CLIENT))
    backup = newest(site)
    with pytest.raises(StateError):
        list(site.service.backups.entries(SHELL, backup))
    keys = list((site.folder / "web" / "keys").iterdir())
    assert [key.stat().st_mode & 0o777 for key in keys] == [0o600]
    out = tmp_path / "out"
    back = site.service.remote.restore(SHELL, backup, Back(agent="web", destination=str(out)))
    assert site.ended(back).state is TaskState.SUCCEEDED
    assert same(tree, out / str(tree).lstrip("/"))


# --- looking at a host ----------------------------------------------------------------------------


def test_looking_at_a_host(site: Site, tree: Path) -> None:
    """Folders, block devices and what modules see; what cannot be is told as the agent met it."""
    look = site.service.remote.look
    listed = look(SHELL, "web", OrderKind.FILES, {"path": str(tree)})
    assert [(each["name"], each["type"]) for each in listed["entries"]] == [
        ("below", "dir"), ("link", "symlink"), ("random", "file"),
    ]  # fmt: skip
    assert isinstance(look(SHELL, "web", OrderKind.DEVICES, {"path": "/dev"})["devices"], list)
    found = look(SHELL, "web", OrderKind.RESOURCES, {"module": "files", "resource": str(tree)})
    assert str(tree / "random") in [each["name"] for each in found["resources"]]
    with pytest.raises(SourceMissingError):
        look(SHELL, "web", OrderKind.FILES, {"path": str(tree / "none")})
    with pytest.raises(InvalidError):
        look(SHELL, "web", OrderKind.FILES, {"path": "relative"})


def test_what_fails_is_told(site: Site, tmp_path: Path) -> None:
    """With the code and the words of the agent; earlier backups are untouched."""
    ended = site.ended(backed_up(site, tmp_path / "none"))
    assert (ended.state, ended.outcome["code"]) == (TaskState.FAILED, "source-missing")
    assert site.status(ended) is Status.ERROR


# --- wishes ---------------------------------------------------------------------------------------


def test_pause_continue_kill(site: Site, tmp_path: Path) -> None:
    """A paused one goes on with what was sent; a killed one is gone on the agent, too."""
    big = tmp_path / "big"
    big.mkdir()
    (big / "file").write_bytes(os.urandom(24 * MIB))
    before = site.stored()
    task = backed_up(site, big, bandwidth=SLOW)
    eventually(lambda: site.stored() > before + 4 * MIB)
    eventually(lambda: site.status(task) is Status.TRANSMISSION)
    site.service.tasks.pause(SHELL, task.id)
    assert site.service.tasks.wait(SHELL, task.id, PATIENCE).state is TaskState.PAUSED
    assert children_of(site.processes[1].pid) == []
    site.hurry(task)
    site.service.tasks.cont(SHELL, task.id)
    assert site.ended(task).state is TaskState.SUCCEEDED
    assert site.stored() - before < 25 * MIB
    count = len(site.service.backups.list(SHELL))
    (big / "more").write_bytes(os.urandom(24 * MIB))
    task = backed_up(site, big, bandwidth=SLOW)
    eventually(lambda: site.status(task) is Status.TRANSMISSION)
    site.service.tasks.kill(SHELL, task.id)
    assert site.status(site.ended(task)) is Status.KILLED
    eventually(lambda: children_of(site.processes[1].pid) == [])
    assert len(site.service.backups.list(SHELL)) == count


def children_of(pid: int) -> list[str]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


def test_two_agents_on_one_folder(site: Site) -> None:
    """The second one says so and ends."""
    second = site.agent("web")
    assert second.wait(PATIENCE) == 11
    assert "another agent works on" in site.said("web")


# --- deaths ---------------------------------------------------------------------------------------


def test_an_agent_that_is_away(tmp_path: Path, tree: Path) -> None:
    """I5: its task waits and runs when it is back; so does one that it was killed in, and one that
    the server was killed in. Nothing of what was sent is sent again.
    """
    site = Site(tmp_path)
    try:
        site.serve()
        agent = site.agent("web")
        site.authorised("web")
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(PATIENCE) == 0, site.said("web")
        task = backed_up(site, tree)
        eventually(lambda: site.status(task) is Status.SUSPENDED)
        agent = site.agent("web")
        assert site.ended(task).state is TaskState.SUCCEEDED

        (tree / "big").write_bytes(os.urandom(14 * MIB))
        before = site.stored()
        task = backed_up(site, tree, bandwidth={"upload": 1024})
        eventually(lambda: site.stored() > before + 2 * MIB)
        agent.kill()
        agent.wait()
        site.agent("web")
        eventually(lambda: site.stored() > before + 4 * MIB)
        site.kill_server()
        site.serve()
        assert site.ended(task).state is TaskState.SUCCEEDED
        assert site.stored() - before < 16 * MIB
        assert len(site.service.backups.list(SHELL)) == 2
    finally:
        site.close()


def test_the_servers_own_agent(tmp_path: Path, tree: Path) -> None:
    """`holdfast serve` alone backs this machine up: nothing is to be authorised."""
    site = Site(tmp_path)
    try:
        site.serve(HOLDFAST_AGENTS_OWN="yes")
        [agent] = site.service.agents.list(SHELL)
        assert agent.state == "authorised"
        eventually(lambda: site.service.agents.get(SHELL, agent.id).modules)
        task = backed_up(site, tree, agent=agent.hwid)
        assert site.ended(task).state is TaskState.SUCCEEDED
    finally:
        site.close()
