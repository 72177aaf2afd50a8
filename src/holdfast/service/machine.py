"""The machine that a process runs on, and its place among the media servers."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.catalog.journal import note
from holdfast.core.records import Area, MediaServer

if TYPE_CHECKING:
    from holdfast.catalog.database import Transaction
    from holdfast.service.ground import Ground

_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")


def host_name() -> str:
    return socket.gethostname()


def hwid() -> str:
    """16 hexadecimal digits that stay with this machine, and tell nothing else of it."""
    for path in _IDS:
        try:
            told = Path(path).read_text("ascii").strip()
        except OSError:
            continue
        if told:
            return hashlib.sha256(f"holdfast {told}".encode()).hexdigest()[:16]
    return hashlib.sha256(f"holdfast {host_name()}".encode()).hexdigest()[:16]


def announce(ground: Ground, text: str) -> None:
    """Says in the catalog that this machine serves it, and in the journal what it does."""
    now = ground.now()
    name = host_name()
    with ground.catalog.write() as tx:
        _enlist(tx, name, now)
        note(tx, Area.MEDIA_SERVERS, now, text, host=name)


def _enlist(tx: Transaction, name: str, now: int) -> None:
    """A machine that was renamed keeps its row; so does one whose identity changed, as machines do
    that are cloned.
    """
    own = hwid()
    found = tx.media_servers.find(hwid=own) or tx.media_servers.find(name=name)
    if found is None:
        main = tx.media_servers.count(main=True) == 0
        tx.media_servers.add(MediaServer(name=name, hwid=own, main=main, created=now, seen=now))
        return
    other = tx.media_servers.find(name=name)
    kept = name if other is None or other.id == found.id else found.name
    tx.media_servers.change(found.id, name=kept, hwid=own, seen=now)
