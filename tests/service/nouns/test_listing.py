"""Lists of any noun: what is filtered, sorted and cut, on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from holdfast.catalog import migrating
from holdfast.catalog.database import Catalog
from holdfast.core.errors import InvalidError
from holdfast.core.fields import Asked, Condition, iso, moment
from holdfast.core.records import Area, JournalLine, UserGroup
from holdfast.service.nouns import dictionaries, happenings, people
from holdfast.service.nouns.listing import Listing

if TYPE_CHECKING:
    from holdfast.service.nouns.describing import Noun

SECOND = 1_000_000_000
BEGAN = moment("2024-08-19T10:00:00+00:00")
NOUNS = {
    each.name: each
    for each in (people.USER, people.USER_GROUP, people.CLIENT_GROUP, people.MEDIA_SERVER)
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def catalog(request, tmp_path_factory):
    """With a journal of a hundred lines, and some of another area."""
    if request.param == "sqlite":
        url = str(tmp_path_factory.mktemp("catalog") / "catalog.db")
    else:
        url = request.getfixturevalue("postgresql_server")
        url = _database(url)
    made = Catalog(url)
    migrating.upgrade(made)
    with made.write() as tx:
        tx.journal.add_all(
            JournalLine(
                area=Area.REPOSITORY if number < 100 else Area.CLIENTS,
                at=BEGAN + number * SECOND,
                level="error" if number % 10 == 0 else "info",
                text=f"copy {number} is kept" if number % 2 else f"100% of {number}_x",
                backup_id=number if number % 3 else None,
            )
            for number in range(130)
        )
        tx.user_groups.add(UserGroup(name='With "quotes" and \\', description="x"))
    yield made
    made.close()


def _database(server):
    from sqlalchemy import create_engine, make_url, text

    address = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    engine = create_engine(address)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CREATE DATABASE listing"))
    engine.dispose()
    return address.set(database="listing").render_as_string(hide_password=False)


@pytest.fixture
def pages(catalog):
    def look(noun: Noun, *conditions, **asked):
        found = tuple(Condition(*each) for each in conditions)
        with catalog.read() as tx:
            return Listing(NOUNS).page(tx, noun, Asked(conditions=found, **asked), noun.visible([]))

    return look


LINE = happenings.REPOSITORY_LINE.__class__(
    **{
        name: getattr(happenings.REPOSITORY_LINE, name)
        for name in happenings.REPOSITORY_LINE.__dataclass_fields__
        if name != "within"
    }
)
"""Seen by everybody."""


def test_only_its_own_rows(pages):
    assert pages(LINE).total == 100


@pytest.mark.parametrize(
    ("condition", "count"),
    [
        (("level", "=", "error"), 10),
        (("level", "=", "ERROR"), 0),
        (("text", "~", "COPY"), 50),
        (("text", "~", "100%"), 50),
        (("text", "~", "_"), 50),
        (("text", "~", "%copy"), 0),
        (("backup_id", "=", "7"), 1),
        (("backup_id", "<", "10"), 6),
        (("backup_id", ">", "90"), 6),
        (("at", "<", "2024-08-19T10:00:10+00:00"), 10),
        (("at", ">", "2024-08-19T13:01:29+03:00"), 10),
        (("at", "=", "2024-08-19T10:00:05Z"), 1),
        (("text", "<", "a"), 50),
    ],
)
def test_filters_compare_in_the_type_of_the_field(pages, condition, count):
    """Numbers as numbers, times as instants, texts as texts; signs of LIKE are none."""
    found = pages(LINE, condition)
    assert (found.total, len(found.rows)) == (count, count)


def test_all_conditions_hold(pages):
    assert pages(LINE, ("level", "=", "error"), ("id", ">", "50")).total == 5


@pytest.mark.parametrize(
    ("noun", "condition"),
    [
        (LINE, ("nothing", "=", "x")),
        (LINE, ("backup_id", "=", "x")),
        (LINE, ("backup_id", "=", "9" * 30)),
        (LINE, ("backup_id", "~", "1")),
        (LINE, ("at", "<", "yesterday")),
        (LINE, ("at", "~", "2024")),
        (people.CLIENT_GROUP, ("shared", "=", "yes")),
        (people.CLIENT_GROUP, ("shared", "<", "true")),
        (people.USER, ("password", "=", "x")),
        (people.USER, ("roles", "=", "superuser")),
    ],
)
def test_what_cannot_be_compared_is_refused(pages, noun, condition):
    with pytest.raises(InvalidError) as told:
        pages(noun, condition)
    assert set(told.value.fields) == {"filter_data"}


def test_pages_are_whole(pages):
    """Put together they are the list, none twice."""
    whole = [row["id"] for row in pages(LINE, sort="level", descending=True).rows]
    cut = [
        row["id"]
        for offset in range(0, 100, 7)
        for row in pages(LINE, sort="level", descending=True, limit=7, offset=offset).rows
    ]
    assert (len(whole), cut) == (100, whole)
    assert pages(LINE, limit=7, offset=700).rows == []
    assert pages(LINE, limit=7, offset=700).total == 100


def test_an_unknown_order_is_refused(pages):
    for name in ("nothing", "area"):
        with pytest.raises(InvalidError) as told:
            pages(LINE, sort=name)
        assert set(told.value.fields) == {"sort_by"}


def test_dictionaries_are_lists_like_all_others(pages):
    found = pages(dictionaries.RESOURCE_TYPE, ("granular", "=", "true"), sort="name")
    assert [row["name"] for row in found.rows] == ["File system"]
    assert pages(dictionaries.TASK_STATUS, ("name", "~", "k")).total == 2
    assert pages(dictionaries.OS_TYPE, limit=1, offset=1).total == 4


def test_names_with_quotes_are_found(pages):
    found = pages(people.USER_GROUP, ("name", "=", 'With "quotes" and \\'))
    assert found.total == 1


@pytest.mark.parametrize("sort", ["id", "at", "level", "backup_id"])
def test_pages_come_from_an_index(catalog, sort):
    """Of one area, sorted by a column that has one: no sort of the table in memory."""
    if not catalog.embedded:
        pytest.skip("PostgreSQL decides by the size of tables")
    from sqlalchemy import event

    statements = []
    event.listen(
        catalog.engine, "before_cursor_execute",
        lambda _c, _u, text, values, *_: statements.append((text, values)),
    )  # fmt: skip
    with catalog.read() as tx:
        Listing(NOUNS).page(tx, LINE, Asked(sort=sort, limit=10, offset=20), LINE.visible([]))
        text, values = next(each for each in statements if "LIMIT" in each[0])
        plan = tx.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values).all()
    [within] = [number for number, _, _, step in plan if "SUBQUERY" in step]
    steps = [step for _, parent, _, step in plan if parent == within]
    assert len(steps) == 1, plan
    assert "USING COVERING INDEX ix_journal" in steps[0]


def test_times_are_written_with_their_zone():
    text = iso(BEGAN + 1_500_000)
    assert moment(text) == BEGAN + 1_500_000
    assert text.count(":") >= 3
