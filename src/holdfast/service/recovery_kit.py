"""The recovery kit: a page to print and lock away, with which everything can be brought back where
this server and its data folder are lost.

The last part holds the same for `holdfast catalog rebuild --kit`: JSON in base64, with a digest.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from holdfast.core.access import Verb
from holdfast.core.errors import DamagedError
from holdfast.core.records import Custody, PoolKind
from holdfast.core.secret import Secret
from holdfast.service import state
from holdfast.service.custody import MasterKey
from holdfast.service.pooling.places import credentials_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.core.access import Principal
    from holdfast.core.records import Json, Pool
    from holdfast.service.ground import Ground
    from holdfast.service.pools import KitEntry, Pools

_BEGIN: Final = "-----BEGIN HOLDFAST RECOVERY KIT-----"
_END: Final = "-----END HOLDFAST RECOVERY KIT-----"
_WIDTH: Final = 76
_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Kit:
    """What a rebuild takes from one."""

    master: MasterKey
    places: Json
    """see `recovery_facts`"""


def kit_text(ground: Ground, pools: Pools, who: Principal) -> Secret:
    """The whole page, up to date."""
    with ground.act(who, Verb.RECOVERY_KIT, "recovery kit") as tx:
        places = state.places(tx)
        known = tx.pools.all()
    lines = [
        *_heading(ground),
        *_master_key(ground),
        *_repositories(ground, pools.kit(), places, known),
        *_by_restic(),
        *_by_holdfast(),
        *_machine_part(ground, places),
    ]
    return Secret("\n".join(lines) + "\n")


def read_kit(text: str) -> Kit:
    """Raises DamagedError, UnknownVersionError."""
    _, begun, rest = text.partition(_BEGIN)
    body, ended, _ = rest.partition(_END)
    packed = "".join(body.split())
    digest, content = packed[:_DIGITS], packed[_DIGITS:]
    if not begun or not ended or _digest(content) != digest:
        raise DamagedError(
            "the recovery kit is damaged: its last part is not what was written",
            remedy="Nothing was changed. Take another copy of it; or write the master key that it "
            "tells into the data folder yourself, and name the pools with --pool.",
        )
    try:
        document = json.loads(base64.b64decode(content, validate=True))
        places = state.check(document["places"], state.PLACES)
        return Kit(MasterKey.of_text(document["master_key"]), places)
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise DamagedError("the recovery kit's last part cannot be read") from error


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:_DIGITS]


# --- the page -------------------------------------------------------------------------------------


def _heading(ground: Ground) -> Iterator[str]:
    made = datetime.fromtimestamp(ground.now() // 1_000_000_000, UTC)
    yield "HOLDFAST RECOVERY KIT"
    yield f"made {made:%Y-%m-%d %H:%M} UTC for the server in {ground.folder}"
    yield ""
    yield from _prose(
        "SECRET. Whoever has this page and can reach the storage reads every backup. Print it, "
        "keep it apart from the server and from the storage, and delete the file. Make a new one "
        "whenever a pool is added."
    )


def _master_key(ground: Ground) -> Iterator[str]:
    yield from _part("1. The master key")
    yield from _prose("It opens everything else that the server has sealed.")
    yield f"    {ground.master.text()}"


def _repositories(
    ground: Ground, entries: Sequence[KitEntry], places: Json, pools: Sequence[Pool]
) -> Iterator[str]:
    yield from _part("2. Where backups are")
    by_name = {pool.name: pool for pool in pools}
    for entry in entries:
        whose = f"host {entry.host}" if entry.host else "the server's own"
        yield f"  Repository of pool {entry.pool}, {whose}"
        yield f"    address          {entry.address}"
        yield f"    id               {entry.repository_uid}"
        yield f"    restic password  {entry.password.reveal()}"
        yield from _credentials(ground, by_name[entry.pool])
        yield ""
    for each in places["repositories"]:
        if each["custody"] == Custody.CLIENT:
            yield f"  Repository of pool {each['pool']}, host {each['host']}"
            yield f"    address          {each['location']}"
            yield "    its password is with that host, not with this server"
            yield ""
    for pool in pools:
        if pool.kind is PoolKind.PLAIN:
            yield f"  Plain pool {pool.name}: ordinary files, not encrypted"
            yield f"    folder           {pool.locations[0]}"
            yield ""


def _credentials(ground: Ground, pool: Pool) -> Iterator[str]:
    for name, value in sorted(credentials_of(ground, pool).items()):
        yield f"    {name.replace('_', ' '):16} {value}"


def _by_restic() -> Iterator[str]:
    yield from _part("3. Getting files back without Holdfast")
    yield from _prose(
        "Any restic from 0.14 on opens a repository of this page. It asks for the password above."
    )
    yield "    restic -r ADDRESS snapshots"
    yield "    restic -r ADDRESS ls SNAPSHOT"
    yield "    restic -r ADDRESS restore SNAPSHOT --target FOLDER"
    yield ""
    yield from _prose(
        "For s3: addresses set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY first; for rest: "
        "addresses RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD. The tags of a snapshot say "
        "which backup it is. What lies in a plain pool is copied like any file."
    )


def _by_holdfast() -> Iterator[str]:
    yield from _part("4. Making the server anew")
    yield from _prose(
        "Install Holdfast, make the storage reachable, and, with this page as a file:"
    )
    yield "    holdfast catalog rebuild --data FOLDER --kit FILE"
    yield "    holdfast serve --data FOLDER"
    yield ""
    yield from _prose(
        "With this page on paper only: write the master key of part 1 into FOLDER/master.key, and "
        "name the pools. A location is an address of part 2 without what follows the pool's own "
        "folder (/server or /hosts/...)."
    )
    yield "    mkdir -m 700 FOLDER; umask 077; cat > FOLDER/master.key"
    yield "    holdfast catalog rebuild --data FOLDER --pool NAME=LOCATION"
    yield ""
    yield from _prose(
        "Backups, targets and hosts come back from the pools, users and settings from the newest "
        "backup of the server itself. Tokens and the access URLs of accounts are in copies of the "
        "catalog only: name one with --from FILE, or make new ones."
    )


def _machine_part(ground: Ground, places: Json) -> Iterator[str]:
    yield from _part("5. The same for programs")
    document = {"master_key": ground.master.text(), "places": places}
    content = base64.b64encode(json.dumps(document, sort_keys=True).encode()).decode()
    yield _BEGIN
    yield _digest(content)
    yield from textwrap.wrap(content, 64)
    yield _END


def _part(title: str) -> Iterator[str]:
    yield from ("", title, "-" * len(title))


def _prose(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, _WIDTH)
    yield ""
