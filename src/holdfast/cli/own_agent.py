"""The agent of the very machine that a server is on: it finds the server by its data folder."""

import json
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.agent.speaking import Address

OWN_AGENT = "agent"
"""Its folder within the data folder."""
_LOOK_EVERY = 0.2


def own_name() -> str:
    """What this machine's agent is called: its host name, as far as hosts may be called so."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()).strip("-.") or "localhost"
    return re.sub(r"\.{2,}", ".", name)


def run_own(data: Path, say: Callable[[str], None]) -> None:
    """Until it is told to end."""
    from holdfast.agent.running import Agent

    try:
        address = _address(_listener(data), data / "tls" / "ca.pem")
        Agent(data / OWN_AGENT, address, name=own_name(), say=say).run()
    except KeyboardInterrupt:  # told to end: that is no failure
        return


def _address(listener: dict[str, str], authority: Path) -> "Address":
    """By the server's own authority, which its certificates follow; or by the one that was given to
    the server, whose names need not hold on this machine.
    """
    from holdfast.agent.speaking import Address

    url, certificate = _reachable(listener["main"]), listener.get("certificate", "")
    if certificate and Path(certificate).parent == authority.parent.absolute():
        return Address(url=url, ca=str(authority.absolute()))
    return Address(url=url, pin=certificate)


def _listener(data: Path) -> dict[str, str]:
    """Where the web process of this start listens, once it does."""
    path = data / "run" / "listeners.json"
    while True:
        try:
            found = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            found = {}
        if _lives(found.get("pid")):
            return {name: str(value) for name, value in found.items()}
        time.sleep(_LOOK_EVERY)


def _lives(pid: object) -> bool:
    return isinstance(pid, int) and Path(f"/proc/{pid}").exists()


def _reachable(url: str) -> str:
    """Who listens everywhere is reached on this machine."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
