"""Nodes and leases; conformance on both databases."""

from __future__ import annotations

import threading
import time

import pytest

from holdfast.core.errors import StateError
from holdfast.jobs import leases, nodes

LEASE = 0.15
"""Seconds; nothing below takes as long by chance: only what is awaited."""


def _join(home, name="a", place="here"):
    with home.catalog.write() as tx:
        return nodes.join(tx, name, place=place, facts={})


def _beat(home, node):
    with home.catalog.write() as tx:
        return nodes.beat(tx, node)


def _silent(home, watch):
    with home.catalog.read() as tx:
        return watch.silent(tx)


def _claim(home, node, reaper):
    with home.catalog.write() as tx:
        return nodes.claim(tx, node, reaper)


def _bury(home, node):
    with home.catalog.write() as tx:
        nodes.bury(tx, node)


def test_each_start_is_a_node_of_its_own(home):
    """Also after a graceful end: numbers are never used twice."""
    first = _join(home)
    _bury(home, first)
    second = _join(home)
    assert [first.incarnation, second.incarnation] == ["a#1", "a#2"]


def test_restart_with_the_same_lock_finds_its_earlier_start_dead_at_once(home):
    """Without waiting for a lease to end: who holds the lock knows."""
    first, second = _join(home), _join(home)
    [silent] = _silent(home, nodes.Watch(60.0))
    assert silent.incarnation == first.incarnation
    assert _claim(home, silent, second.incarnation)
    assert not _beat(home, first)


def test_name_that_lives_elsewhere_is_refused(home):
    """Two machines with one name would depose each other for ever."""
    there = _join(home, place="there")
    with pytest.raises(StateError, match="'a' lives on another machine"):
        _join(home, place="here")
    _claim(home, there, "a#0")
    assert _join(home, place="here").number == 2


def test_silent_node_is_found_after_its_lease(home):
    """By who watches it; live ones are left alone, and the first look judges nobody."""
    silent, live = _join(home, "a"), _join(home, "b")
    watch = nodes.Watch(LEASE)
    assert _silent(home, watch) == []
    time.sleep(LEASE)
    _beat(home, live)
    assert [node.id for node in _silent(home, watch)] == [silent.id]


@pytest.mark.parametrize("hours", [-1, 1])
def test_clocks_that_are_set_depose_nobody_and_hide_nobody(home, hours):
    """F17 Beats from the future or long past are signs of life like others."""
    live, dead = _join(home, "a"), _join(home, "b")
    watch = nodes.Watch(LEASE)
    _silent(home, watch)
    with home.catalog.write() as tx:
        for node in (live, dead):
            tx.nodes.change(node.id, beat=node.beat + hours * 3600 * 10**9)
    assert _silent(home, watch) == []
    time.sleep(LEASE)
    _beat(home, live)
    assert [node.id for node in _silent(home, watch)] == [dead.id]


def test_claimed_node_cannot_come_back(home):
    """Its next beat says that it was given up."""
    one, other = _join(home, "a"), _join(home, "b")
    assert _claim(home, one, other.incarnation)
    assert not _beat(home, one)
    _bury(home, one)
    assert not _beat(home, one)
    with home.catalog.read() as tx:
        assert nodes.incarnations(tx) == ["b#1"]


def test_node_that_gave_a_sign_meanwhile_is_not_claimed(home):
    """The claim holds for what was seen only."""
    one, other = _join(home, "a"), _join(home, "b")
    with home.catalog.write() as tx:
        tx.nodes.change(one.id, beat=one.beat + 1)
    assert not _claim(home, one, other.incarnation)
    assert _beat(home, one)


def test_claim_of_a_reaper_that_died_itself_goes_to_another(home):
    """At once where its own death was noticed."""
    one, other, third = _join(home, "a"), _join(home, "b"), _join(home, "c")
    watch = nodes.Watch(60.0)
    _claim(home, one, other.incarnation)
    assert _silent(home, watch) == []
    _claim(home, other, third.incarnation)
    assert [node.id for node in _silent(home, watch)] == [one.id]


def test_many_reapers_claim_each_dead_node_once(either_home):
    """At the same time."""
    home = either_home
    dead = [_join(home, f"dead{number}") for number in range(30)]
    claimed, together = [], threading.Barrier(4)

    def reap(number):
        together.wait()
        claimed.extend(node.id for node in dead if _claim(home, node, f"reaper{number}#1"))

    threads = [threading.Thread(target=reap, args=(number,)) for number in range(4)]
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


def _hold(home, node):
    with home.catalog.write() as tx:
        return leases.hold(tx, "x", node.incarnation)


def test_one_holds_a_lease_and_keeps_it(home):
    """As long as it lives."""
    one, other = _join(home, "a"), _join(home, "b")
    assert _hold(home, one)
    assert not _hold(home, other)
    assert _hold(home, one)


def test_lease_of_the_dead_and_one_given_back_go_to_another(home):
    """With a token that tells."""
    one, other = _join(home, "a"), _join(home, "b")
    assert _hold(home, one)
    _claim(home, one, other.incarnation)
    assert _hold(home, other)
    with home.catalog.write() as tx:
        leases.release(tx, "x", other.incarnation)
    third = _join(home, "c")
    assert _hold(home, third)
    assert not _hold(home, other)
    with home.catalog.read() as tx:
        assert tx.leases.find(name="x").token == 3


def test_first_lease_of_all_has_one_holder(either_home):
    """When all ask at once for one that was never there."""
    home = either_home
    asking = [_join(home, f"n{number}") for number in range(6)]
    held, together = [], threading.Barrier(6)

    def ask(node):
        together.wait()
        held.append(_hold(home, node))

    threads = [threading.Thread(target=ask, args=(node,)) for node in asking]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(held) == 5 * [False] + [True]
