"""Polls that are held: one look serves all, and nobody is kept when the process ends."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.core.errors import ClosedError
from holdfast.core.orders import Order, OrderKind, Poll, Wish
from holdfast.core.records import Agent, AgentState
from holdfast.service.agent_desk import Live
from holdfast.web.dialects.agent import Polls


class Desk:
    """What a catalog says, and how often it was asked."""

    def __init__(self) -> None:
        self.now = Live(authorised=frozenset({1, 2}))
        self.looks = 0

    def live(self) -> Live:
        self.looks += 1
        return self.now

    def heard(self, ids: Any) -> None:
        pass

    def orders(self, agent: Agent, names: list[str]) -> list[Order]:
        del agent
        return [Order(id=int(each.partition(".")[0]), issue=1, kind=OrderKind.FILES, spec={})
                for each in names]  # fmt: skip


def agent(number: int) -> Agent:
    return Agent(id=number, hwid="", name="a", digest="", state=AgentState.AUTHORISED)


def polls(desk: Desk) -> Polls:
    service: Any = SimpleNamespace(agent_desk=desk)
    return Polls(service)


def test_one_look_serves_all() -> None:
    """However many are held; each hears what is for it, at once."""

    async def run() -> None:
        desk = Desk()
        held = polls(desk)
        first = asyncio.create_task(held.wait(agent(1), Poll(wait=20)))
        others = [asyncio.create_task(held.wait(agent(2), Poll(wait=20))) for _ in range(200)]
        await asyncio.sleep(0.6)
        assert desk.looks < 10
        desk.now = Live(desk.now.authorised, {1: {"5.1": Wish.RUN}})
        assert [each.id for each in (await first).orders] == [5]
        assert not any(each.done() for each in others)
        held.end()
        ended = await asyncio.gather(*others, return_exceptions=True)
        assert all(isinstance(each, ClosedError) for each in ended)

    asyncio.run(run())


def test_who_does_not_wait_is_answered() -> None:
    """Also before anybody has looked; and nobody is held once the process ends."""

    async def run() -> None:
        held = polls(Desk())
        due = await held.wait(agent(1), Poll(held=["7.1"], wait=0))
        assert (due.authorised, due.wishes) == (True, {"7.1": Wish.VOID})
        held.end()
        with pytest.raises(ClosedError):
            await held.wait(agent(1), Poll(wait=20))

    asyncio.run(run())
