"""When the application is backed up by itself, how many of those backups stay, and where."""

from __future__ import annotations

import re
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
_MOST: Final = 2**31 - 1
_LONGEST_CRON: Final = 1000
_LONGEST_NAME: Final = 60
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
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
        """Merges a part into what is set. Nothing is changed where a bucket cannot be used.

        Raises:
            InvalidError: with every field that is wrong.
        """
        before = self.get(who)
        after = _merged(before, patch)
        _check(after)
        in_s3 = after["s3"]["enabled"] or before["s3"]["enabled"]
        moves = in_s3 and (after["s3"] != before["s3"] or bool(patch.get("s3")))
        pool = self._bucket(who, after["s3"]) if moves and after["s3"]["enabled"] else ""
        self._settings.set(who, SETTING, after, secrets={"s3.secret"})
        self._plan(who, after["cron"])
        if moves:
            self._application.keep_in(who, pool)
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

    def _bucket(self, who: Principal, s3: Json) -> str:
        """The pool in that bucket, which is added where there is none.

        Raises:
            InvalidError: backups cannot be kept there.
        """
        if s3["secret"] == MASK:
            s3 = s3 | {"secret": self._settings.opened(SETTING)["s3"]["secret"]}
        address, credentials = _address(s3), _credentials(s3)
        try:
            self._pools.try_out(address, credentials)
        except HoldfastError as error:
            raise InvalidError(
                f"backups cannot be kept there: {error.message}",
                fields={"backups.s3.endpoint": ("validation_invalid_s3", error.message)},
            ) from error
        found = self._pools.at(address)
        if found is None:
            name = self._pools.free_name(f"application-{s3['bucket']}"[:_LONGEST_NAME])
            return self._pools.add(who, name, [address], credentials=credentials).name
        self._pools.change_credentials(who, found, credentials)
        return found.name


def _check(wanted: Json) -> None:
    """The codes are PocketBase's; whoever renders them finds its own words for other faces."""
    wrong: dict[str, tuple[str, str]] = {}
    cron, keep, s3 = wanted.get("cron"), wanted.get("cronMaxKeep"), wanted.get("s3")
    if not isinstance(cron, str) or (cron and not _is_cron(cron)):
        wrong["backups.cron"] = ("validation_invalid_cron", "Invalid cron expression.")
    if not isinstance(keep, int) or isinstance(keep, bool) or abs(keep) > _MOST:
        wrong["backups.cronMaxKeep"] = ("validation_invalid_number", "Must be a number.")
    elif keep == 0 and cron:
        wrong["backups.cronMaxKeep"] = ("validation_required", "Cannot be blank.")
    elif keep < 0:
        wrong["backups.cronMaxKeep"] = (
            "validation_min_greater_equal_than_required", "Must be no less than 1.",
        )  # fmt: skip
    if not isinstance(s3, dict):
        wrong["backups.s3"] = ("validation_invalid", "Must be an object.")
    else:
        wrong |= _wrong_in_s3(s3)
    if wrong:
        raise InvalidError("the settings cannot be as they are", fields=wrong)


def _wrong_in_s3(s3: Json) -> dict[str, tuple[str, str]]:
    wrong: dict[str, tuple[str, str]] = {}
    for name in ("enabled", "forcePathStyle"):
        if not isinstance(s3[name], bool):
            wrong[f"backups.s3.{name}"] = ("validation_invalid", "Must be true or false.")
    for name in _S3_NEEDED:
        if not isinstance(s3[name], str):
            wrong[f"backups.s3.{name}"] = ("validation_invalid", "Must be text.")
        elif s3["enabled"] and not s3[name]:
            wrong[f"backups.s3.{name}"] = ("validation_required", "Cannot be blank.")
    bucket = s3["bucket"]
    if s3["enabled"] and bucket and isinstance(bucket, str) and not _BUCKET.fullmatch(bucket):
        wrong["backups.s3.bucket"] = ("validation_match_invalid", "Must be in a valid format.")
    return wrong


def _is_cron(text: str) -> bool:
    if len(text) > _LONGEST_CRON:
        return False
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
    return patch
