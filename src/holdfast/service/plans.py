"""Plans: when to do what. They may be made and changed at any time; the sweep of the task engine
turns those that are due into tasks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from holdfast.core.access import Verb
from holdfast.core.errors import InvalidError, RecordNotFoundError
from holdfast.core.records import Plan, Task
from holdfast.jobs.due import next_due
from holdfast.service.ground import new_uid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.catalog.database import Transaction
    from holdfast.core.access import Principal
    from holdfast.service.ground import Ground

KINDS: Final = {
    "backup", "expire", "deduplicate", "verify", "drill", "prune", "check", "measure", "purge",
    "tripwire", "stale-uploads", "self-backup", "catalog-backup",
}  # fmt: skip
"""What a plan may do."""
HOUSEKEEPING: Final = (
    ("expire", 3600), ("deduplicate", 18000), ("stale-uploads", 3600), ("measure", 7200),
    ("purge", 43200), ("tripwire", 3600), ("verify", 86400), ("drill", 7 * 86400),
    ("prune", 86400), ("catalog-backup", 3600),
)  # fmt: skip
"""What every server does by itself, each so many seconds; each can be changed or switched off."""


class Plans:
    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def list(self, who: Principal, *, target_id: int | None = None) -> Sequence[Plan]:
        where: dict[str, Any] = {} if target_id is None else {"target_id": target_id}
        with self._ground.read(who, Verb.PLAN_LIST, "plans") as tx:
            return tx.plans.all(**where)

    def get(self, who: Principal, reference: int | str) -> Plan:
        """By number, uid or name. Raises RecordNotFoundError."""
        with self._ground.read(who, Verb.PLAN_LIST, f"plan {reference}") as tx:
            found = (
                tx.plans.find(id=reference)
                if isinstance(reference, int)
                else tx.plans.find(uid=reference) or tx.plans.find(name=reference)
            )
        if found is None:
            raise RecordNotFoundError(f"there is no plan {reference}")
        return found

    def add(self, who: Principal, plan: Plan) -> Plan:
        """Raises InvalidError: a schedule that cannot be, or a kind that nothing does."""
        plan = self._due(replace(plan, uid=plan.uid or new_uid(), created=self._ground.now()))
        with self._ground.act(who, Verb.PLAN_CHANGE, f"plan {plan.name}") as tx:
            return tx.plans.add(plan)

    def change(self, who: Principal, plan: Plan, **changes: Any) -> Plan:
        """Holds from the next sweep on."""
        changed = self._due(replace(plan, rev=plan.rev + 1, **changes))
        values = {name: getattr(changed, name) for name in (*changes, "next_at", "rev")}
        with self._ground.act(
            who, Verb.PLAN_CHANGE, f"plan {plan.name}", detail={"changed": sorted(changes)}
        ) as tx:
            if not tx.plans.change(plan.id, **values):
                raise RecordNotFoundError(f"there is no plan {plan.name}")
        return changed

    def remove(self, who: Principal, plan: Plan) -> None:
        with self._ground.act(who, Verb.PLAN_CHANGE, f"plan {plan.name}") as tx:
            tx.plans.remove(id=plan.id)

    def ensure_housekeeping(self) -> None:
        """The plans that every server has, where they are not there yet."""
        intervals = self._configured()
        with self._ground.catalog.write() as tx:
            for kind, every in HOUSEKEEPING:
                if tx.plans.find(name=kind) is None:
                    plan = Plan(
                        uid=new_uid(), name=kind, kind=kind, every=intervals.get(kind, every),
                        created=self._ground.now(),
                    )  # fmt: skip
                    tx.plans.add(self._due(plan))

    def _configured(self) -> dict[str, int]:
        chan = self._ground.configuration.backupchan
        return {
            "expire": chan.recycle_interval,
            "measure": chan.filesize_interval,
            "deduplicate": chan.deduplicate_interval,
            "stale-uploads": chan.stale_upload_interval,
            "purge": chan.purge_interval,
            "drill": self._ground.configuration.proof.drill_days * 86400,
        }

    def _due(self, plan: Plan) -> Plan:
        if plan.kind not in KINDS:
            raise InvalidError(f"nothing does {plan.kind!r}; known are {', '.join(sorted(KINDS))}")
        if not plan.enabled:
            return replace(plan, next_at=None)
        return replace(plan, next_at=next_due(plan, self._ground.now()))


def make_task(tx: Transaction, plan: Plan, moment: int) -> Task | None:
    """The task of a plan that is due; none where the one before is not over yet."""
    from holdfast.catalog import tables
    from holdfast.core.records import TaskState

    under_way = [str(state) for state in TaskState if not state.ended]
    if tx.tasks.count(tables.task.c.state.in_(under_way), plan_id=plan.id):
        return None
    return Task(
        kind=plan.kind,
        priority=plan.priority,
        pool_id=plan.pool_id,
        target_id=plan.target_id,
        plan_id=plan.id,
        actor=f"plan:{plan.name}",
        spec=plan.spec,
        created=moment,
        due=moment,
    )
