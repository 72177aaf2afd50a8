"""The server's own state as one document: what a self-backup keeps and a restore brings back.

A restore adds and changes; it takes nothing away that happened since. Backups, the audit, tasks,
sessions, tokens and granted roles are not part of it. Users who are there keep their present
password: bringing an old one back would undo a revocation. Those who are gone come back, and every
token that was made for them before is void.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

from holdfast.core.errors import DamagedError, UnknownVersionError
from holdfast.core.records import (
    NOBODY,
    ClientGroup,
    Host,
    Plan,
    Pool,
    RepositoryRecord,
    Setting,
    Target,
    User,
    UserGroup,
)
from holdfast.service.ground import short_uid

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from holdfast.catalog.database import Transaction
    from holdfast.catalog.rows import Rows
    from holdfast.core.records import Json

VERSION: Final = 1
CATALOG_ID: Final = "catalog-id"
_PRESENT_ONLY: Final = {"generation", CATALOG_ID, "rebuilt-from", "service-mode"}
"""Settings that are about the server as it runs."""
PLACES: Final = ("hosts", "pools", "repositories")
"""The parts that tell where backups are."""
_COUNTED: Final = ("snapshots", "newest", "digest", "stored", "checked")
_CREDENTIALS: Final = ("password_hash", "token_key", "disabled")


def exported(tx: Transaction) -> Json:
    """References between rows are by name, as numbers may be others where it is restored."""
    pools = {each.id: each.name for each in tx.pools.all()}
    hosts = {each.id: each.name for each in tx.hosts.all()}
    targets = {each.id: each.uid for each in tx.targets.all()}
    groups = {each.id: each.name for each in tx.user_groups.all()}
    return {
        "version": VERSION,
        "settings": [_plain(each) for each in tx.settings.all() if each.name not in _PRESENT_ONLY],
        "client_groups": list(map(_plain, tx.client_groups.all())),
        "user_groups": list(map(_plain, tx.user_groups.all())),
        "users": [_plain(each) | {"group": groups[each.group_id]} for each in tx.users.all()],
        "hosts": list(map(_plain, tx.hosts.all())),
        "pools": list(map(_plain, tx.pools.all())),
        "repositories": [
            _plain(each) | {"pool": pools[each.pool_id], "host": hosts.get(each.host_id or 0)}
            for each in tx.repositories.all()
        ],
        "targets": [
            _plain(each) | {"pool": pools[each.pool_id], "host": hosts.get(each.host_id or 0)}
            for each in tx.targets.all()
        ],
        "plans": [
            _plain(each)
            | {"pool": pools.get(each.pool_id or 0), "target": targets.get(each.target_id or 0)}
            for each in tx.plans.all()
        ],
    }


def places(tx: Transaction) -> Json:
    """Of the same kind, and as much of it as tells where backups are. What changes with each of
    them is left out.
    """
    found = exported(tx)
    return {
        "version": VERSION,
        "hosts": [_without(each, "id", "seen", "facts") for each in found["hosts"]],
        "pools": [_without(each, "id") for each in found["pools"]],
        "repositories": [
            _without(each, "id", "pool_id", "host_id", *_COUNTED) for each in found["repositories"]
        ],
    }


def add_places(tx: Transaction, document: Json) -> None:
    """Brings those back that are not known.

    Raises:
        DamagedError: a row of it cannot be.
    """
    new = {each["name"] for each in document["pools"]} - {each.name for each in tx.pools.all()}
    pools = [each for each in document["pools"] if each["name"] in new]
    restore(tx, document | {"pools": pools}, PLACES)


def check(document: Any, parts: Collection[str] = ()) -> Json:
    """The same document. `parts`: what it must have, if not all.

    Raises:
        DamagedError: it is no such document.
        UnknownVersionError: a newer server made it.
    """
    if not isinstance(document, dict) or not isinstance(document.get("version"), int):
        raise DamagedError("the server's state in the backup cannot be read")
    if document["version"] > VERSION:
        raise UnknownVersionError("a newer Holdfast made this backup")
    for name in parts or _PARTS:
        rows = document.get(name, [] if name in _LATER else None)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DamagedError(f"the {name} in the backup cannot be read")
    return document


def restore(tx: Transaction, document: Json, parts: Collection[str] = ()) -> None:
    """Brings a checked document back, within the caller's transaction. `parts`: only these of it.

    Raises:
        DamagedError: a row of it cannot be.
    """
    try:
        for name, bring_back in _PARTS.items():
            if not parts or name in parts:
                bring_back(tx, document.get(name, []) if name in _LATER else document[name])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"the server's state in the backup cannot be used: {error}") from error


def _settings(tx: Transaction, rows: Iterable[Json]) -> None:
    for row in rows:
        if row["name"] not in _PRESENT_ONLY:
            _put(tx.settings, Setting(**_without(row, "id")), "name")


def _users(tx: Transaction, rows: Iterable[Json]) -> None:
    for row in rows:
        group = tx.user_groups.find(name=row.get("group", ""))
        values = _without(row, "id", "group", "group_id")
        user = User(**values, group_id=group.id if group else NOBODY)
        found = tx.users.find(uid=user.uid)
        if found is None:
            if tx.users.find(name=user.name) is None:
                tx.users.add(replace(user, token_key=short_uid() + short_uid() + short_uid()))
        else:
            kept = {name: getattr(found, name) for name in _CREDENTIALS}
            tx.users.change(found.id, **_without(_plain(replace(user, **kept)), "id"))


def _client_groups(tx: Transaction, rows: Iterable[Json]) -> None:
    for row in rows:
        _put(tx.client_groups, ClientGroup(**_without(row, "id")), "name")


def _user_groups(tx: Transaction, rows: Iterable[Json]) -> None:
    for row in rows:
        _put(tx.user_groups, UserGroup(**_without(row, "id")), "name")


def _hosts(tx: Transaction, rows: Iterable[Json]) -> None:
    for row in rows:
        if tx.hosts.find(name=row["name"]) is None:
            tx.hosts.add(Host(**_without(row, "id")))


def _pools(tx: Transaction, rows: Iterable[Json]) -> None:
    for row in rows:
        _put(tx.pools, Pool(**_without(row, "id")), "name")


def _repositories(tx: Transaction, rows: Iterable[Json]) -> None:
    """What is known of a repository now is newer than what the backup says of it."""
    for row in rows:
        if tx.repositories.find(location=row["location"]) is None:
            values = _without(row, "id", "pool", "host") | _references(tx, row)
            tx.repositories.add(RepositoryRecord(**values))


def _targets(tx: Transaction, rows: Iterable[Json]) -> None:
    for row in rows:
        found = tx.targets.find(uid=row["uid"])
        target = Target(**(_without(row, "id", "pool", "host") | _references(tx, row)))
        if found is None:
            tx.targets.add(target)
        else:  # where its backups are and what was proven since is not the past's to say
            tx.targets.change(found.id, **_without(_plain(target), "id", "pool_id", "proven"))


def _plans(tx: Transaction, rows: Iterable[Json]) -> None:
    for row in rows:
        target = tx.targets.find(uid=row["target"]) if row["target"] else None
        pool = tx.pools.find(name=row["pool"]) if row["pool"] else None
        values = _without(row, "id", "target", "pool")
        values |= {
            "target_id": target.id if target else None,
            "pool_id": pool.id if pool else None,
        }
        found = tx.plans.find(uid=row["uid"]) or tx.plans.find(name=row["name"])
        plan = Plan(**values)
        if found is None:
            tx.plans.add(plan)
        else:
            tx.plans.change(found.id, **_without(_plain(plan), "id", "uid"))


_PARTS: Final[dict[str, Callable[[Transaction, Iterable[Json]], None]]] = {
    "settings": _settings,
    "client_groups": _client_groups,
    "user_groups": _user_groups,
    "users": _users,
    "hosts": _hosts,
    "pools": _pools,
    "repositories": _repositories,
    "targets": _targets,
    "plans": _plans,
}
"""In the order in which they refer to one another."""
_LATER: Final = {"client_groups", "user_groups"}
"""Parts that older documents do not have."""


def _references(tx: Transaction, row: Json) -> Json:
    pool = tx.pools.find(name=row["pool"])
    host = tx.hosts.find(name=row["host"]) if row["host"] else None
    if pool is None:
        raise DamagedError(f"the backup names a pool {row['pool']!r} that it does not hold")
    return {"pool_id": pool.id, "host_id": host.id if host else None}


def _put(rows: Rows[Any], record: Any, key: str) -> None:
    found = rows.find(**{key: getattr(record, key)})
    if found is None:
        rows.add(record)
    else:
        rows.change(found.id, **_without(_plain(record), "id"))


def _plain(record: Any) -> Json:
    return {name: str(v) if hasattr(v, "value") else v for name, v in asdict(record).items()}


def _without(row: Json, *names: str) -> Json:
    return {name: value for name, value in row.items() if name not in names}
