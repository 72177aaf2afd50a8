"""An agent's life: enrol, wait to be authorised, ask what there is to do, see that it is done."""

from __future__ import annotations

import platform
import random
import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar

from holdfast import __version__
from holdfast.agent.attending import Attendant, Duty
from holdfast.agent.folder import Folder
from holdfast.agent.speaking import Server
from holdfast.core.errors import (
    BusyError,
    HoldfastError,
    NetworkError,
    NotSignedInError,
    TooManyGuessesError,
)
from holdfast.core.orders import HOLD, Hello, Poll, Wish
from holdfast.sources.modules import available

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from holdfast.agent.speaking import Address
    from holdfast.core.orders import Due, Order, Standing

T = TypeVar("T")
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 30.0
_PASSING: Final = (NetworkError, BusyError, TooManyGuessesError)
_FAREWELL: Final = 2.0


class Agent:
    """One agent on its folder, which it holds from the beginning.

    Raises:
        StateFolderBusyError, ConfigurationError, CertificateError
    """

    def __init__(
        self,
        folder: Path,
        address: Address,
        *,
        name: str,
        slots: int = 2,
        say: Callable[[str], None],
    ) -> None:
        self._folder = Folder.held(folder)
        self._address = address
        self._server = Server(address, self._folder.secret())
        self._hello = Hello(
            name=name,
            version=__version__,
            os=f"{platform.system()} {platform.release()}",
            modules=available(),
        )
        self._slots = threading.Semaphore(slots)
        self._say = say
        self._attendants: dict[str, Attendant] = {}
        self._guard = threading.Lock()
        self._journalled = {order.name: order for order in self._folder.orders()}
        self._said = ""

    def run(self) -> None:
        """Until it is interrupted; what it is at goes on at the next start.

        Raises:
            HoldfastError: the server refuses it for good.
        """
        try:
            standing = self._enrolled()
            while True:
                standing = self._turn(standing)
        finally:
            self._end()

    def _turn(self, standing: Standing) -> Standing:
        """One poll; how the agent stands after it."""
        with self._guard:
            held = [*self._attendants, *self._journalled]
        try:
            due = self._patiently(lambda: self._server.poll(Poll(held=held, wait=HOLD)))
        except NotSignedInError:  # forgotten there
            return self._enrolled()
        if due.authorised != standing.authorised:
            return self._enrolled()
        if standing.authorised:
            self._act(due, standing)
        return standing

    def _enrolled(self) -> Standing:
        standing = self._patiently(lambda: self._server.enrol(self._hello))
        if standing.authorised:
            self._tell(f"serving as {standing.host} ({standing.hwid})")
        else:
            self._tell(f"waiting to be authorised: {self._hello.name} ({standing.hwid})")
        return standing

    def _act(self, due: Due, standing: Standing) -> None:
        for name, wish in due.wishes.items():
            self._stop(name, wish)
        waiting, self._journalled = self._journalled, {}
        for order in (*waiting.values(), *due.orders):
            self._attend(order, standing)

    def _stop(self, name: str, wish: Wish) -> None:
        if self._journalled.pop(name, None) is not None:
            self._folder.forget(name)
        with self._guard:
            attendant = self._attendants.get(name)
        if attendant is not None:
            attendant.stop(wish)

    def _attend(self, order: Order, standing: Standing) -> None:
        with self._guard:
            if order.name in self._attendants:
                return
            attendant = Attendant(
                order,
                Duty(
                    folder=self._folder, address=self._address, server=self._server,
                    host=standing.host, slots=self._slots, over=self._over,
                ),
            )  # fmt: skip
            self._attendants[order.name] = attendant
        attendant.start()

    def _over(self, name: str) -> None:
        with self._guard:
            self._attendants.pop(name, None)

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Asks until there is an answer, less and less often."""
        wait = _FIRST_WAIT
        while True:
            try:
                answer = ask()
            except _PASSING as error:
                self._tell(f"{error.message}; trying again")
                time.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311  not a secret
                wait = min(wait * 2, _LONGEST_WAIT)
            else:
                return answer

    def _tell(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)

    def _end(self) -> None:
        with self._guard:
            attendants = list(self._attendants.values())
        for attendant in attendants:
            attendant.leave()
        for attendant in attendants:
            attendant.join()
        farewell = threading.Thread(target=self._leave, daemon=True)
        farewell.start()
        farewell.join(_FAREWELL)
        self._folder.close()

    def _leave(self) -> None:
        try:
            self._server.leave()
        except HoldfastError:
            return  # its silence says the same, later
