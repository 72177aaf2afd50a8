"""Targets: what they may be, and what becomes of their backups."""

from __future__ import annotations

import pytest

from holdfast.core.access import SHELL
from holdfast.core.errors import InvalidError, RecordNotFoundError
from holdfast.core.keeping import Action, Criteria, KeepRule
from holdfast.core.records import Face, PoolKind, Shape
from holdfast.service.targets import Draft, Filter


def draft(**values):
    return Draft(**({"name": "t", "name_template": "t-$I"} | values))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", " "), ("name", "x" * 256), ("name", "a\nb"), ("name_template", "none"),
        ("name_template", "a/$I"), ("alias", ""), ("alias", "0" * 36), ("tags", ["a b"]),
        ("tags", ["a", "a"]), ("tags", [""]), ("tags", ["x" * 51]), ("location", "a\0b"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(service, field, value):
    """And nothing is made of it."""
    with pytest.raises(InvalidError) as caught:
        service.targets.create(SHELL, draft(**{field: value}))
    assert field in caught.value.fields
    assert service.targets.list(SHELL) == []


def test_alias_and_template_are_unique(service):
    """Across all targets; the target itself may keep its own."""
    first = service.targets.create(SHELL, draft(alias="a"))
    for values in ({"alias": "a", "name_template": "u-$I"}, {"alias": "b"}):
        with pytest.raises(InvalidError):
            service.targets.create(SHELL, draft(**values))
    assert service.targets.change(SHELL, first, draft(alias="a", name="new")).name == "new"


def test_a_target_is_found_by_each_of_its_names(service):
    made = service.targets.create(SHELL, draft(alias="a", face=Face.BACKUPCHAN))
    for reference in (made.id, made.uid, "a"):
        assert service.targets.get(SHELL, reference, face=Face.BACKUPCHAN) == made
    with pytest.raises(RecordNotFoundError):
        service.targets.get(SHELL, "a", face=Face.RESTBACKUP)


def test_a_location_chooses_the_pool(service, tmp_path):
    """A folder below a root is a plain pool, the name of a pool that pool, all else the first."""
    folder = service.targets.create(SHELL, draft(location=str(tmp_path / "here")))
    named = service.targets.create(SHELL, draft(location="plain", name_template="b-$I"))
    other = service.targets.create(SHELL, draft(location="/var/x", name_template="c-$I"))
    with service.ground.catalog.read() as tx:
        pools = {each.id: each for each in tx.pools.all()}
    assert pools[folder.pool_id].kind is PoolKind.PLAIN
    assert pools[folder.pool_id].locations == [str(tmp_path / "here")]
    assert pools[named.pool_id].name == "plain"
    assert pools[other.pool_id].name == "main"


def test_search_needs_all_to_hold(service):
    one = service.targets.create(
        SHELL,
        draft(
            name="Alpha_1", tags=["x", "y"], keep=KeepRule(Criteria.AGE, 3, Action.DELETE),
            shape=Shape.MULTI, deduplicate=True,
        ),
    )  # fmt: skip
    service.targets.create(SHELL, draft(name="Beta", name_template="b-$I", tags=["x"]))

    def found(**values):
        return [each.id for each in service.targets.list(SHELL, filter_=Filter(**values))]

    assert found(name="alpha") == [one.id]
    assert found(name="a_1") == [one.id]
    assert found(name="a%1") == []
    assert found(tags=["x", "y"]) == [one.id]
    assert len(found(tags=["x"])) == 2
    assert found(criteria="age", action="delete", shape=Shape.MULTI, deduplicate=True) == [one.id]
    assert found(criteria="age", deduplicate=False) == []


def test_removing_takes_all_with_it(service, make_target, put):
    target = make_target(alias="z")
    put(target)
    service.targets.remove(SHELL, target, files=True)
    assert service.backups.list(SHELL) == []
    with pytest.raises(RecordNotFoundError):
        service.targets.get(SHELL, "z")


def test_a_new_template_moves_files_of_a_plain_pool(service, make_target, put, pool, content):
    target = make_target()
    backup = put(target, b"data", name="a.txt")
    changed = service.targets.change(
        SHELL, target, draft(name="t", name_template="new-$I", location=target.location)
    )
    service.backups.rename(SHELL, backup, changed)
    moved = service.backups.get(SHELL, backup.uid)
    assert content(moved) == b"data"
    if pool.name == "plain":
        assert moved.path.endswith(f"new-{backup.uid}.txt")
