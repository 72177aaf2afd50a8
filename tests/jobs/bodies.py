"""Bodies of tasks for the tests, and the composition root that names them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from holdfast.catalog.database import Catalog
from holdfast.core.errors import PartialError, SourceMissingError
from holdfast.core.outcome import Outcome
from holdfast.core.records import Task
from holdfast.jobs.body import Composition, Ended, Kind


def compose(settings):
    kinds = {name: Kind(body=body) for name, body in _BODIES.items()}
    light = {f"light-{name}": Kind(body=body, light=True) for name, body in _BODIES.items()}
    return Composition(
        catalog=Catalog(settings["catalog"]), kinds=kinds | light, make_task=_make_task
    )


def _make_task(tx, plan, moment):
    if plan.spec.get("broken"):
        raise KeyError("a bug in whoever makes tasks")
    if plan.spec.get("nothing"):
        return None
    return Task(kind=plan.kind, priority=plan.priority, spec=plan.spec, created=tx.now(), due=0)


def nothing(run):
    return None


def note(run):
    """Appends its start and its end to a file; sleeps in between."""
    _write(run, "start")
    until = time.monotonic() + run.task.spec.get("seconds", 0)
    while time.monotonic() < until and not run.stopping:
        time.sleep(0.02)
    _write(run, "end")
    return Ended(report={"attempt": run.task.attempt})


def once(run):
    """Commits together with a line of the catalog, after a while, or when it may."""
    _write(run, "start")
    time.sleep(run.task.spec.get("seconds", 0))
    _wait_for_go(run)
    with run.catalog.write() as tx:
        run.commit(tx, Ended(report={"token": run.task.token}))
        tx.settings.add(_setting(run))
    _write(run, "committed")
    time.sleep(run.task.spec.get("after", 0))


def _wait_for_go(run):
    go = run.task.spec.get("go")
    while go and not Path(go).exists():
        time.sleep(0.02)


def _setting(run):
    from holdfast.core.records import Setting

    return Setting(name=f"effect-{run.task.id}-{run.task.token}")


def stubborn(run):
    """Does not stop when it is asked, and neither does what it has started."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    grandchild = subprocess.Popen([sys.executable, "-c", code])
    Path(run.task.spec["file"]).write_text(f"{os.getpid()} {grandchild.pid}")
    time.sleep(60)


def polite(run):
    """Stops when it is asked."""
    _write(run, f"start {os.getpid()}")
    time.sleep(60)


def partial(run):
    return Ended(outcome=Outcome.PARTIAL, message="2 files could not be read", report={"files": 7})


def partial_error(run):
    raise PartialError("3 files could not be read")


def refuse(run):
    raise SourceMissingError("/data is not there")


def bug(run):
    raise KeyError("password=hunter2")


def leave(run):
    os._exit(7)


def die(run):
    os.kill(os.getpid(), signal.SIGKILL)


def kill_node(run):
    """Kills the worker that runs it."""
    _write(run, "start")
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def talk(run):
    run.log("warning", "something is odd\nand goes on")
    sys.stdout.write("printed\n")
    sys.stdout.flush()
    sys.stderr.write("to the other\n")
    subprocess.run(["echo", "by a program"], check=True)
    for done in range(30):
        run.progress(done=done, total=100, unit="files", current=f"file {done}")
        time.sleep(run.task.spec.get("pause", 0))


def talkative(run):
    """Tells something all the time."""
    _write(run, "start")
    until = time.monotonic() + run.task.spec["seconds"]
    while time.monotonic() < until:
        run.log("info", "still here")
        run.progress(done=1)
        time.sleep(0.2)


def fenced(run):
    """Tries to write under its token, when it may."""
    _write(run, "start")
    _wait_for_go(run)
    with run.catalog.write() as tx:
        run.fence(tx)
        tx.settings.add(_setting(run))


def orphan(run):
    """Leaves a grandchild that holds what it prints to."""
    code = "import time; time.sleep(60)"
    subprocess.Popen([sys.executable, "-c", code], start_new_session=True)


def _write(run, text):
    with Path(run.task.spec["file"]).open("a") as file:
        file.write(f"{text} {run.task.id} {time.monotonic():.3f}\n")


_BODIES = {
    body.__name__: body
    for body in (
        nothing,
        note,
        once,
        stubborn,
        polite,
        partial,
        partial_error,
        refuse,
        bug,
        leave,
        die,
        kill_node,
        talk,
        talkative,
        fenced,
        orphan,
    )
}
