"""What an agent tells the process of an order: one line of JSON, see `child`."""

from dataclasses import dataclass

from holdfast.agent.speaking import Address
from holdfast.core.orders import Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The secret is not in it: the process reads it where the agent keeps it."""

    order: Order
    host: str
    address: Address
    folder: str
