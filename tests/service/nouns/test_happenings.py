"""What happens is in the journal; what the configuration says of tasks and samples is done."""

from __future__ import annotations

import time

import pytest

from holdfast.core.access import SHELL, Verb
from holdfast.core.errors import InvalidError, StateError
from holdfast.core.fields import Asked
from holdfast.core.records import Area, Node, Task, TaskLine, TaskState
from holdfast.service import machine
from holdfast.service.global_configuration import in_service_mode, is_resting, values_in
from holdfast.service.monitoring import sampling
from holdfast.service.nouns import happenings
from holdfast.service.tidying import tidy

MINUTE = 60_000_000_000


@pytest.fixture
def journal(service):
    """The lines of an area, oldest first."""

    def read(noun, *keys):
        rows = service.nouns.page(SHELL, noun, Asked()).rows
        return [tuple(row[key] for key in keys) for row in rows]

    return read


@pytest.fixture
def configure(service):
    def set_(**values):
        service.global_configuration.set_service_mode(SHELL, on=True)
        service.global_configuration.change(SHELL, values)
        service.global_configuration.set_service_mode(SHELL, on=False)

    return set_


# --- journals -------------------------------------------------------------------------------------


def test_a_copy_from_its_making_to_its_end(service, make_target, put, journal):
    """Kept, held, recycled, brought back, deleted; the lines outlive it."""
    backup = put(make_target())
    service.backups.recycle(SHELL, backup)
    service.backups.bring_back(SHELL, backup)
    service.backups.delete(SHELL, backup)
    lines = journal(happenings.REPOSITORY_LINE, "text", "backup_id", "actor")
    said = ["is kept", "was recycled", "was brought back", "was deleted"]
    assert [text for text, _, _ in lines] == [f"{backup.name} {each}" for each in said]
    assert {number for _, number, _ in lines} == {backup.id}
    assert [actor for _, _, actor in lines] == ["", "shell", "shell", "shell"]


def test_a_task_has_a_line_for_each_state(service, journal):
    task = service.tasks.submit(SHELL, Verb.TASK_CONTROL, "measure")
    service.tasks.pause(SHELL, task.id)
    service.tasks.cont(SHELL, task.id)
    service.tasks.kill(SHELL, task.id)
    service.tasks.restart(SHELL, task.id)
    lines = journal(happenings.TASK_LINE, "state", "task_id", "kind", "actor")
    assert [state for state, *_ in lines] == [
        "queued", "paused", "queued", "cancelled", "queued",
    ]  # fmt: skip
    assert {line[1:] for line in lines} == {(task.id, "measure", "shell")}


def test_this_machine_is_one_media_server(service, monkeypatch):
    """However often it starts, under whatever name; another machine is another."""
    for name, hwid in (("one", "a" * 16), ("one", "a" * 16), ("two", "a" * 16), ("two", "b" * 16)):
        monkeypatch.setattr(machine, "host_name", lambda name=name: name)
        monkeypatch.setattr(machine, "hwid", lambda hwid=hwid: hwid)
        machine.announce(service.ground, "starts")
    with service.ground.catalog.read() as tx:
        [server] = tx.media_servers.all()
    assert (server.name, server.hwid, server.main) == ("two", "b" * 16, True)
    assert len(machine.hwid()) == 16


# --- service mode ---------------------------------------------------------------------------------


def test_nothing_new_begins_in_service_mode(service):
    service.global_configuration.set_service_mode(SHELL, on=True)
    assert is_resting(service.ground.catalog)
    with pytest.raises(StateError):
        service.tasks.submit(SHELL, Verb.TASK_CONTROL, "measure")
    service.global_configuration.set_service_mode(SHELL, on=False)
    assert not is_resting(service.ground.catalog)
    service.tasks.submit(SHELL, Verb.TASK_CONTROL, "measure")


def test_the_configuration_is_whole_or_as_it_was(service, configure):
    with pytest.raises(StateError):
        service.global_configuration.change(SHELL, {"monitoring_period": 5})
    configure(monitoring_period=5)
    with pytest.raises(InvalidError) as told:
        configure(monitoring_period=7, clean_tape_drives_period="x", other=1)
    assert set(told.value.fields) == {"clean_tape_drives_period", "other"}
    with service.ground.catalog.read() as tx:
        assert values_in(tx)["monitoring_period"] == 5
        assert in_service_mode(tx)


# --- tasks that ended -----------------------------------------------------------------------------


def test_tasks_go_when_their_time_has_come(service, configure):
    """Each end has a time of its own; what has not ended stays, and so does the journal."""
    lost = {"code": "worker-died"}
    ends = {
        "done": (TaskState.SUCCEEDED, {}),
        "error": (TaskState.FAILED, {"code": "failed"}),
        "broken": (TaskState.FAILED, lost),
        "killed": (TaskState.CANCELLED, {}),
    }
    configure(
        done_tasks_remove_period=10, error_tasks_remove_period=20, broken_tasks_remove_period=30,
        killed_tasks_remove_period=40,
    )  # fmt: skip
    catalog = service.ground.catalog
    ids = {}
    with catalog.write() as tx:
        now = tx.now()
        for minutes in (5, 15, 25, 35, 45):
            for end, (state, outcome) in ends.items():
                task = tx.tasks.add(
                    Task(kind="x", state=state, outcome=outcome, created=1, due=1,
                         ended=now - minutes * MINUTE)
                )  # fmt: skip
                ids[task.id] = (end, minutes)
                tx.task_lines.add(TaskLine(task_id=task.id, at=1, text="x"))
        waiting = tx.tasks.add(Task(kind="x", created=1, due=1)).id
    tidy(catalog)
    with catalog.read() as tx:
        left = {task.id for task in tx.tasks.all()}
        lines = {line.task_id for line in tx.task_lines.all()}
    kept = {"done": 10, "error": 20, "broken": 30, "killed": 40}
    assert (
        left - {waiting} == lines == {id_ for id_, (end, min_) in ids.items() if min_ < kept[end]}
    )
    assert waiting in left


# --- samples --------------------------------------------------------------------------------------


def test_the_newest_samples_are_kept(service, configure):
    """Real figures of this machine, by the one node that holds the lease."""
    configure(max_system_monitoring_records=3)
    with service.ground.catalog.write() as tx:
        now = tx.now()
        node = tx.nodes.add(Node(name="n", number=1, beat=now, started=now))
    with sampling(service.ground, node.incarnation):
        found = _eventually(lambda: _samples(service), lambda rows: rows and rows[0].id > 3)
    assert 1 <= len(found) <= 3
    for each in found:
        assert 0 <= each.cpu <= 100
        assert 0 < each.memory <= 100
        assert 0 < each.disk <= 100
        assert min(each.disk_read, each.disk_written, each.received, each.sent) >= 0


def _samples(service):
    with service.ground.catalog.read() as tx:
        return tx.samples.all()


def _eventually(look, good):
    deadline = time.monotonic() + 60
    while not good(found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_areas_are_apart(service):
    with service.ground.catalog.write() as tx:
        from holdfast.catalog.journal import note

        note(tx, Area.CLIENTS, 1, "hello", host="web1 (00ff)")
    assert service.nouns.page(SHELL, happenings.CLIENT_LINE, Asked()).total == 1
    assert service.nouns.page(SHELL, happenings.MEDIA_SERVER_LINE, Asked()).total == 0
