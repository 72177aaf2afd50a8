"""What agents say is bounded and looked at: lies, others' orders, withdrawn agents, late words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.agent.folder import Folder
from holdfast.agent.speaking import Address
from holdfast.catalog.stages import status as status_column
from holdfast.core.access import HOST_RIGHTS, SHELL, Principal, Scope
from holdfast.core.agent_secret import hwid_of, new_secret
from holdfast.core.errors import (
    BusyError,
    ConfigurationError,
    DamagedError,
    DeniedError,
    InvalidError,
    NotSignedInError,
    QuotaError,
    RecordNotFoundError,
    StateError,
    StateFolderBusyError,
)
from holdfast.core.orders import Announcement, Hello, OrderKind, OrderState, Report, Wish
from holdfast.core.records import AgentOrder, AgentState, Custody, Made, Task, TaskState, Wanted
from holdfast.core.secret import Secret
from holdfast.core.stages import Stage, status_of
from holdfast.repo.format.snapshot import SnapshotFile, Summary
from holdfast.service import remote
from holdfast.service.remote import Back
from holdfast.service.server import open_service
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holdfast.core.records import Agent
    from holdfast.service.server import Service

TREE = "ab" * 32


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    opened = open_service(tmp_path / "data")
    opened.pools.add(SHELL, "main", [str(tmp_path / "pool")])
    yield opened
    opened.close()


class Machine:
    """An agent that says what it likes."""

    def __init__(self, service: Service, name: str = "web", *, authorised: bool = True) -> None:
        self.service = service
        self.desk = service.agent_desk
        self.secret = new_secret()
        self.desk.enrol(self.secret, Hello(name=name, modules=["files"]), "192.0.2.1")
        if authorised:
            service.agents.authorise(SHELL, hwid_of(self.secret))

    @property
    def agent(self) -> Agent:
        return self.desk.known(self.secret)

    @property
    def principal(self) -> Principal:
        host = self.agent.host_id
        assert host is not None
        scope = Scope(hosts=frozenset({host}))
        return Principal("host:web", HOST_RIGHTS, scope=scope, host_id=host, narrowed=True)

    def ordered(self, kind: OrderKind = OrderKind.BACKUP, **terms: Any) -> AgentOrder:
        """An order with a running task behind it."""
        with self.service.ground.catalog.write() as tx:
            task = tx.tasks.add(
                Task(
                    kind=remote.BACKUP, state=TaskState.RUNNING, host_id=self.agent.host_id,
                    created=1, due=1,
                )
            )  # fmt: skip
            return tx.agent_orders.add(
                AgentOrder(
                    agent_id=self.agent.id, task_id=task.id, kind=kind, terms=terms,
                    spec={"tags": ["holdfast:backup=u"]}, created=1, touched=1,
                )
            )  # fmt: skip

    def repository(self) -> Any:
        """Its own, whose key the server has, opened as over /restic/."""
        with self.service.ground.catalog.read() as tx:
            pool = tx.pools.find(name="main")
            host = tx.hosts.get(self.agent.host_id or 0)
        assert pool is not None
        self.service.pools.repository_for(pool, host, custody=Custody.SERVER)
        return self.service.storing.open(self.principal, "main", f"{host.name}+server")

    def sealed(self, **changes: Any) -> tuple[str, bytes]:
        """A snapshot as an agent would store it."""
        moment = "2026-01-01T00:00:00Z"
        summary = Summary(moment, moment, total_bytes_processed=10, total_files_processed=1)
        file = SnapshotFile(
            time=moment, tree=TREE, paths=["/x"], hostname="web",
            tags=["holdfast:backup=u"], summary=summary,
        )  # fmt: skip
        for name, value in changes.items():
            setattr(file, name, value)
        opened = self.service.pools.repository(self.repository().record)
        return opened.objects._sealed(FileKind.SNAPSHOT, json.dumps(_plain(file)).encode())


def _plain(file: SnapshotFile) -> Any:
    import msgspec

    return msgspec.to_builtins(file)


def said(about: AgentOrder, name: str, **changes: Any) -> Announcement:
    values: dict[str, Any] = {
        "order": f"{about.id}.{about.issue}", "snapshot": name, "tree": TREE, "files": 1,
        "bytes": 10,
    }  # fmt: skip
    return Announcement(**values | changes)


def terms(service: Service, machine: Machine) -> dict[str, Any]:
    record = machine.repository().record
    with service.ground.catalog.write() as tx:
        pool = tx.pools.find(name="main")
        assert pool is not None
        wanted = remote.Wanted(agent="web", resource="/x", pool="main")
        host = tx.hosts.get(machine.agent.host_id or 0)
        target = service.remote._target(tx, wanted, pool, host)
    return {
        "uid": "u", "name": "n", "target_id": target.id, "made": str(Made.FULL),
        "parent_id": None, "manual": True, "facts": {}, "repository_id": record.id,
    }  # fmt: skip


# --- who comes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["", "hfa-", "hfa-" + "0" * 63, "bakch-" + "0" * 64])
def test_no_secret_no_agent(service: Service, secret: str) -> None:
    """Nothing is entered for whoever does not come with the secret of an agent."""
    with pytest.raises(NotSignedInError):
        service.agent_desk.enrol(Secret(secret), Hello(name="web"), "192.0.2.1")
    with pytest.raises(NotSignedInError):
        service.agent_desk.known(new_secret())
    assert service.agents.list(SHELL) == []


@pytest.mark.parametrize("name", ["", "a/b", "-x", "a" * 300, "web+server", "..", "a b"])
def test_names_that_cannot_be(service: Service, name: str) -> None:
    """A name becomes a folder of the pool: it is one as in the DNS."""
    with pytest.raises(InvalidError):
        service.agent_desk.enrol(new_secret(), Hello(name=name), "192.0.2.1")


def test_a_crowd_is_told_to_come_again(service: Service) -> None:
    """Nobody fills the catalog with agents that nobody wants; those from elsewhere still come."""
    for _ in range(100):
        Machine(service, authorised=False)
    with pytest.raises(BusyError):
        Machine(service, authorised=False)
    service.agent_desk.enrol(new_secret(), Hello(name="far"), "192.0.2.2")


def test_what_it_says_of_itself_is_plain(service: Service) -> None:
    """Control characters and novels do not reach a terminal."""
    hello = Hello(name="web", os="\x1b[2J" + "x" * 1000, version="1\n2", modules=["a" * 999] * 999)
    agent, _ = service.agent_desk.enrol(new_secret(), hello, "192.0.2.1")
    assert agent.os.isprintable()
    assert len(agent.os) <= 200
    assert len(agent.modules) <= 100


def test_a_taken_name_gives_no_backups(service: Service) -> None:
    """Who calls itself as another host does, gets a host of its own, until a person says so."""
    first, second = Machine(service), Machine(service)
    assert first.agent.host_id != second.agent.host_id
    with pytest.raises(StateError):
        service.agents.authorise(SHELL, second.agent.hwid, host="web")
    service.agents.withdraw(SHELL, first.agent.hwid)
    service.agents.withdraw(SHELL, second.agent.hwid)
    host = first.agent.host_id
    service.agents.authorise(SHELL, second.agent.hwid, host="web")
    assert second.agent.host_id == host
    assert first.agent.host_id is None


def test_a_withdrawn_agent_reaches_nothing(service: Service) -> None:
    """Neither its orders nor its repository; a new authorisation finds the same host."""
    machine = Machine(service)
    host = machine.agent.host_id
    name = service.hosts.list(SHELL)[0].name
    service.signing_in.host(name, machine.secret, "192.0.2.1")
    service.agents.withdraw(SHELL, machine.agent.hwid)
    with pytest.raises(NotSignedInError):
        service.signing_in.host(name, machine.secret, "192.0.2.1")
    assert machine.agent.id not in service.agent_desk.live().authorised
    service.agents.authorise(SHELL, machine.agent.hwid)
    assert machine.agent.host_id == host


def test_busy_agents_stay_authorised(service: Service) -> None:
    """While tasks of it are not over, and an authorised one is not forgotten."""
    machine = Machine(service)
    machine.ordered()
    for act in (service.agents.withdraw, service.agents.forget):
        with pytest.raises(StateError):
            act(SHELL, machine.agent.hwid)


# --- orders ---------------------------------------------------------------------------------------


def test_orders_are_given_until_they_are_held(service: Service) -> None:
    """An answer that got lost, or an agent that lost its journal, costs nothing; what an agent has
    and nobody knows is void.
    """
    machine = Machine(service)
    order = machine.ordered()
    name = f"{order.id}.{order.issue}"
    live = service.agent_desk.live()
    assert live.due(machine.agent.id, []) == ([name], {})
    assert live.due(machine.agent.id, [name]) == ([], {})
    assert live.due(machine.agent.id, [name, "99.1"]) == ([], {"99.1": Wish.VOID})
    assert [each.name for each in machine.desk.orders(machine.agent, [name])] == [name]


@pytest.mark.parametrize(
    ("change", "wish"),
    [
        ({"wanted": Wanted.PAUSED}, Wish.PAUSED),
        ({"wanted": Wanted.KILLED}, Wish.VOID),
        ({"state": TaskState.CANCELLED}, Wish.VOID),
        ({"state": TaskState.QUEUED}, Wish.RUN),
    ],
)
def test_wishes_reach_the_agent(service: Service, change: dict[str, Any], wish: Wish) -> None:
    """By its poll and by the answer to its report."""
    machine = Machine(service)
    order = machine.ordered()
    with service.ground.catalog.write() as tx:
        tx.tasks.change(order.task_id or 0, **change)
    name = f"{order.id}.{order.issue}"
    assert service.agent_desk.live().orders[machine.agent.id][name] is wish
    report = Report(order=name, number=1, state=OrderState.RUNNING)
    assert machine.desk.report(machine.agent, report) is wish


def test_another_agents_order_is_not_heard(service: Service) -> None:
    """Nor one of an older issue, nor one that never was."""
    machine, other = Machine(service), Machine(service, "other")
    order = machine.ordered()
    for agent, name in (
        (other.agent, f"{order.id}.{order.issue}"),
        (machine.agent, f"{order.id}.{order.issue + 1}"),
        (machine.agent, "77.1"),
    ):
        report = Report(order=name, number=1, state=OrderState.DONE)
        assert machine.desk.report(agent, report) is Wish.VOID
        assert machine.desk.announce(agent, said(order, TREE, order=name)) is Wish.VOID
        with pytest.raises(RecordNotFoundError):
            machine.desk.key(agent, name, "192.0.2.1")
    with service.ground.catalog.read() as tx:
        assert tx.agent_orders.get(order.id) == order


def test_a_report_that_comes_twice_is_heard_once(service: Service) -> None:
    """And nothing is heard after the last word."""
    machine = Machine(service)
    order = machine.ordered()
    name = f"{order.id}.{order.issue}"
    report = Report(order=name, number=1, state=OrderState.DONE, lines=[("odd", "a\x1bb")])
    for number in (1, 1, 2):
        machine.desk.report(machine.agent, replace(report, number=number))
    lines = service.agents.log(SHELL, task_id=order.task_id)
    assert [(each.level, each.text) for each in lines] == [("info", "a\N{REPLACEMENT CHARACTER}b")]


@pytest.mark.parametrize(
    "bad",
    [
        {"order": "x"},
        {"order": "1"},
        {"order": "1." + "9" * 40},
        {"number": 0},
        {"lines": [("info", "x")] * 2000},
        {"progress": {"x": "y" * 20_000}},
        {"outcome": {"x": "y" * (5 << 20)}},
    ],
)
def test_reports_that_cannot_be(service: Service, bad: dict[str, Any]) -> None:
    """They are refused, and nothing is taken down."""
    machine = Machine(service)
    order = machine.ordered()
    good: dict[str, Any] = {
        "order": f"{order.id}.{order.issue}", "number": 1, "state": OrderState.DONE,
    }  # fmt: skip
    with pytest.raises(InvalidError):
        machine.desk.report(machine.agent, Report(**good | bad))
    with service.ground.catalog.read() as tx:
        assert tx.agent_orders.get(order.id) == order


# --- snapshots ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        {"snapshot": "../" * 21 + "x"}, {"snapshot": "AB" * 32}, {"tree": ""}, {"bytes": -1},
        {"files": -1}, {"bytes": 1 << 63}, {"problems": -1}, {"stored": -5},
    ],
)  # fmt: skip
def test_announcements_that_cannot_be(service: Service, bad: dict[str, Any]) -> None:
    """Names are digests, sizes are sizes."""
    machine = Machine(service)
    order = machine.ordered()
    with pytest.raises(InvalidError):
        machine.desk.announce(machine.agent, said(order, TREE, **bad))


def test_an_announced_snapshot_is_the_backup_that_was_ordered(service: Service) -> None:
    """I1: with its target, its name, its size, and dated by this server."""
    machine = Machine(service)
    order = machine.ordered(**terms(service, machine))
    name, content = machine.sealed()
    assert machine.desk.announce(machine.agent, said(order, name)) is Wish.RUN
    machine.repository().put(FileKind.SNAPSHOT, name, content)
    [backup] = service.backups.list(SHELL)
    assert (backup.uid, backup.name, backup.size, backup.snapshot) == ("u", "n", 10, name)


@pytest.mark.parametrize(
    ("snapshot", "announced"),
    [
        ({}, {"bytes": 11}),
        ({}, {"files": 2}),
        ({}, {"tree": "cd" * 32}),
        ({"hostname": "other"}, {}),
        ({"tags": ["holdfast:backup=v"]}, {}),
        ({"summary": None}, {}),
    ],
)
def test_a_snapshot_that_is_another_is_refused(
    service: Service, snapshot: dict[str, Any], announced: dict[str, Any]
) -> None:
    """Sizes, tree, host, purpose: nothing is stored of one that is not what was said."""
    machine = Machine(service)
    order = machine.ordered(**terms(service, machine))
    name, content = machine.sealed(**snapshot)
    machine.desk.announce(machine.agent, said(order, name, **announced))
    repository = machine.repository()
    with pytest.raises(DamagedError):
        repository.put(FileKind.SNAPSHOT, name, content)
    assert repository.list(FileKind.SNAPSHOT) == []
    assert service.backups.list(SHELL) == []


def test_a_killed_task_takes_no_snapshot(service: Service) -> None:
    """I8: what was killed has no backup."""
    machine = Machine(service)
    order = machine.ordered(**terms(service, machine))
    name, content = machine.sealed()
    machine.desk.announce(machine.agent, said(order, name))
    with service.ground.catalog.write() as tx:
        tx.tasks.change(order.task_id or 0, wanted=Wanted.KILLED)
    repository = machine.repository()
    with pytest.raises(StateError):
        repository.put(FileKind.SNAPSHOT, name, content)
    assert repository.list(FileKind.SNAPSHOT) == []


def test_a_host_that_is_full(service: Service) -> None:
    """What a host may keep is looked at before its snapshot is taken."""
    machine = Machine(service)
    service.agents.change(SHELL, machine.agent.hwid, capacity=9)
    order = machine.ordered(**terms(service, machine))
    name, content = machine.sealed()
    machine.desk.announce(machine.agent, said(order, name))
    with pytest.raises(QuotaError):
        machine.repository().put(FileKind.SNAPSHOT, name, content)


# --- other hosts' repositories --------------------------------------------------------------------


def test_a_repository_is_lent_for_a_restore_only(service: Service) -> None:
    """To whoever has the order, for as long as it is wanted, and to be read only."""
    owner, guest = Machine(service), Machine(service, "guest")
    record = owner.repository().record
    with pytest.raises(DeniedError):
        service.storing.open(guest.principal, "main", "web+server")
    order = guest.ordered(OrderKind.RESTORE, repository_id=record.id)
    lent = service.storing.open(guest.principal, "main", "web+server")
    lent.list(FileKind.KEY)
    for act in (
        lambda: lent.put(FileKind.CONFIG, "config", b""),
        lambda: lent.remove(FileKind.SNAPSHOT, "0" * 64),
    ):
        with pytest.raises(DeniedError):
            act()
    assert guest.desk.key(guest.agent, f"{order.id}.1", "192.0.2.1")
    with service.ground.catalog.write() as tx:
        tx.tasks.change(order.task_id or 0, state=TaskState.SUCCEEDED)
    with pytest.raises(DeniedError):
        service.storing.open(guest.principal, "main", "web+server")


def test_the_key_is_given_where_the_server_has_it(service: Service) -> None:
    """And to the agent whose order it is about; each time with an audit record (I9)."""
    machine = Machine(service)
    with service.ground.catalog.read() as tx:
        pool, host = tx.pools.find(name="main"), tx.hosts.get(machine.agent.host_id or 0)
    assert pool is not None
    record = service.pools.repository_for(pool, host, custody=Custody.CLIENT)
    order = machine.ordered(repository_id=record.id)
    with pytest.raises(DeniedError):
        machine.desk.key(machine.agent, f"{order.id}.1", "192.0.2.1")


def test_restores_that_cannot_be(service: Service) -> None:
    """A relative folder; an agent that takes none."""
    machine = Machine(service)
    order = machine.ordered(**terms(service, machine))
    name, content = machine.sealed()
    machine.desk.announce(machine.agent, said(order, name))
    machine.repository().put(FileKind.SNAPSHOT, name, content)
    [backup] = service.backups.list(SHELL)
    with pytest.raises(InvalidError):
        service.remote.restore(SHELL, backup, Back(agent="web", destination="relative"))
    service.agents.change(SHELL, "web", central_restore=False)
    with pytest.raises(StateError):
        service.remote.restore(SHELL, backup, Back(agent="web", destination="/x"))


@pytest.mark.parametrize(
    "bad",
    [
        {"module": "none"}, {"resource": "relative"}, {"pool": "none"}, {"parameters": {"x": 1}},
        {"bandwidth": {"upload": -1}}, {"bandwidth": {"upload": "much"}},
    ],
)  # fmt: skip
def test_backups_that_cannot_be(service: Service, bad: dict[str, Any]) -> None:
    """Told at once, by name, and no task is made."""
    Machine(service)
    good: dict[str, Any] = {"agent": "web", "resource": "/x", "pool": "main"}
    with pytest.raises(InvalidError):
        service.remote.back_up(SHELL, remote.Wanted(**good | bad))
    assert service.tasks.list(SHELL) == []


def test_an_agent_that_waits_gets_no_tasks(service: Service) -> None:
    """Neither tasks nor questions."""
    Machine(service, authorised=False)
    with pytest.raises(StateError):
        service.remote.back_up(SHELL, remote.Wanted(agent="web", resource="/x", pool="main"))
    with pytest.raises(StateError):
        service.remote.look(SHELL, "web", OrderKind.FILES, {"path": "/"})


def test_an_agent_that_left_is_asked_nothing(service: Service) -> None:
    """It is offline at once when it says goodbye."""
    machine = Machine(service)
    machine.desk.heard([machine.agent.id])
    assert service.agents.is_online(machine.agent)
    machine.desk.left(machine.agent)
    with pytest.raises(StateError):
        service.remote.look(SHELL, "web", OrderKind.FILES, {"path": "/"})


# --- words ----------------------------------------------------------------------------------------


def test_the_words_of_a_queue_are_the_same_in_the_database(service: Service) -> None:
    """Every state, wish and stage, as a value and as a column."""
    machine = Machine(service)
    machine.desk.left(machine.agent)
    made = []
    with service.ground.catalog.write() as tx:
        for kind in (remote.BACKUP, "verify"):
            for state in TaskState:
                for wanted in Wanted:
                    for stage in Stage:
                        for code in ("", "worker-died", "failed"):
                            task = Task(
                                kind=kind, state=state, wanted=wanted, stage=stage,
                                host_id=machine.agent.host_id, outcome={"code": code}, created=1,
                                due=1,
                            )  # fmt: skip
                            made.append(tx.tasks.add(task))
        from sqlalchemy import select

        from holdfast.catalog import tables

        column = status_column(service.ground.now())
        found = dict(tx.connection.execute(select(tables.task.c.id, column)).all())
    for task in made:
        assert found[task.id] == status_of(task, away=task.kind == remote.BACKUP), task


# --- on the agent's side --------------------------------------------------------------------------


def test_a_folder_has_one_agent(tmp_path: Path) -> None:
    """A second one is refused for as long as the first lives; secrets stay the same."""
    first = Folder.held(tmp_path / "state")
    secret = first.secret()
    with pytest.raises(StateFolderBusyError):
        Folder.held(tmp_path / "state")
    first.close()
    second = Folder.held(tmp_path / "state")
    assert second.secret() == secret
    assert hwid_of(second.secret()) == hwid_of(secret)
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "state").rglob("*")} == {0}
    second.close()


def test_a_secret_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    """Nor one that is none."""
    folder = Folder.held(tmp_path / "state")
    folder.secret()
    path = tmp_path / "state" / "secret"
    path.chmod(0o644)
    with pytest.raises(ConfigurationError):
        folder.secret()
    path.chmod(0o600)
    path.write_text("nonsense")
    with pytest.raises(ConfigurationError):
        folder.secret()
    folder.close()


@pytest.mark.parametrize(
    "url", ["http://backup.example.com:5656", "ftp://127.0.0.1", "127.0.0.1:5656", ""]
)
def test_secrets_go_over_tls(url: str) -> None:
    """Plain HTTP leaves this machine never."""
    with pytest.raises(ConfigurationError):
        Address(url=url).check()
    Address(url="http://127.0.0.1:5656").check()
    Address(url="https://backup.example.com").check()


def test_it_stays_authorised_by_name_or_number(service: Service) -> None:
    """Names may be double: then the hwid is needed."""
    one, _ = Machine(service), Machine(service)
    with pytest.raises(StateError):
        service.agents.get(SHELL, "web")
    assert service.agents.get(SHELL, one.agent.hwid).state is AgentState.AUTHORISED
    assert service.agents.get(SHELL, one.agent.id).digest == ""
    with pytest.raises(RecordNotFoundError):
        service.agents.get(SHELL, "none")
