"""Tasks whose work an agent does: they wait for it in the queue, and hold nothing meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from holdfast.core.records import (
    NO_GROUP,
    Agent,
    AgentState,
    ClientGroup,
    Host,
    Task,
    TaskState,
)
from holdfast.jobs import claims
from holdfast.jobs.body import Composition, Kind, LaterError
from holdfast.jobs.claims import Cannot
from holdfast.jobs.running import INTERRUPTED, BodyRun, execute

FAR = 1 << 62


@pytest.fixture
def host(home):
    """With an agent that is authorised, and offline."""
    with home.catalog.write() as tx:
        tx.client_groups.add(ClientGroup(id=NO_GROUP, name="No group"))
        made = tx.hosts.add(Host(name="web"))
        tx.agents.add(
            Agent(
                hwid="0" * 16, name="web", digest="d", state=AgentState.AUTHORISED,
                host_id=made.id,
            )
        )  # fmt: skip
    return made


def submitted(home, host, **more):
    task = Task(kind="agent-backup", host_id=host.id, target_id=7, created=1, due=1)
    with home.catalog.write() as tx:
        return tx.tasks.add(replace(task, **more))


def begun(home, task):
    with home.catalog.write() as tx:
        return claims.begin(tx, task.id, 1, holder="node#1", attempts=5)


def online(home, until=FAR):
    with home.catalog.write() as tx:
        tx.agents.change(1, online_until=until)


def test_it_begins_when_its_agent_is_there(home, host):
    """Neither before, nor while the agent's authorisation is taken back."""
    task = submitted(home, host)
    assert begun(home, task) is Cannot.AWAY
    online(home)
    with home.catalog.write() as tx:
        tx.agents.change(1, state=AgentState.WAITING)
    assert begun(home, task) is Cannot.AWAY
    with home.catalog.write() as tx:
        tx.agents.change(1, state=AgentState.AUTHORISED)
    assert begun(home, task).state is TaskState.RUNNING


def test_one_at_a_time_of_a_series(home, host):
    """Others of the host run beside it."""
    online(home)
    first, second, other = (
        submitted(home, host), submitted(home, host), submitted(home, host, target_id=8),
    )  # fmt: skip
    assert begun(home, first).state is TaskState.RUNNING
    assert begun(home, second) is Cannot.AWAY
    assert begun(home, other).state is TaskState.RUNNING
    with home.catalog.write() as tx:
        claims.finish(tx, first.id, 1, TaskState.SUCCEEDED, {})
    assert begun(home, second).state is TaskState.RUNNING


def test_an_offline_agent_keeps_no_place_of_a_pool(home, host):
    """Tasks behind it in the pool's queue begin."""
    pool = home.pool("main", limit=1)
    away = submitted(home, host, pool_id=pool)
    behind = submitted(home, host, kind="verify", pool_id=pool)
    with home.catalog.read() as tx:
        assert [task.id for task in claims.first_waiting(tx, pool, 5)] == [behind.id]
    assert begun(home, away) is Cannot.AWAY
    assert begun(home, behind).state is TaskState.RUNNING


def test_a_body_that_cannot_go_on_waits_in_the_queue(home):
    """As if it had been interrupted: its task has not ended."""

    def later(_run):
        raise LaterError("not now")

    composition = Composition(catalog=home.catalog, kinds={"k": Kind(body=later, light=True)})
    run = BodyRun(Task(kind="k", created=1, due=1), home.catalog, lambda _: None)
    assert execute(composition, run) == {"state": INTERRUPTED}
