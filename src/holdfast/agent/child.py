"""The process of one order: `python -m holdfast.agent.child REPORT`, a descriptor for messages.

Standard input brings what to do, as one line, and then stays open for as long as the agent lives:
when it ends, this process and all that it has started die. SIGTERM asks it to end in order, so that
what was sent is found the next time.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from types import FrameType

    from holdfast.agent.errand import Errand, Telling


def main() -> None:
    report = int(sys.argv[1])
    os.set_inheritable(report, False)
    line = _line()
    # None of `threading`'s own: worker processes are forked only while there is none.
    _thread.start_new_thread(_die_with_agent, ())
    from holdfast.agent.errand import Telling

    telling = Telling(report)
    telling.send({"ended": _work(line, telling)})


def _line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 65536)
        if not piece:
            sys.exit(1)
        line += piece
    return line


def _die_with_agent() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


def _work(line: bytes, telling: Telling) -> dict[str, Any]:
    from holdfast.core.errors import HoldfastError, InterruptedByUserError
    from holdfast.core.orders import OrderState

    try:
        signal.signal(signal.SIGTERM, _interrupt)
        outcome = _act(_errand(line, telling))
    except (InterruptedByUserError, KeyboardInterrupt):
        return {"state": OrderState.STOPPED, "outcome": {}}
    except HoldfastError as error:
        said = {"code": error.code, "message": error.message, "remedy": error.advice}
        return {"state": OrderState.FAILED, "outcome": said, "again": error.retryable}
    except Exception as error:  # noqa: BLE001  the outermost boundary of this process
        import traceback

        telling.line("error", "".join(traceback.format_exception(error)))
        message = f"the agent met an error that Holdfast does not know: {type(error).__name__}"
        remedy = "Earlier backups are untouched. The agent's journal has the details."
        said = {"code": "failed", "message": message, "remedy": remedy}
        return {"state": OrderState.FAILED, "outcome": said}
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return {"state": OrderState.DONE, "outcome": outcome}


def _errand(line: bytes, telling: Telling) -> Errand:
    from holdfast.agent.errand import Errand
    from holdfast.agent.folder import Folder
    from holdfast.agent.speaking import Server
    from holdfast.agent.telling_child import Task

    task = msgspec.json.decode(line, type=Task)
    folder = Folder(Path(task.folder))
    secret = folder.secret()
    return Errand(
        order=task.order,
        host=task.host,
        address=task.address,
        secret=secret,
        server=Server(task.address, secret),
        folder=folder,
        telling=telling,
    )


def _act(errand: Errand) -> dict[str, Any]:
    from holdfast.core.orders import OrderKind, OrderState

    errand.telling.progress(OrderState.RUNNING, {}, now=True)
    match errand.order.kind:
        case OrderKind.BACKUP:
            from holdfast.agent import backing_up

            return backing_up.run(errand)
        case OrderKind.RESTORE:
            from holdfast.agent import giving_back

            return giving_back.run(errand)
        case _:
            return _look(errand)


def _look(errand: Errand) -> dict[str, Any]:
    from holdfast.agent import looking
    from holdfast.core.orders import OrderKind

    match errand.order.kind:
        case OrderKind.FILES:
            return looking.files(errand.spec)
        case OrderKind.DEVICES:
            return looking.devices(errand.spec)
        case _:
            with errand.scratch() as scratch:
                return looking.resources(errand.spec, scratch)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    from holdfast.core.errors import InterruptedByUserError

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise InterruptedByUserError("the order was called off")


if __name__ == "__main__":
    main()
