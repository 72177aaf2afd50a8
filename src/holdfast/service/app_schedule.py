"""When the application is backed up by itself, how many of those backups stay, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from holdfast.core.access import Verb
from holdfast.core.errors import HoldfastError, InvalidError, RecordNotFoundError
from holdfast.core.records import Plan
from holdfast.core.secret import Secret
from holdfast.jobs.due import next_due
from holdfast.service.application import BACKUP
from holdfast.service.settings import MASK

if TYPE_CHECKING:
    from holdfast.core.access import Principal
    from holdfast.core.records import Json
    from holdfast.service.application import Application
    from holdfast.service.ground import Ground
    from holdfast.service.plans import Plans
    from holdfast.service.pools import Pools
    from holdfast.service.settings import Settings

SETTING: Final = "application.backups"
PLAN: Final = "__pbAutoBackup__"
"""The name by which PocketBase's clients know the schedule."""
_S3_NEEDED: Final = ("bucket", "region", "endpoint", "accessKey", "secret")
_DEFAULT: Final[Json] = {
    "cron": "",
    "cronMaxKeep": 3,
    "s3": {
        "enabled": False, "bucket": "", "region": "", "endpoint": "", "accessKey": "",
        "secret": "", "forcePathStyle": False,
    },
}  # fmt: skip


class AppSchedule:
    def __init__(
        self,
        ground: Ground,
        settings: Settings,
        plans: Plans,
        pools: Pools,
        application: Application,
    ) -> None:
        self._ground = ground
        self._settings = settings
        self._plans = plans
        self._pools = pools
        self._application = application

    def get(self, who: Principal) -> Json:
        """`cron`, `cronMaxKeep` and `s3`; the secret in it is masked."""
        found: Json = _merged(_DEFAULT, self._settings.get(who, SETTING).value or {})
        return found

    def change(self, who: Principal, patch: Json) -> Json:
        """Merges a part into what is set.

        Raises:
            InvalidError: with every field that is wrong.
        """
        before = self.get(who)
        after = _merged(before, patch)
        _check(after)
        self._settings.set(who, SETTING, after, secrets={"s3.secret"})
        self._plan(who, after["cron"])
        if after["s3"]["enabled"] and (after["s3"] != before["s3"] or patch.get("s3")):
            self._keep_in_s3(who)
        return self.get(who)

    def run_now(self, who: Principal) -> None:
        """Raises RecordNotFoundError where nothing is scheduled."""
        plan = self._plans.get(who, PLAN)
        if not plan.enabled:
            raise RecordNotFoundError(f"there is no plan {PLAN}")
        self._application.backup_soon(who)

    def test_s3(self, who: Principal) -> None:
        """Writes, reads and removes a small object where backups would go.

        Raises:
            HoldfastError: it did not work; the message says why.
        """
        self._ground.allow(who, Verb.SETTING_CHANGE, "application backups")
        wanted = self._settings.opened(SETTING) or _DEFAULT
        if not wanted["s3"]["enabled"]:
            raise InvalidError("S3 is not enabled")
        self._pools.try_out(_address(wanted["s3"]), _credentials(wanted["s3"]))

    def _plan(self, who: Principal, cron: str) -> None:
        try:
            plan = self._plans.get(who, PLAN)
        except RecordNotFoundError:
            if cron:
                self._plans.add(who, Plan(uid="", name=PLAN, kind=BACKUP, cron=cron))
            return
        if (plan.cron, plan.enabled) != (cron, bool(cron)):
            self._plans.change(who, plan, cron=cron or plan.cron, enabled=bool(cron))

    def _keep_in_s3(self, who: Principal) -> None:
        s3 = self._settings.opened(SETTING)["s3"]
        name = f"application-{s3['bucket']}"
        address, credentials = _address(s3), _credentials(s3)
        self._pools.try_out(address, credentials)
        try:
            self._pools.named(name)
        except RecordNotFoundError:
            self._pools.add(who, name, [address], credentials=credentials)
        self._application.keep_in(who, name)


def _check(wanted: Json) -> None:
    """The codes are PocketBase's; whoever renders them finds its own words for other faces."""
    wrong: dict[str, tuple[str, str]] = {}
    cron, keep, s3 = wanted.get("cron"), wanted.get("cronMaxKeep"), wanted.get("s3")
    if not isinstance(cron, str) or (cron and not _is_cron(cron)):
        wrong["backups.cron"] = ("validation_invalid_cron", "Invalid cron expression.")
    if not isinstance(keep, int) or isinstance(keep, bool):
        wrong["backups.cronMaxKeep"] = ("validation_invalid_number", "Must be a number.")
    elif keep == 0 and cron:
        wrong["backups.cronMaxKeep"] = ("validation_required", "Cannot be blank.")
    elif keep < 0:
        wrong["backups.cronMaxKeep"] = (
            "validation_min_greater_equal_than_required", "Must be no less than 1.",
        )  # fmt: skip
    if not isinstance(s3, dict):
        wrong["backups.s3"] = ("validation_invalid", "Must be an object.")
    elif s3.get("enabled"):
        for name in _S3_NEEDED:
            if not s3.get(name):
                wrong[f"backups.s3.{name}"] = ("validation_required", "Cannot be blank.")
    if wrong:
        raise InvalidError("the settings cannot be as they are", fields=wrong)


def _is_cron(text: str) -> bool:
    try:
        return next_due(Plan(uid="", name="", kind=BACKUP, cron=text), 0) is not None
    except HoldfastError:
        return False


def _address(s3: Json) -> str:
    endpoint = str(s3["endpoint"]).rstrip("/")
    if "://" not in endpoint:
        endpoint = f"https://{endpoint}"
    return f"s3:{endpoint}/{s3['bucket']}/holdfast"


def _credentials(s3: Json) -> dict[str, str]:
    secret = s3["secret"]
    return {
        "access_key": str(s3["accessKey"]),
        "secret_key": secret.reveal() if isinstance(secret, Secret) else str(secret),
        "region": str(s3["region"]),
    }


def _merged(before: Any, patch: Any) -> Any:
    """Objects are merged, anything else replaced. A mask means: as it was."""
    if isinstance(before, dict) and isinstance(patch, dict):
        return {name: _merged(value, patch.get(name, value)) for name, value in before.items()}
    return before if patch == MASK else patch
