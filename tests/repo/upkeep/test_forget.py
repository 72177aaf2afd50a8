from __future__ import annotations

import json
import random
import time

import msgspec
import pytest

from holdfast.core.errors import LockLostError, UsageError
from holdfast.core.progress import Silence
from holdfast.core.retention import NEWEST, Period, Rules, decide, parse_group_by
from holdfast.repo.format.gotext import parse_time
from holdfast.repo.repository import Repository
from holdfast.repo.upkeep.forget import dated, forget, lock_to_forget, retag
from holdfast.store.contract import FileKind
from holdfast.store.directory import DirectoryStore
from holdfast.store.memory import MemoryStore


def _iso(seconds, nanoseconds, offset):
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds + offset))
    text += f".{nanoseconds:09}" if nanoseconds else ""
    sign, minutes = ("-", -offset // 60) if offset < 0 else ("+", offset // 60)
    return text + (f"{sign}{minutes // 60:02}:{minutes % 60:02}" if offset else "Z")


def _random_history(repository, rnd):
    now = int(time.time())
    for host in range(15):
        span = rnd.choice([3600 * 30, 86400 * 40, 86400 * 800, 86400 * 4000])
        for _ in range(rnd.randint(1, 20)):
            at = now - int(rnd.random() * span) + rnd.choice([0] * 20 + [86400 * 3])
            local = time.localtime(at).tm_gmtoff
            offset = rnd.choice([0, local, local, 5400, -36000])
            document = {
                "time": _iso(at, rnd.choice([0, rnd.randrange(10**9)]), offset),
                "tree": "00" * 32,
                "paths": rnd.choice([["/p"], ["/q", "/p"], ["/p", "/q"]]),
                "hostname": f"h{host}",
                "username": "u",
            }
            if rnd.random() < 0.5:
                document["tags"] = rnd.sample(["a", "b", "c"], rnd.randint(1, 3))
            repository.objects.save(FileKind.SNAPSHOT, msgspec.json.encode(document))


def _random_rules(rnd):
    fields, arguments = {}, []
    for name in ("last", "hourly", "daily", "weekly", "monthly", "yearly"):
        if rnd.random() < 0.35:
            fields[name] = rnd.randint(1, 6)
            arguments += [f"--keep-{name}", str(fields[name])]
    for name in ("within", "within_hourly", "within_daily", "within_weekly", "within_yearly"):
        period = Period(rnd.choice([0, 1, 2]), rnd.choice([0, 1, 7]), rnd.choice([0, 3, 40]), 5)
        if rnd.random() < 0.2:
            fields[name] = period
            arguments += [f"--keep-{name.replace('_', '-')}", str(period)]
    if rnd.random() < 0.3 or not fields:
        fields["tags"] = (("a", "b"), ("c",))
        arguments += ["--keep-tag", "a,b", "--keep-tag", "c"]
    return Rules(**fields), arguments


@pytest.mark.interop
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_decisions_and_reasons_are_those_of_restic(
    stock_restic, tmp_path, monkeypatch, zone, story
):
    """F46: on random histories and rules, every snapshot has restic's decision, with restic's
    reasons and counters; only the newest of a group is kept where restic would not.
    """
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    rnd = random.Random(zone)
    repository = story(DirectoryStore(tmp_path), days=1)
    _random_history(repository, rnd)
    snapshots = [dated(snapshot) for snapshot in repository.snapshots()]
    for _ in range(4):
        rules, arguments = _random_rules(rnd)
        grouping = rnd.choice(["host,paths", "host", "tags", "", "host,paths,tags"])
        answer = stock_restic(tmp_path)(
            "forget", "--dry-run", "--json", "--group-by", grouping, *arguments
        )
        theirs = {}
        for group in json.loads(answer):
            for snapshot in group["remove"] or []:
                theirs[snapshot["id"]] = (False, [], {})
            for snapshot, reason in zip(group["keep"] or [], group["reasons"] or [], strict=True):
                theirs[snapshot["id"]] = (True, reason["matches"], reason["counters"])
        for group in decide(
            snapshots, rules, now=time.time_ns(), group_by=parse_group_by(grouping)
        ):
            for decision in group.decisions:
                if decision.reasons == (NEWEST,):
                    assert not theirs[decision.snapshot.id][0]
                else:
                    ours = (decision.keep, list(decision.reasons), decision.counters)
                    assert ours == theirs[decision.snapshot.id], arguments
    monkeypatch.undo()
    time.tzset()


def test_forgetting_removes_just_those_snapshots(story, kept, silence):
    """I2: the others keep every byte, and one that is gone already is no error."""
    repository = story(MemoryStore())
    before = kept(repository)
    names = sorted(before)[:2]
    lock = lock_to_forget(repository)
    assert forget(repository, names, lock=lock, progress=silence) == names
    assert kept(repository) == {s: before[s] for s in before if s not in names}
    assert forget(repository, names, lock=lock, progress=silence) == []
    lock.release()


def test_a_lost_lock_forgets_nothing(story, silence, exclusive):
    """F16: a holder whose lock was taken away removes no snapshot."""
    repository = story(MemoryStore())
    lock = exclusive(repository)
    repository.store.remove(FileKind.LOCK, lock.id)
    names = [s.id for s in repository.snapshots()]
    with pytest.raises(LockLostError):
        forget(repository, names, lock=lock, progress=silence)
    assert len(list(repository.snapshots())) == len(names)


def test_a_killed_forget_leaves_every_other_snapshot_whole(
    story, kept, exclusive, reopen, killed_everywhere
):
    """I2, I5: dead at any change, what is left reads as before."""
    repository = story(MemoryStore(), days=3)
    before = kept(repository)

    def act(store):
        mortal = reopen(repository, store)
        forget(mortal, list(before)[:2], lock=exclusive(mortal), progress=Silence())

    for left in killed_everywhere(repository.store, act):
        after = kept(reopen(repository, left))
        assert after == {s: before[s] for s in after}
        assert list(before)[2] in after


def test_tags_are_set_added_and_removed(story, exclusive):
    """The new snapshot differs in its tags alone, and remembers the first name through all
    changes.
    """
    repository = story(MemoryStore(), days=1)
    [first] = repository.snapshots()
    lock = exclusive(repository)
    [change] = retag(repository, [first], lock=lock, add=["b", "a", "b"])
    assert change.old == first.id
    assert change.new.tags == ["b", "a"]
    assert change.new.file.original == first.id
    [change] = retag(repository, [change.new], lock=lock, add=["c"], remove=["a", "zz"])
    assert change.new.tags == ["b", "c"]
    [change] = retag(repository, [change.new], lock=lock, set_tags=[])
    assert change.new.tags == []
    assert change.new.file.original == first.id
    assert change.new.file == msgspec.structs.replace(first.file, original=first.id)
    assert [s.id for s in repository.snapshots()] == [change.new.id]
    assert retag(repository, [change.new], lock=lock, remove=["x"]) == []


def test_contradictory_tag_changes_are_refused(story):
    """Nothing to do, or both ways at once: a usage error, and nothing is changed."""
    repository = story(MemoryStore(), days=1)
    snapshots = list(repository.snapshots())
    for options in ({}, {"set_tags": ["a"], "add": ["b"]}):
        with pytest.raises(UsageError):
            retag(repository, snapshots, lock=None, **options)


def test_a_killed_retag_never_loses_the_snapshot(story, kept, exclusive, reopen, killed_everywhere):
    """I1: the new one is durable before the old one goes."""
    repository = story(MemoryStore(), days=1)
    before = list(kept(repository).values())

    def act(store):
        mortal = reopen(repository, store)
        retag(mortal, mortal.snapshots(), lock=exclusive(mortal), add=["x"])

    for left in killed_everywhere(repository.store, act):
        assert before[0] in kept(reopen(repository, left)).values()


@pytest.mark.interop
def test_restic_reads_changed_tags_and_we_its_own(stock_restic, story, tmp_path, exclusive):
    """I6: tags and `original`, both ways."""
    repository = story(DirectoryStore(tmp_path), days=1)
    [first] = repository.snapshots()
    lock = exclusive(repository)
    retag(repository, [first], lock=lock, add=["ours"])
    lock.release()
    restic = stock_restic(tmp_path)
    [seen] = json.loads(restic("snapshots", "--json"))
    assert (seen["tags"], seen["original"]) == (["ours"], first.id)
    restic("tag", "--add", "theirs")
    [snapshot] = Repository.unlocked(repository.store, repository.objects.key).snapshots()
    assert snapshot.tags == ["ours", "theirs"]
    assert snapshot.file.original == first.id


def test_the_offset_of_a_snapshot_time_is_kept(story):
    """Rules work in the zone a time is written in."""
    repository = story(MemoryStore(), days=1)
    [snapshot] = repository.snapshots()
    for text, offset in (("-05:30", -19800), ("+02:00", 7200), ("Z", 0)):
        file = msgspec.structs.replace(snapshot.file, time=f"2021-05-05T10:00:00{text}")
        at = dated(repository.save_snapshot(file))
        assert (at.offset, at.time) == (offset, parse_time(file.time))
