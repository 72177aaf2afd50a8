"""RuBackup's global configuration: settings of the whole server, and its service mode.

Values are kept as one document among the settings. In service mode nothing new begins: plans make
no tasks and none is taken; what runs goes on to its end. Only then the configuration may change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from holdfast.core.access import Verb
from holdfast.core.errors import StateError
from holdfast.core.fields import Field, Kind, read
from holdfast.core.records import Setting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.catalog.database import Catalog, Transaction
    from holdfast.core.access import Principal
    from holdfast.service.ground import Ground

NAME: Final = "global-configuration"
SERVICE_MODE: Final = "service-mode"
_YES_NO: Final = ("yes", "no")
_YEARS: Final = 100 * 366 * 24 * 60
"""Minutes: no period is longer."""


def _minutes(name: str, default: int, meaning: str = "") -> Field:
    return Field(name=name, kind=Kind.NUMBER, default=default, most=_YEARS, meaning=meaning)


def _number(name: str, default: int, *, least: int = 0, most: int = 1 << 40) -> Field:
    return Field(name=name, kind=Kind.NUMBER, default=default, least=least, most=most)


def _choice(name: str, *choices: str) -> Field:
    """The first is the default."""
    return Field(name=name, default=choices[0], choices=choices)


def _yes(name: str) -> Field:
    return _choice(name, *_YES_NO)


def _no(name: str) -> Field:
    return _choice(name, *reversed(_YES_NO))


def _flag(name: str, *, default: bool) -> Field:
    return Field(name=name, kind=Kind.FLAG, default=default)


FIELDS: Final = (
    _number("file_transfer_block_size", 16384, least=512, most=1 << 30),
    _choice("data_spred_into_pool", "sequentially"),
    Field(
        name="emergency_storage_local_catalog", most=4096,
        default="/tmp/rubackup_emergency_storage_local_catalog",  # noqa: S108  the documented one
    ),
    _minutes("done_tasks_remove_period", 1440, "Minutes that a task stays which is done."),
    _minutes("error_tasks_remove_period", 10080, "Minutes that a task stays which has failed."),
    _minutes("broken_tasks_remove_period", 10080, "Minutes that a task stays which was lost."),
    _minutes("killed_tasks_remove_period", 10080, "Minutes that a task stays which was killed."),
    _minutes("obsoleted_backup_notification_period", 1440),
    _minutes("rule_validity_end_notification_period", 1440),
    _minutes("strategy_validity_end_notification_period", 1440),
    _number("rule_storage_capacity_reserve", 0),
    _number("strategy_storage_capacity_reserve", 0),
    _minutes("rule_storage_capacity_notification_period", 1440),
    _minutes("strategy_storage_capacity_notification_period", 1440),
    Field(name="service_window_start", kind=Kind.CLOCK, default="00:00:00"),
    Field(name="service_window_end", kind=Kind.CLOCK, default="23:59:59"),
    _number("pool_storage_capacity_reserve", 2_000_000_000, most=1 << 60),
    Field(name="tape_library_mount_point", default="/opt/rubackup/mnt", most=4096),
    _minutes("suspended_task_restart_period", 1),
    _yes("unload_tape_cartriges_whes_media_server_starts"),
    _number("ltfs_umount_timeout", 50, most=86_400),
    Field(
        name="max_system_monitoring_records", kind=Kind.NUMBER, default=3600, least=1,
        most=1_000_000, meaning="Samples of the server's load that are kept.",
    ),
    Field(
        name="monitoring_period", kind=Kind.NUMBER, default=1, least=1, most=86_400,
        meaning="Seconds between two of them.",
    ),
    _minutes("digital_signature_public_key_obsolence", 1440),
    Field(name="rb_key_hash", default="", most=256),
    _no("verify_archive_after_creation"),
    _yes("kill_task_of_offline_client"),
    _choice(
        "create_new_task_if_client_offline", "create new task", "do not create new task"
    ),
    _no("auto_delete_archive_from_broken_chain"),
    _yes("consolidating_tape_library_tasks"),
    _number("clean_tape_drives_period", 30, most=36_600),
    _no("auto_clean_tape_drives"),
    _yes("dedup_clean_unused_blocks"),
    _number("dedup_clean_period", 30, most=36_600),
    _yes("dedup_provide_common_hash_table_for_client"),
    _yes("dedup_provide_common_hash_table"),
    _yes("dedup_verify_only_meta_data"),
    _number("mandatory_storage_time", 0, most=36_600),
    _flag("clients_capacity_limits", default=False),
    _flag("global_schedule_capacity_limits", default=False),
    _flag("backup_strategies_capacity_limits", default=False),
    _flag("immutable_archives", default=True),
    _flag("delete_archives_with_zeroing", default=True),
    _flag("dont_delete_last_gs_rule_archive", default=True),
    _flag("dont_delete_last_strategy_rule_archive", default=True),
    Field(
        name="wrong_auth_attempts_count", kind=Kind.NUMBER, default=5, least=1, most=1000,
        meaning="Wrong attempts to sign in before a block.",
    ),
    Field(
        name="wrong_auth_block_period", kind=Kind.NUMBER, default=30, least=1, most=100_000,
        meaning="Minutes of the block.",
    ),
    _yes("repository_remove_chain"),
    _number("filesystems_clean_period", 30, most=36_600),
    _yes("show_previous_login_attempts_after_logging_in"),
    _flag("search_backup_in_cluster_group", default=True),
    _choice("bandwith_limit_advantage", "client", "rule"),
    _choice("bandwith_client_limit", "minimum", "maximum"),
    _choice("bandwith_rule_limit", "minimum", "maximum"),
)  # fmt: skip


class GlobalConfiguration:
    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    def get(self, who: Principal) -> dict[str, Any]:
        self.ground.scopes(who, Verb.SETTING_READ, NAME)
        with self.ground.catalog.read() as tx:
            return values_in(tx)

    def change(self, who: Principal, given: Mapping[str, Any]) -> None:
        """What is not given stays.

        Raises:
            InvalidError: by key.
            StateError: the server is not in service mode.
        """
        self.ground.allow(who, Verb.SETTING_CHANGE, NAME)
        changed = read(FIELDS, given, what="configuration", partial=True)
        detail = {"changed": sorted(changed)}
        with self.ground.act(who, Verb.SETTING_CHANGE, NAME, detail=detail) as tx:
            if not in_service_mode(tx):
                raise StateError(
                    "the configuration changes in service mode only",
                    remedy="Nothing was changed. Switch service mode on first.",
                )
            before = tx.settings.find(name=NAME)
            _put(tx, NAME, (before.value if before else {}) | changed)

    def set_service_mode(self, who: Principal, *, on: bool) -> None:
        detail = {"on": on}
        with self.ground.act(who, Verb.SETTING_CHANGE, SERVICE_MODE, detail=detail) as tx:
            _put(tx, SERVICE_MODE, on)


def values_in(tx: Transaction) -> dict[str, Any]:
    """Every value that holds at present."""
    found = tx.settings.find(name=NAME)
    return {each.name: each.default for each in FIELDS} | (found.value if found else {})


def in_service_mode(tx: Transaction) -> bool:
    found = tx.settings.find(name=SERVICE_MODE)
    return found is not None and bool(found.value)


def is_resting(catalog: Catalog) -> bool:
    """The same for those who have no transaction yet."""
    with catalog.read() as tx:
        return in_service_mode(tx)


def _put(tx: Transaction, name: str, value: Any) -> None:
    before = tx.settings.find(name=name)
    if before is None:
        tx.settings.add(Setting(name=name, value=value, rev=1))
    else:
        tx.settings.change(before.id, value=value, rev=before.rev + 1)
