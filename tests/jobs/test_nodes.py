"""Nodes and leases; conformance on both databases."""

from __future__ import annotations

import threading
import time

import pytest

from holdfast.jobs import leases, nodes

LEASE = 60_000_000_000


def _join(home, name="a", place="here"):
    with home.catalog.write() as tx:
        return nodes.join(tx, name, place=place, lease=LEASE, facts={})


def _beat(home, node):
    with home.catalog.write() as tx:
        return nodes.beat(tx, node)


def _claim(home, mine):
    with home.catalog.write() as tx:
        return nodes.claim_dead(tx, mine, lease=LEASE)


def _bury(home, node):
    with home.catalog.write() as tx:
        nodes.bury(tx, node)


def _fall_silent(home, *silent):
    with home.catalog.write() as tx:
        for node in silent:
            tx.nodes.change(node.id, beat=tx.now() - LEASE - 1_000_000)


def test_each_start_is_a_node_of_its_own(home):
    """Also after a graceful end: numbers are never used twice."""
    first = _join(home)
    _bury(home, first)
    second = _join(home)
    assert [first.incarnation, second.incarnation] == ["a#1", "a#2"]


def test_restart_with_the_same_lock_finds_its_earlier_start_dead_at_once(home):
    """Without waiting for a lease to end: who holds the lock knows."""
    first, second = _join(home), _join(home)
    assert _claim(home, second).incarnation == first.incarnation
    assert not _beat(home, first)


def test_name_that_lives_elsewhere_is_refused(home):
    """Two machines with one name would depose each other for ever."""
    there = _join(home, place="there")
    with pytest.raises(nodes.OtherMachineError, match="'a' lives on another machine"):
        _join(home, place="here")
    _fall_silent(home, there)
    assert _join(home, place="here").number == 2


def test_live_nodes_are_left_alone(home):
    """Theirs is theirs."""
    one, other = _join(home, "a"), _join(home, "b")
    assert _beat(home, one)
    assert _claim(home, other) is None


def test_silent_node_is_claimed_once_and_cannot_come_back(home):
    """Its next beat says that it was given up."""
    one, other, third = _join(home, "a"), _join(home, "b"), _join(home, "c")
    _fall_silent(home, one)
    assert _claim(home, other).id == one.id
    assert _claim(home, third) is None
    assert not _beat(home, one)
    _bury(home, one)
    assert not _beat(home, one)
    with home.catalog.read() as tx:
        assert nodes.incarnations(tx) == ["b#1", "c#1"]


def test_claim_of_a_reaper_that_died_itself_goes_to_another(home):
    """After a time."""
    one, other, third = _join(home, "a"), _join(home, "b"), _join(home, "c")
    _fall_silent(home, one)
    _claim(home, other)
    with home.catalog.write() as tx:
        tx.nodes.change(one.id, reap_until=tx.now() - 1)
    assert _claim(home, third).id == one.id


def test_many_reapers_claim_each_dead_node_once(either_home):
    """At the same time."""
    home = either_home
    dead = [_join(home, f"dead{number}") for number in range(30)]
    reapers = [_join(home, f"reaper{number}") for number in range(4)]
    _fall_silent(home, *dead)
    claimed, together = [], threading.Barrier(4)

    def reap(mine):
        together.wait()
        while node := _claim(home, mine):
            claimed.append(node.id)

    threads = [threading.Thread(target=reap, args=(mine,)) for mine in reapers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(node.id for node in dead)


def test_old_nodes_go_but_the_newest_of_a_name(home):
    """So that its number goes on."""
    for _ in range(3):
        _bury(home, _join(home))
    live = _join(home, "b")
    with home.catalog.write() as tx:
        assert nodes.forget(tx, tx.now() + 1) == 2
        assert [node.incarnation for node in tx.nodes.all()] == ["a#3", live.incarnation]
    assert _join(home).number == 4


# --- leases ---------------------------------------------------------------------------------------


def _hold(home, holder, seconds=60.0):
    with home.catalog.write() as tx:
        return leases.hold(tx, "x", holder, seconds=seconds)


def test_one_holds_a_lease_and_keeps_it(home):
    """As long as it renews it."""
    assert _hold(home, "a")
    assert not _hold(home, "b")
    assert _hold(home, "a")


def test_lease_that_ended_or_was_given_back_goes_to_another(home):
    """With a token that tells."""
    assert _hold(home, "a", 0.05)
    time.sleep(0.1)
    assert _hold(home, "b")
    assert not _hold(home, "a")
    with home.catalog.write() as tx:
        leases.release(tx, "x", "b")
    assert _hold(home, "a")
    with home.catalog.read() as tx:
        assert tx.leases.find(name="x").token == 3


def test_first_lease_of_all_has_one_holder(either_home):
    """When all ask at once for one that was never there."""
    home = either_home
    held, together = [], threading.Barrier(6)

    def ask(number):
        together.wait()
        held.append(_hold(home, f"node#{number}"))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(held) == 5 * [False] + [True]
