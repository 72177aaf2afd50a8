"""A server from nothing, on real files: start, keep, prove, give back, and say where to go.

    python examples/first_server.py [FOLDER]

Makes a data folder in a temporary place with a pool, a superuser, an access URL and an API key,
starts `holdfast serve`, backs FOLDER up (this project's own source, if none is named) as a task,
proves the backup by a drill, uploads a file over the access URL and takes it back, and stays up
until Ctrl-C. With HOLDFAST_EXIT_AFTER_DEMO=1 it ends well after the proof.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64encode
from contextlib import closing
from pathlib import Path

HOLDFAST = [sys.executable, "-m", "holdfast"]
PROJECT = Path(__file__).resolve().parent.parent
PATIENCE = 120.0


class FailedError(Exception):
    """Something is not as it was promised."""


def main() -> int:
    folder = Path(sys.argv[1]).resolve() if sys.argv[1:] else PROJECT / "src"
    stay = os.environ.get("HOLDFAST_EXIT_AFTER_DEMO") != "1"
    with tempfile.TemporaryDirectory(prefix="holdfast-first-server-") as place:
        data = Path(place, "data")
        main_port, second_port = ports()
        log = Path(place, "serve.log")
        with log.open("w") as said:
            server = subprocess.Popen(
                [
                    *HOLDFAST, "serve", "--data", str(data), "--listen", f"127.0.0.1:{main_port}",
                    "--restbackup-listen", f"127.0.0.1:{second_port}",
                ],
                stderr=said,
            )  # fmt: skip
        try:
            wait_until_up(f"http://127.0.0.1:{main_port}", server, log)
            password = set_up(data, Path(place))
            url = run("account", "add", "--data", data).splitlines()[0]
            key = run("apikey", "new", "--data", data).splitlines()[-1].split()[-1]
            first_backup(data, folder)
            there_and_back(url)
            say(directions(f"http://127.0.0.1:{main_port}", url, key, password, data, stay=stay))
            if stay:
                server.wait()
        except KeyboardInterrupt:
            say("\nending")
        except (FailedError, urllib.error.URLError) as error:
            say(f"\nFAILED: {error}")
            return 1
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)
    return 0


def set_up(data: Path, place: Path) -> str:
    """A pool and a superuser, whose password is given back."""
    say("Making a pool, a superuser, an access URL and an API key.")
    password = secrets.token_urlsafe(12)
    place.joinpath("password").write_text(password)
    run("pool", "add", "--data", data, "main", data / "pool")
    run(
        "user", "add", "--data", data, "admin", "--role", "superuser",
        "--email", "admin@example.com", "--password-file", place / "password",
    )  # fmt: skip
    return password


def ports() -> tuple[int, int]:
    """The usual ones where they are free."""
    found = []
    for wanted in (5656, 5657):
        with closing(socket.socket()) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", wanted))
            except OSError:
                trial.bind(("127.0.0.1", 0))
            found.append(trial.getsockname()[1])
    return found[0], found[1]


def run(*arguments: object) -> str:
    """A command of holdfast; what it printed."""
    done = subprocess.run(
        [*HOLDFAST, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise FailedError(f"holdfast {arguments[0]} {arguments[1]}: {done.stderr.strip()}")
    return done.stdout


def wait_until_up(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    began = time.monotonic()
    while True:
        try:
            urllib.request.urlopen(f"{address}/healthz", timeout=5).read()
        except (urllib.error.URLError, ConnectionError):
            if server.poll() is not None or time.monotonic() - began > PATIENCE:
                raise FailedError(f"the server does not start: {log.read_text()}") from None
            time.sleep(0.1)
        else:
            say(f"The server is up after {time.monotonic() - began:.1f} s.")
            return


def first_backup(data: Path, folder: Path) -> None:
    """Two tasks: taking the folder in, and proving that it comes back."""
    from holdfast.core.access import SHELL, Verb
    from holdfast.core.records import Shape, TaskState
    from holdfast.core.units import format_size
    from holdfast.service.server import open_service
    from holdfast.service.targets import Draft

    with closing(open_service(data)) as service:
        target = service.targets.create(
            SHELL,
            Draft(
                name=folder.name,
                shape=Shape.MULTI,
                pool_id=service.pools.default().id,
                source={"paths": [str(folder)], "excludes": ["__pycache__"]},
            ),
        )
        for kind, verb in (("backup", Verb.BACKUP_CREATE), ("drill", Verb.BACKUP_VERIFY)):
            began = time.monotonic()
            task = service.tasks.submit(SHELL, verb, kind, target_id=target.id, priority=1)
            task = service.tasks.wait(SHELL, task.id, PATIENCE)
            if task.state is not TaskState.SUCCEEDED:
                raise FailedError(f"the task {kind} is {task.state}: {task.outcome}")
            took = time.monotonic() - began
            if kind == "backup":
                size = format_size(task.outcome["bytes"])
                stored = format_size(task.outcome["stored"])
                say(
                    f"Backed {folder} up: {task.outcome['files']} files, {size}, "
                    f"{stored} stored, in {took:.1f} s."
                )
            else:
                say(f"Proved it: restored, read again and compared, in {took:.1f} s.")


def there_and_back(url: str) -> None:
    """Through the RestBackup listener, as a client would."""
    content = secrets.token_bytes(4 << 20)
    if not ask(url, "sent.bin", content).startswith(b"Stored /sent.bin"):
        raise FailedError("the upload was not taken")
    if b"/sent.bin" not in ask(url, ""):
        raise FailedError("the upload is not listed")
    if ask(url, "sent.bin") != content:
        raise FailedError("what came back is not what was sent")
    say("Uploaded a file over an access URL, listed it and took it back: the same to the byte.")


def ask(url: str, name: str, content: bytes | None = None) -> bytes:
    """PUT where there is content, GET else; the access URL says who asks."""
    scheme, _, rest = url.partition("//")
    credentials, _, place = rest.rpartition("@")
    request = urllib.request.Request(
        f"{scheme}//{place}{name}",
        data=content,
        method="GET" if content is None else "PUT",
        headers={"Authorization": f"Basic {b64encode(credentials.encode()).decode()}"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return bytes(answer.read())


def directions(address: str, url: str, key: str, password: str, data: Path, *, stay: bool) -> str:
    lines = f"""
The server listens at {address} (Backup-chan, PocketBase and restic's protocol)
and at {url.rpartition("@")[2]} (RestBackup).

  upload   curl -T FILE {url}
  list     curl {url}
  restore  curl {url}FILE

  Backup-chan   curl -H 'Authorization: Bearer {key}' {address}/api/target
  PocketBase    superuser admin@example.com, password {password}
  shell         holdfast pool list --data {data}
"""
    end = "It stays up until Ctrl-C, and then all of it is removed." if stay else ""
    return lines + end


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
