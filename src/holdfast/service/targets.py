"""Targets: named series of backups with one keep rule."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, or_

from holdfast.catalog import tables
from holdfast.core.access import Verb
from holdfast.core.errors import InvalidError, RecordNotFoundError, StateError
from holdfast.core.keeping import KeepRule
from holdfast.core.records import BackupState, Face, Shape, Target
from holdfast.service.backups import VISIBLE
from holdfast.service.ground import new_uid
from holdfast.service.keeping.naming import expanded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement

    from holdfast.catalog.database import Transaction
    from holdfast.core.access import Principal
    from holdfast.core.records import Backup, Json
    from holdfast.service.backups import Backups
    from holdfast.service.ground import Ground
    from holdfast.service.pools import Pools

_ROW = tables.target.c
_LONGEST = 255
_LONGEST_TAG = 50
_UUID_LIKE = re.compile(r"[0-9a-fA-F-]{36}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNFIT = re.compile(r"[\s,\x00-\x1f\x7f]")
"""In a tag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A target as somebody wants it. `location`: as the face got it; it chooses the pool."""

    name: str
    face: Face = Face.HOLDFAST
    shape: Shape = Shape.SINGLE
    location: str = ""
    pool_id: int | None = None
    host_id: int | None = None
    name_template: str | None = None
    alias: str | None = None
    tags: Sequence[str] = ()
    deduplicate: bool = False
    keep: KeepRule = field(default_factory=KeepRule)
    source: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Text is looked for anywhere, in any case of letters; the rest must be equal. All must hold.
    None: not looked at.
    """

    name: str | None = None
    location: str | None = None
    name_template: str | None = None
    alias: str | None = None
    shape: Shape | None = None
    criteria: str | None = None
    action: str | None = None
    deduplicate: bool | None = None
    tags: Sequence[str] = ()


class Targets:
    def __init__(self, ground: Ground, pools: Pools, backups: Backups) -> None:
        self._ground = ground
        self._pools = pools
        self._backups = backups

    # --- looking ----------------------------------------------------------------------------------

    def get(self, who: Principal, reference: str | int, *, face: Face | None = None) -> Target:
        """By number, uid or alias. Raises RecordNotFoundError."""
        with self._ground.catalog.read() as tx:
            found = _find(tx, reference, face)
        if found is None:
            self._ground.allow(who, Verb.TARGET_LIST, "a target", target=-1)
            raise RecordNotFoundError(f"there is no target {reference}")
        self._ground.allow(
            who, Verb.TARGET_LIST, f"target {found.uid}", target=found.id, pool=found.pool_id
        )
        return found

    def list(
        self,
        who: Principal,
        *,
        face: Face | None = None,
        filter_: Filter | None = None,
        order: Sequence[ColumnElement[Any]] = (_ROW.name, _ROW.id),
        limit: int | None = None,
        offset: int = 0,
    ) -> Sequence[Target]:
        where = _conditions(filter_ or Filter())
        if face is not None:
            where.append(_ROW.face == face)
        with self._ground.read(who, Verb.TARGET_LIST, "targets") as tx:
            if filter_ is None or not (filter_.tags or filter_.criteria or filter_.action):
                return tx.targets.all(*where, order=order, limit=limit, offset=offset)
            found = [each for each in tx.targets.all(*where, order=order) if _fits(each, filter_)]
        return found[offset : None if limit is None else offset + limit]

    def count(self, who: Principal, *, face: Face | None = None) -> int:
        where: dict[str, Any] = {} if face is None else {"face": face}
        with self._ground.read(who, Verb.TARGET_LIST, "targets") as tx:
            return tx.targets.count(**where)

    # --- changing ---------------------------------------------------------------------------------

    def create(self, who: Principal, draft: Draft) -> Target:
        """Raises InvalidError (which names the fields), RecordExistsError (alias or template)."""
        _check(draft)
        pool_id = self._pool_of(draft)
        target = Target(
            uid=new_uid(),
            name=draft.name,
            face=draft.face,
            shape=draft.shape,
            pool_id=pool_id,
            host_id=draft.host_id,
            location=draft.location,
            name_template=draft.name_template,
            alias=draft.alias,
            tags=list(draft.tags),
            deduplicate=draft.deduplicate,
            keep=draft.keep.plain(),
            source=draft.source,
            created=self._ground.now(),
        )
        with self._ground.act(
            who, Verb.TARGET_CHANGE, f"target {target.uid}", pool=pool_id,
            detail={"created": target.name},
        ) as tx:  # fmt: skip
            _check_free(tx, target)
            return tx.targets.add(target)

    def change(self, who: Principal, target: Target, draft: Draft) -> Target:
        """Sets everything but face and shape. Backups that are there stay where they are: moving
        them to where the target now points is a task (`relocate`).
        """
        _check(replace(draft, face=target.face, shape=target.shape))
        pool_id = target.pool_id
        if draft.location != target.location:
            pool_id = self._pool_of(draft)
        changed = replace(
            target,
            name=draft.name,
            location=draft.location,
            pool_id=pool_id,
            name_template=draft.name_template,
            alias=draft.alias,
            tags=list(draft.tags),
            deduplicate=draft.deduplicate,
            keep=draft.keep.plain(),
        )
        with self._ground.act(
            who, Verb.TARGET_CHANGE, f"target {target.uid}", target=target.id, pool=pool_id,
            detail={"changed": _differences(target, changed)},
        ) as tx:  # fmt: skip
            _check_free(tx, changed)
            values = {
                name: getattr(changed, name)
                for name in ("name", "location", "name_template", "alias", "tags", "deduplicate")
            }
            tx.targets.change(target.id, pool_id=pool_id, keep=changed.keep, **values)
        return changed

    def set_source(self, who: Principal, target: Target, source: Json) -> Target:
        """What plans back up from now on."""
        with self._ground.act(
            who, Verb.TARGET_CHANGE, f"target {target.uid}", target=target.id,
            pool=target.pool_id, detail={"changed": {"source": source}},
        ) as tx:  # fmt: skip
            tx.targets.change(target.id, source=source)
        return replace(target, source=source)

    def remove(self, who: Principal, target: Target, *, files: bool) -> None:
        """With all its backups. `files` False: files of plain pools stay where they are.

        Raises:
            HeldError: a backup of it is held; nothing was deleted.
        """
        backups = self._backups.list(who, target)
        self._refuse_held(backups)
        self._ground.allow(who, Verb.TARGET_DELETE, f"target {target.uid}", target=target.id)
        self._backups.delete_all(who, backups, files=files)
        with self._ground.act(
            who, Verb.TARGET_DELETE, f"target {target.uid}", target=target.id,
            detail={"name": target.name, "files": files},
        ) as tx:  # fmt: skip
            tx.plans.remove(target_id=target.id)
            tx.uploads.remove(target_id=target.id)
            if tx.backups.count(
                tables.backup.c.state.in_([*map(str, VISIBLE), str(BackupState.GONE)]),
                target_id=target.id,
            ):
                raise StateError("a backup arrived while the target was being deleted; try again")
            tx.backups.remove(target_id=target.id, state=BackupState.FORGOTTEN)
            tx.targets.remove(id=target.id)

    def _refuse_held(self, backups: Sequence[Backup]) -> None:
        from holdfast.core.errors import HeldError

        now = self._ground.now()
        for each in backups:
            if each.hold_until is not None and each.hold_until > now:
                raise HeldError(f"backup {each.name} of it is held")

    def _pool_of(self, draft: Draft) -> int:
        if draft.pool_id is not None:
            return draft.pool_id
        plain = (
            self._pools.plain_pool_at(draft.location) if draft.location.startswith("/") else None
        )
        if plain is not None:
            return plain.id
        wanted = draft.location or self._ground.configuration.backupchan.pool
        with self._ground.catalog.read() as tx:
            named = tx.pools.find(name=wanted)
        return (named or self._pools.default()).id


def _find(tx: Transaction, reference: str | int, face: Face | None) -> Target | None:
    where: dict[str, Any] = {} if face is None else {"face": face}
    if isinstance(reference, int):
        return tx.targets.find(id=reference, **where)
    return tx.targets.find(uid=reference, **where) or tx.targets.find(alias=reference, **where)


def _conditions(filter_: Filter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [
        _ROW[name].icontains(text, autoescape=True)
        for name in ("name", "location", "name_template", "alias")
        if (text := getattr(filter_, name)) is not None
    ]
    if filter_.shape is not None:
        found.append(_ROW.shape == filter_.shape)
    if filter_.deduplicate is not None:
        found.append(_ROW.deduplicate == filter_.deduplicate)
    return found


def _fits(target: Target, filter_: Filter) -> bool:
    keep = KeepRule.of(target.keep)
    return (
        set(filter_.tags) <= set(target.tags)
        and filter_.criteria in {None, keep.criteria}
        and filter_.action in {None, keep.action}
    )


# --- rules ----------------------------------------------------------------------------------------


def _check(draft: Draft) -> None:
    """What no target may be, whatever face it comes by. Raises InvalidError with every mistake."""
    wrong: dict[str, tuple[str, str]] = {}
    if not draft.name.strip():
        wrong["name"] = ("blank", "Name must not be blank.")
    for name in ("name", "location", "name_template", "alias"):
        text = getattr(draft, name)
        if text is not None and len(text) > _LONGEST:
            wrong[name] = ("too-long", f"At most {_LONGEST} characters.")
        if text is not None and _CONTROL.search(text):
            wrong[name] = ("control", "Must not have control characters.")
    if draft.name_template is not None:
        template = draft.name_template
        if "$I" not in template and "$D" not in template:
            wrong["name_template"] = ("no-variable", "Must contain $I or $D.")
        elif "/" in template:
            wrong["name_template"] = ("slash", "Must not contain a slash.")
        elif not _fits_a_name(template):
            wrong["name_template"] = ("long-name", "Gives names of more than 255 bytes.")
    if draft.alias is not None:
        if not draft.alias.strip():
            wrong["alias"] = ("blank", "Alias must not be blank.")
        elif _UUID_LIKE.fullmatch(draft.alias):
            wrong["alias"] = ("uuid", "Alias must not look like an id.")
    if any(not tag or len(tag) > _LONGEST_TAG or _UNFIT.search(tag) for tag in draft.tags):
        wrong["tags"] = (
            "tag", f"A tag has 1 to {_LONGEST_TAG} characters and no spaces or commas.",
        )  # fmt: skip
    elif len(set(draft.tags)) != len(draft.tags):
        wrong["tags"] = ("twice", "A tag is there twice.")
    if draft.keep.value is not None and draft.keep.value < 0:
        wrong["recycle_value"] = ("negative", "Must not be negative.")
    if draft.keep.min_backups < 0:
        wrong["min_backups"] = ("negative", "Must not be negative.")
    if wrong:
        sentence = "; ".join(f"{name}: {text}" for name, (_, text) in wrong.items())
        raise InvalidError(sentence, fields=wrong)


def _fits_a_name(template: str) -> bool:
    try:
        expanded(template, uid=new_uid(), created=0, manual=True)
    except InvalidError:
        return False
    return True


def _check_free(tx: Transaction, target: Target) -> None:
    wrong = {}
    for name in ("alias", "name_template"):
        value = getattr(target, name)
        if value is None:
            continue
        if tx.targets.count(and_(_ROW[name] == value, or_(_ROW.id != target.id))):
            wrong[name] = ("taken", f"Another target has this {name.replace('_', ' ')}.")
    if wrong:
        sentence = "; ".join(text for _, text in wrong.values())
        raise InvalidError(sentence, fields=wrong)


def _differences(before: Target, after: Target) -> dict[str, Any]:
    names = ("name", "location", "name_template", "alias", "tags", "deduplicate", "keep")
    return {
        name: getattr(after, name)
        for name in names
        if getattr(before, name) != getattr(after, name)
    }
